"""One history for both databases: the tables are the same however a database came to them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sql

from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.tables import HEAD
from proxy.errors import StartError
from tests.kit.databases import Open, made_at


def tables(connection: sql.Connection) -> dict[str, Any]:
    """Each table with its columns and indexes, as the database tells them."""
    look = sql.inspect(connection)
    collations: dict[Any, Any] = {}
    if connection.dialect.name == "postgresql":
        rows = connection.exec_driver_sql("SELECT table_name, column_name, collation_name FROM information_schema.columns")
        collations = {(table, column): collation for table, column, collation in rows}
    return {
        name: (
            {
                column["name"]: (repr(column["type"]), column["nullable"], collations.get((name, column["name"])))
                for column in look.get_columns(name)
            },
            look.get_pk_constraint(name)["constrained_columns"],
            sorted(look.get_unique_constraints(name), key=repr),
            sorted(
                (index["name"], index["column_names"], {what: str(text) for what, text in index["dialect_options"].items()})
                for index in look.get_indexes(name)
            ),
        )
        for name in look.get_table_names()
    }


async def shape(open_database: Open) -> dict[str, Any]:
    """The tables of a database, and opens it as a service does."""
    async with SqlCatalogue(open_database()) as catalogue, catalogue.begun() as connection:
        return await connection.run_sync(tables)


@pytest.mark.parametrize("revision", ["0001", "0004", HEAD])
async def test_a_new_database_equals_a_migrated_one(database: Open, revision: str) -> None:
    new = await shape(database)
    await made_at(database, revision)
    migrated = await shape(database)
    assert migrated == new
    assert "assets" in new


async def test_a_database_of_a_newer_version_stops_the_start(database: Open) -> None:
    async with SqlCatalogue(database()) as catalogue, catalogue.begun() as connection:
        await connection.execute(sql.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StartError, match="newer"):
        async with SqlCatalogue(database()):
            pass


async def test_many_who_come_to_an_old_database_at_once_migrate_it_once(postgres_url: str) -> None:
    from tests.kit.databases import PostgresDatabase

    def several() -> PostgresDatabase:
        return PostgresDatabase(postgres_url, 2, 60.0)

    await made_at(several, "0001")

    async def come() -> dict[str, Any]:
        return await shape(several)

    shapes = await asyncio.gather(*(come() for _ in range(6)))
    assert all(one == shapes[0] for one in shapes)
    assert "promises" in shapes[0]

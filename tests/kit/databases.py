"""The databases that a catalogue can stand on, for tests that must hold on each of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sql

from proxy.adapters import schema
from proxy.adapters.catalogue import Database, SqlCatalogue
from proxy.adapters.postgres import PostgresDatabase
from proxy.adapters.sqlite import SqliteDatabase

CONNECTIONS = 8
PATIENT_S = 60.0
"""A deadline that a busy machine does not miss."""

Open = Callable[[], Database]
"""Gives the database of a test, not yet entered: each time the same one, as another process would open it."""


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """An empty database of the test's own, of each kind."""
    if request.param == "sqlite":
        return lambda: SqliteDatabase(tmp_path / "catalogue.sqlite")
    url = request.getfixturevalue("postgres_url")
    return lambda: PostgresDatabase(url, CONNECTIONS, PATIENT_S)


async def made_at(open_database: Open, revision: str, *statements: str) -> None:
    """Bring an empty database to *revision* as an earlier version of the service would have, which then made *statements*."""
    async with SqlCatalogue(open_database()) as catalogue, catalogue.begun() as connection:
        for name in await connection.run_sync(lambda sync: sql.inspect(sync).get_table_names()):
            await connection.execute(sql.text(f"DROP TABLE {name}"))
        await connection.run_sync(lambda sync: schema.bring_up(sync, revision))
        for statement in statements:
            await connection.execute(sql.text(statement))

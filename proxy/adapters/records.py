"""The catalogue as rows of no database in particular: out of SQLite and PostgreSQL, and into either."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby, islice
from typing import Any

import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.adapters import schema
from proxy.adapters.catalogue import Database
from proxy.adapters.tables import HEAD, assets, events, fingerprints, jobs, metadata, usage
from proxy.errors import StartError
from proxy.keys import Key
from proxy.ports import State

TABLES = (assets, fingerprints, jobs, events)
"""What is told of lasting objects. Uploads in progress, promises, reservations and debts belong to the machines and the moment."""
LASTING = [str(State.READY), str(State.QUARANTINED)]
PAGE = 500
DAY_US = 86_400_000_000
DAYS = 30

Row = dict[str, Any]


class SqlRecords:
    """The rows in *database*, which must be entered, with a deadline that is long enough for all of them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def export(self, take: Callable[[str, Row], None]) -> str:
        """Each row of `TABLES` in one transaction that sees one moment; of assets those that are kept."""
        async with self._database.begun() as connection:
            if connection.dialect.name == "postgresql":
                await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            else:
                await connection.exec_driver_sql("BEGIN")  # by itself the driver begins none to read
            revision = await connection.run_sync(schema.revision)
            for table in TABLES:
                await _each(connection, table, take)
        return revision or HEAD

    async def row(self, key: Key) -> Row | None:
        """The row of one asset that is kept."""
        async with self._database.begun() as connection:
            found = await connection.execute(assets.select().where(assets.c.key == key, assets.c.state.in_(LASTING)))
            row = found.first()
        return None if row is None else dict(row._mapping)

    async def count(self) -> int:
        """How many assets there are, in whatever state."""
        async with self._database.begun() as connection:
            return int((await connection.execute(sql.select(sql.func.count()).select_from(assets))).scalar_one())

    async def load(self, revision: str, rows: Iterator[tuple[str, Row]]) -> None:
        """Fill the empty tables in one transaction. Rows of an older *revision* go into tables of it, which then are migrated.

        What owners use is counted from the rows. Raises StartError where the tables are not empty, or the revision is newer.
        """
        if revision > HEAD:
            raise StartError("the snapshot is of a newer version of the service: restore it with that one")
        async with self._database.begun() as connection:
            if connection.dialect.name == "sqlite":
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
            if (await connection.execute(sql.select(sql.literal(1)).select_from(assets).limit(1))).first() is not None:
                raise StartError("the catalogue is not empty any more: somebody works on it")
            if revision == HEAD:
                tables = {table.name: table for table in metadata.sorted_tables}
            else:
                tables = await connection.run_sync(_as_of, revision)
            for table, group in groupby(rows, lambda row: row[0]):
                if table not in tables:
                    raise StartError(f"the snapshot has rows of a table {table}, which is not known")
                while page := [row for _, row in islice(group, PAGE)]:
                    await connection.execute(tables[table].insert(), page)
            if revision != HEAD:
                await connection.run_sync(schema.bring_up)
            await connection.execute(usage.delete())
            await connection.execute(usage.insert().from_select(["owner", "bytes", "objects"], _sums()))
            if connection.dialect.name == "postgresql":
                last = sql.select(sql.func.coalesce(sql.func.max(events.c.seq), 0) + 1).scalar_subquery()
                sequence = sql.func.pg_get_serial_sequence("events", "seq")
                await connection.execute(sql.select(sql.func.setval(sequence, last, False)))

    async def usage(self) -> dict[str, list[Row]]:
        """What there is, by owner, by store, by type, and by the day of the last thirty on which it came."""
        size, objects = sql.func.sum(assets.c.size).label("bytes"), sql.func.count().label("objects")
        day = ((assets.c.created - assets.c.created % DAY_US) // DAY_US).label("day")
        found: dict[str, list[Row]] = {}
        async with self._database.begun() as connection:
            for name, column in (
                ("owner", assets.c.owner),
                ("store", assets.c.store),
                ("type", assets.c.content_type),
                ("day", day),
            ):
                query = sql.select(column.label(name), size, objects).where(assets.c.state.in_(LASTING)).group_by(column)
                query = query.order_by(column.desc()).limit(DAYS) if name == "day" else query.order_by(size.desc())
                rows = await connection.execute(query)
                found[name] = [{**row._mapping, "bytes": int(row.bytes)} for row in rows]
        return found


async def _each(connection: AsyncConnection, table: sql.Table, take: Callable[[str, Row], None]) -> None:
    (key,) = table.primary_key.columns
    query = table.select().order_by(key).limit(PAGE)
    if table is assets:
        query = query.where(assets.c.state.in_(LASTING))
    after: Any = None
    while True:
        rows = (await connection.execute(query if after is None else query.where(key > after))).all()
        for row in rows:
            take(table.name, dict(row._mapping))
        if len(rows) < PAGE:
            return
        after = rows[-1]._mapping[key.name]


def _as_of(connection: sql.Connection, revision: str) -> dict[str, sql.Table]:
    """Empty tables as they were at *revision*, in the place of those of today, which are empty."""
    for name in sql.inspect(connection).get_table_names():
        connection.exec_driver_sql(f'DROP TABLE "{name}"')
    schema.bring_up(connection, revision)
    then = sql.MetaData()
    then.reflect(connection)
    return dict(then.tables)


def _sums() -> sql.Select[Any]:
    sums = sql.select(assets.c.owner, sql.cast(sql.func.sum(assets.c.size), sql.BigInteger), sql.func.count())
    return sums.where(assets.c.state.in_(LASTING)).group_by(assets.c.owner)

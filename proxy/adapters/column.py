"""A column of texts in somebody else's database, SQLite or PostgreSQL: read in the order of its key, changed row by row."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sql
from sqlalchemy.exc import DBAPIError, NoSuchTableError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from proxy.errors import StartError, Unavailable

DEADLINE_S = 60.0
DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}


@dataclass(frozen=True, slots=True)
class Row:
    """A row's *key*, and its *text*."""

    key: Any
    text: str


class TextColumn:
    """The column *name* of *table* (``schema.table`` too) at *url*; *key* is a column that is unique, else the primary key.

    Raises StartError where it is none of texts or cannot be reached, Unavailable where the database goes away later.
    """

    def __init__(self, url: str, table: str, name: str, key: str | None = None) -> None:
        self._url = url
        self._schema, _, self._table_name = table.rpartition(".")
        self._name = name
        self._key_name = key

    async def __aenter__(self) -> Self:
        try:
            url = sql.make_url(self._url)
        except SQLAlchemyError:
            raise StartError("--database is such as postgresql://user:password@host/database or sqlite:///file") from None
        if (driver := DRIVERS.get(url.get_backend_name())) is None:
            raise StartError("the database must be PostgreSQL or SQLite")
        if driver.startswith("sqlite") and not Path(url.database or "").is_file():
            raise StartError(f"there is no database file {url.database}")
        options = {"timeout": DEADLINE_S} | ({} if driver.startswith("sqlite") else {"command_timeout": DEADLINE_S})
        self._engine = create_async_engine(url.set(drivername=driver), poolclass=NullPool, connect_args=options)
        try:
            async with self._connected() as connection:
                self._table = await connection.run_sync(self._reflected)
        except NoSuchTableError:
            raise StartError(f"there is no table {self._table_name}") from None
        except Unavailable as error:
            raise StartError(error.detail) from None
        for given in filter(None, (self._name, self._key_name)):
            if given not in self._table.c:
                raise StartError(f"{self._table_name} has no column {given}")
        self._column = self._table.c[self._name]
        if not isinstance(self._column.type, sql.String):
            raise StartError(f"{self._name} is not a column of texts, but {self._column.type}")
        own = list(self._table.primary_key.columns) if self._key_name is None else [self._table.c[self._key_name]]
        if len(own) != 1:
            raise StartError(f"{self._table_name} has no primary key of one column: name one that is unique with --key")
        (self._key,) = own
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._engine.dispose()

    async def rows(self, parts: Sequence[str], most: int) -> AsyncGenerator[list[Row], None]:
        """The rows whose text has one of *parts* in it, *most* at a time, in the order of their keys."""
        wanted = sql.or_(*(self._column.contains(part, autoescape=True) for part in parts))
        after: Any = None
        while True:
            query = sql.select(self._key, self._column).where(wanted).order_by(self._key).limit(most)
            async with self._connected() as connection:
                found = (await connection.execute(query if after is None else query.where(self._key > after))).all()
            if found:
                yield [Row(key, text) for key, text in found]
                after = found[-1][0]
            if len(found) < most:
                return

    async def replace(self, changes: Sequence[tuple[Row, str]]) -> int:
        """Make the texts of some rows others, all or none, but those that have changed since they were read: how many it did."""
        done = 0
        async with self._connected() as connection, connection.begin():
            for row, text in changes:
                done += (await connection.execute(self._update(row, text))).rowcount
        return done

    def statement(self, row: Row, text: str) -> str:
        """The same for one row, as SQL of this database."""
        compiled = self._update(row, text).compile(dialect=self._engine.dialect, compile_kwargs={"literal_binds": True})
        return " ".join(str(compiled).splitlines()) + ";"

    def _update(self, row: Row, text: str) -> sql.Update:
        return sql.update(self._table).where(self._key == row.key, self._column == row.text).values({self._name: text})

    def _reflected(self, connection: sql.Connection) -> sql.Table:
        return sql.Table(self._table_name, sql.MetaData(), schema=self._schema or None, autoload_with=connection)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._engine.connect() as connection:
                yield connection
        except DBAPIError as error:
            raise Unavailable(f"the database says: {str(error.orig).splitlines()[0]}") from error
        except (OSError, TimeoutError) as error:
            raise Unavailable(f"the database does not answer: {error}") from error

"""The catalogue's database as a file beside the objects: SQLite, for one machine."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiosqlite
import sqlalchemy as sql
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DatabaseError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from proxy.adapters import schema
from proxy.errors import StartError

DEADLINE_S = 10.0
BUSY_MS = 5_000
CONNECTIONS = 4


class SqliteDatabase:
    """The file *path*: write-ahead log, and a commit is on the disk when it returns (synchronous=FULL). Nothing takes longer than
    *deadline_s*."""

    is_shared = False
    """whether other machines may work on it"""

    is_away = False
    insert = staticmethod(insert)

    def __init__(self, path: Path, deadline_s: float = DEADLINE_S) -> None:
        self._path = path
        self._deadline_s = deadline_s
        self._engine: AsyncEngine | None = None

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._prepare)
        self._engine = create_async_engine(
            f"sqlite+aiosqlite:///{self._path}", pool_size=CONNECTIONS, max_overflow=0, pool_timeout=self._deadline_s,
            connect_args={"async_creator_fn": _connection},
        )  # fmt: skip
        sql.event.listen(self._engine.sync_engine, "connect", _configure)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._engine is not None:
            await self._engine.dispose()

    @asynccontextmanager
    async def begun(self) -> AsyncIterator[AsyncConnection]:
        """A transaction under one deadline, committed at its end."""
        assert self._engine is not None
        async with asyncio.timeout(self._deadline_s), self._engine.begin() as connection:
            yield connection

    async def alone(self, connection: AsyncConnection, what: str) -> None:
        """Nothing to do: there is one writer at a time, and a statement that reads and writes is one."""

    def _prepare(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        engine = sql.create_engine(f"sqlite:///{self._path}", connect_args={"timeout": BUSY_MS / 1000})
        try:
            with engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            with engine.begin() as connection:
                schema.bring_up(connection)
        except DatabaseError as error:
            raise StartError(
                f"the catalogue {self._path.name} cannot be opened ({error.orig}): put a backup of it in its place, "
                "or move it away to start with an empty one (objects stay readable)"
            ) from error
        finally:
            engine.dispose()


class _Connection(aiosqlite.Connection):
    """Stopped once, whoever asks.

    SQLAlchemy stops a connection whose user left while it was being closed, and the closing stops it again. aiosqlite 0.22 then
    waits for a thread that has ended: for ever, and if it was cancelled on the way there, the event loop cannot be closed.
    """

    _stopping: asyncio.Future[Any] | None = None

    def stop(self) -> asyncio.Future[Any] | None:
        """When the thread has ended."""
        if self._stopping is None:
            self._stopping = super().stop()
        return self._stopping


def _connection(path: str, **options: Any) -> _Connection:
    connection = _Connection(lambda: sqlite3.connect(path, **options), 64)
    connection._thread.daemon = True  # as SQLAlchemy has it: a query that does not end must not keep the process
    return connection


def _configure(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("synchronous=FULL", f"busy_timeout={BUSY_MS}", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()

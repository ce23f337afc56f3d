"""The catalogue's database as a server: PostgreSQL, which several processes and machines may share."""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self

import asyncpg
import sqlalchemy as sql
import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, DisconnectionError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoneFree
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from proxy.adapters import schema
from proxy.adapters.tables import HEAD, PARTIAL, metadata
from proxy.errors import BadRequest, StartError, Unavailable

FIRST_PROBE_S = 0.1
LAST_PROBE_S = 2.0
RENEWED_S = 3600
"""after which a connection is replaced by a new one, which finds its server by name again"""
MIGRATING_S = 120.0
"""for the one that migrates, and for those who wait for it"""
MIGRATING = 1 << 40
"""the advisory lock of whoever makes or changes tables"""
WRONG = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.exceptions.ClientConfigurationError,
    ssl.SSLCertVerificationError,
)
"""What waiting does not mend."""

log = structlog.get_logger(__name__)


class Line(asyncpg.Connection):  # type: ignore[misc]
    """A connection that is closed without waiting: a server that stands still would not answer its farewell either."""

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's
        """End it now. SQLAlchemy closes one like this when whoever waits on it is cancelled."""
        self.terminate()


class PostgresDatabase:
    """The database at *url*, with *connections* of ours at most. Nothing takes longer than twice *deadline_s*.

    One that does not answer is probed by a task, and until it is back every use fails at once. It need not answer when this is
    entered; then its tables are made or migrated when it does. Raises StartError for what is wrong and not only away.
    """

    is_shared = True
    """whether other machines may work on it"""

    insert = staticmethod(insert)

    def __init__(self, url: str, connections: int, deadline_s: float) -> None:
        self._url = url
        self._deadline_s = deadline_s
        self._is_away = True
        self._probing: asyncio.Task[None] | None = None
        self._engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=partial(self._connected, deadline_s),
            pool_size=connections,
            max_overflow=0,
            pool_timeout=deadline_s / 2,
            pool_recycle=RENEWED_S,
        )
        sql.event.listen(self._engine.sync_engine, "checkout", _still_open)

    async def __aenter__(self) -> Self:
        try:
            await self._prepare()
        except (Unavailable, SQLAlchemyError) as failure:
            if (wrong := _wrong(failure)) is not None:
                await self._engine.dispose()
                raise StartError(f"DATABASE_URL: the database does not let us in ({wrong})") from failure
            self._away(failure.__cause__)
        except StartError:
            await self._engine.dispose()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        await self._engine.dispose()

    @property
    def is_away(self) -> bool:
        """Whether it is known not to answer now."""
        return self._is_away

    async def alone(self, connection: AsyncConnection, what: str) -> None:
        """Take the advisory lock that stands for *what*."""
        await connection.execute(sql.select(sql.func.pg_advisory_xact_lock(zlib.crc32(what.encode()))))

    @asynccontextmanager
    async def begun(self) -> AsyncIterator[AsyncConnection]:
        """A transaction under deadlines, committed at its end. Raises Unavailable at once while the database is away."""
        if self._is_away:
            raise Unavailable("the catalogue does not answer")
        try:
            async with self._used(self._engine, self._deadline_s) as connection:
                yield connection
        except DBAPIError as error:
            if _is_unkept(error.orig.__cause__ if error.orig else None):
                raise BadRequest("a value in the request cannot be kept") from error
            raise

    @asynccontextmanager
    async def _used(self, engine: AsyncEngine, seconds: float) -> AsyncIterator[AsyncConnection]:
        try:
            async with asyncio.timeout(seconds):
                connection = await engine.connect()
        except NoneFree as error:
            raise Unavailable("the catalogue has too much to do", retry_after_s=2) from error
        except (SQLAlchemyError, OSError) as error:
            self._away(error)
            raise Unavailable("the catalogue does not answer") from error
        raw: Any = (await connection.get_raw_connection()).driver_connection
        # A server that stands still answers no cancellation either, and asyncpg would wait for that: the line is cut instead,
        # and whoever waits on it is told.
        cutting = asyncio.get_running_loop().call_later(seconds, raw.terminate)
        try:
            yield connection
            await connection.commit()
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                raw.terminate()
            elif raw.is_closed():
                self._away(error)
            if raw.is_closed():
                await connection.invalidate()
            raise
        finally:
            try:
                await connection.close()
            finally:
                cutting.cancel()

    async def _connected(self, seconds: float) -> Any:
        # The server ends by itself what takes too long while it is well; a client that stands still must not hold its locks.
        within_ms = str(int(seconds * 900))
        return await asyncpg.connect(
            self._url,
            connection_class=Line,
            timeout=min(seconds, self._deadline_s),
            command_timeout=seconds + 1,  # of what SQLAlchemy asks before we have the connection
            server_settings={
                "application_name": "media-proxy",
                "statement_timeout": within_ms,
                "lock_timeout": within_ms,
                "idle_in_transaction_session_timeout": str(int(seconds * 2000)),
            },
        )

    async def _prepare(self) -> None:
        """See that the tables are there and of today; then the database can be used."""
        async with self._used(self._engine, self._deadline_s) as connection:
            revision = await connection.run_sync(schema.revision)
        if revision != HEAD:
            await self._bring_up()
        self._is_away = False

    async def _bring_up(self) -> None:
        # All processes of all machines may come here at one time: they do it one after the other, and the first does it all.
        engine = create_async_engine(
            "postgresql+asyncpg://", async_creator=partial(self._connected, MIGRATING_S), poolclass=NullPool
        )
        try:
            async with self._used(engine, MIGRATING_S) as connection:
                await connection.execute(sql.select(sql.func.pg_advisory_xact_lock(MIGRATING)))
                for index in (index for table in metadata.tables.values() for index in table.indexes if index.name in PARTIAL):
                    index.dialect_options["postgresql"]["where"] = PARTIAL[str(index.name)]
                await connection.run_sync(schema.bring_up)
        finally:
            await engine.dispose()

    def _away(self, reason: BaseException | None) -> None:
        """Let everybody be refused at once until a probe succeeds."""
        self._is_away = True
        if self._probing is None or self._probing.done():
            log.warning("catalogue.away", reason=_said(reason))
            self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        pause_s = FIRST_PROBE_S
        while True:
            try:
                await self._prepare()
            except (Unavailable, SQLAlchemyError) as error:
                log.debug("catalogue.still_away", reason=_said(error.__cause__))
            except StartError as error:
                log.error("catalogue.unusable", reason=str(error))
            except Exception:  # the root of a task: without it nothing would be asked again
                log.exception("catalogue.probe_failed")
            else:
                log.info("catalogue.back")
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LAST_PROBE_S)


def _wrong(failure: BaseException) -> BaseException | None:
    """What a person must mend, if that is what *failure* comes from."""
    cause: BaseException | None = failure
    while cause is not None and not isinstance(cause, WRONG):
        cause = cause.__cause__
    return cause


def _said(reason: BaseException | None) -> str:
    # Not what SQLAlchemy makes of it, which has the values of the statement in it.
    return repr(getattr(reason, "orig", None) or reason)[:200]


def _is_unkept(cause: BaseException | None) -> bool:
    """Whether a value was refused, such as a text with a NUL: by the server, or by asyncpg before."""
    return isinstance(cause, asyncpg.DataError) or (isinstance(cause, asyncpg.InterfaceError) and isinstance(cause, ValueError))


def _still_open(connection: Any, record: Any, proxy: Any) -> None:
    # The pool makes another in its place: after a restart of the server nobody gets a line that is dead already.
    if connection.driver_connection.is_closed():
        raise DisconnectionError

"""The records, in SQL: SQLite beside the objects. Alembic's migrations bring older tables to today's at start."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sql
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from proxy.errors import BadRequest, Conflict, StartError, Unavailable
from proxy.keys import Key
from proxy.ports import Asset, Page, State

HEAD = "0005"
"""The newest revision in proxy/migrations: a database that has it is opened without importing Alembic (11 MiB)."""
DEADLINE_S = 10.0
BUSY_MS = 5_000
UNFINISHED = sql.text("state != 'ready'")

metadata = sql.MetaData()
assets = sql.Table(
    "assets",
    metadata,
    sql.Column("key", sql.Text, primary_key=True),
    sql.Column("owner", sql.Text, nullable=False),
    sql.Column("filename", sql.Text),
    sql.Column("content_type", sql.Text, nullable=False),
    sql.Column("size", sql.BigInteger, nullable=False),
    sql.Column("sha256", sql.Text, nullable=False),
    sql.Column("etag", sql.Text, nullable=False),
    sql.Column("created", sql.BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
    sql.Column("store", sql.Text, nullable=False),
    sql.Column("width", sql.Integer),
    sql.Column("height", sql.Integer),
    sql.Column("duration_s", sql.Float),
    sql.Column("state", sql.Text, nullable=False),
    sql.Column("idempotency_key", sql.Text),
    sql.Column("details", sql.Text, comment="JSON"),
    sql.Column("focal", sql.Text, comment="XxY, from 0x0 to 1x1"),
    sql.UniqueConstraint("owner", "idempotency_key", name="uq_assets_owner_idempotency_key"),
    sql.Index("ix_assets_owner_created", "owner", "created", "key"),
    sql.Index("ix_assets_unfinished", "state", sqlite_where=UNFINISHED, postgresql_where=UNFINISHED),
)
debts = sql.Table(
    "debts",
    metadata,
    sql.Column("key", sql.Text, primary_key=True),
    sql.Column("store", sql.Text, primary_key=True),
    sql.Column("kind", sql.Text, nullable=False),
    sql.Column("etag", sql.Text, nullable=False),
    sql.Column("holder", sql.Text),
    sql.Column("sha256", sql.Text),
    sql.Column("settled", sql.Boolean, nullable=False),
    # As SQLAlchemy writes ``~settled`` for each of them: SQLite uses an index only where its condition is the query's.
    sql.Index("ix_debts_unsettled", "key", "store", sqlite_where=sql.text("settled = 0"), postgresql_where=sql.text("NOT settled")),
)
promises = sql.Table(
    "promises",
    metadata,
    sql.Column("key", sql.Text, primary_key=True),
    sql.Column("owner", sql.Text, nullable=False),
    sql.Column("content_type", sql.Text, nullable=False),
    sql.Column("size", sql.BigInteger),
    sql.Column("max_bytes", sql.BigInteger, nullable=False),
    sql.Column("way", sql.Text, nullable=False),
    sql.Column("expires", sql.BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
    sql.Column("since", sql.BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
    sql.Column("filename", sql.Text),
    sql.Column("stage", sql.Text, nullable=False),
    sql.Column("refusal", sql.Text, comment="JSON"),
    sql.Column("holder", sql.Text),
    sql.Column("held_until", sql.BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
    sql.Column("reserved", sql.BigInteger, nullable=False),
    sql.Index("ix_promises_owner", "owner", "expires"),
    sql.Index("ix_promises_since", "since"),
)
uploads = sql.Table(
    "uploads",
    metadata,
    sql.Column("id", sql.Text, primary_key=True),
    sql.Column("owner", sql.Text, nullable=False),
    sql.Column("form", sql.Text, nullable=False),
    sql.Column("length", sql.BigInteger),
    sql.Column("expires", sql.BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
    sql.Column("home", sql.Text, nullable=False),
    sql.Column("filename", sql.Text),
    sql.Column("claimed_type", sql.Text),
    sql.Column("metadata", sql.Text),
    sql.Column("chunk_bytes", sql.BigInteger),
    sql.Column("parts", sql.Text, comment="JSON"),
    sql.Column("promised", sql.Text),
    sql.Column("offset", sql.BigInteger, nullable=False),
    sql.Column("fence", sql.BigInteger, nullable=False),
    sql.Column("phase", sql.Text, nullable=False),
    sql.Column("key", sql.Text),
    sql.Column("refusal", sql.Text, comment="JSON"),
    sql.Index("ix_uploads_owner", "owner", "phase"),
    sql.Index("ix_uploads_expires", "expires"),
    sql.Index("ix_uploads_phase", "phase"),
)
chunks = sql.Table(
    "chunks",
    metadata,
    sql.Column("upload", sql.Text, primary_key=True),
    sql.Column("number", sql.Integer, primary_key=True),
    sql.Column("sha256", sql.Text, nullable=False),
)


class SqlCatalogue:
    """Assets in the SQLite file *path*: write-ahead log, and a commit is on the disk when it returns (synchronous=FULL)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine: AsyncEngine | None = None

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._prepare)
        self._engine = create_async_engine(
            f"sqlite+aiosqlite:///{self._path}", pool_size=4, max_overflow=0, pool_timeout=DEADLINE_S
        )
        sql.event.listen(self._engine.sync_engine, "connect", _configure)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._engine is not None:
            await self._engine.dispose()

    async def add(self, asset: Asset) -> None:
        """Record *asset*; raises Conflict if its key or its owner's idempotency key is taken."""
        async with self.begun() as connection:
            await connection.execute(assets.insert().values(_row(asset)))

    async def get(self, key: Key) -> Asset | None:
        """The record of *key* in whatever state."""
        return await self._one(assets.select().where(assets.c.key == key))

    async def find(self, owner: str, idempotency_key: str) -> Asset | None:
        """The owner's asset that was stored under *idempotency_key*."""
        return await self._one(assets.select().where(assets.c.owner == owner, assets.c.idempotency_key == idempotency_key))

    async def mark(self, key: Key, state: State) -> None:
        """Move the asset to *state*; a DELETED one gives its idempotency key back."""
        values: dict[str, Any] = {"state": str(state)}
        if state is State.DELETED:
            values["idempotency_key"] = None
        async with self.begun() as connection:
            await connection.execute(assets.update().where(assets.c.key == key).values(values))

    async def remove(self, key: Key) -> None:
        """Drop the record; idempotent."""
        async with self.begun() as connection:
            await connection.execute(assets.delete().where(assets.c.key == key))

    async def page(self, owner: str, limit: int, cursor: str | None = None) -> Page:
        """The owner's READY assets, newest first."""
        query = assets.select().where(assets.c.owner == owner, assets.c.state == str(State.READY))
        if cursor is not None:
            created, key = _position(cursor)
            query = query.where(sql.tuple_(assets.c.created, assets.c.key) < sql.tuple_(created, key))
        query = query.order_by(assets.c.created.desc(), assets.c.key.desc()).limit(limit + 1)
        async with self.begun() as connection:
            found = [_asset(row) for row in await connection.execute(query)]
        more = len(found) > limit
        return Page(found[:limit], _cursor(found[limit - 1]) if more else None)

    async def many(self, keys: Sequence[Key]) -> dict[Key, Asset]:
        """The READY assets among *keys*."""
        query = assets.select().where(assets.c.key.in_(keys), assets.c.state == str(State.READY))
        async with self.begun() as connection:
            return {asset.key: asset for asset in map(_asset, await connection.execute(query))}

    async def describe(self, key: Key, etag: str, details: Mapping[str, Any]) -> None:
        """Keep *details* with the asset."""
        query = assets.update().where(assets.c.key == key, assets.c.etag == etag)
        async with self.begun() as connection:
            await connection.execute(query.values(details=json.dumps(details)))

    async def focus(self, key: Key, point: str | None) -> None:
        """Set the focal point, or take it away."""
        query = assets.update().where(assets.c.key == key, assets.c.state == str(State.READY))
        async with self.begun() as connection:
            await connection.execute(query.values(focal=point))

    async def unfinished(self) -> list[Asset]:
        """Every asset that is not READY."""
        async with self.begun() as connection:
            return [_asset(row) for row in await connection.execute(assets.select().where(assets.c.state != str(State.READY)))]

    async def place(self, key: Key, store: str) -> None:
        """Record that *store* is the one that has the object now; nothing happens if there is no record."""
        async with self.begun() as connection:
            await connection.execute(assets.update().where(assets.c.key == key).values(store=store))

    async def ping(self) -> None:
        """Raise Unavailable if the database does not answer."""
        async with self.begun() as connection:
            await connection.execute(sql.select(1))

    async def _one(self, query: sql.Select[Any]) -> Asset | None:
        async with self.begun() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else _asset(row)

    @asynccontextmanager
    async def begun(self) -> AsyncIterator[AsyncConnection]:
        """A transaction, committed at its end. The one place that knows the library's failures: each use is under one deadline."""
        assert self._engine is not None
        try:
            async with asyncio.timeout(DEADLINE_S), self._engine.begin() as connection:
                yield connection
        except IntegrityError as error:
            raise Conflict("there is one of this name or Idempotency-Key already") from error
        except (SQLAlchemyError, TimeoutError) as error:
            raise Unavailable("the catalogue does not answer") from error

    def _prepare(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        try:
            revision = self._revision()
            if revision is None:
                _create(self._path)
            elif revision != HEAD:
                _migrate(self._path)
        except (sqlite3.DatabaseError, DBAPIError) as error:
            raise StartError(
                f"the catalogue {self._path.name} cannot be opened ({error}): put a backup of it in its place, "
                "or move it away to start with an empty one (objects stay readable)"
            ) from error

    def _revision(self) -> str | None:
        connection = sqlite3.connect(self._path, timeout=BUSY_MS / 1000)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone() is None:
                return None
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            return None if row is None else str(row[0])
        finally:
            connection.close()


def _configure(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("synchronous=FULL", f"busy_timeout={BUSY_MS}", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _create(path: Path) -> None:
    # A new database gets the tables as they are now, which a test holds equal to what the migrations make.
    engine = sql.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        metadata.create_all(connection)
        connection.execute(sql.text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
        connection.execute(sql.text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})
    engine.dispose()


def _migrate(path: Path) -> None:
    from alembic import command  # noqa: PLC0415 - 11 MiB that only a new or old database needs
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent.parent / "migrations").replace("%", "%%"))
    config.set_main_option("sqlalchemy.url", f"sqlite:///{path}".replace("%", "%%"))
    command.upgrade(config, "head")


def _row(asset: Asset) -> dict[str, Any]:
    row = {column.name: getattr(asset, column.name) for column in assets.columns}
    row["created"] = int(asset.created.timestamp() * 1_000_000)
    row["state"] = str(asset.state)
    row["details"] = None if asset.details is None else json.dumps(asset.details)
    return row


def _asset(row: sql.Row[Any]) -> Asset:
    fields = dict(row._mapping)
    fields["created"] = datetime.fromtimestamp(fields["created"] / 1_000_000, UTC)
    fields["state"] = State(fields["state"])
    fields["details"] = None if fields["details"] is None else json.loads(fields["details"])
    return Asset(**fields)


def _cursor(asset: Asset) -> str:
    return urlsafe_b64encode(json.dumps([int(asset.created.timestamp() * 1_000_000), asset.key]).encode()).decode().rstrip("=")


def _position(cursor: str) -> tuple[int, str]:
    try:
        created, key = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (Base64Error, ValueError, TypeError) as error:
        raise BadRequest("this cursor is not one of ours", param="cursor") from error
    if type(created) is not int or not isinstance(key, str) or abs(created) > 1 << 62:
        raise BadRequest("this cursor is not one of ours", param="cursor")
    return created, key

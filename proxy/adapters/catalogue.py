"""The records, in SQL, on whichever database has the tables."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Protocol, Self

import sqlalchemy as sql
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from processors import tracing
from proxy.adapters import listing
from proxy.adapters.counting import counted, standing
from proxy.adapters.events import NOTHING, Notes
from proxy.adapters.jobs import booked, canceled
from proxy.adapters.resemblance import indexed, unindexed
from proxy.adapters.tables import LISTED, assets, jobs, reservations
from proxy.errors import BadRequest, Conflict, Unavailable
from proxy.events import Kind
from proxy.jobs import Job
from proxy.keys import Key
from proxy.ports import Asset, Page, State
from proxy.quotas import Quota
from proxy.selection import EVERYTHING, Selection

COUNTED = frozenset(State) - {State.DELETED}
"""The states in which an asset counts for its owner."""
SAID = frozenset({"filename", "idempotency_key", "focal", "metadata", "revision"})
"""What the owner of an asset has said of it, which stays when its bytes change."""
SAID_IN_JSON = frozenset({"details", "embedded", "labels"})
"""What has been found in an asset; null where nobody looked."""
CHANGED = {"revision": assets.c.revision + 1}
UNBOUNDED = Quota()
HIDDEN = assets.c.state != sql.literal_column("'ready'")
"""As the index of the few that are not shown has it: SQLite uses that only where the same words are in the query."""

TOLD_OF = frozenset({State.READY, State.QUARANTINED})
"""The states in which others know of an asset."""
HAPPENS = {
    State.READY: (Kind.STORED, {State.PENDING, State.QUARANTINED}),
    State.QUARANTINED: (Kind.QUARANTINED, {State.PENDING, State.READY}),
    State.DELETED: (Kind.REMOVED, TOLD_OF),
}
"""What it means to others when an asset comes to a state, if it was in one of those before."""


ENDS_WORK = frozenset({State.DELETED, State.QUARANTINED})
"""The states in which nothing is made of an asset any more."""
Noted = tuple[str, int] | None


class Database(Protocol):
    """Where the tables are; entered, they are as `tables` has them."""

    is_shared: bool
    """whether other machines may work on it"""

    @property
    def is_away(self) -> bool:
        """Whether it is known not to answer now."""
        ...

    insert: Callable[..., Any]
    """The insert of its dialect, which has ``on_conflict_do_update``."""

    def begun(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction under a deadline, committed at its end."""
        ...

    async def alone(self, connection: AsyncConnection, what: str) -> None:
        """Hold other transactions back from doing *what* until that of *connection* has ended."""
        ...

    async def __aenter__(self) -> Any: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class SqlCatalogue:
    """Assets in *database*, which is opened and closed with this; of each owner no more than *quota*.

    What happens to them goes into *notes* in the same transaction; *told* hears of it behind that: whose it is, and its number.
    """

    def __init__(
        self,
        database: Database,
        quota: Quota = UNBOUNDED,
        notes: Notes | None = None,
        told: Callable[[str, int], Awaitable[None]] | None = None,
        orders: Callable[[Asset], Sequence[Job]] | None = None,
    ) -> None:
        self._database = database
        self._orders = orders
        self._notes = notes
        self._told = told
        self.quota = quota
        self.insert = database.insert

    @property
    def is_shared(self) -> bool:
        """Whether other machines may work on the same records."""
        return self._database.is_shared

    @property
    def is_away(self) -> bool:
        """Whether the database is known not to answer now."""
        return self._database.is_away

    async def alone(self, connection: AsyncConnection, what: str) -> None:
        """Be the only transaction, over all processes, that does *what*, until it ends."""
        await self._database.alone(connection, what)

    async def __aenter__(self) -> Self:
        await self._database.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._database.__aexit__(kind, error, trace)

    async def add(self, asset: Asset, reserved: Sequence[str] = ()) -> None:
        """Record *asset*, for which room was *reserved*; raises Conflict if its key or its owner's idempotency key is taken."""
        # In this order everywhere, the asset before what its owner has: so no two wait for each other.
        noted = None
        async with self.begun() as connection:
            row = (await connection.execute(assets.insert().values(_row(asset)).returning(*assets.columns))).one()
            if asset.state in TOLD_OF and not asset.unscanned and self._notes is not None:
                noted = await self._notes.take(connection, row, HAPPENS[asset.state][0], asset.reason or {})
            await self._order(connection, row)
            await self._index(connection, row, asset.details)
            if asset.state in COUNTED:
                await self._count(connection, asset, asset.size, 1, reserved)
            if reserved:
                await connection.execute(reservations.delete().where(reservations.c.name.in_(reserved)))
        await self.tell(noted)

    async def replace(self, asset: Asset, before: Asset) -> None:
        """Let *asset* stand where *before* stood."""
        values = {name: value for name, value in _row(asset).items() if name not in SAID}
        query = assets.update().where(assets.c.key == asset.key, assets.c.etag == before.etag, assets.c.state == before.state)
        noted = None
        async with self.begun() as connection:
            row = (await connection.execute(query.values(values | CHANGED).returning(*assets.columns))).first()
            if row is None:
                raise Conflict("the record is of another write")
            await self._count(connection, asset, asset.size - before.size, 0)
            await canceled(connection, datetime.now(UTC), jobs.c.key == asset.key)
            await self._order(connection, row)
            await indexed(connection, self.insert, row, (asset.details or {}).get("fingerprint"))
            if self._notes is not None:
                noted = await self._notes.take(connection, row, HAPPENS[asset.state][0], asset.reason or {})
        await self.tell(noted)

    async def _order(self, connection: AsyncConnection, row: Any) -> None:
        if self._orders is not None and row.state == State.READY:
            await booked(connection, self.insert, self._orders(_asset(row)))

    async def _index(self, connection: AsyncConnection, row: Any, details: Mapping[str, Any] | None) -> None:
        if details is not None and details.get("fingerprint") is not None:
            await indexed(connection, self.insert, row, details["fingerprint"])

    async def _count(
        self, connection: AsyncConnection, asset: Asset, size: int, objects: int, reserved: Sequence[str] = ()
    ) -> None:
        await counted(connection, self.insert, asset.owner, size, objects)
        if self.quota.is_set and (size > 0 or objects > 0):
            now = await standing(connection, asset.owner, asset.created, reserved)
            before = replace(now, bytes=now.bytes - size, objects=now.objects - objects)
            before.check(self.quota, size, objects)

    async def get(self, key: Key) -> Asset | None:
        """The record of *key* in whatever state."""
        return await self._one(assets.select().where(assets.c.key == key))

    async def find(self, owner: str, idempotency_key: str) -> Asset | None:
        """The owner's asset that was stored under *idempotency_key*."""
        return await self._one(assets.select().where(assets.c.owner == owner, assets.c.idempotency_key == idempotency_key))

    async def mark(self, key: Key, state: State, more: Mapping[str, Any] | None = None) -> None:
        """Move the asset to *state*; a DELETED one stays one, gives its idempotency key back, and counts no more."""
        async with self.begun() as connection:
            _, noted = await self.marked(connection, key, state, more or {})
        await self.tell(noted)

    async def marked(
        self, connection: AsyncConnection, key: Key, state: State, more: Mapping[str, Any] = NOTHING
    ) -> tuple[bool, Noted]:
        """`mark` in the transaction of *connection*: whether there was something to move, and what `tell` is told behind it."""
        values: dict[str, Any] = {"state": str(state), **CHANGED}
        if state is State.DELETED:
            values["idempotency_key"] = None
        query = assets.update().where(assets.c.key == key, assets.c.state != str(State.DELETED)).values(values)
        query = query.returning(*assets.columns)
        kind, before = HAPPENS.get(state, (None, frozenset()))
        noted = row = None
        # A write comes first: SQLite lets nobody write who has only read in the same transaction, while others do.
        if kind is not None:
            row = (await connection.execute(query.where(assets.c.state.in_(before)))).first()
        if row is None:
            row = (await connection.execute(query)).first()
        elif kind is not None:
            await self._order(connection, row)
            if self._notes is not None:
                noted = await self._notes.take(connection, row, kind, more)
        if row is not None and state is State.DELETED:
            await counted(connection, self.insert, row.owner, -row.size, -1)
        if row is not None and state in ENDS_WORK:
            await canceled(connection, datetime.now(UTC), jobs.c.key == key)
        return row is not None, noted

    async def remove(self, key: Key, etag: str | None = None) -> None:
        """Drop the record, or that of the write *etag*."""
        query = assets.delete().where(assets.c.key == key).returning(*assets.columns)
        if etag is not None:
            query = query.where(assets.c.etag == etag, assets.c.state.in_(map(str, TOLD_OF)))
        noted = None
        async with self.begun() as connection:
            row = (await connection.execute(query)).first()
            if row is not None and State(row.state) in COUNTED:
                await counted(connection, self.insert, row.owner, -row.size, -1)
            if row is not None and row.state in TOLD_OF:
                await canceled(connection, datetime.now(UTC), jobs.c.key == key)
                if self._notes is not None:
                    noted = await self._notes.take(connection, row, Kind.REMOVED)
            if row is not None:
                await unindexed(connection, key)
        await self.tell(noted)

    async def note(self, key: Key, kind: Kind, more: Mapping[str, Any]) -> None:
        """Write down that *kind* happened to the READY asset of *key*; nothing happens if there is none."""
        async with self.begun() as connection:
            _, noted = await self.noted(connection, key, kind, more)
        await self.tell(noted)

    async def noted(self, connection: AsyncConnection, key: Key, kind: Kind, more: Mapping[str, Any]) -> tuple[bool, Noted]:
        """`note` in the transaction of *connection*: whether the asset is there, and what `tell` is told behind it."""
        # A write, though nothing changes: it holds the record until the event stands, so that none comes behind its removal.
        query = assets.update().where(assets.c.key == key, assets.c.state == State.READY).values(state=State.READY)
        row = (await connection.execute(query.returning(*assets.columns))).first()
        if row is None or self._notes is None:
            return row is not None, None
        return True, await self._notes.take(connection, row, kind, more)

    async def tell(self, noted: Noted) -> None:
        """Say that an event has been written down, once that is committed."""
        if noted is not None and self._told is not None:
            await self._told(*noted)

    async def page(self, owner: str, limit: int, cursor: str | None = None, selection: Selection | None = None) -> Page:
        """The owner's, as *selection* has them."""
        selection = selection or EVERYTHING
        position = None if cursor is None else selection.behind(cursor)
        async with self.begun() as connection:
            found = [_asset(row) for row in await connection.execute(listing.page(owner, selection, position, limit + 1))]
        if len(found) <= limit:
            return Page(found, None)
        last = found[limit - 1]
        return Page(found[:limit], selection.cursor(listing.place(last, selection), last.key))

    async def many(self, keys: Sequence[Key]) -> dict[Key, Asset]:
        """The READY assets among *keys*."""
        query = sql.select(*LISTED).where(assets.c.key.in_(keys), assets.c.state == str(State.READY))
        async with self.begun() as connection:
            return {asset.key: asset for asset in map(_asset, await connection.execute(query))}

    async def describe(self, key: Key, etag: str, details: Mapping[str, Any], embedded: Mapping[str, Any]) -> None:
        """Keep both with the asset."""
        query = assets.update().where(assets.c.key == key, assets.c.etag == etag)
        query = query.values(details=json.dumps(details), embedded=json.dumps(embedded), **CHANGED)
        async with self.begun() as connection:
            row = (await connection.execute(query.returning(assets.c.key, assets.c.owner, assets.c.etag))).first()
            if row is not None:
                await self._index(connection, row, details)

    async def amend(self, asset: Asset) -> bool:
        """Let what its owner says of it be as *asset* has it."""
        row = _row(asset)
        query = assets.update().where(assets.c.key == asset.key, assets.c.revision == asset.revision, assets.c.state == State.READY)
        query = query.values(focal=row["focal"], metadata=row["metadata"], **CHANGED).returning(*assets.columns)
        noted = None
        async with self.begun() as connection:
            after = (await connection.execute(query)).first()
            if after is not None and self._notes is not None:
                noted = await self._notes.take(connection, after, Kind.CHANGED)
        await self.tell(noted)
        return after is not None

    async def unfinished(self) -> list[Asset]:
        """Every asset that is PENDING or DELETED."""
        query = assets.select().where(HIDDEN, assets.c.state != str(State.QUARANTINED))
        async with self.begun() as connection:
            return [_asset(row) for row in await connection.execute(query)]

    async def quarantined(self, limit: int, after: Key | None = None) -> list[Key]:
        """Keys of QUARANTINED assets, and of those that come to be, in order, beyond *after*."""
        withheld = sql.or_(assets.c.state == str(State.QUARANTINED), assets.c.unscanned)
        some = assets.c.state.in_([str(State.QUARANTINED), str(State.PENDING)])  # by the index: most that are hidden are DELETED
        query = sql.select(assets.c.key).where(HIDDEN, some, withheld, assets.c.key > (after or ""))
        async with self.begun() as connection:
            return [Key(key) for key in (await connection.execute(query.order_by(assets.c.key).limit(limit))).scalars()]

    async def unscanned(self, limit: int, after: Key | None = None) -> list[Asset]:
        """QUARANTINED assets that wait for a scanner, by key, beyond *after*."""
        waiting = (HIDDEN, assets.c.state == str(State.QUARANTINED), assets.c.unscanned)
        query = sql.select(*LISTED).where(*waiting, assets.c.key > (after or "")).order_by(assets.c.key).limit(limit)
        async with self.begun() as connection:
            return [_asset(row) for row in await connection.execute(query)]

    async def scanned(self, asset: Asset, found: Mapping[str, str] | None) -> bool:
        """Note that a scanner has looked at that write of *asset*: READY it is, or QUARANTINED for what was *found*."""
        state = State.READY if found is None else State.QUARANTINED
        query = assets.update().where(assets.c.key == asset.key, assets.c.etag == asset.etag, assets.c.state == str(asset.state))
        query = query.values(state=str(state), unscanned=False, **CHANGED).returning(*assets.columns)
        noted = None
        async with self.begun() as connection:
            row = (await connection.execute(query)).first()
            if row is not None:
                await self._order(connection, row)
                if state in ENDS_WORK:
                    await canceled(connection, datetime.now(UTC), jobs.c.key == asset.key)
                if self._notes is not None:
                    noted = await self._notes.take(connection, row, HAPPENS[state][0], found or {})
        await self.tell(noted)
        return row is not None

    async def kept(self, limit: int, after: Key | None = None) -> list[Asset]:
        """READY and QUARANTINED ones, by key, beyond *after*."""
        shown = assets.c.state.in_([str(State.READY), str(State.QUARANTINED)])
        query = sql.select(*LISTED).where(shown, assets.c.key > (after or "")).order_by(assets.c.key).limit(limit)
        async with self.begun() as connection:
            return [_asset(row) for row in await connection.execute(query)]

    async def derived(self, key: Key) -> list[Asset]:
        """What was made of *key*, in whatever state."""
        async with self.begun() as connection:
            return [_asset(row) for row in await connection.execute(assets.select().where(assets.c.source == key))]

    async def recorded(self, keys: Sequence[Key]) -> set[Key]:
        """Those of *keys* that have a record."""
        async with self.begun() as connection:
            return {
                Key(key) for key in (await connection.execute(sql.select(assets.c.key).where(assets.c.key.in_(keys)))).scalars()
            }

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

    @staticmethod
    def asset(row: sql.Row[Any]) -> Asset:
        """The record that *row* is."""
        return _asset(row)

    @asynccontextmanager
    async def begun(self) -> AsyncIterator[AsyncConnection]:
        """A transaction, committed at its end, under a deadline. The one place that knows the library's failures."""
        try:
            with tracing.span("catalogue"):
                async with self._database.begun() as connection:
                    yield connection
        except IntegrityError as error:
            raise Conflict("there is one of this name or Idempotency-Key already") from error
        except UnicodeEncodeError as error:
            raise BadRequest("a text in the request cannot be kept") from error
        except (SQLAlchemyError, OSError) as error:
            raise Unavailable("the catalogue does not answer") from error


def _row(asset: Asset) -> dict[str, Any]:
    row = {column.name: getattr(asset, column.name) for column in assets.columns}
    row["created"] = int(asset.created.timestamp() * 1_000_000)
    row["state"] = str(asset.state)
    for name in SAID_IN_JSON:
        row[name] = None if row[name] is None else json.dumps(row[name])
    row["metadata"] = json.dumps(asset.metadata) if asset.metadata else None
    return row


def _asset(row: sql.Row[Any]) -> Asset:
    fields = dict(row._mapping)
    fields["created"] = datetime.fromtimestamp(fields["created"] / 1_000_000, UTC)
    fields["state"] = State(fields["state"])
    for name in SAID_IN_JSON & fields.keys():
        fields[name] = None if fields[name] is None else json.loads(fields[name])
    fields["metadata"] = json.loads(fields["metadata"] or "{}")
    return Asset(**fields)

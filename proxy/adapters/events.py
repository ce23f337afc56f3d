"""What happened to assets, in a table beside them: written in the transaction in which it happens, read by who tells of it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy import keys
from proxy.adapters.tables import events
from proxy.events import Delivery, Event, Kind
from proxy.keys import Key

if TYPE_CHECKING:
    from proxy.adapters.catalogue import SqlCatalogue

REASON_CHARS = 200
NOTHING: Mapping[str, Any] = {}


class Notes:
    """Writes events down. *sends*: whether there is a back end to tell; *public_url* makes addresses absolute."""

    def __init__(self, public_url: str | None, *, sends: bool) -> None:
        self._base = public_url or ""
        self._sends = sends

    async def take(
        self, connection: AsyncConnection, asset: sql.Row[Any], kind: Kind, more: Mapping[str, Any] = NOTHING
    ) -> tuple[str, int]:
        """Note that *kind* happened to *asset*, a row of theirs, with *more* to say; gives its owner and the event's number."""
        now = datetime.now(UTC)
        stamp = int(now.timestamp() * 1_000_000)
        data = {
            "key": asset.key,
            "url": f"{self._base}{keys.PREFIX}{keys.encoded(Key(asset.key))}",
            "owner": asset.owner,
            "filename": asset.filename,
            "contentType": asset.content_type,
            "size": asset.size,
            "sha256": asset.sha256,
            "etag": asset.etag,
            "width": asset.width,
            "height": asset.height,
            "duration": asset.duration_s,
            "focal": asset.focal and [float(part) for part in asset.focal.split("x")],
            "metadata": json.loads(asset.metadata or "{}"),
            "createdAt": _written(datetime.fromtimestamp(asset.created / 1_000_000, UTC)),
            **({} if asset.source is None else {"source": asset.source}),
            **more,
        }
        values = {
            "id": f"evt_{stamp:014x}{secrets.token_hex(8)}",
            "kind": kind,
            "key": asset.key,
            "owner": asset.owner,
            "body": json.dumps({"type": kind, "timestamp": _written(now), "data": data}, separators=(",", ":")),
            "created": stamp,
            "delivery": Delivery.PENDING if self._sends else Delivery.SILENT,
            "attempts": 0,
            "due": stamp,
        }
        number = (await connection.execute(events.insert().values(values).returning(events.c.seq))).scalar_one()
        return asset.owner, int(number)


class SqlEvents:
    """The events in the database of *catalogue*, which must be open."""

    def __init__(self, catalogue: SqlCatalogue) -> None:
        self._catalogue = catalogue

    async def due(self, now: datetime, until: datetime, limit: int) -> list[Event]:
        """Those whose time has come, claimed until then by moving it."""
        earlier = events.alias()
        is_first = ~sql.exists().where(
            earlier.c.key == events.c.key, earlier.c.seq < events.c.seq, earlier.c.delivery == Delivery.PENDING
        )
        found = (
            sql.select(events.c.seq)
            .where(events.c.delivery == Delivery.PENDING, events.c.due <= _stamp(now), is_first)
            .order_by(events.c.seq)
            .limit(limit)
        )
        query = (
            events.update()
            .where(events.c.seq.in_(found), events.c.due <= _stamp(now))
            .values(due=_stamp(until))
            .returning(*events.columns)
        )
        async with self._catalogue.begun() as connection:
            await self._catalogue.alone(connection, "events")
            return sorted(map(_event, await connection.execute(query)), key=lambda event: event.seq)

    async def delivered(self, event: Event) -> None:
        """It has been taken."""
        await self._settle(event, {"delivery": Delivery.DELIVERED, "reason": None})

    async def failed(self, event: Event, reason: str, again: datetime | None) -> None:
        """It has not."""
        next_time = {"delivery": Delivery.DEAD} if again is None else {"due": _stamp(again)}
        await self._settle(event, {"reason": reason[:REASON_CHARS], **next_time})

    async def _settle(self, event: Event, values: dict[str, Any]) -> None:
        query = events.update().where(events.c.seq == event.seq, events.c.delivery == Delivery.PENDING)
        async with self._catalogue.begun() as connection:
            await connection.execute(query.values(attempts=events.c.attempts + 1, **values))

    async def dead(self, limit: int) -> list[Event]:
        """Those that nobody took, the oldest first."""
        return await self._some(events.select().where(events.c.delivery == Delivery.DEAD).order_by(events.c.seq).limit(limit))

    async def replay(self, ids: Sequence[str] | None, now: datetime) -> int:
        """Begin with them anew."""
        query = events.update().where(events.c.delivery == Delivery.DEAD)
        if ids is not None:
            query = query.where(events.c.id.in_(ids))
        async with self._catalogue.begun() as connection:
            return (await connection.execute(query.values(delivery=Delivery.PENDING, attempts=0, due=_stamp(now)))).rowcount

    async def backlog(self) -> dict[Delivery, int]:
        """How many are not delivered."""
        waiting = (Delivery.PENDING, Delivery.DEAD)
        query = sql.select(events.c.delivery, sql.func.count()).where(events.c.delivery.in_(waiting)).group_by(events.c.delivery)
        async with self._catalogue.begun() as connection:
            found = {Delivery(row[0]): int(row[1]) for row in await connection.execute(query)}
        return {delivery: found.get(delivery, 0) for delivery in waiting}

    async def oldest(self, now: datetime) -> timedelta:
        """The age of the first that is not delivered yet, and not dead."""
        query = sql.select(sql.func.min(events.c.created)).where(events.c.delivery == Delivery.PENDING)
        async with self._catalogue.begun() as connection:
            first = (await connection.execute(query)).scalar()
        return timedelta(0) if first is None else max(timedelta(0), timedelta(microseconds=_stamp(now) - first))

    async def of_owner(self, owner: str, after: int, limit: int) -> list[Event]:
        """The owner's, in order."""
        query = events.select().where(events.c.owner == owner, events.c.seq > after)
        return await self._some(query.order_by(events.c.seq).limit(limit))

    async def position(self, id: str | None) -> int:
        """Where it stands."""
        async with self._catalogue.begun() as connection:
            found = (await connection.execute(sql.select(events.c.seq).where(events.c.id == id))).scalar()
            if found is None:
                found = (await connection.execute(sql.select(sql.func.max(events.c.seq)))).scalar()
        return int(found or 0)

    async def tidy(self, before: datetime, limit: int) -> int:
        """Forget old ones."""
        settled = (Delivery.DELIVERED, Delivery.SILENT)
        old = sql.select(events.c.seq).where(events.c.delivery.in_(settled), events.c.created < _stamp(before)).limit(limit)
        async with self._catalogue.begun() as connection:
            return (await connection.execute(events.delete().where(events.c.seq.in_(old)))).rowcount

    async def _some(self, query: sql.Select[Any]) -> list[Event]:
        async with self._catalogue.begun() as connection:
            return [_event(row) for row in await connection.execute(query)]


def _stamp(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _event(row: sql.Row[Any]) -> Event:
    return Event(
        row.seq,
        row.id,
        Kind(row.kind),
        Key(row.key),
        row.owner,
        row.body,
        datetime.fromtimestamp(row.created / 1_000_000, UTC),
        Delivery(row.delivery),
        row.attempts,
        row.reason,
    )

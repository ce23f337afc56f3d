"""What was promised, in a table beside the assets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sql

from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.tables import promises
from proxy.keys import Key
from proxy.promises import Promise, Refusal, Stage, Way

WAITING = (Stage.OPEN, Stage.ARRIVED)
UNHELD = {"holder": None, "held_until": 0}


class SqlPromises:
    """Promises in the database of *catalogue*, which must be open."""

    def __init__(self, catalogue: SqlCatalogue) -> None:
        self._catalogue = catalogue

    async def add(self, promise: Promise) -> None:
        """Write it down; raises Conflict if there is one of this key."""
        async with self._catalogue.begun() as connection:
            await connection.execute(promises.insert().values(_row(promise)))

    async def get(self, key: Key) -> Promise | None:
        """The promise of *key*, whatever its stage."""
        async with self._catalogue.begun() as connection:
            row = (await connection.execute(promises.select().where(promises.c.key == key))).first()
        return None if row is None else _promise(row)

    async def claim(self, key: Key, holder: str, now: datetime, until: datetime) -> bool:
        """Whether *holder* alone is at work on it until then."""
        free = sql.or_(promises.c.holder == holder, promises.c.held_until <= _stamp(now))
        return await self._changed(key, free, {"holder": holder, "held_until": _stamp(until)})

    async def release(self, key: Key, holder: str) -> None:
        """End the work, if it is still this holder's."""
        await self._changed(key, promises.c.holder == holder, UNHELD)

    async def reserve(self, key: Key, size: int, most_bytes: int, now: datetime) -> bool:
        """Set *size* bytes aside: what was set aside for a body that comes no more does not count."""
        counts = sql.or_(promises.c.stage == Stage.ARRIVED, promises.c.held_until > _stamp(now))
        others = promises.alias()
        taken = (
            sql.select(sql.func.coalesce(sql.func.sum(others.c.reserved), 0))
            .where(others.c.key != key, sql.or_(others.c.stage == Stage.ARRIVED, others.c.held_until > _stamp(now)))
            .scalar_subquery()
        )
        query = promises.update().where(promises.c.key == key, counts, taken + size <= most_bytes).values(reserved=size)
        async with self._catalogue.begun() as connection:
            await self._catalogue.alone(connection, "promises.reserve")  # two at once would both find the room
            return bool((await connection.execute(query)).rowcount)

    async def move(self, key: Key, before: Sequence[Stage], stage: Stage, now: datetime, refusal: Refusal | None = None) -> bool:
        """Bring it from one of the stages *before* to *stage*."""
        values: dict[str, Any] = {"stage": stage, "since": _stamp(now)}
        values |= {"refusal": None if refusal is None else json.dumps(asdict(refusal))}
        values |= {} if stage in WAITING else {"reserved": 0}
        return await self._changed(key, promises.c.stage.in_(before), values)

    async def open_count(self, owner: str, now: datetime) -> int:
        """How many of the owner's wait for their bytes, or to be confirmed."""
        waiting = sql.or_(promises.c.expires > _stamp(now), promises.c.stage == Stage.ARRIVED)
        query = sql.select(sql.func.count()).where(promises.c.owner == owner, promises.c.stage.in_(WAITING), waiting)
        async with self._catalogue.begun() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def ended(self, now: datetime, before: datetime, limit: int) -> list[Promise]:
        """Those that nothing happens to any more."""
        query = promises.select().where(
            promises.c.since <= _stamp(before), promises.c.expires <= _stamp(before), promises.c.held_until <= _stamp(now)
        )
        async with self._catalogue.begun() as connection:
            return [_promise(row) for row in await connection.execute(query.order_by(promises.c.since).limit(limit))]

    async def remove(self, key: Key) -> None:
        """Forget it; idempotent."""
        async with self._catalogue.begun() as connection:
            await connection.execute(promises.delete().where(promises.c.key == key))

    async def _changed(self, key: Key, condition: sql.ColumnElement[bool], values: dict[str, Any]) -> bool:
        query = promises.update().where(promises.c.key == key, condition).values(values)
        async with self._catalogue.begun() as connection:
            return bool((await connection.execute(query)).rowcount)


def _stamp(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


def _moment(stamp: int) -> datetime:
    return datetime.fromtimestamp(stamp / 1_000_000, UTC)


def _row(promise: Promise) -> dict[str, Any]:
    row = asdict(promise) | {"expires": _stamp(promise.expires), "since": _stamp(promise.since), "reserved": 0} | UNHELD
    return row | {"refusal": None if promise.refusal is None else json.dumps(asdict(promise.refusal))}


def _promise(row: sql.Row[Any]) -> Promise:
    fields = {name: value for name, value in row._mapping.items() if name not in {"holder", "held_until", "reserved"}}
    return Promise(
        **fields
        | {
            "way": Way(fields["way"]),
            "stage": Stage(fields["stage"]),
            "expires": _moment(fields["expires"]),
            "since": _moment(fields["since"]),
            "refusal": None if fields["refusal"] is None else Refusal(**json.loads(fields["refusal"])),
        }
    )

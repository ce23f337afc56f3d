"""What owners have and what is set aside for them, in tables beside the assets, changed in the transactions that change those."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sql

from proxy.adapters.catalogue import COUNTED, SqlCatalogue
from proxy.adapters.counting import counted, stamp, standing
from proxy.adapters.tables import assets, reservations, uploads, usage
from proxy.quotas import Holdings, Quota, Usage

PAGE = 200
_COUNTS = assets.c.state.in_([str(state) for state in COUNTED])


class SqlQuotas:
    """The usage of all owners in the database of *catalogue*, which must be open and counts by the same quota."""

    def __init__(self, catalogue: SqlCatalogue) -> None:
        self._catalogue = catalogue

    @property
    def quota(self) -> Quota:
        """What each owner may have."""
        return self._catalogue.quota

    async def usage(self, owner: str, now: datetime) -> Usage:
        """What the owner has now."""
        async with self._catalogue.begun() as connection:
            return await standing(connection, owner, now)

    async def holdings(self, owners: int) -> Holdings:
        """What each store has, and what the *owners* who have most have."""
        size, objects = sql.func.sum(assets.c.size).label("bytes"), sql.func.count().label("objects")
        by_store = sql.select(assets.c.store, size, objects).where(_COUNTS).group_by(assets.c.store)
        largest = sql.select(usage.c.owner, usage.c.bytes).order_by(usage.c.bytes.desc(), usage.c.owner).limit(owners)
        async with self._catalogue.begun() as connection:
            stores = (await connection.execute(by_store)).all()
            most = (await connection.execute(largest)).all()
        return Holdings(
            {row.store: float(row.bytes) for row in stores},
            {row.store: float(row.objects) for row in stores},
            {row.owner: float(row.bytes) for row in most},
        )

    async def largest(self, limit: int) -> Sequence[tuple[str, Usage]]:
        """The owners who have most, by the sums that are kept of each."""
        query = sql.select(usage.c.owner, usage.c.bytes, usage.c.objects).where(usage.c.objects > 0)
        async with self._catalogue.begun() as connection:
            rows = await connection.execute(query.order_by(usage.c.bytes.desc(), usage.c.owner).limit(limit))
            return [(row.owner, Usage(row.bytes, row.objects)) for row in rows]

    async def reserve(self, name: str, owner: str, size: int, now: datetime, until: datetime, objects: int = 1) -> None:
        """Set it aside, if it is within the quota."""
        if not self.quota.is_set:
            return
        values = {"name": name, "owner": owner, "bytes": size, "objects": objects, "expires": stamp(until)}
        row: Any = self._catalogue.insert(reservations).values(values)
        async with self._catalogue.begun() as connection:
            await counted(connection, self._catalogue.insert, owner, 0, 0)  # which holds back all others of this owner
            (await standing(connection, owner, now, [name])).check(self.quota, size, objects)
            await connection.execute(row.on_conflict_do_update(index_elements=[reservations.c.name], set_=values))

    async def release(self, names: Sequence[str]) -> None:
        """Give it back; idempotent."""
        if self.quota.is_set and names:
            async with self._catalogue.begun() as connection:
                await connection.execute(reservations.delete().where(reservations.c.name.in_(names)))

    async def miscounted(self, *, mend: bool) -> AsyncIterator[str]:
        """The owners whose usage is not the sum of their records, which is then right if *mend*."""
        after = ""
        while owners := await self._owners(after):
            after = owners[-1]
            for owner in await self._wrong(owners):
                if mend:
                    await self._recount(owner)
                yield owner

    async def _owners(self, after: str) -> list[str]:
        found: set[str] = set()
        async with self._catalogue.begun() as connection:
            for column in (usage.c.owner, assets.c.owner):
                query = sql.select(column).where(column > after).distinct().order_by(column).limit(PAGE)
                found.update((await connection.execute(query)).scalars())
        return sorted(found)[:PAGE]

    async def _wrong(self, owners: Sequence[str]) -> list[str]:
        counted_now = sql.select(usage.c.owner, usage.c.bytes, usage.c.objects).where(usage.c.owner.in_(owners))
        async with self._catalogue.begun() as connection:
            told = {row.owner: (row.bytes, row.objects) for row in await connection.execute(counted_now)}
            true = {row.owner: (int(row.bytes), row.objects) for row in await connection.execute(_sums(owners))}
        return [owner for owner in owners if told.get(owner, (0, 0)) != true.get(owner, (0, 0))]

    async def _recount(self, owner: str) -> None:
        async with self._catalogue.begun() as connection:
            await counted(connection, self._catalogue.insert, owner, 0, 0)  # nobody else counts for this owner now
            row = (await connection.execute(_sums([owner]))).first()
            size, objects = (0, 0) if row is None else (int(row.bytes), row.objects)
            await connection.execute(usage.update().where(usage.c.owner == owner).values(bytes=size, objects=objects))

    async def sweep(self, now: datetime) -> int:
        """Forget what was set aside and has ended; how many those were."""
        lives = sql.select(uploads.c.id).where(uploads.c.expires > stamp(now))
        ended = sql.and_(reservations.c.expires <= stamp(now), reservations.c.name.not_in(lives))
        async with self._catalogue.begun() as connection:
            return (await connection.execute(reservations.delete().where(ended))).rowcount


def _sums(owners: Sequence[str]) -> sql.Select[Any]:
    sums = sql.select(assets.c.owner, sql.func.sum(assets.c.size).label("bytes"), sql.func.count().label("objects"))
    return sums.where(assets.c.owner.in_(owners), _COUNTS).group_by(assets.c.owner)

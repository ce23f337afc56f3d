"""What owners have and what is set aside for them, in tables beside the assets, changed in the transactions that change those."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sql

from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.counting import counted, stamp, standing
from proxy.adapters.tables import reservations, uploads
from proxy.quotas import Quota, Usage


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

    async def sweep(self, now: datetime) -> int:
        """Forget what was set aside and has ended; how many those were."""
        lives = sql.select(uploads.c.id).where(uploads.c.expires > stamp(now))
        ended = sql.and_(reservations.c.expires <= stamp(now), reservations.c.name.not_in(lives))
        async with self._catalogue.begun() as connection:
            return (await connection.execute(reservations.delete().where(ended))).rowcount

"""Fingerprints beside the records: four indexed bands of each, in which what is near enough must meet."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.adapters.tables import LISTED, assets, fingerprints
from proxy.fingerprints import MOST_CANDIDATES, Match, Matches, apart, bands, probes
from proxy.keys import Key
from proxy.ports import State

if TYPE_CHECKING:
    from proxy.adapters.catalogue import SqlCatalogue

BANDS = (fingerprints.c.band_0, fingerprints.c.band_1, fingerprints.c.band_2, fingerprints.c.band_3)
BATCH = 200


async def indexed(connection: AsyncConnection, insert: Callable[..., Any], row: Any, fingerprint: str | None) -> None:
    """Let the asset of *row* be found by *fingerprint* alone, or by none."""
    if fingerprint is None:
        await connection.execute(fingerprints.delete().where(fingerprints.c.key == row.key))
        return
    parts = {column.name: part for column, part in zip(BANDS, bands(fingerprint), strict=True)}
    values = {"owner": row.owner, "etag": row.etag, "fingerprint": fingerprint, **parts}
    query = insert(fingerprints).values(key=row.key, **values)
    await connection.execute(query.on_conflict_do_update(index_elements=["key"], set_=values))


async def unindexed(connection: AsyncConnection, key: Key) -> None:
    """Let it be found no more."""
    await connection.execute(fingerprints.delete().where(fingerprints.c.key == key))


class SqlFingerprints:
    """The index in the database of *catalogue*, which must be open; one question compares *most* candidates."""

    def __init__(self, catalogue: SqlCatalogue, most: int = MOST_CANDIDATES) -> None:
        self._catalogue = catalogue
        self._most = most

    async def near(self, owner: str, fingerprint: str, distance: int, limit: int, but: Key) -> Matches:
        """Those that share a band, or nearly, compared one by one."""
        columns = (fingerprints.c.key, fingerprints.c.etag, fingerprints.c.fingerprint)
        parts = [
            sql.select(*columns).where(fingerprints.c.owner == owner, band.in_(list(probes(part, distance))))
            for band, part in zip(BANDS, bands(fingerprint), strict=True)
        ]
        async with self._catalogue.begun() as connection:
            rows = (await connection.execute(sql.union(*parts).limit(self._most + 1))).all()
            far = [(apart(fingerprint, row.fingerprint), row.key, row.etag) for row in rows[: self._most] if row.key != but]
            near = sorted(one for one in far if one[0] <= distance)
            found: list[Match] = []
            for at in range(0, len(near), BATCH):
                some = near[at : at + BATCH]
                query = sql.select(*LISTED).where(assets.c.key.in_([key for _, key, _ in some]), assets.c.state == str(State.READY))
                known = {row.key: row for row in await connection.execute(query)}
                # A record may have been written anew by a version that knows no fingerprints.
                found += [
                    Match(self._catalogue.asset(known[key]), bits)
                    for bits, key, etag in some
                    if key in known and known[key].etag == etag
                ]
                if len(found) >= limit:
                    break
        return Matches(found[:limit], len(rows) <= self._most)

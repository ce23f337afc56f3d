"""Scanning what is stored already: what nobody could scan when it came, and what came before there was a scanner."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import structlog

from processors.errors import MediaError
from proxy import streams
from proxy.errors import Infected, NotFound, Unscannable
from proxy.keys import Key
from proxy.ports import Asset, Backend, Catalogue, State
from proxy.scanning import Scanning

PATROL_S = 10.0
BATCH = 200
AT_ONCE = 2
"""side by side, since uploads have the scanner first"""
ROUND = 4
"""objects that a round looks at side by side"""
FIRST_PAUSE_S, LAST_PAUSE_S = 15.0, 3_600.0
"""before another look at what came to no verdict"""
MOST_REMEMBERED = 10_000

log = structlog.get_logger(__name__)


class Finding(StrEnum):
    """What a look at an object came to."""

    CLEAN = "clean"
    INFECTED = "infected"
    UNSCANNABLE = "unscannable"
    """the scanner cannot look through all of it"""
    CHANGED = "changed"
    """it is another write by now, or gone"""


class Records(Protocol):
    """The records of what waits to be scanned. Raises Unavailable."""

    async def unscanned(self, limit: int, after: Key | None = None) -> list[Asset]:
        """Up to *limit* QUARANTINED assets that wait for it, by key, beyond *after*."""
        ...

    async def scanned(self, asset: Asset, found: Mapping[str, str] | None) -> bool:
        """That write of *asset* waits no more: it is READY, or QUARANTINED for what was *found*; false if it is not there now."""
        ...


class Rescanning:
    """Gives objects of *backend* to *scanning*, and brings their records to what comes of it.

    *withhold* keeps a key from everybody, *changed* drops what is known of it, *stored* is told of one that all may have now.
    """

    def __init__(
        self,
        scanning: Scanning,
        backend: Backend,
        records: Records,
        withhold: Callable[[Key], Awaitable[None]],
        changed: Callable[[Key], Awaitable[None]],
        stored: Callable[[Key, str], None],
    ) -> None:
        self._scanning = scanning
        self._backend = backend
        self._records = records
        self.withhold = withhold
        self._changed = changed
        self._stored = stored

    async def look(self, asset: Asset, *, is_dry: bool = False) -> Finding:
        """Scan the object of *asset*; raises Unavailable where scanner, store or records do not answer.

        What is clean and waited is READY then, what is infected QUARANTINED, unless this *is_dry*; what cannot be scanned stays
        as it is.
        """
        try:
            await self._scanned(asset)
        except Infected as error:
            found = {"reason": error.slug, "signature": str(error.members.get("signature", ""))}
            if is_dry:
                return Finding.INFECTED
            if not await self._records.scanned(asset, found):
                return Finding.CHANGED
            log.warning("scan.quarantined", key=asset.key, signature=found["signature"])
            await self.withhold(asset.key)
            await self._changed(asset.key)
            return Finding.INFECTED
        except Unscannable:
            return Finding.UNSCANNABLE
        except NotFound:
            return Finding.CHANGED
        if not asset.unscanned or is_dry:
            return Finding.CLEAN
        if not await self._records.scanned(asset, None):
            return Finding.CHANGED
        log.info("scan.lifted", key=asset.key)
        await self._changed(asset.key)
        self._stored(asset.key, asset.content_type)
        return Finding.CLEAN

    async def _scanned(self, asset: Asset) -> None:
        async with await self._backend.open(asset.key) as reader:
            if reader.meta.etag != asset.etag:
                raise NotFound("the object has changed")
            async with self._scanning.watched(reader.chunks, asset.size) as watched:
                await streams.drained(watched.body)


class Patrol:
    """Goes through *records* of what waits, again and again while the scanner *is_there*, and lifts what is clean."""

    def __init__(
        self,
        rescanning: Rescanning,
        records: Records,
        is_there: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rescanning = rescanning
        self._records = records
        self._is_there = is_there
        self._clock = clock
        self._pauses: dict[tuple[Key, str], tuple[float, float]] = {}
        self.waiting = 0
        """how many waited when it last looked"""

    async def run_for_ever(self) -> None:
        """Patrol with pauses that differ: several machines may do this, not all at once."""
        while True:
            try:
                await self.once()
            except MediaError as error:
                log.warning("scan.patrol_failed", reason=error.slug)
            except Exception:  # the root of a task: the next turn may be luckier
                log.exception("scan.patrol_failed")
            await asyncio.sleep(PATROL_S * (0.75 + secrets.randbelow(50) / 100))

    async def once(self) -> None:
        """Look at all that waits, and has not been looked at in vain a moment ago."""
        places = asyncio.Semaphore(AT_ONCE)
        after: Key | None = None
        count = 0
        while page := await self._records.unscanned(BATCH, after):
            after = page[-1].key
            await asyncio.gather(*(self._look(asset, places) for asset in page if self._is_due(asset)))
            count += len(page)
        self.waiting = count

    def _is_due(self, asset: Asset) -> bool:
        return self._pauses.get((asset.key, asset.etag), (0.0, 0.0))[0] <= self._clock()

    async def _look(self, asset: Asset, places: asyncio.Semaphore) -> None:
        write = (asset.key, asset.etag)
        async with places:
            if not self._is_there():
                return
            try:
                finding = await self._rescanning.look(asset)
            except MediaError as error:
                log.info("scan.not_done", key=asset.key, reason=error.slug)
                finding = None
        if finding in {Finding.CLEAN, Finding.INFECTED}:
            self._pauses.pop(write, None)
            return
        if finding is None and not self._is_there():  # which says nothing of this object
            return
        if len(self._pauses) >= MOST_REMEMBERED:
            self._pauses.clear()
        _, pause_s = self._pauses.get(write, (0.0, FIRST_PAUSE_S / 2))
        pause_s = min(2 * pause_s, LAST_PAUSE_S)
        self._pauses[write] = (self._clock() + pause_s, pause_s)


@dataclass(frozen=True, slots=True)
class Seen:
    """A look at the object of *key*; *finding* is None where stores, records or the scanner did not answer."""

    key: Key
    finding: Finding | None


class Round:
    """One look at every READY object, in the order of keys, some at a time. What waits is the `Patrol`'s.

    *ping* raises Unavailable where the scanner does not answer.
    """

    def __init__(
        self, rescanning: Rescanning, catalogue: Catalogue, ping: Callable[[], Awaitable[None]], *, is_dry: bool = False
    ) -> None:
        self._rescanning = rescanning
        self._catalogue = catalogue
        self._ping = ping
        self._is_dry = is_dry
        self.cursor: Key | None = None
        """the key up to which all has been seen"""

    async def run(self, after: Key | None = None) -> AsyncGenerator[Seen]:
        """What is seen beyond *after*; raises Unavailable when the scanner or the records do not answer any more."""
        self.cursor = after
        await self._ping()
        while page := await self._catalogue.kept(ROUND, self.cursor):
            ready = [asset for asset in page if asset.state is State.READY]
            seen = await asyncio.gather(*map(self._seen, ready))
            unsure = [one for one in seen if one.finding is None]
            for one in seen:
                if one.finding is not None:
                    yield one
            if unsure:
                await self._ping()  # where the scanner is away, the page is to be looked at again
            for one in unsure:
                yield one
            self.cursor = page[-1].key

    async def _seen(self, asset: Asset) -> Seen:
        try:
            return Seen(asset.key, await self._rescanning.look(asset, is_dry=self._is_dry))
        except MediaError as error:
            log.info("scan.not_done", key=asset.key, reason=error.slug)
            return Seen(asset.key, None)

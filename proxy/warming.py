"""Renditions that are made of every upload, behind its answer, and how far that is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum

import structlog

from processors import formats
from processors.errors import Busy, MediaError
from processors.formats import Kind
from processors.transform import Transform
from proxy.cache import FreshCache
from proxy.conditions import ANYTHING
from proxy.delivery import Delivery
from proxy.errors import NotFound, Unavailable
from proxy.flights import Errands
from proxy.keys import Key

BROWSERS = "image/avif,image/webp,image/*,*/*;q=0.8"
"""What today's browsers accept: ``format=auto`` is made for them."""
SHOWN = frozenset((Kind.IMAGE, Kind.DRAWING, Kind.VIDEO))
"""of what there are renditions"""
WAITING = 256
AT_ONCE = 2
"""uploads whose renditions are made at one time: others must not wait for them"""
TRIES = 5
PAUSE_S = 2.0
FAILURES = 2_000
FAILED_S = 600.0

Wish = tuple[Transform, bool]
"""A rendition, and whether it is to be kept for good"""

log = structlog.get_logger(__name__)


class Progress(StrEnum):
    """How far a rendition is."""

    READY = "ready"
    PENDING = "pending"
    FAILED = "failed"


class Warming:
    """Makes what *wanted* gives, by names, of each object it is told of. Nothing of it survives a restart but what was made.

    All renditions of one object are asked for together, so that they share a decode; *processed* hears how they ended.
    """

    def __init__(
        self,
        delivery: Delivery,
        wanted: Callable[[], Mapping[str, Wish]],
        processed: Callable[[Key, Mapping[str, Progress]], Awaitable[None]],
    ) -> None:
        self._delivery = delivery
        self._wanted = wanted
        self._processed = processed
        self._errands = Errands(WAITING)
        self._places = asyncio.Semaphore(AT_ONCE)
        self._pending: set[tuple[Key, str]] = set()
        self._failed: FreshCache[tuple[Key, str], bool] = FreshCache(FAILURES, FAILED_S)

    def __len__(self) -> int:
        """How many objects are in work or wait."""
        return len(self._errands)

    def begin(self, key: Key, content_type: str) -> None:
        """Have everything made of *key*, in the background; nothing if nothing can be shown of it."""
        self._begin(key, self._wishes(content_type))

    async def progress(self, key: Key, content_type: str) -> dict[str, Progress]:
        """How far each rendition of *key* is. What is not there, and was not refused, is begun."""
        wanted = self._wishes(content_type)
        found = {name: await self._progress(key, name, wish) for name, wish in wanted.items()}
        self._begin(key, {name: wanted[name] for name, progress in found.items() if progress is Progress.PENDING})
        return found

    async def finish(self) -> None:
        """End what is under way: it is begun again when somebody asks for it."""
        await self._errands.finish(0.0)

    def _wishes(self, content_type: str) -> dict[str, Wish]:
        format = formats.by_mime(content_type)
        if format is None or format.kind not in SHOWN:
            return {}
        return {name: wish for name, wish in self._wanted().items() if format.kind is Kind.VIDEO or not wish[0].is_of_films}

    def _begin(self, key: Key, wanted: Mapping[str, Wish]) -> None:
        new = {name: transform for name, transform in wanted.items() if (key, name) not in self._pending}
        if not new:
            return
        if self._errands.begin(lambda: self._make_all(key, new)):
            self._pending |= {(key, name) for name in new}
        else:
            log.warning("presets.not_made", key=key)

    async def _progress(self, key: Key, name: str, wish: Wish) -> Progress:
        if (key, name) in self._pending:
            return Progress.PENDING
        if self._failed.get((key, name)):
            return Progress.FAILED
        try:
            plan = await self._delivery.plan(key, wish[0], BROWSERS, lasting=wish[1])
        except Unavailable:
            return Progress.PENDING
        return Progress.PENDING if plan.found == "miss" else Progress.READY

    async def _make_all(self, key: Key, wanted: Mapping[str, Wish]) -> None:
        try:
            async with self._places:
                with self._delivery.expecting(key, len(wanted)):
                    ends = await asyncio.gather(*(self._make(key, name, wish) for name, wish in wanted.items()))
            await self._processed(key, dict(zip(wanted, ends, strict=True)))
        except MediaError as error:
            log.warning("presets.not_told", key=key, reason=error.slug)
        finally:
            self._pending -= {(key, name) for name in wanted}

    async def _make(self, key: Key, name: str, wish: Wish) -> Progress:
        for attempt in range(TRIES):
            try:
                await self._delivery.rendition(key, wish[0], BROWSERS, ANYTHING, lasting=wish[1])
            except NotFound:  # removed meanwhile
                return Progress.FAILED
            except (Busy, Unavailable) as error:
                failure: MediaError = error
                await asyncio.sleep(PAUSE_S * attempt)
            except MediaError as error:
                failure = error
                break
            else:
                self._pending.discard((key, name))
                return Progress.READY
        self._failed.set((key, name), True)
        self._pending.discard((key, name))
        log.warning("preset.not_made", key=key, preset=name, reason=failure.slug)
        return Progress.FAILED

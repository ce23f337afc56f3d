"""What the stores hold, as operators watch it: sums that are looked up when somebody asks, since a look reads tables."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Protocol

from processors.errors import MediaError
from proxy.claims import Clock, utc_now
from proxy.quotas import Holdings

MOST_OWNERS = 10
PAUSE_S = 10.0
SHARE = 200
"""Looks take one part in so many of the database's time at most: the pause after one is so many times as long."""
PATIENCE_S = 2.0
"""that whoever asks waits; after that they get what was there before, and the look goes on"""


class Sums(Protocol):
    """Who can add them up."""

    async def holdings(self, owners: int) -> Holdings: ...


class Waiting(Protocol):
    """Who knows what waits."""

    async def oldest(self, now: datetime) -> timedelta: ...


class Survey:
    """The holdings, and how long the oldest of *events* waits, as they were at the last look. Nobody asks: nobody looks."""

    def __init__(self, sums: Sums, events: Waiting, clock: Clock = utc_now, now: Callable[[], float] = time.monotonic) -> None:
        self._sums = sums
        self._events = events
        self._clock = clock
        self._now = now
        self._not_before = 0.0
        self._looking: asyncio.Task[None] | None = None
        self.last = Holdings()
        self.oldest_event_s = 0.0

    async def fresh(self) -> None:
        """Look, if the last look is some time ago: longer where that is dear."""
        if self._looking is None or self._looking.done():
            if self._now() < self._not_before:
                return
            self._looking = asyncio.create_task(self._look())
        await asyncio.wait([self._looking], timeout=PATIENCE_S)

    async def finish(self) -> None:
        """End a look that is under way."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> None:
        begun = self._now()
        dear = 0.0
        with suppress(MediaError):  # then they are shown as they were
            self.last = await self._sums.holdings(MOST_OWNERS)
            self.oldest_event_s = (await self._events.oldest(self._clock())).total_seconds()
            dear = SHARE * (self._now() - begun)
        self._not_before = self._now() + max(PAUSE_S, dear)

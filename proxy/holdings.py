"""What the stores hold, as operators watch it: sums that are looked up now and then, since a look reads whole tables."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Protocol

from processors.errors import MediaError
from proxy.quotas import Holdings

MOST_OWNERS = 10
PAUSE_S = 15.0
SHARE = 200
"""A look takes one part in so many of the database's time at most: the pause after it is so many times as long."""


class Sums(Protocol):
    """Who can add them up."""

    async def holdings(self, owners: int) -> Holdings: ...


class Watched:
    """The holdings as they were at the last look."""

    def __init__(self, sums: Sums) -> None:
        self._sums = sums
        self.last = Holdings()

    async def run_for_ever(self) -> None:
        """Look, and look again: sooner where that is cheap."""
        while True:
            begun = time.monotonic()
            with suppress(MediaError):  # then they are shown as they were
                self.last = await self._sums.holdings(MOST_OWNERS)
            await asyncio.sleep(max(PAUSE_S, SHARE * (time.monotonic() - begun)))

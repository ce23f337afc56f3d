"""Counting in the memory of the process: sliding windows, with a bound on their number."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from proxy.rates import Limit, Rate, Standing

MOST = 50_000
"""windows; each takes about 300 bytes. Beyond them the one asked for least lately begins anew."""


class MemoryTally:
    """A `Tally` in this process. A window is what was counted in the present one, and of the one before as much as it overlaps."""

    def __init__(self, most: int = MOST, clock: Callable[[], float] = time.time) -> None:
        self._most = most
        self._clock = clock
        self._windows: OrderedDict[tuple[Limit, Rate, str], tuple[int, int, int]] = OrderedDict()

    async def take(self, limit: Limit, rate: Rate, who: str, cost: int) -> Standing:
        """Count, if there is so much left."""
        now = self._clock()
        number, passed = int(now // rate.seconds), now % rate.seconds / rate.seconds
        seen, current, previous = self._windows.get((limit, rate, who), (number, 0, 0))
        if seen != number:
            current, previous = 0, current if seen == number - 1 else 0
        used = current + int(previous * (1 - passed))
        granted = used + cost <= rate.amount
        if granted:
            current, used = current + cost, used + cost
        self._windows[limit, rate, who] = (number, current, previous)
        self._windows.move_to_end((limit, rate, who))
        if len(self._windows) > self._most:
            self._windows.popitem(last=False)
        return Standing(limit, rate, granted, max(0, rate.amount - used), rate.seconds * (1 - passed))

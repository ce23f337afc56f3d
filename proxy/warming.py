"""Renditions that are made before anybody asks: behind an upload, a few originals at a time, with patience."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from processors.errors import Busy, MediaError
from proxy.errors import Unavailable
from proxy.flights import Errands
from proxy.keys import Key

AT_ONCE = 2
UNDER_WAY = 64
KNOWN = 1_024
PATIENCE_S = (0.5, 1.0, 2.0, 4.0, 8.0, 0.0)
"""the pauses while all workers are busy"""

Work = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class Warming:
    """How many renditions are *wanted*, and how many of them are *made* or have *failed* so far."""

    wanted: int
    made: int = 0
    failed: int = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.made + self.failed >= self.wanted


class Warmings:
    """What is being made of which original; of the last ones it is known how that ended."""

    def __init__(self) -> None:
        self._errands = Errands(UNDER_WAY)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._known: OrderedDict[Key, Warming] = OrderedDict()

    def begin(self, key: Key, works: Sequence[Work]) -> Warming:
        """Do *works*, together; a second call joins the first. Where too many are under way, all of them count as failed."""
        known = self._known.get(key)
        if known is not None and not known.is_over:
            return known
        warming = self._known[key] = Warming(len(works))
        self._known.move_to_end(key)
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)
        if not self._errands.begin(lambda: self._run(works, warming)):
            warming.failed = warming.wanted
        return warming

    def get(self, key: Key) -> Warming | None:
        """How far it is; None if that is not known here."""
        return self._known.get(key)

    async def finish(self) -> None:
        """End what is under way."""
        await self._errands.finish(0)

    async def _run(self, works: Sequence[Work], warming: Warming) -> None:
        async with self._turns:
            await asyncio.gather(*(self._one(work, warming) for work in works))

    async def _one(self, work: Work, warming: Warming) -> None:
        for pause_s in PATIENCE_S:
            try:
                await work()
            except (Busy, Unavailable):
                await asyncio.sleep(pause_s)
            except MediaError:
                break
            else:
                warming.made += 1
                return
        warming.failed += 1

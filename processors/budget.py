"""Room in memory for pictures that are decoded at one time, given out in the order of asking."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from processors.errors import Busy, TooCostly


class Budget:
    """*allowed* bytes, of which every job reserves its estimate. *check* is asked before somebody begins to wait."""

    def __init__(self, allowed: int, check: Callable[[], None]) -> None:
        self._allowed = allowed
        self._check = check
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.reserved = 0

    @property
    def waiting(self) -> int:
        """How many wait for room."""
        return len(self._waiting)

    async def reserve(self, size: int, until: float) -> int:
        """Take *size* bytes, at the loop's time *until* at the latest; raises TooCostly and Busy."""
        if size > self._allowed:
            raise TooCostly("decoding it takes more memory than is allowed", limit="memory", allowed=self._allowed, actual=size)
        if not self._waiting and self.reserved + size <= self._allowed:
            self.reserved += size
            return size
        self._check()
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = size, waiting
        self._waiting.append(place)
        try:
            async with asyncio.timeout_at(until):
                await waiting
        except BaseException as error:
            if waiting.done() and not waiting.cancelled():  # granted at the same moment
                self.reserved -= size
            if place in self._waiting:
                self._waiting.remove(place)
            self._grant()
            if isinstance(error, TimeoutError):
                raise Busy("no memory became free in time") from None
            raise
        return size

    def release(self, size: int) -> None:
        """Give *size* bytes back."""
        self.reserved -= size
        self._grant()

    def _grant(self) -> None:
        while self._waiting and self.reserved + self._waiting[0][0] <= self._allowed:
            size, waiting = self._waiting.popleft()
            if not waiting.done():
                self.reserved += size
                waiting.set_result(None)

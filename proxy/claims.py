"""Who is at work on a promised upload: one at a time, over all processes."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

from proxy.errors import Conflict, Unavailable
from proxy.keys import Key
from proxy.promises import PromiseBook

LEASE = timedelta(seconds=30)
"""What a process that dies keeps others waiting."""
BEAT_S = 8.0
LOOK_S = 0.2

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock of all that is not a test."""
    return datetime.now(UTC)


class Claims:
    """Claims on the promises in *book*, which end by themselves a while after their process."""

    def __init__(self, book: PromiseBook, clock: Clock = utc_now) -> None:
        self._book = book
        self._clock = clock

    @asynccontextmanager
    async def alone(self, key: Key, patience_s: float = 0) -> AsyncIterator[None]:
        """Be the only one at work on *key*; raises Conflict if somebody else still is after *patience_s*."""
        holder = secrets.token_hex(8)
        until = time.monotonic() + patience_s
        while not await self._claim(key, holder):
            if time.monotonic() >= until:
                raise Conflict("this upload is being worked on by another request", headers={"Retry-After": "2"})
            await asyncio.sleep(LOOK_S)  # who holds it may be another process, which says nothing
        beat = asyncio.create_task(self._go_on(key, holder))
        try:
            yield
        finally:
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)
            with suppress(Unavailable):  # then it ends by itself
                await asyncio.shield(asyncio.create_task(self._book.release(key, holder)))

    async def _claim(self, key: Key, holder: str) -> bool:
        now = self._clock()
        return await self._book.claim(key, holder, now, now + LEASE)

    async def _go_on(self, key: Key, holder: str) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            with suppress(Unavailable):
                await self._claim(key, holder)

"""Questions to the catalogue that a read can do without: asked for a moment, and not by everybody while it is silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from proxy.errors import Unavailable

T = TypeVar("T")

SILENCE_S = 5.0

log = structlog.get_logger(__name__)


class Patience:
    """Waits *seconds* for an answer, and asks no more for a while after one did not come."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._silent_until = clock()

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """What *question* gives; raises Unavailable, at once while the catalogue is known to be silent."""
        if self._clock() < self._silent_until:
            raise Unavailable("the catalogue does not answer")
        try:
            async with asyncio.timeout(self._seconds):
                return await question()
        except (TimeoutError, Unavailable) as error:
            self._silent_until = self._clock() + SILENCE_S
            log.warning("catalogue.silent")
            raise Unavailable("the catalogue does not answer") from error

"""What is made better later: one thing at a time, and only while nobody waits for a worker."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import structlog

from processors.errors import Busy, MediaError
from proxy.cache import FreshCache
from proxy.errors import Unavailable

LOOK_S = 0.25
GIVEN_UP_S = 600.0
ENTRIES = 1_000

log = structlog.get_logger(__name__)


class Later:
    """At most *limit* pieces of work, in the order of asking. Each begins when *is_idle* says so; one that cannot be done is not
    taken again for ten minutes. More than the limit are not taken: whoever asks next offers them again.
    """

    def __init__(self, is_idle: Callable[[], bool], limit: int = 64) -> None:
        self._is_idle = is_idle
        self._limit = limit
        self._queue: OrderedDict[str, Callable[[], Awaitable[None]]] = OrderedDict()
        self._given_up: FreshCache[str, bool] = FreshCache(ENTRIES, GIVEN_UP_S)
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._queue)

    def offer(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Have *work* done some time, once however often it is offered under *name*."""
        if name in self._queue or len(self._queue) >= self._limit or self._given_up.get(name):
            return
        self._queue[name] = work
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def finish(self) -> None:
        """Drop what has not been done."""
        self._queue.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._queue:
            await asyncio.sleep(LOOK_S)
            if not self._is_idle():
                continue
            name, work = next(iter(self._queue.items()))
            try:
                await work()
            except (Busy, Unavailable):
                pass  # for want of room, or of the source: whoever asks next offers it again
            except MediaError as error:
                log.info("later.given_up", reason=error.slug)
                self._given_up.set(name, True)
            except Exception:
                log.exception("later.crashed")
                self._given_up.set(name, True)
            self._queue.pop(name, None)

"""Tells a back end of events: each at least once, those of one key in order, again and again for hours while it does not listen."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import structlog

from processors.errors import MediaError
from proxy.claims import Clock, utc_now
from proxy.events import Event, EventLog, Post
from proxy.observe import Metrics

AT_ONCE = 16
POLL_S = 2.0
CLAIM = timedelta(seconds=20)
"""What an event waits whose sender has died: longer than an attempt."""
TIDY_EVERY = 300
TIDY_BATCH = 1_000

log = structlog.get_logger(__name__)


class Dispatch:
    """Sends what is due by *post*. An attempt that fails is followed by one after each of *pauses* seconds; then the event is dead.

    What is on its way to nobody is forgotten after *keep*. Without *post* that is all that is done.
    """

    def __init__(
        self,
        events: EventLog,
        post: Post | None,
        pauses: Sequence[float],
        keep: timedelta,
        metrics: Metrics,
        clock: Clock = utc_now,
    ) -> None:
        self._events = events
        self._post = post
        self._pauses = tuple(pauses)
        self._keep = keep
        self._metrics = metrics
        self._clock = clock
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Something has happened: look now."""
        self._news.set()

    async def run_for_ever(self) -> None:
        """Send what is due, each event for itself, so that one that is taken slowly holds none of another key up; wait for more."""
        under_way: set[asyncio.Task[None]] = set()

        def ended(task: asyncio.Task[None]) -> None:
            under_way.discard(task)
            self._news.set()

        turn = 0
        try:
            while True:
                self._news.clear()
                for event, post in await self._due(AT_ONCE - len(under_way)):
                    task = asyncio.create_task(self._send(event, post))
                    under_way.add(task)
                    task.add_done_callback(ended)
                if turn % TIDY_EVERY == 0:
                    await self._tidy()
                turn += 1
                try:
                    async with asyncio.timeout(POLL_S):
                        await self._news.wait()
                except TimeoutError:
                    pass
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _due(self, most: int) -> list[tuple[Event, Post]]:
        if self._post is None or not most:
            return []
        now = self._clock()
        with _kept_alive():
            return [(event, self._post) for event in await self._events.due(now, now + CLAIM, most)]
        return []

    async def _tidy(self) -> None:
        with _kept_alive():
            await self._events.tidy(self._clock() - self._keep, TIDY_BATCH)

    async def _send(self, event: Event, post: Post) -> None:
        with _kept_alive():
            await self._try(post, event)

    async def _try(self, post: Post, event: Event) -> None:
        reason = await post(event)
        if reason is None:
            await self._events.delivered(event)
            self._metrics.event("delivered")
            return
        again = None
        if event.attempts < len(self._pauses):
            seconds = self._pauses[event.attempts] * random.uniform(0.9, 1.1)  # noqa: S311 - so that not all come at once
            again = self._clock() + timedelta(seconds=seconds)
            if seconds < POLL_S:
                asyncio.get_running_loop().call_later(seconds, self.wake)
        await self._events.failed(event, reason, again)
        self._metrics.event("failed" if again else "dead")
        level = log.info if again else log.error
        level("event.not_taken", id=event.id, key=event.key, attempt=event.attempts + 1, reason=reason, dead=again is None)


@contextmanager
def _kept_alive() -> Iterator[None]:
    try:
        yield
    except MediaError as error:
        log.warning("events.unread", reason=error.slug)
    except Exception:  # the root of a task: the next turn may be luckier
        log.exception("events.unread")

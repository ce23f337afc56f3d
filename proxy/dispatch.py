"""Tells a back end of events: each at least once, those of one key in order, again and again for hours while it does not listen."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import timedelta

import structlog

from processors.errors import MediaError
from proxy.claims import Clock, utc_now
from proxy.events import Event, EventLog, Post
from proxy.observe import Metrics

AT_ONCE = 16
POLL_S = 2.0
CLAIM = timedelta(seconds=60)
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
        """Send what is due, and wait for more."""
        turn = 0
        while True:
            sent = 0
            self._news.clear()
            try:
                sent = await self.send()
                if turn % TIDY_EVERY == 0:
                    await self._events.tidy(self._clock() - self._keep, TIDY_BATCH)
            except MediaError as error:
                log.warning("events.unread", reason=error.slug)
            except Exception:  # the root of a task: the next turn may be luckier
                log.exception("events.unread")
            turn += 1
            if not sent:
                try:
                    async with asyncio.timeout(POLL_S):
                        await self._news.wait()
                except TimeoutError:
                    pass

    async def send(self) -> int:
        """Try all events that are due, side by side; how many were taken."""
        if self._post is None:
            return 0
        now = self._clock()
        due = await self._events.due(now, now + CLAIM, AT_ONCE)
        return sum(await asyncio.gather(*(self._try(self._post, event) for event in due)))

    async def _try(self, post: Post, event: Event) -> bool:
        reason = await post(event)
        if reason is None:
            await self._events.delivered(event)
            self._metrics.event("delivered")
            return True
        again = None
        if event.attempts < len(self._pauses):
            seconds = self._pauses[event.attempts] * random.uniform(0.9, 1.1)  # noqa: S311 - so that not all come at once
            again = self._clock() + timedelta(seconds=seconds)
        await self._events.failed(event, reason, again)
        self._metrics.event("failed" if again else "dead")
        level = log.info if again else log.error
        level("event.not_taken", id=event.id, key=event.key, attempt=event.attempts + 1, reason=reason, dead=again is None)
        return False

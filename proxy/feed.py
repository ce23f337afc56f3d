"""What happens, as it happens: told to whoever listens for an owner, in this process and in all others."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from proxy.errors import RateLimited, Unavailable
from proxy.events import Event, EventLog
from proxy.flights import Flights
from proxy.ports import Bus

TOPIC = "events"
MOST_WAITING = 64
"""for a listener that reads slowly; then what is only of the moment is left out for it"""
MOST_LISTENERS = 2_000
MOST_OF_OWNER = 50
BATCH = 100
LOOK_S = 15.0
"""After which a listener looks by itself: a word may have been lost."""


class Listener:
    """Somebody who wants to hear of one owner's objects. What is only of the moment waits in a short queue.

    *turn* is the number of the news that it heard last: what was read from the log since then is all that there is.
    """

    def __init__(self, turn: int) -> None:
        self.turn = turn
        self.passing: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MOST_WAITING)
        self.news = asyncio.Event()

    def hear(self, turn: int) -> None:
        """There is something in the log."""
        self.turn = turn
        self.news.set()

    def pass_on(self, moment: dict[str, Any]) -> None:
        """Tell it of what is only of the moment."""
        if not self.passing.full():
            self.passing.put_nowait(moment)
        self.news.set()


class Feed:
    """Passes on what happens. *noticed* is called for each event, whoever has noted it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._listeners: dict[str, set[Listener]] = {}
        self._count = 0
        self._turns = itertools.count()
        self._reads: Flights[list[Event]] = Flights()
        self.noticed: Callable[[], None] = lambda: None
        self.is_over = False
        bus.listen(TOPIC, self._heard, self._missed)

    async def happened(self, owner: str, seq: int) -> None:
        """An event of the owner's is in the log."""
        self._notice(owner, None)
        await self._bus.say(TOPIC, json.dumps({"owner": owner}))

    async def passes(self, owner: str, moment: dict[str, Any]) -> None:
        """Something that is only of the moment, and in no log."""
        self._notice(owner, moment)
        await self._bus.say(TOPIC, json.dumps({"owner": owner, "moment": moment}))

    @contextmanager
    def listening(self, owner: str) -> Iterator[Listener]:
        """A listener for *owner*; raises RateLimited when they have too many, and Unavailable when all have."""
        mine = self._listeners.setdefault(owner, set())
        if len(mine) >= MOST_OF_OWNER:
            raise RateLimited(f"{MOST_OF_OWNER} of your connections listen already", headers={"Retry-After": "15"})
        if self._count >= MOST_LISTENERS:
            raise Unavailable("too many listen already", retry_after_s=15)
        listener = Listener(next(self._turns))
        mine.add(listener)
        self._count += 1
        try:
            yield listener
        finally:
            self._count -= 1
            mine.discard(listener)
            if not mine:
                self._listeners.pop(owner, None)

    async def told(
        self, events: EventLog, listener: Listener, owner: str, after: int
    ) -> AsyncIterator[Event | dict[str, Any] | None]:
        """What *owner* is told beyond *after*, until the end: events in order, what is of the moment, None as a sign of life."""
        while not self.is_over:
            listener.news.clear()
            found: Sequence[Event] | None = None
            while found is None or len(found) == BATCH:
                # The many who are woken by one event, and have seen all before it, read it from the database once.
                read = partial(events.of_owner, owner, after, BATCH)
                found = await self._reads.join((owner, after, listener.turn), read)
                for event in found:
                    yield event
                    after = event.seq
            while not listener.passing.empty():
                yield listener.passing.get_nowait()
            try:
                async with asyncio.timeout(LOOK_S):
                    await listener.news.wait()
            except TimeoutError:
                listener.turn = next(self._turns)
                yield None

    def end(self) -> None:
        """Let all who listen go: the process ends, and they come back to another."""
        self.is_over = True
        self._missed()

    @property
    def listeners(self) -> int:
        """How many listen in this process."""
        return self._count

    def _heard(self, word: str) -> None:
        said = json.loads(word)
        self._notice(said["owner"], said.get("moment"))

    def _notice(self, owner: str, moment: dict[str, Any] | None) -> None:
        turn = next(self._turns)
        for listener in self._listeners.get(owner, ()):
            if moment is None:
                listener.hear(turn)
            else:
                listener.pass_on(moment)
        if moment is None:
            self.noticed()

    def _missed(self) -> None:
        turn = next(self._turns)
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.hear(turn)
        self.noticed()

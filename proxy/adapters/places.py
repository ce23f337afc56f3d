"""One store among several: asked under a deadline, left alone while its breaker is open, probed until it is back."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from processors.errors import MediaError
from proxy import generations
from proxy.adapters.breaker import FIRST_PROBE_S, LAST_PROBE_S, Breaker, Position
from proxy.errors import NotFound, RangeNotSatisfiable, Unavailable
from proxy.keys import Key
from proxy.patience import Patience
from proxy.ports import Backend, ObjectMeta

T = TypeVar("T")

FULL_S = 10.0
"""How long a store that had no room is the last one to be tried."""
LOCK_S = 30.0
REMEMBERED = 20_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a store may take, in seconds: to answer a *question* (head, open, ping, and to take a body's first chunk);
    between two signs of life while it is given a body that is still *in_hand*, so that another store can be given it; and while
    it is given one that is not, where only the store's own deadlines are to decide. A store that is away is probed after
    *first_probe*, then with pauses that double up to *last_probe*.
    """

    question: float = 2.5
    in_hand: float = 10.0
    streaming: float = 600.0
    first_probe: float = FIRST_PROBE_S
    last_probe: float = LAST_PROBE_S


@dataclass(slots=True)
class Attempt:
    """A request to a store: its *deadline*, and since when, by the breaker's clock, the store is at work on it."""

    deadline: asyncio.Timeout
    began: float
    clock: Callable[[], float]

    def give(self, seconds: float | None) -> None:
        """Let the store have *seconds* from now; None: it need do nothing for the moment."""
        self.began = self.clock()
        with suppress(RuntimeError):  # it has expired, or the attempt has ended: nothing runs any more
            self.deadline.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)


class Place:
    """*store* and what is known of its health."""

    def __init__(self, store: Backend, deadlines: Deadlines, clock: Callable[[], float] = time.monotonic) -> None:
        self.store = store
        self.name = store.name
        self.breaker = Breaker(first_probe_s=deadlines.first_probe, last_probe_s=deadlines.last_probe, clock=clock)
        self.changed = asyncio.Event()
        """Set whenever the breaker may have moved; who waits for it clears it."""
        self._deadlines = deadlines
        self._clock = clock
        self._full_until = clock()

    @property
    def usable(self) -> bool:
        """Whether it may be asked."""
        return self.breaker.closed

    @property
    def full(self) -> bool:
        """Whether it has had no room a moment ago."""
        return self._clock() < self._full_until

    def no_room(self) -> None:
        """It has had no room just now."""
        self._full_until = self._clock() + FULL_S

    async def ask(self, question: Callable[[Backend], Awaitable[T]], seconds: float | None = None) -> T:
        """What *question* of the store gives; raises what the store raises, and Unavailable after *seconds*."""
        async with self.attempt(self._deadlines.question if seconds is None else seconds):
            return await question(self.store)

    @asynccontextmanager
    async def attempt(self, seconds: float) -> AsyncIterator[Attempt]:
        """What is done within counts for the breaker: Unavailable and a missed deadline against the store, an answer for it.

        All else that is raised is nobody's failure, or the client's, and who leaves (CancelledError) says nothing of the store.
        """
        if not self.usable:
            raise Unavailable("a store is away")
        deadline = asyncio.timeout(seconds)
        attempt = Attempt(deadline, self.breaker.now(), self.breaker.now)
        try:
            async with deadline:
                yield attempt
        except TimeoutError:
            self.failed(attempt.began, "deadline", silent=True)
            raise Unavailable("a store does not answer in time") from None
        except Unavailable as error:
            self.failed(attempt.began, error.detail)
            raise
        except (NotFound, RangeNotSatisfiable):
            self.breaker.succeeded()
            raise
        self.breaker.succeeded()

    def failed(self, began: float, reason: str, *, silent: bool = False) -> None:
        """Count a failure; for those that come out of `attempt` this is done."""
        was_closed = self.breaker.closed
        self.breaker.failed(began, silent=silent)
        if was_closed and not self.breaker.closed:
            log.warning("store.away", store=self.name, reason=reason)
            self.changed.set()

    async def probe(self) -> bool:
        """Ping the store once and move the breaker; whether it is back."""
        self.breaker.probing()
        well = False
        try:
            async with asyncio.timeout(self._deadlines.question):
                await self.store.ping()
            well = True
        except (MediaError, TimeoutError) as error:
            log.debug("store.still_away", store=self.name, reason=repr(error))
        finally:
            self.breaker.probed(well=well)
        if well:
            log.info("store.back", store=self.name)
            self.changed.set()
        return well

    async def watch(self, back: Callable[[], None]) -> None:
        """Probe the store whenever its breaker is open, for ever; calls *back* each time it closes."""
        while True:
            if self.breaker.position is Position.CLOSED:
                self.changed.clear()
                await self.changed.wait()
                continue
            await asyncio.sleep(self.breaker.probe_in_s)
            if await self.probe():
                back()


class Whereabouts:
    """Which store was last seen to have a key: a hint, and bounded. *record* knows it of keys that were not seen for long."""

    def __init__(self, record: Callable[[Key], Awaitable[str | None]], seconds: float, entries: int = REMEMBERED) -> None:
        self._record = record
        self._patience = Patience(seconds)
        self._most = entries
        self._seen: OrderedDict[Key, str] = OrderedDict()

    def saw(self, key: Key, store: str) -> None:
        """Remember it."""
        self._seen[key] = store
        self._seen.move_to_end(key)
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)

    def forget(self, key: Key) -> None:
        self._seen.pop(key, None)

    async def of(self, key: Key) -> str | None:
        """The store that should have *key*; None where nobody knows, or the record cannot be asked."""
        seen = self._seen.get(key)
        if seen is not None:
            self._seen.move_to_end(key)
            return seen
        try:
            return await self._patience.ask(lambda: self._record(key))
        except MediaError:
            return None


async def carried_through(work: Coroutine[Any, Any, T]) -> T:
    """What *work* gives; also when the caller is cancelled it is done before this returns."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # the caller leaves, and has no use for it
        raise


async def together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What all of them give, done at once; if one raises, none of the others runs any more when this raises it."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def age(meta: ObjectMeta) -> int:
    """When the write of an object began, in nanoseconds since 1970; of one that is not ours, when it was modified."""
    return generations.order(meta.etag) if generations.is_generation(meta.etag) else int(meta.modified.timestamp() * 1e9)

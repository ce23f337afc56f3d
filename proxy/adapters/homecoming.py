"""What stores owe is paid in the background: copies come home, and what was deleted while a store was away goes there too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from enum import StrEnum

import structlog

from processors.errors import MediaError
from proxy import generations
from proxy.adapters.debts import Debts
from proxy.adapters.locks import KeyLocks, LockFile
from proxy.adapters.places import Deadlines, Place, Whereabouts, age, together
from proxy.adapters.spool import NotTheStores, feeding
from proxy.adapters.stillness import NotNow, Stillness
from proxy.debts import Debt, DebtKind
from proxy.errors import NotFound, Unavailable
from proxy.keys import Key
from proxy.ports import ObjectMeta, ObjectReader

PAGE = 64
AT_ONCE = 2
IDLE_S = 30.0
"""A pass is made this often at least; usually a write, a delete or a store that is back begins one."""
BREATH_S = 0.05
FIRST_PAUSE_S = 1.0
LAST_PAUSE_S = 60.0
DAMAGED_PAUSE_S = 3600.0
MOST_PAUSED = 10_000

log = structlog.get_logger(__name__)


class Policy(StrEnum):
    """What becomes of an object that had to go elsewhere, when its home is back: it is moved there, copied there, or stays."""

    MOVE = "move"
    COPY = "copy"
    LEAVE = "leave"


class _Overtaken(Exception):
    """The debt is not to be paid now: it has changed, its holder is away, or a list is being read."""


class _Damaged(Exception):
    """The bytes at the holder are not those that were acknowledged."""


class HomeComing:
    """Pays the debts of stores that can be asked, two at a time; what fails is tried again with growing pauses.

    The highest generation always wins: nothing is copied over a newer write, and only older ones are removed. A copy keeps its
    generation, its digest is checked before it can be seen, and the holder's goes only when the home has it. Every commit and
    every removal is under the key's lock, and only while the debt is still in the ledger.
    """

    def __init__(
        self,
        places: Sequence[Place],
        debts: Debts,
        whereabouts: Whereabouts,
        locks: KeyLocks,
        policy: Policy,
        deadlines: Deadlines,
        placed: Callable[[Key, str], Awaitable[None]],
        count: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
        between: LockFile | None = None,
    ) -> None:
        self._places = {place.name: place for place in places}
        self._debts = debts
        self._whereabouts = whereabouts
        self._locks = locks
        self._policy = policy
        self._deadlines = deadlines
        self._placed = placed
        self._count = count
        self._clock = clock
        self._woken = asyncio.Event()
        self._stillness = Stillness(deadlines.streaming, between)
        self._paused: dict[tuple[Key, str], tuple[float, float]] = {}

    def wake(self) -> None:
        """There may be something to pay."""
        self._woken.set()

    def store_is_back(self) -> None:
        """What failed because a store was away need not wait any longer."""
        self._paused = {what: pause for what, pause in self._paused.items() if pause[0] >= DAMAGED_PAUSE_S}
        self.wake()

    async def run(self) -> None:
        """Pay, for ever."""
        while True:
            self._woken.clear()
            began = self._clock()
            try:
                await self._debts.refresh()
                paid = await self.settle()
            except Unavailable:
                log.warning("homecoming.no_ledger")
                paid = 0
            except Exception:  # the root of a background task: the next pass may do better
                log.exception("homecoming.failed")
                paid = 0
            if not paid:
                await self._rest(began)
            await asyncio.sleep(BREATH_S)

    async def settle(self) -> int:
        """Pay once what can be paid now; how many debts that were."""
        paid = 0
        after: Key | None = None
        names = [place.name for place in self._places.values() if place.usable]
        while page := await self._debts.due(names, PAGE, after):
            after = page[-1].key
            waiting = iter([debt for debt in page if self._clock() >= self._paused.get((debt.key, debt.store), (0.0, 0.0))[1]])
            paid += sum(await together(self._worker(waiting) for _ in range(AT_ONCE)))
        return paid

    @asynccontextmanager
    async def standing_still(self) -> AsyncIterator[None]:
        """Within, no object moves from one store to another, so that a list of all stores neither misses it nor has it twice."""
        try:
            async with self._stillness.kept():
                yield
        finally:
            self.wake()

    async def _rest(self, began: float) -> None:
        """Until something wakes it, or a pause ends that has not ended when the last pass *began*."""
        self._paused = {what: pause for what, pause in self._paused.items() if pause[1] > began - LAST_PAUSE_S}
        until = min((until for _, until in self._paused.values() if until > began), default=began + IDLE_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(min(IDLE_S, max(0.0, until - self._clock()))):
                await self._woken.wait()

    async def _worker(self, waiting: Iterator[Debt]) -> int:
        paid = 0
        for debt in waiting:
            try:
                outcome = await (self._copy(debt) if debt.kind is DebtKind.COPY else self._remove(debt))
            except (_Overtaken, NotNow):
                self._pause(debt, FIRST_PAUSE_S)
                continue
            except _Damaged:
                log.error("homecoming.damaged", key=debt.key, store=debt.store, holder=debt.holder)
                self._count("damaged", debt.store)
                self._pause(debt, DAMAGED_PAUSE_S)
                continue
            except MediaError as error:
                log.warning("homecoming.put_off", key=debt.key, store=debt.store, reason=error.slug)
                self._count("failed", debt.store)
                self._pause(debt, min(2 * self._paused.get((debt.key, debt.store), (FIRST_PAUSE_S / 2, 0))[0], LAST_PAUSE_S))
                continue
            self._paused.pop((debt.key, debt.store), None)
            self._count(outcome, debt.store)
            paid += 1
        return paid

    def _pause(self, debt: Debt, seconds: float) -> None:
        if len(self._paused) >= MOST_PAUSED:
            self._paused.clear()
        self._paused[debt.key, debt.store] = (seconds, self._clock() + seconds)

    async def _remove(self, debt: Debt) -> str:
        place = self._places[debt.store]
        async with self._locks.alone(debt.key):
            await self._check(debt)
            meta = await _head(place, debt.key)
            if meta is not None and age(meta) < generations.order(debt.etag):
                await place.ask(lambda store: store.delete(debt.key))
            await self._debts.pay(debt)
        return "removed"

    async def _copy(self, debt: Debt) -> str:
        home, holder = self._places[debt.store], self._places.get(debt.holder or "")
        if holder is None or not holder.usable or self._stillness.is_kept:
            raise _Overtaken
        there, here = await _head(home, debt.key), await _head(holder, debt.key)
        outcome = "superseded"
        async with AsyncExitStack() as held:
            if here is None or (there is not None and age(there) >= age(here)):
                await self._begin(debt, held)
            elif self._policy is Policy.LEAVE:
                await self._begin(debt, held)
                outcome = "left"
            else:
                await self._carry(debt, here, home, holder, held)
                outcome = "copied"
            await self._tidy(debt, home, holder)
        return outcome

    async def _begin(self, debt: Debt, held: AsyncExitStack) -> None:
        """Take the lock of the key, and see that the debt still stands and no list is being read."""
        await held.enter_async_context(self._locks.alone(debt.key))
        await held.enter_async_context(self._stillness.moving())
        await self._check(debt)

    async def _check(self, debt: Debt) -> None:
        if debt not in await self._debts.all_of(debt.key):
            raise _Overtaken

    async def _carry(self, debt: Debt, here: ObjectMeta, home: Place, holder: Place, held: AsyncExitStack) -> None:
        """Copy what the holder has to the home, whatever its size, one chunk at a time."""
        expected = debt.sha256 if here.etag == debt.etag and debt.sha256 else here.sha256
        reader = await holder.ask(lambda store: store.open(debt.key))

        async def admit(staged: ObjectReader) -> None:
            with feed.sender():
                if reader.meta.etag != here.etag:
                    raise _Overtaken
                if expected is not None and staged.meta.sha256 != expected:
                    raise _Damaged
                await self._begin(debt, held)
                there = await _head(home, debt.key)
                if there is not None and age(there) >= age(here):
                    raise _Overtaken

        async with reader:
            try:
                async with feeding(home, self._deadlines.in_hand, self._deadlines.streaming) as feed:
                    body = feed.of(reader.chunks)
                    await home.store.put(debt.key, body, here.content_type, admit, size=reader.meta.size, etag=here.etag)
            except NotTheStores as carrier:
                fault: BaseException | None = carrier.fault
            else:
                fault = None
        if fault is not None:
            raise fault

    async def _tidy(self, debt: Debt, home: Place, holder: Place) -> None:
        """With the lock held: strike the debt out, and remove whatever is older, or by the policy no longer wanted."""
        there, here = await _head(home, debt.key), await _head(holder, debt.key)
        settled = False
        if here is not None and (there is None or age(there) < age(here)):
            if self._policy is not Policy.LEAVE:
                raise _Overtaken
            if there is not None:
                await home.ask(lambda store: store.delete(debt.key))
            settled = True
        elif there is not None:
            settled = here is not None and here.etag == there.etag and self._policy is Policy.COPY
            if here is not None and not settled:
                await holder.ask(lambda store: store.delete(debt.key))
            self._whereabouts.saw(debt.key, home.name)
            await self._placed(debt.key, home.name)
        else:  # the write never came to its end, and neither is there an older one
            log.warning("homecoming.nothing_there", key=debt.key, store=debt.store, holder=debt.holder)
        if settled:
            await self._debts.owe([replace(debt, settled=True)])
        else:
            await self._debts.pay(debt)
            for row in await self._debts.all_of(debt.key):
                if row.settled and row.store == holder.name:  # what a kill has left of a write there
                    await self._debts.pay(row)


async def _head(place: Place, key: Key) -> ObjectMeta | None:
    try:
        return await place.ask(lambda store: store.head(key))
    except NotFound:
        return None

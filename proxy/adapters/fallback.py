"""Several stores seen as one: the first is home, the others stand in for it, and nothing acknowledged is lost between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from processors.errors import MediaError
from proxy import generations
from proxy.adapters.debts import MOST_KEYS, Debts
from proxy.adapters.homecoming import HomeComing, Policy
from proxy.adapters.locks import KeyLocks, LockFile
from proxy.adapters.places import LOCK_S, REMEMBERED, Deadlines, Place, Whereabouts, together
from proxy.adapters.reading import Reader
from proxy.adapters.spool import Spool
from proxy.adapters.writing import Write, Writer
from proxy.debts import Debt, DebtKind, Ledger
from proxy.errors import NotFound, Unavailable
from proxy.keys import Key
from proxy.ports import Admit, Backend, Body, ByteRange, Listed, ObjectMeta, ObjectReader, Presigner

LOOKED_UP_AT_ONCE = 16

log = structlog.get_logger(__name__)


async def _nobody_knows(key: Key) -> str | None:
    return None


async def _nobody_asks(key: Key, store: str) -> None:
    return None


def _not_counted(event: str, store: str) -> None:
    return None


class FallbackBackend:
    """*stores* in the order of preference. Enter it: tasks probe stores that are away and pay what stores owe.

    A key without debts is, in its newest version, on every store that has it, so that one store answers a healthy read. *holder_of*
    says which that should be, as the catalogue has it, for keys that were not seen for long; *placed* is told when an object came
    to another store than the one that its record was made for (both are hints, and their failures are ignored).
    *count* is told of events by name and store: ``failover`` (a write that this store took in place of the home), ``resumed`` (a
    body that it went on with), and what home-coming did with a debt of this store: ``copied``, ``left``, ``superseded``,
    ``removed``, ``failed``, ``damaged``.
    *between* is the file of locks that several processes of one service share; of these only one pays debts, and the others *wake*
    it when there are new ones. With a *shared* ledger others than these change it too.
    Stores are told apart by their names, which are in the ledger: an object stays findable when their order changes.
    """

    name = "fallback"

    def __init__(
        self,
        stores: Sequence[Backend],
        ledger: Ledger,
        *,
        spool: Path,
        holder_of: Callable[[Key], Awaitable[str | None]] = _nobody_knows,
        placed: Callable[[Key, str], Awaitable[None]] = _nobody_asks,
        policy: Policy | str = Policy.MOVE,
        deadlines: Deadlines | None = None,
        count: Callable[[str, str], None] = _not_counted,
        remembered: int = REMEMBERED,
        most_debts: int = MOST_KEYS,
        between: Path | None = None,
        shared: bool = False,
        wake: Callable[[], None] | None = None,
    ) -> None:
        self._deadlines = deadlines or Deadlines()
        self._places = [Place(store, self._deadlines) for store in stores]
        assert len({place.name for place in self._places}) == len(stores) > 0, "stores have names of their own"
        self._placed = placed
        self._count = count
        self._spool_folder = spool
        self._spool = Spool(spool)
        self._between = None if between is None else LockFile(between)
        self._locks = KeyLocks(LOCK_S, self._between)
        self._debts = Debts(ledger, [place.name for place in self._places], most_debts, shared=shared or between is not None)
        self._wake = wake
        self._whereabouts = Whereabouts(holder_of, self._deadlines.question, remembered)
        self._reader = Reader(self._places, self._debts, self._whereabouts, count)
        self._writer = Writer(self._places, self._debts, self._whereabouts, self._locks, self._deadlines, count)
        self._homecoming = HomeComing(
            self._places, self._debts, self._whereabouts, self._locks, Policy(policy), self._deadlines, self._tell, count,
            between=self._between,
        )  # fmt: skip
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Learn what is owed, and begin to pay it; raises Unavailable if the ledger does not answer."""
        await asyncio.to_thread(self._spool_folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        if self._between is not None:
            self._between.open()
        await self._debts.load()
        self._tasks = [asyncio.create_task(place.watch(self._homecoming.store_is_back)) for place in self._places]
        if self._wake is None:
            self._wake = self._homecoming.wake
            self._tasks.append(asyncio.create_task(self._homecoming.run()))
        return self

    def pay(self) -> None:
        """There may be something to pay, another process says."""
        self._homecoming.wake()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._between is not None:
            self._between.close()

    @property
    def states(self) -> dict[str, str]:
        """The breaker of each store, in their order: closed, half-open or open."""
        return {place.name: str(place.breaker.position) for place in self._places}

    @property
    def backlog(self) -> dict[str, int]:
        """How many copies and removals each store is owed."""
        return self._debts.backlog

    # -- reads --------------------------------------------------------------------------------------------------------

    async def head(self, key: Key) -> ObjectMeta:
        """The newest version's; raises NotFound only when every store that could have it says so."""
        return (await self._reader.ask(key, lambda store: store.head(key), lambda meta: meta))[0]

    async def open(self, key: Key, span: ByteRange | None = None) -> ObjectReader:
        """The newest version. If its store fails within the body, another that has the same one goes on from the byte reached."""
        reader, place = await self._reader.ask(key, lambda store: store.open(key, span), lambda reader: reader.meta)
        if reader.file is not None or reader.data is not None:
            return reader
        return self._reader.lasting(reader, place)

    async def presign_get(self, key: Key, expires_s: int) -> str | None:
        """An address at the store that has the newest version; None if that store gives none."""
        _, place = await self._reader.ask(key, lambda store: store.head(key), lambda meta: meta)
        store = place.store
        return await store.presign_get(key, expires_s) if isinstance(store, Presigner) else None

    async def ping(self) -> None:
        """Raise Unavailable if no store can be written now."""
        for place in self._places:
            if place.usable:
                with suppress(Unavailable):
                    return await place.ask(lambda store: store.ping())
        raise Unavailable("no store can be written")

    # -- writes -------------------------------------------------------------------------------------------------------

    async def put(
        self,
        key: Key,
        body: Body,
        content_type: str,
        admit: Admit | None = None,
        *,
        size: int | None = None,
        etag: str | None = None,
    ) -> ObjectMeta:
        """Store it at home, or at the first store that takes it; what is owed for that is in the ledger on return.

        Another store is tried after Unavailable and StorageFull, while the body can be given again: all of it if it has 8 MiB or
        less, else until its first byte beyond what is in hand was asked for. *admit* is called once, with what the first store
        staged; the ``meta.store`` that it sees may so be another than the result's.
        """
        earlier = await self._whereabouts.of(key)
        async with self._spool.hold(body, size) as held, self._paying(key):
            write = Write(key, content_type, etag or generations.mint(), admit, held, earlier)
            meta = await self._writer.put(write)
        if write.admitted_at != meta.store:
            await self._tell(key, meta.store)
        return meta

    async def delete(self, key: Key) -> None:
        """Remove the object everywhere. The removal counts as soon as it is in the ledger; stores that are away follow later."""
        async with self._paying(key), self._locks.alone(key):
            etag = generations.mint()
            debts = [Debt(key, place.name, DebtKind.DELETE, etag) for place in self._places]
            await self._debts.owe(debts)
            self._whereabouts.forget(key)
            await together(self._remove(place, debt) for place, debt in zip(self._places, debts, strict=True))

    @asynccontextmanager
    async def _paying(self, key: Key) -> AsyncIterator[None]:
        """However it ends, let home-coming pay what is then owed by stores that can be asked."""
        try:
            yield
        except BaseException:  # who has left cannot wait for an answer of the ledger
            self._tell_payer()
            raise
        usable = {place.name for place in self._places if place.usable}
        with suppress(Unavailable):
            if any(debt.store in usable for debt in await self._debts.of(key)):
                self._tell_payer()

    def _tell_payer(self) -> None:
        assert self._wake is not None
        self._wake()

    async def _remove(self, place: Place, debt: Debt) -> None:
        try:
            await place.ask(lambda store: store.delete(debt.key))
            await self._debts.pay(debt)
        except MediaError as error:
            log.warning("store.owes_removal", store=place.name, reason=error.slug)

    async def _tell(self, key: Key, store: str) -> None:
        with suppress(MediaError):
            await self._placed(key, store)

    # -- lists --------------------------------------------------------------------------------------------------------

    async def list(self, prefix: str = "") -> AsyncIterator[Listed]:
        """The objects of all stores, each once; ends in Unavailable if one of them could not be asked.

        One store is listed after the other. What a later one has is looked up at those before it (few keys, in health), so that
        nothing need be remembered; of keys with debts the newest version counts. Meanwhile home-coming stands still. An object
        that is overwritten at this moment, when its store has just failed, may come twice.
        """
        failure: Unavailable | None = None
        async with self._homecoming.standing_still():
            for number, place in enumerate(self._places):
                if not place.usable:
                    failure = failure or Unavailable("a store is away")
                    continue
                pages = _pages(place.store.list(prefix))
                async with aclosing(pages):
                    while True:
                        try:
                            page = await anext(pages)
                        except StopAsyncIteration:
                            break
                        except Unavailable as error:
                            place.failed(place.breaker.now(), error.detail)
                            failure = failure or error
                            break
                        for shown in await together(self._shown(found, place, self._places[:number]) for found in page):
                            if shown is not None:
                                yield shown
        if failure is not None:
            raise Unavailable("the list is not complete: a store does not answer") from failure

    async def _shown(self, found: Listed, place: Place, before: Sequence[Place]) -> Listed | None:
        """What the list says of *found* at *place*: nothing, if it is not the newest version, or a store before has shown it."""
        debts = await self._debts.of(found.key)
        if debts:
            try:
                meta, holder = await self._reader.newest(found.key, debts)
            except NotFound:
                return None
            return Listed(found.key, meta.size, meta.modified) if holder is place else None
        for other in before:
            try:
                await other.ask(lambda store: store.head(found.key))
            except NotFound:
                continue
            except Unavailable:
                continue  # the list ends in Unavailable, since this store could not be listed either
            return None
        return found


async def _pages(found: AsyncIterator[Listed]) -> AsyncGenerator[list[Listed], None]:
    page = []
    async for one in found:
        page.append(one)
        if len(page) == LOOKED_UP_AT_ONCE:
            yield page
            page = []
    if page:
        yield page

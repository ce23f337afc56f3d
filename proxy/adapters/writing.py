"""One write to the first of several stores that takes it, and what has to be on record before it counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace

import structlog

from proxy import generations
from proxy.adapters.debts import Debts
from proxy.adapters.locks import KeyLocks
from proxy.adapters.places import Deadlines, Place, Whereabouts, age, carried_through
from proxy.adapters.spool import Held, NotTheStores, feeding
from proxy.debts import Debt, DebtKind
from proxy.errors import NotFound, StorageFull, Unavailable
from proxy.keys import Key
from proxy.ports import Admit, ObjectMeta, ObjectReader

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Write:
    """What is to be written, and how far it has come. *earlier* is the store that was known to have the key before."""

    key: Key
    content_type: str
    etag: str
    admit: Admit | None
    held: Held
    earlier: str | None
    admitted_at: str | None = None
    doubtful: list[str] = field(default_factory=list)
    """Stores that failed when they had all bytes: they may have the object, whatever they said."""
    rows: list[Debt] = field(default_factory=list)
    """What was on record for the key when its lock was taken."""
    _seen: tuple[int, str | None, str] | None = None

    async def admitted(self, staged: ObjectReader) -> None:
        """Let the caller admit the bytes, once: the next store that has them staged must only have the same."""
        meta = staged.meta
        seen = (meta.size, meta.sha256, meta.etag)
        if self._seen is None:
            if self.admit is not None:
                await self.admit(staged)
            self._seen, self.admitted_at = seen, meta.store
        elif seen != self._seen:
            log.error("store.different_bytes", key=self.key, store=meta.store)
            raise Unavailable("two stores were not given the same bytes")


class _Overwritten(Exception):
    """A newer write of the key has been committed already: this one is done, and was overwritten at once."""

    def __init__(self, meta: ObjectMeta) -> None:
        super().__init__()
        self.meta = meta


class Writer:
    """Writes to *places*, of which the first is home.

    What is owed afterwards: the home must get a copy of what went elsewhere, and whoever may have an older version must lose it.
    What a kill must not leave unknown is written down before the object can be seen, the rest behind the commit: an older version
    may go only when the newer one is there. All of it is committed before `put` returns, and under the key's lock.
    """

    def __init__(
        self,
        places: Sequence[Place],
        debts: Debts,
        whereabouts: Whereabouts,
        locks: KeyLocks,
        deadlines: Deadlines,
        count: Callable[[str, str], None],
    ) -> None:
        self._places = places
        self._home = places[0]
        self._names = {place.name for place in places}
        self._debts = debts
        self._whereabouts = whereabouts
        self._locks = locks
        self._deadlines = deadlines
        self._count = count

    async def put(self, write: Write) -> ObjectMeta:
        """Write to the first place that takes it; those that had no room a moment ago come last.

        The next one is tried after Unavailable and StorageFull, and only while the whole body can be given again.
        """
        full = 0
        failure: Unavailable | None = None
        fault: BaseException | None = None
        for place in sorted(self._places, key=lambda place: place.full):
            if not place.usable:
                failure = failure or Unavailable("no store takes the object now")
                continue
            try:
                meta = await self._put_at(place, write)
            except StorageFull as error:
                place.no_room()
                full += 1
                if not write.held.fresh and full < len(self._places):
                    raise Unavailable("a store has run out of room within the body: send it again", retry_after_s=1) from error
            except Unavailable as error:
                failure = error
            except NotTheStores as carrier:
                fault = carrier.fault
            else:
                if place is not self._home:
                    self._count("failover", place.name)
                return meta
            if isinstance(fault, _Overwritten):
                return fault.meta
            if fault is not None:
                raise fault
            if not write.held.fresh:
                break
        if failure is not None:
            raise Unavailable("the body could not be stored: send it again", retry_after_s=2) from failure
        raise StorageFull("no store has room for the body")

    async def _put_at(self, place: Place, write: Write) -> ObjectMeta:
        seconds = self._deadlines.in_hand
        if write.held.rest is not None:
            # A store may take bytes of the body before it is reached (parts are gathered first), and then no other can have it.
            seconds = self._deadlines.streaming
            if not place.breaker.heard:
                await place.ask(lambda store: store.ping())
        owed: list[Debt] = []
        async with AsyncExitStack() as held:
            try:
                async with feeding(place, self._deadlines.in_hand, seconds) as feed:

                    async def admit(staged: ObjectReader) -> None:
                        with feed.sender():
                            await write.admitted(staged)
                            await held.enter_async_context(self._locks.alone(write.key))
                            owed.extend(await self._journal(place, write, staged.meta))
                        write.doubtful.append(place.name)

                    body = feed.of(write.held.chunks())
                    meta = await place.store.put(write.key, body, write.content_type, admit, size=write.held.size, etag=write.etag)
            except BaseException as error:
                if place.name not in write.doubtful or isinstance(error, StorageFull):
                    await carried_through(self._undo(write, owed))
                raise
            await carried_through(self._settle(place, write, meta, owed))
        return meta

    async def _journal(self, place: Place, write: Write, meta: ObjectMeta) -> list[Debt]:
        """Write down what must be known should the commit at *place*, which comes next, not come to its end, or nobody hear of it.

        Away from home that is the copy. Where another debt of the home stands in its place, the newest version is known to be
        elsewhere, or nowhere; that must not be forgotten for a commit that may fail. So it is the removal of what this store
        may then have, until the write is done.
        """
        rows = write.rows = await self._debts.all_of(write.key)
        await self._give_way(place, write, meta, rows)
        at_home = next((row for row in rows if row.store == self._home.name), None)
        if place is self._home or (at_home is not None and at_home.holder == place.name):
            return []
        removal = Debt(write.key, place.name, DebtKind.DELETE, generations.mint())
        debt = self._copy(place, write, meta) if at_home is None else removal
        await self._debts.owe([debt])
        return [debt]

    async def _give_way(self, place: Place, write: Write, meta: ObjectMeta, rows: list[Debt]) -> None:
        """Raise if what is on record is newer: the write began before that one, and comes to its end after it."""
        for row in rows:
            newer = generations.order(row.etag) > generations.order(write.etag)
            if newer and row.kind is DebtKind.COPY:
                holder = next((other for other in self._places if other.name == row.holder), place)
                with suppress(NotFound):
                    if age(await holder.ask(lambda store: store.head(write.key))) >= generations.order(row.etag):
                        raise _Overwritten(meta)
            if newer and (row.kind is DebtKind.COPY or row.store == place.name):
                raise Unavailable("the object was changed by others meanwhile", retry_after_s=1)

    async def _settle(self, place: Place, write: Write, meta: ObjectMeta, owed: list[Debt]) -> None:
        """Behind the commit at *place*: write down all that is owed still, and strike out what is not."""
        older = {name for row in write.rows if row.kind is DebtKind.COPY for name in (row.store, row.holder)} | {write.earlier}
        is_on_record = any(debt.kind is DebtKind.COPY for debt in owed)
        rest = [] if place is self._home or is_on_record else [self._copy(place, write, meta)]
        for name in (older & self._names) - {place.name, self._home.name if place is not self._home else None}:
            assert name is not None
            rest.append(Debt(write.key, name, DebtKind.DELETE, write.etag))
        for name in set(write.doubtful) - {place.name, self._home.name}:
            rest.append(Debt(write.key, name, DebtKind.DELETE, generations.mint()))
        # A removal that stood for this write ends in the transaction that puts the copy in place of what the home owed before:
        # else a kill between the two would forget that, and then remove this.
        over = [replace(debt, kind=DebtKind.COPY, holder=place.name, settled=True) for debt in owed if debt.kind is DebtKind.DELETE]
        await self._debts.owe([*rest, *over])
        for row in [*write.rows, *over]:
            if row.store == place.name:
                await self._debts.pay(row)
        self._whereabouts.saw(write.key, place.name)

    async def _undo(self, write: Write, owed: list[Debt]) -> None:
        """Strike out what was written down for a commit that surely was not made; a removal that replaced an older one stays."""
        replaced = {row.store for row in write.rows}
        try:
            for debt in owed:
                if debt.store not in replaced:
                    await self._debts.pay(debt)
        except Unavailable:  # home-coming finds that there is nothing to copy or to remove
            log.warning("debt.not_struck_out", store=self._home.name)

    def _copy(self, place: Place, write: Write, meta: ObjectMeta) -> Debt:
        return Debt(write.key, self._home.name, DebtKind.COPY, write.etag, place.name, meta.sha256)

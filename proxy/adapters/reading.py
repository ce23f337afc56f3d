"""Which of several stores answers a read: the one that should have the key, or the one that has its newest version."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import structlog

from processors.errors import MediaError
from proxy import generations
from proxy.adapters.debts import Debts
from proxy.adapters.places import Place, Whereabouts, age
from proxy.debts import Debt, DebtKind
from proxy.errors import NotFound, Unavailable
from proxy.keys import Key
from proxy.ports import Backend, ByteRange, ObjectMeta, ObjectReader

T = TypeVar("T")

MOVES = 3

log = structlog.get_logger(__name__)


class Reader:
    """Reads from *places*. A key without debts is, in its newest version, on every store that has it: one answers for all."""

    def __init__(self, places: Sequence[Place], debts: Debts, whereabouts: Whereabouts, count: Callable[[str, str], None]) -> None:
        self._places = places
        self._debts = debts
        self._whereabouts = whereabouts
        self._count = count

    async def ask(
        self, key: Key, question: Callable[[Backend], Awaitable[T]], meta_of: Callable[[T], ObjectMeta]
    ) -> tuple[T, Place]:
        """What the store that has the newest version answers, and which it is; raises NotFound when every store that could
        have it says that it has not, Unavailable when one of those cannot be asked. *meta_of* gives the version of an answer.
        """
        debts = await self._known(key)
        if debts == []:
            with suppress(NotFound):
                return await self._first(key, question)
            debts = await self._known(key)
            if debts == []:
                raise NotFound("no object has this key")
        for _ in range(MOVES):
            meta, place = await (self._surest(key) if debts is None else self.newest(key, debts))
            try:
                answer = await place.ask(question)
            except NotFound:  # it has come home just now
                debts = await self._known(key)
                continue
            if age(meta_of(answer)) >= age(meta):
                return answer, place
            if isinstance(answer, ObjectReader):
                await answer.aclose()
        raise Unavailable("the object changes too fast to be read", retry_after_s=1)

    async def _known(self, key: Key) -> list[Debt] | None:
        """The open debts of *key*; None while nobody can say."""
        try:
            return await self._debts.of(key)
        except Unavailable:
            return None

    async def _surest(self, key: Key) -> tuple[ObjectMeta, Place]:
        """Of a key whose debts nobody knows now: the highest generation that a store has, and where.

        Reads go on while the ledger is away. The price: with a store away as well, or back meanwhile, that may be an older
        version, or what was removed.
        """
        failure: Unavailable | None = None
        best: tuple[ObjectMeta, Place] | None = None
        for place in self._places:
            try:
                meta = await place.ask(lambda store: store.head(key))
            except NotFound:
                continue
            except Unavailable as error:
                failure = failure or error
                continue
            if best is None or age(meta) > age(best[0]):
                best = meta, place
        if best is not None:
            return best
        if failure is not None:
            raise Unavailable("a store that may have the object does not answer") from failure
        raise NotFound("no object has this key")

    async def _first(self, key: Key, question: Callable[[Backend], Awaitable[T]]) -> tuple[T, Place]:
        """Of a key without debts: the answer of the first store that has it, beginning with the one that should."""
        likely = await self._whereabouts.of(key)
        failure: Unavailable | None = None
        for place in sorted(self._places, key=lambda place: place.name != likely):
            try:
                answer = await place.ask(question)
            except NotFound:
                continue
            except Unavailable as error:
                failure = failure or error
                continue
            self._whereabouts.saw(key, place.name)
            return answer, place
        if failure is not None:
            raise Unavailable("a store that may have the object does not answer") from failure
        self._whereabouts.forget(key)
        raise NotFound("no object has this key")

    async def newest(self, key: Key, debts: list[Debt]) -> tuple[ObjectMeta, Place]:
        """Of a key with debts: the highest generation, and where it is.

        Of a store that still has to lose the key only what is newer than the removal counts, so it need not answer. With
        stores that cannot be asked an older version is not given out for the newest.
        """
        removed = {debt.store: generations.order(debt.etag) for debt in debts if debt.kind is DebtKind.DELETE}
        copies = {debt.holder: generations.order(debt.etag) for debt in debts if debt.kind is DebtKind.COPY}
        enough = max(copies.values() if copies else removed.values(), default=0)
        failure: Unavailable | None = None
        best: tuple[ObjectMeta, Place] | None = None
        if copies.keys() - {place.name for place in self._places}:
            failure = Unavailable("the store that has the object is not among those that are set up")
        for place in sorted(self._places, key=lambda place: -copies.get(place.name, 0)):
            try:
                meta = await place.ask(lambda store: store.head(key))
            except NotFound:
                continue
            except Unavailable as error:
                if place.name not in removed:
                    failure = failure or error
                continue
            if age(meta) >= enough:
                return meta, place
            if age(meta) > max(removed.get(place.name, 0), age(best[0]) if best else 0):
                best = meta, place
        if failure is not None:
            raise Unavailable("a store that may have the object does not answer") from failure
        if best is None:
            raise NotFound("no object has this key")
        return best

    def lasting(self, first: ObjectReader, place: Place) -> ObjectReader:
        """*first*, of *place*: if that fails within the body, another store that has the same version goes on."""
        meta = first.meta
        current = first

        async def chunks() -> AsyncIterator[bytes]:
            nonlocal current
            at = 0 if first.span is None else first.span.start
            stop = at + first.length
            left = sorted(self._places, key=lambda other: other is place)  # the one that failed comes last
            serving = place
            while True:
                failure = Unavailable("the store gave fewer bytes than it promised")
                try:
                    async for chunk in current.chunks:
                        at += len(chunk)
                        yield chunk
                except Unavailable as error:
                    failure = error
                if at >= stop:
                    return
                serving.failed(serving.breaker.now(), failure.detail)
                await current.aclose()
                found = await self._elsewhere(meta, ByteRange(at, stop), left)
                if found is None:
                    raise failure
                current, serving = found
                log.warning("read.resumed", store=serving.name, at=at)
                self._count("resumed", serving.name)

        async def close() -> None:
            await current.aclose()

        return ObjectReader(meta, chunks(), first.span, closing=close)

    async def _elsewhere(self, meta: ObjectMeta, span: ByteRange, left: list[Place]) -> tuple[ObjectReader, Place] | None:
        """*span* of the same version, from one of those *left*, which is then taken out of them."""
        while left:
            place = left.pop(0)
            with suppress(MediaError):
                reader = await place.ask(lambda store: store.open(meta.key, span))
                if (reader.meta.etag, reader.meta.size) == (meta.etag, meta.size):
                    return reader, place
                await reader.aclose()
        return None

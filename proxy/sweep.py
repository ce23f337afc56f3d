"""Brings records and stores together again where a disaster, a restored backup or other programs have set them apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol, TypeVar

from processors.errors import MediaError
from proxy import keys, streams
from proxy.errors import Conflict, NotFound, QuotaExceeded
from proxy.keys import Key
from proxy.ports import Asset, Backend, Catalogue, Listed, State
from proxy.presigned import STAGED
from proxy.promises import PromiseBook, Stage

T = TypeVar("T")
R = TypeVar("R")

PAGE = 500
AT_ONCE = 8
SUSPICIOUS = 20
"""Records without an object; where they are more, and more than half of all, the stores are hardly the right ones."""


class What(StrEnum):
    """What was found, and in parentheses what becomes of it."""

    UNRECORDED = "unrecorded"
    """an object without a record (recorded)"""
    MISSING = "missing"
    """a record without its object (removed)"""
    UNFINISHED = "unfinished"
    """a record that a process has left in the middle (finished where the object says how, else left to the service)"""
    STAGED = "staged"
    """an upload that nobody can confirm any more (dropped)"""
    MISCOUNTED = "miscounted"
    """an owner whose usage was not the sum of their records (counted anew)"""
    UNSURE = "unsure"
    """what could not be looked at, since a store does not answer (left)"""


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that was not as it should be; *name* is a key, or an owner."""

    what: What
    name: str
    is_mended: bool = False


class Counts(Protocol):
    """The usage of owners, to be compared with their records."""

    def miscounted(self, *, mend: bool) -> AsyncIterator[str]:
        """The owners whose usage is wrong, which is then right if *mend*."""
        ...

    async def sweep(self, now: datetime) -> int:
        """Forget what was set aside and has ended; how many those were."""
        ...


class Suspicious(Exception):
    """So many records lack their object that this must be a mistake: nothing more is removed."""


class Sweep:
    """Looks through *backend* and *catalogue*, and through *staged* and *book*, in constant memory, beside a running service.

    What is younger than *age* is left alone, somebody may be at work on it; what came and was not confirmed, until *keep*.
    No object of an owner is ever removed.
    """

    def __init__(
        self,
        backend: Backend,
        staged: Backend,
        catalogue: Catalogue,
        book: PromiseBook,
        counts: Counts,
        now: datetime,
        age: timedelta,
        keep: timedelta,
        *,
        is_dry: bool = False,
    ) -> None:
        self._backend = backend
        self._staged = staged
        self._catalogue = catalogue
        self._book = book
        self._counts = counts
        self._now = now
        self._before = now - age
        self._unconfirmed_before = now - max(age, keep)
        self._mends = not is_dry

    async def run(self) -> AsyncIterator[Found]:
        """Everything that is found, as it is. Raises Suspicious, and Unavailable when the catalogue does not answer."""
        for part in (self._unfinished, self._records, self._objects, self._uploads, self._usage):
            async for found in part():
                yield found

    async def _unfinished(self) -> AsyncIterator[Found]:
        for asset in await self._catalogue.unfinished():
            if asset.created < self._before:
                yield Found(What.UNFINISHED, asset.key, await self._finished(asset))

    async def _finished(self, asset: Asset) -> bool:
        # Only what needs no change of a store: removals are the service's, which holds the locks.
        try:
            meta = await self._backend.head(asset.key)
        except NotFound:
            if self._mends:
                await self._catalogue.remove(asset.key)
            return self._mends
        except MediaError:
            return False
        is_whole = asset.state is State.PENDING and meta.etag == asset.etag
        if is_whole and self._mends:
            await self._catalogue.mark(asset.key, asset.lasting)
        return is_whole and self._mends

    async def _records(self) -> AsyncIterator[Found]:
        seen = missing = 0
        after: Key | None = None
        while page := await self._catalogue.kept(PAGE, after):
            after = page[-1].key
            old = [asset for asset in page if asset.created < self._before]
            there = await _each(old, lambda asset: self._is_there(asset.key))
            seen, missing = seen + len(old), missing + there.count(False)
            if missing > SUSPICIOUS and 2 * missing > seen:
                raise Suspicious
            for asset, is_there in zip(old, there, strict=True):
                if is_there is None:
                    yield Found(What.UNSURE, asset.key)
                elif not is_there:
                    if self._mends:
                        await self._catalogue.remove(asset.key)
                    yield Found(What.MISSING, asset.key, self._mends)

    async def _is_there(self, key: Key) -> bool | None:
        try:
            await self._backend.head(key)
        except NotFound:
            return False
        except MediaError:
            return None
        return True

    async def _objects(self) -> AsyncIterator[Found]:
        async for page in _pages(self._backend, "", self._before):
            recorded = await self._catalogue.recorded([found.key for found in page])
            for found in page:
                if found.key not in recorded:
                    with suppress(NotFound):  # removed meanwhile
                        yield Found(What.UNRECORDED, found.key, await self._record(found.key))

    async def _record(self, key: Key) -> bool:
        meta = await self._backend.head(key)
        if not self._mends:
            return False
        sha256 = meta.sha256
        if sha256 is None:
            digest = streams.Digest()
            async with await self._backend.open(key) as reader:
                await streams.drained(digest.through(reader.chunks))
            sha256 = digest.hex
        asset = Asset(
            key, keys.owner(key), None, meta.content_type, meta.size, sha256, meta.etag, meta.modified, meta.store,
            state=State.READY,
        )  # fmt: skip
        try:
            await self._catalogue.add(asset)
        except (Conflict, QuotaExceeded):  # somebody was faster; or its owner may not have it, which is the operator's to decide
            return False
        return True

    async def _uploads(self) -> AsyncIterator[Found]:
        async for page in _pages(self._staged, STAGED, self._unconfirmed_before):
            for found in page:
                promise = await self._book.get(keys.parse(found.key.removeprefix(STAGED)))
                if promise is not None and promise.stage in {Stage.OPEN, Stage.ARRIVED} and promise.expires > self._now:
                    continue
                if self._mends:
                    await self._staged.delete(found.key)
                yield Found(What.STAGED, found.key, self._mends)

    async def _usage(self) -> AsyncIterator[Found]:
        async for owner in self._counts.miscounted(mend=self._mends):
            yield Found(What.MISCOUNTED, owner, self._mends)
        if self._mends:
            await self._counts.sweep(self._now)


async def _pages(backend: Backend, prefix: str, before: datetime) -> AsyncIterator[list[Listed]]:
    """What is old enough there; ends in Unavailable if the list is not whole."""
    page: list[Listed] = []
    async for found in backend.list(prefix):
        if found.modified < before:
            page.append(found)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


async def _each(items: list[T], work: Callable[[T], Awaitable[R]]) -> list[R]:
    """What *work* gives for each, some at a time."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(item: T) -> R:
        async with places:
            return await work(item)

    return list(await asyncio.gather(*map(one, items)))

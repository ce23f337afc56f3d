"""Objects that others have put into a bucket, or taken out of it: their records follow what the stores have."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from enum import StrEnum
from typing import Any
from weakref import WeakValueDictionary

import structlog

from processors import formats
from processors.errors import Corrupt, MediaError, TooCostly, Unsupported
from processors.formats import Format, Kind
from proxy import keys, streams
from proxy.assets import Assets
from proxy.descriptions import described
from proxy.errors import BadRequest, Conflict, NotFound, QuotaExceeded, TooLarge, Unavailable
from proxy.keys import Key
from proxy.ports import Asset, Backend, Catalogue, ObjectMeta, ObjectReader, Renderer, State
from proxy.rescanning import Finding, Rescanning
from proxy.sources import Overwritten, Sources

AT_ONCE = 4
"""objects that are judged side by side: requests must not wait for them"""
QUESTIONS = 16
"""keys that stores and catalogue are asked for side by side"""
LOOKS = 8
"""at one key that is changed by others all the while"""
WAITING = 2_000
WAIT_S = 10.0
"""for all that one notification tells of; what takes longer goes on, and is found done when it is told again"""
VERDICTS = (BadRequest, TooLarge, Unsupported, Corrupt, TooCostly)
"""What an upload of the same bytes would be refused with for good."""
GENERIC = "application/octet-stream"
AT_WORK = frozenset({State.PENDING, State.DELETED})
"""The states of a record that somebody of ours is at work on, who will finish, or whose work a patrol finishes."""

log = structlog.get_logger(__name__)


class Outcome(StrEnum):
    """What became of something that a store told of."""

    RECORDED = "recorded"
    REPLACED = "replaced"
    QUARANTINED = "quarantined"
    REMOVED = "removed"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    UNCHANGED = "unchanged"
    IGNORED = "ignored"


class Adoption:
    """Brings the record of a key to what *backend* has under it now, whatever was told, how often, and in which order.

    What is new, or overwritten, is looked at as an upload is: what would be refused is QUARANTINED, and its bytes stay where they
    are. *limits* are those of uploads. *changed* drops what is known of a key, *forget* also what is kept of it; *stored* is told
    of a new object and its type. Where there is *rescanning*, an object is withheld until that has found nothing in it.
    """

    def __init__(
        self,
        backend: Backend,
        catalogue: Catalogue,
        assets: Assets,
        renderer: Renderer,
        limits: Mapping[Kind, int],
        changed: Callable[[Key], Awaitable[None]],
        forget: Callable[[Key], Awaitable[None]],
        stored: Callable[[Key, str], None],
        rescanning: Rescanning | None = None,
    ) -> None:
        self._rescanning = rescanning
        self._backend = backend
        self._catalogue = catalogue
        self._assets = assets
        self._renderer = renderer
        self._sources = Sources(backend, limits)
        self._limits = limits
        self._changed = changed
        self._forget = forget
        self._stored = stored
        self._places = asyncio.Semaphore(AT_ONCE)
        self._questions = asyncio.Semaphore(QUESTIONS)
        self._locks: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()

    async def follow(self, key: Key) -> Outcome:
        """Let the record of *key* say what is there. Raises Unavailable and Busy; then it is to be told again."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        outcome = Outcome.UNCHANGED
        async with lock:
            for _ in range(LOOKS):
                change = await self._look(key)
                if change is None:
                    return outcome
                if change is Outcome.REFUSED:
                    return change
                if change is not Outcome.UNCHANGED:
                    outcome = change
                # Other processes follow the key as well: who has changed its record looks once more.
        raise Unavailable("the object changes too fast to be recorded", retry_after_s=1)

    async def _look(self, key: Key) -> Outcome | None:
        """What had to be done for the record; None: nothing, it says what is there."""
        async with self._questions:
            asset = await self._catalogue.get(key)
            try:
                meta = await self._backend.head(key)
            except NotFound:
                return await self._gone(key, asset)
        if asset is not None and asset.etag == meta.etag and asset.state is not State.DELETED:
            return None  # most of all, what this service has stored itself
        if asset is not None and asset.state in AT_WORK:
            raise Unavailable("another request is at work on this key", retry_after_s=2)
        async with self._places:
            return await self._here(meta, asset)

    async def _gone(self, key: Key, asset: Asset | None) -> Outcome | None:
        if asset is None:
            await self._changed(key)  # without a look for renditions: this is told of all that the service removes itself
        if asset is None or asset.state in AT_WORK:
            return None
        await self._assets.gone(key, asset.etag)
        log.info("object.gone", key=key)
        return Outcome.REMOVED

    async def _here(self, meta: ObjectMeta, before: Asset | None) -> Outcome:
        key = meta.key
        try:
            asset = await self._judged(meta)
            if asset.state is State.READY and self._rescanning is not None:
                asset = replace(asset, state=State.QUARANTINED, unscanned=True)
            if before is None:
                await self._catalogue.add(asset)
            else:
                await self._assets.outdated(key)
                await self._catalogue.replace(asset, before)
                await self._assets.outdated(key)  # a job may have ended meanwhile
        except (Conflict, NotFound):  # another process has heard of it, too; or it is gone by now
            return Outcome.UNCHANGED
        except QuotaExceeded:
            log.warning("object.not_recorded", key=key, reason=QuotaExceeded.slug)
            return Outcome.REFUSED
        if asset.unscanned and self._rescanning is not None:
            await self._rescanning.withhold(key)
        await self._forget(key)
        if asset.unscanned and self._rescanning is not None:
            try:
                finding = await self._rescanning.look(asset)
            except Unavailable as error:  # then a patrol does it
                log.warning("object.not_scanned", key=key, reason=error.slug)
                return Outcome.QUARANTINED
            asset = replace(asset, state=State.READY if finding is Finding.CLEAN else State.QUARANTINED)
        if asset.state is State.QUARANTINED:
            return Outcome.QUARANTINED
        self._stored(key, asset.content_type)
        return Outcome.RECORDED if before is None else Outcome.REPLACED

    async def _judged(self, meta: ObjectMeta) -> Asset:
        """The record that the object deserves, READY or QUARANTINED."""
        try:
            asset = await self._checked(meta)
        except VERDICTS as error:
            log.warning("object.quarantined", key=meta.key, reason=error.slug)
            found = await self._record(meta, meta.content_type or GENERIC, State.QUARANTINED)
            return replace(found, reason={"reason": error.slug})
        return asset

    async def _checked(self, meta: ObjectMeta) -> Asset:
        async with self._sources.opened(meta) as reader:
            head, _ = await streams.peek(aiter(reader), formats.HEAD_BYTES)
        format = formats.sniff(head)
        if not formats.agree(format, meta.content_type):
            raise Unsupported(f"the object is {format.mime}, which is not what its Content-Type says")
        limit = self._limits[format.kind]
        if meta.size > limit:
            raise TooLarge(f"an object of this type may have {limit} bytes", max_bytes=limit)
        meta = await self._as_stored(meta, format)
        asset = await self._record(meta, format.mime, State.READY)
        if format.kind is Kind.DOCUMENT:
            return asset
        async with self._sources.sought(meta) as reader:
            seen = await self._renderer.inspect(reader)
        return described(asset, seen)

    async def _as_stored(self, meta: ObjectMeta, format: Format) -> ObjectMeta:
        # Stores and CDNs give out what they have under the type that they have: so both must be right there.
        is_named = formats.by_mime(meta.content_type) is format
        if is_named and format.kind is not Kind.DRAWING:
            return meta
        async with AsyncExitStack() as stack:
            reader = await stack.enter_async_context(self._sources.opened(meta))
            body, size = aiter(reader), meta.size
            if format.kind is Kind.DRAWING:
                clean = await stack.enter_async_context(self._renderer.cleaned(body))
                if is_named and not clean.is_changed:
                    return meta
                body, size = clean.body, clean.size

            async def unless_overwritten(staged: ObjectReader) -> None:
                if (await self._backend.head(meta.key)).etag != meta.etag:
                    raise Overwritten

            await self._backend.put(meta.key, body, format.mime, unless_overwritten, size=size)
        return await self._backend.head(meta.key)

    async def _record(self, meta: ObjectMeta, content_type: str, state: State) -> Asset:
        digest = streams.Digest()
        async with self._sources.opened(meta) as reader:
            await streams.drained(digest.through(aiter(reader)))
        return Asset(
            meta.key, keys.owner(meta.key), None, content_type, meta.size, digest.hex, meta.etag, meta.modified, meta.store,
            state=state,
        )  # fmt: skip


class Followers:
    """Work on what notifications tell of, which goes on when a notification has waited for it long enough."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def all(self, work: list[Coroutine[Any, Any, Outcome]]) -> list[Outcome]:
        """How each ended, in `WAIT_S` seconds at most; raises Unavailable if some have not, and what one of them raised."""
        if len(self._tasks) + len(work) > WAITING:
            for one in work:
                one.close()
            raise Unavailable("too many notifications are being worked on", retry_after_s=30)
        tasks = [asyncio.create_task(one) for one in work]
        self._tasks.update(tasks)
        for task in tasks:
            task.add_done_callback(self._ended)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=WAIT_S)
            if late:
                raise Unavailable("it is being worked on: tell it again later", retry_after_s=10)
        return [task.result() for task in tasks]

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, MediaError):
            log.warning("object.not_followed", reason=error.slug)
        elif error is not None:
            log.error("object.not_followed", exc_info=error)

    async def finish(self) -> None:
        """End what is under way: it is told again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

"""What a body must pass before it is an object: limit, type, decodability; and the record that makes it count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

import structlog

from processors import formats
from processors.errors import MediaError, Unsupported
from processors.formats import Format, Kind
from proxy import keys, streams
from proxy.descriptions import described
from proxy.errors import Conflict, IdempotencyReused, NotFound, TooLarge
from proxy.keys import Key
from proxy.observe import Metrics
from proxy.ports import Asset, Backend, Body, Catalogue, ObjectReader, Renderer, State
from proxy.quotas import Quotas, Room
from proxy.scanning import Scanning, Watched

ORIGINAL = "original"
"""what a picture is called below the smaller one that is stored of it"""
UNSCANNED = {"reason": "unscanned"}
"""why something is quarantined that no scanner has seen"""

log = structlog.get_logger(__name__)


class Way(StrEnum):
    """How a body came."""

    BODY = "body"
    FORM = "form"
    TUS = "tus"
    CHUNKS = "chunks"
    PROMISE = "promise"


@dataclass(frozen=True, slots=True)
class Incoming:
    """A body on its way in, and what its sender says of it. *length* is the declared size in bytes, None if undeclared.

    *reserved* are the names of the room that was taken for it already, *way* is how it came.
    """

    body: Body
    filename: str | None = None
    claimed_type: str | None = None
    length: int | None = None
    reserved: tuple[str, ...] = ()
    way: Way = Way.BODY


@dataclass(frozen=True, slots=True)
class Promised:
    """A *key* that was promised for a body of *format*. *still_allowed* raises at the last moment before the object is visible.

    Whoever stores under it must be the only one at work on that key.
    """

    key: Key
    format: Format
    still_allowed: Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Optimised:
    """The names of *formats* that are stored in fewer bytes where that goes without loss, and whether what came is kept beside."""

    formats: frozenset[str] = frozenset()
    keeps_originals: bool = True


class Ingest:
    """Takes bodies in, one pass from the client to the store.

    *appeared* is told of each new object before that is acknowledged, *stored* of it and its type; the latter returns at once.
    *quotas* bound what an owner may have, *optimised* says what is stored in fewer bytes than it came in. By *scanning* bodies are
    looked at on their way; what passes unseen is kept from everybody by *withhold* before it can be found.
    """

    def __init__(
        self,
        backend: Backend,
        catalogue: Catalogue,
        renderer: Renderer,
        limits: Mapping[Kind, int],
        metrics: Metrics,
        appeared: Callable[[Key], Awaitable[None]],
        stored: Callable[[Key, str], None] = lambda key, content_type: None,
        quotas: Quotas | None = None,
        optimised: Optimised | None = None,
        scanning: Scanning | None = None,
        withhold: Callable[[Key], Awaitable[None]] | None = None,
    ) -> None:
        self._scanning = scanning
        self._withhold = withhold
        self._optimised = optimised or Optimised()
        self._backend = backend
        self._catalogue = catalogue
        self._renderer = renderer
        self._limits = limits
        self._metrics = metrics
        self._appeared = appeared
        self._stored = stored
        self._quotas = quotas
        self._under_way: set[tuple[str, str]] = set()

    @property
    def max_bytes(self) -> int:
        """The most that a body of any type may have."""
        return max(self._limits.values())

    def max_bytes_of(self, claimed_type: str | None) -> int:
        """The most that a body may have whose sender says it is *claimed_type*."""
        claimed = formats.claimed_kind(claimed_type)
        return self.max_bytes if claimed is None else self._limits.get(claimed, self.max_bytes)

    async def store(
        self, owner: str, incoming: Incoming, idempotency_key: str | None = None, promised: Promised | None = None
    ) -> Asset:
        """Store the body under a minted key, or the *promised* one, and record it.

        Durable on return, and nothing is left of it when this raises. The type is what the bytes are. With an
        *idempotency_key* that already stands for an asset of the owner, the body is read and compared, and that asset is
        given again; raises Conflict while the first is still under way and IdempotencyReused for other bytes.
        An asset that an earlier attempt has stored under the promised key is given again, and the body is not read.
        """
        if promised is not None:
            return await self._earlier(promised.key) or await self._store(owner, incoming, None, promised)
        if idempotency_key is None:
            return await self._store(owner, incoming, None, None)
        mark = (owner, idempotency_key)
        if mark in self._under_way:
            raise Conflict("an upload with this Idempotency-Key is under way", headers={"Retry-After": "2"})
        self._under_way.add(mark)
        try:
            earlier = await self._catalogue.find(owner, idempotency_key)
            if earlier is None:
                return await self._store(owner, incoming, idempotency_key, None)
            return await self._again(earlier, incoming)
        finally:
            self._under_way.discard(mark)

    async def _earlier(self, key: Key) -> Asset | None:
        """What an attempt before this one has brought to its end under *key*; what it left in the middle is undone."""
        asset = await self._catalogue.get(key)
        if asset is None or asset.is_taken:
            return asset
        if asset.state in {State.DELETED, State.QUARANTINED}:
            raise Conflict("the object that was promised has been taken away")
        try:
            is_whole = (await self._backend.head(key)).etag == asset.etag
        except NotFound:
            is_whole = False
        if not is_whole:
            await self._backend.delete(key)
            await self._catalogue.remove(key)
            return None
        await self._catalogue.mark(key, asset.lasting, UNSCANNED if asset.unscanned else None)
        await self._appeared(key)
        return replace(asset, state=asset.lasting)

    async def _store(self, owner: str, incoming: Incoming, idempotency_key: str | None, promised: Promised | None) -> Asset:
        kind = "unknown"
        try:
            async with self._with_room(owner, incoming) as roomy:
                limit = self.max_bytes
                head, body = await streams.peek(streams.limited(roomy.body, lambda: limit), formats.HEAD_BYTES)
                format = formats.sniff(head)
                kind = str(format.kind)
                if not formats.agree(format, incoming.claimed_type):
                    raise Unsupported(f"the body is {format.mime}, which is not what its Content-Type says")
                if promised is not None and not formats.is_promised(format, promised.format):
                    raise Unsupported(f"the body is {format.mime}, and {promised.format.mime} was promised")
                limit = self._limits[format.kind]
                if (incoming.length or 0) > limit:
                    raise TooLarge(f"a body of this type may have {limit} bytes", max_bytes=limit)
                key = keys.mint(owner, format.extension) if promised is None else promised.key
                async with (
                    self._watched(body, incoming.length) as watched,
                    self._clean(format, replace(roomy, body=watched.body)) as (clean, before),
                ):
                    original = None if before is None or format.kind is Kind.DRAWING else before
                    async with self._beside(owner, key, format, original, clean, watched):
                        asset = await self._put(key, owner, format, clean, idempotency_key, promised, watched)
                asset = replace(asset, sanitised=before is not None and original is None, optimised=original is not None)
        except MediaError as error:
            self._metrics.upload(kind, error.slug, incoming.way)
            raise
        self._metrics.upload(kind, "stored", incoming.way, asset.size)
        log.info("upload.stored", key=asset.key, size=asset.size, content_type=asset.content_type)
        if asset.state is State.READY:
            self._stored(asset.key, asset.content_type)
        return asset

    @asynccontextmanager
    async def _watched(self, body: Body, size: int | None) -> AsyncIterator[Watched]:
        if self._scanning is None:
            yield Watched(body)
            return
        async with self._scanning.watched(body, size) as watched:
            yield watched

    async def _add(self, asset: Asset, reserved: tuple[str, ...] = ()) -> None:
        # Whoever is withheld is so before the object is there.
        await self._catalogue.add(asset, reserved)
        if asset.unscanned and self._withhold is not None:
            await self._withhold(asset.key)

    async def _show(self, asset: Asset) -> None:
        await self._catalogue.mark(asset.key, asset.lasting, UNSCANNED if asset.unscanned else None)
        await self._appeared(asset.key)  # somebody may have looked for it before

    @asynccontextmanager
    async def _with_room(self, owner: str, incoming: Incoming) -> AsyncIterator[Incoming]:
        # It counts for its owner from the first byte, where it was not counted before.
        if self._quotas is None or not self._quotas.quota.is_set or incoming.reserved:
            yield incoming
            return
        room = Room(self._quotas, owner, incoming.length)
        async with room.taken(incoming.body) as body:
            yield replace(incoming, body=body, reserved=(room.name,))

    @asynccontextmanager
    async def _clean(self, format: Format, incoming: Incoming) -> AsyncIterator[tuple[Incoming, Body | None]]:
        # What is stored is what every store and CDN gives out later, byte for byte: a drawing is sanitised before, a picture made
        # smaller. With it what came, if that is something else.
        if format.kind is not Kind.DRAWING and format.name not in self._optimised.formats:
            yield incoming, None
            return
        async with self._renderer.cleaned(incoming.body, must=format.kind is Kind.DRAWING) as clean:
            yield replace(incoming, body=clean.body, length=clean.size), clean.before

    @asynccontextmanager
    async def _beside(
        self, owner: str, key: Key, format: Format, before: Body | None, incoming: Incoming, watched: Watched
    ) -> AsyncIterator[None]:
        # What came, below what is stored of it; shown when that is. A start finishes or undoes what a kill leaves.
        if before is None or not self._optimised.keeps_originals:
            yield
            return
        place = keys.parse(f"{key}/{ORIGINAL}.{format.extension}")
        recorded: list[Asset] = []

        async def admit(staged: ObjectReader) -> None:
            meta = staged.meta
            assert meta.sha256 is not None
            asset = Asset(
                place, owner, incoming.filename, format.mime, meta.size, meta.sha256, meta.etag, datetime.now(UTC), meta.store,
                source=key, unscanned=watched.is_unscanned,
            )  # fmt: skip
            recorded.append(asset)
            await self._add(asset)

        try:
            await self._backend.put(place, before, format.mime, admit)
            yield
            await self._show(recorded[0])
        except BaseException:
            if recorded:
                await asyncio.shield(asyncio.create_task(self._undo(recorded[0])))
            raise

    async def _put(
        self, key: Key, owner: str, format: Format, incoming: Incoming, idempotency_key: str | None, promised: Promised | None,
        watched: Watched,
    ) -> Asset:  # fmt: skip
        recorded: list[Asset] = []

        async def admit(staged: ObjectReader) -> None:
            meta = staged.meta
            assert meta.sha256 is not None
            asset = Asset(
                key, owner, incoming.filename, format.mime, meta.size, meta.sha256, meta.etag, datetime.now(UTC), meta.store,
                idempotency_key=idempotency_key, unscanned=watched.is_unscanned,
            )  # fmt: skip
            if format.kind is not Kind.DOCUMENT:
                seen = await self._renderer.inspect(staged)
                asset = described(asset, seen)
            if promised is not None:
                await promised.still_allowed()
            recorded.append(asset)
            await self._add(asset, incoming.reserved)

        try:
            meta = await self._backend.put(key, incoming.body, format.mime, admit, size=incoming.length)
            await self._show(recorded[0])
        except BaseException:
            if recorded:  # the record may stand, and even the object: an upload that was not acknowledged leaves neither
                await asyncio.shield(asyncio.create_task(self._undo(recorded[0])))
            raise
        return replace(
            recorded[0], state=recorded[0].lasting, store=meta.store
        )  # another than admitted it, if that one failed behind

    async def _known(self, asset: Asset) -> set[str]:
        # The digests of what is stored and of what came, where that is kept.
        stem = f"{asset.key}/{ORIGINAL}."
        beside = {other.sha256 for other in await self._catalogue.derived(asset.key) if other.key.startswith(stem)}
        return {asset.sha256, *beside}

    async def _undo(self, asset: Asset) -> None:
        try:
            standing = await self._catalogue.get(asset.key)
            if standing is not None and standing.etag != asset.etag:
                return  # the record of somebody who was first under a promised key
            await self._backend.delete(asset.key)
            await self._catalogue.remove(asset.key)
        except MediaError as error:  # the next start undoes it
            log.warning("upload.not_undone", key=asset.key, reason=error.slug)

    async def _again(self, earlier: Asset, incoming: Incoming) -> Asset:
        if earlier.state is State.QUARANTINED and not earlier.unscanned:
            raise Conflict("the object of this Idempotency-Key has been taken away")
        if not earlier.is_taken:
            raise Conflict("an upload with this Idempotency-Key is under way", headers={"Retry-After": "2"})
        digest = streams.Digest()
        format = formats.by_mime(earlier.content_type)
        limit = self.max_bytes if format is None else self._limits[format.kind]
        body = streams.limited(incoming.body, lambda: limit)
        if format is None:
            await streams.drained(digest.through(body))
        else:
            came = streams.Digest()
            async with self._clean(format, replace(incoming, body=came.through(body))) as (clean, before):
                await streams.drained(digest.through(clean.body))
            earlier = replace(earlier, sanitised=before is not None and format.kind is Kind.DRAWING)
            if format.kind is not Kind.DRAWING and came.hex in await self._known(earlier):
                return earlier
        if digest.hex != earlier.sha256:
            raise IdempotencyReused("this Idempotency-Key was used for other bytes: send a new one")
        return earlier

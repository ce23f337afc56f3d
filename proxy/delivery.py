"""Which bytes answer a key and a transform: the stored ones, a kept variant, or one rendered once for all who ask."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import lru_cache

import structlog

from processors import formats
from processors.errors import BadParameter, Corrupt, MediaError, TooCostly, Unsupported
from processors.formats import Kind
from processors.transform import PIPELINE_REVISION, Transform
from proxy import keys
from proxy.batches import Batches
from proxy.cache import ByteCache, FreshCache
from proxy.conditions import ETag, Version, Wanted
from proxy.descriptions import Descriptions
from proxy.errors import NotFound, Unavailable
from proxy.flights import Errands, Flights
from proxy.keys import Key
from proxy.later import Later
from proxy.observe import Metrics
from proxy.ports import Backend, ObjectMeta, ObjectReader, Presigner, Rendered, Renderer
from proxy.sources import Overwritten, Sources
from proxy.variants import Variants

META_TTL_S = 5.0
META_ENTRIES = 20_000
NAMES = 8_192
REFUSAL_TTL_S = 60.0
REFUSAL_ENTRIES = 2_000
ERRANDS = 64
OVERWRITES = 3
NO_SECONDS: Mapping[str, float] = {}
PENDING, TRUNCATED = "format-pending", "truncated"
PASSING = frozenset((PENDING, TRUNCATED))
"""what is not to be kept for long: something better may come of the same source"""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Focal:
    """The focal point of a picture as ``XxY``; None if there is none."""

    point: str | None


@dataclass(frozen=True, slots=True)
class Opened:
    """What answers a request; close *reader* when done. *name* is a rendition's, *degraded* what it had to leave out.

    *found* says where a rendition was: ``memory``, ``stored``, or ``miss``; then *seconds* what was waited for, by phase.
    """

    reader: ObjectReader
    version: Version
    name: Key | None = None
    degraded: tuple[str, ...] = ()
    found: str | None = None
    seconds: Mapping[str, float] = field(default_factory=lambda: NO_SECONDS)
    focal: Focal | None = None
    """the stored focal point that it goes by; None where that makes no difference"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request for a rendition would come to: *found* is ``memory``, ``stored``, or ``miss`` if it were to be made."""

    source: ObjectMeta
    settled: Transform
    name: Key
    version: Version
    found: str


class Delivery:
    """Opens originals and renditions.

    A rendition's name is made of the original's key and version, so an overwrite never serves old pixels and an equal
    If-None-Match is answered before any picture work. Renditions are looked for in memory, then in *variants*, and
    rendered in one flight however many ask; what is degraded stays in memory only, and what is so for want of time is made
    again, better, when nobody waits.
    """

    def __init__(
        self,
        backend: Backend,
        variants: Variants,
        renderer: Renderer,
        sources: Sources,
        descriptions: Descriptions,
        cache_bytes: int,
        metrics: Metrics,
    ) -> None:
        self._backend = backend
        self._descriptions = descriptions
        self._variants = variants
        self._batches = Batches(sources, renderer, metrics)
        self._metrics = metrics
        self._cache: ByteCache[Key, Rendered] = ByteCache(cache_bytes)
        self._metas: FreshCache[Key, ObjectMeta] = FreshCache(META_ENTRIES, META_TTL_S)
        self._refusals: FreshCache[Key, MediaError] = FreshCache(REFUSAL_ENTRIES, REFUSAL_TTL_S)
        self._flights: Flights[Rendered] = Flights()
        self._errands = Errands(ERRANDS)
        self._later = Later(lambda: renderer.is_idle)

    async def original(self, key: Key, wanted: Wanted, *, bodiless: bool = False) -> Opened:
        """The stored bytes, or the range of them that *wanted* asks for; raises NotModified, PreconditionFailed, NotFound.

        *bodiless*: what is known of them is enough (HEAD), and no store is asked to begin a body.
        """
        if bodiless:
            meta = await self._backend.head(key)
            wanted.check(_version(meta))
            return Opened(ObjectReader(meta, _nothing()), _version(meta))
        span = wanted.span
        if span is not None and wanted.is_conditional:  # conditions come before ranges (RFC 9110 section 13.2.2)
            version = _version(await self.meta(key))
            wanted.check(version)
            span = wanted.span_of(version)
        for _ in range(OVERWRITES):
            reader = await self._backend.open(key, span)
            version = _version(reader.meta)
            try:
                wanted.check(version)
            except BaseException:
                await reader.aclose()
                raise
            if span is None or wanted.span_of(version) is not None:
                return Opened(reader, version)
            await reader.aclose()  # overwritten since If-Range was weighed: the range must not come from another version
            span = None
        raise Unavailable("the object changes too fast to be read")

    async def rendition(self, key: Key, transform: Transform, accept: str, wanted: Wanted, *, lasting: bool = False) -> Opened:
        """What *transform* makes of the object; raises as `original` does, and Unsupported, Corrupt, TooCostly or Busy.

        *lasting*: it is kept in the stores, and not where room is made for others.
        """
        meta = self._metas.get(key) or await self.meta(key)
        focal = await self._focal(key, transform)
        settled, name, version = _named(meta, transform, accept if transform.varies else "", focal)
        wanted.check(version)
        rendered = self._cache.get(name)
        found, seconds = "memory", NO_SECONDS
        if rendered is not None:
            self._metrics.cache("memory")
        else:
            refused = self._refusals.get(name)
            if refused is not None:
                raise refused
            rendered = await self._flights.join(name, lambda: self._fetch(meta, settled, name, lasting=lasting))
            found, seconds = "miss" if rendered.seconds else "stored", rendered.seconds
        if stand_in := PASSING & set(rendered.degraded):
            if TRUNCATED not in stand_in:
                self._later.offer(name, lambda: self._improve(meta, settled, name, lasting=lasting))
            version = replace(version, etag=ETag(f"{version.etag.value}-pending", weak=True), is_pending=True)
            wanted.check(version)
        made = ObjectMeta(key, len(rendered.data), rendered.content_type, version.etag.value, meta.modified)
        reader = ObjectReader(made, _whole(rendered.data), data=rendered.data)
        return Opened(reader, version, name, rendered.degraded, found, seconds, focal)

    def expecting(self, key: Key, count: int) -> AbstractContextManager[None]:
        """Announce *count* calls of `rendition` for *key*, so that one decode serves them all."""
        return self._batches.expecting(key, count)

    async def plan(self, key: Key, transform: Transform, accept: str, *, lasting: bool = False) -> Plan:
        """What `rendition` would do; nothing is made."""
        meta, focal = await self.meta(key), await self._focal(key, transform)
        settled, name, version = _named(meta, transform, accept if transform.varies else "", focal)
        found = "memory" if self._cache.get(name) is not None else "miss"
        if found == "miss" and await self._variants.has(name, lasting=lasting):
            found = "stored"
        return Plan(meta, settled, name, version, found)

    def kept(self, key: Key, version: str, name: Key, focal: Focal | None) -> Rendered | None:
        """The rendition *name*, if it is in memory and *version* and *focal* are known to be what *key* is now."""
        meta = self._metas.get(key)
        if focal is not None and ((known := self._descriptions.fresh(key)) is None or known.focal != focal.point):
            return None
        rendered = self._cache.get(name) if meta is not None and meta.etag == version else None
        if rendered is not None:
            self._metrics.cache("memory")
        return rendered

    async def meta(self, key: Key) -> ObjectMeta:
        """What the store knows of *key*, at most some seconds old and never older than a change made through this process."""
        return await self._metas.load(key, lambda: self._backend.head(key))

    async def address(self, key: Key, lifetime_s: int) -> str | None:
        """Where clients can fetch a picture, film or sound from the store itself, for *lifetime_s* seconds; None: nowhere."""
        if not isinstance(self._backend, Presigner):
            return None
        format = formats.by_mime((await self.meta(key)).content_type)
        if format is None or format.kind in (Kind.DOCUMENT, Kind.DRAWING):
            return None
        return await self._backend.presign_get(key, lifetime_s)

    async def forget(self, key: Key) -> None:
        """Drop everything that is known and kept of *key*, its stored variants too: it was removed or overwritten."""
        self._metas.delete(key)
        self._descriptions.forget(key)
        async for variant in self._variants.sweep(key):
            self._cache.delete(variant)

    async def finish(self, deadline_s: float) -> None:
        """Wait for the variants that are being stored behind answers."""
        await self._later.finish()
        await self._errands.finish(deadline_s)
        await self._batches.finish()

    @property
    def cached_bytes(self) -> int:
        """The memory that kept renditions take."""
        return self._cache.bytes

    @property
    def later(self) -> int:
        """How many renditions wait to be made better."""
        return len(self._later)

    @property
    def storing(self) -> int:
        """How many renditions are being stored behind their answers."""
        return len(self._errands)

    async def _focal(self, key: Key, transform: Transform) -> Focal | None:
        return Focal((await self._descriptions.known(key)).focal) if transform.crops else None

    async def _fetch(self, meta: ObjectMeta, transform: Transform, name: Key, *, lasting: bool) -> Rendered:
        rendered = await self._variants.get(name, lasting=lasting)
        if rendered is not None:
            self._metrics.cache("stored")
        else:
            self._metrics.cache("miss")
            rendered = await self._render(meta, transform, name)
            if not rendered.degraded:
                made = rendered
                self._errands.begin(lambda: self._keep(meta, name, made, lasting=lasting))
        self._cache.set(name, replace(rendered, seconds=NO_SECONDS), len(rendered.data))
        return rendered

    async def _improve(self, meta: ObjectMeta, transform: Transform, name: Key, *, lasting: bool) -> None:
        if (await self.meta(meta.key)).etag != meta.etag:
            return
        rendered = await self._batches.render(meta, replace(transform, format="avif"), in_background=True)
        await self._keep(meta, name, rendered, lasting=lasting)
        self._cache.set(name, rendered, len(rendered.data))

    async def _render(self, meta: ObjectMeta, transform: Transform, name: Key) -> Rendered:
        try:
            with self._metrics.rendering():
                return await self._batches.render(meta, transform)
        except (BadParameter, Corrupt, TooCostly, Unsupported) as refusal:
            self._refusals.set(name, refusal)
            raise
        except Overwritten:
            self._metas.delete(meta.key)
            raise

    async def _keep(self, meta: ObjectMeta, name: Key, rendered: Rendered, *, lasting: bool) -> None:
        try:
            if await self._variants.put(name, rendered, lasting=lasting) and not await self._still(meta):
                await self._variants.delete(name, lasting=lasting)
        except MediaError as error:
            log.warning("variant.not_stored", variant=name, reason=error.slug)

    async def _still(self, meta: ObjectMeta) -> bool:
        # A removal may have swept the variants just before this one was stored.
        try:
            return (await self._backend.head(meta.key)).etag == meta.etag
        except NotFound:
            return False


@lru_cache(NAMES)
def _named(meta: ObjectMeta, transform: Transform, accept: str, focal: Focal | None) -> tuple[Transform, Key, Version]:
    # The name of a rendition is its digest; the same few are asked for again and again.
    settled = transform.settled(meta.content_type, accept, None if focal is None else focal.point)
    name = keys.variant(meta.key, meta.etag, settled.canonical, PIPELINE_REVISION)
    point = None if focal is None else focal.point or ""
    return settled, name, Version(ETag(name[-32:], weak=True), meta.modified, meta.etag, focal=point)


def _version(meta: ObjectMeta) -> Version:
    return Version(ETag(meta.etag), meta.modified, meta.etag)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


async def _whole(data: bytes) -> AsyncIterator[bytes]:
    yield data

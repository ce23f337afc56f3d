"""Which bytes answer a key and a transform: the stored ones, or a rendition under the one name that it has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import lru_cache

from processors import formats
from processors.formats import Kind
from processors.transform import PIPELINE_REVISION, Transform
from proxy import keys
from proxy.commons import Commons
from proxy.conditions import ETag, Version, Wanted
from proxy.descriptions import Descriptions, Pay
from proxy.errors import NotFound, Unavailable
from proxy.keys import Key
from proxy.metas import Metas
from proxy.ports import Backend, ByteRange, ObjectMeta, ObjectReader, Presigner, Rendered
from proxy.renditions import NO_SECONDS, Renditions

NAMES = 8_192
OVERWRITES = 3
PENDING, TRUNCATED = "format-pending", "truncated"
PASSING = frozenset((PENDING, TRUNCATED))
"""what is not to be kept for long: something better may come of the same source"""


@dataclass(frozen=True, slots=True)
class Focal:
    """The focal point of a picture as ``XxY``; None if there is none."""

    point: str | None


@dataclass(frozen=True, slots=True)
class Opened:
    """What answers a request; close *reader* when done. *name* is a rendition's, *degraded* what it had to leave out.

    *found* says where a rendition was: ``memory``, ``shared``, ``stored``, or ``miss``; then *seconds* what was waited for, by
    phase. *collapsed* says that it was fetched or made for somebody else who had asked for it already.
    """

    reader: ObjectReader
    version: Version
    name: Key | None = None
    degraded: tuple[str, ...] = ()
    found: str | None = None
    collapsed: bool = False
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
    """Opens originals of *backend* and renditions of them.

    A rendition's name is made of the original's key and version, so an overwrite never serves old pixels and an equal
    If-None-Match is answered before any picture work. What changes here is told to all processes, and heard from them.
    """

    def __init__(
        self, backend: Backend, metas: Metas, renditions: Renditions, descriptions: Descriptions, commons: Commons
    ) -> None:
        self._backend = backend
        self._metas = metas
        self._renditions = renditions
        self._descriptions = descriptions
        self._commons = commons
        commons.listen(self._drop, self._drop_all)

    async def original(self, key: Key, wanted: Wanted, *, bodiless: bool = False) -> Opened:
        """The stored bytes, or the range of them that *wanted* asks for; raises NotModified, PreconditionFailed, NotFound.

        *bodiless*: what is known of them is enough (HEAD), and no store is asked to begin a body.
        """
        if self._metas.is_absent(key):
            raise NotFound("no object has this key")
        if bodiless:
            meta = await self._backend.head(key)
            wanted.check(_version(meta))
            return Opened(ObjectReader(meta, _nothing()), _version(meta))
        span = wanted.span
        if span is not None and wanted.is_conditional:  # conditions come before ranges (RFC 9110 section 13.2.2)
            version = _version(await self._metas.get(key))
            wanted.check(version)
            span = wanted.span_of(version)
        for _ in range(OVERWRITES):
            try:
                reader = await self._backend.open(key, span)
            except NotFound:
                await self._metas.get(key)  # which remembers that it is not there, unless it has appeared just now
                continue
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

    async def rendition(
        self, key: Key, transform: Transform, accept: str, wanted: Wanted, *, lasting: bool = False, pay: Pay | None = None
    ) -> Opened:
        """What *transform* makes of the object; raises as `original` does, and Unsupported, Corrupt, TooCostly or Busy.

        *lasting*: it is kept in the stores, and not where room is made for others. *pay* is called before it has to be made for
        this caller, and may raise RateLimited; others who wait for the same are not refused with this one.
        """
        meta = await self._metas.get(key)
        focal = await self._focal(key, transform)
        settled, name, version = _named(meta, transform, accept if transform.varies else "", focal)
        wanted.check(version)
        fetched = await self._renditions.get(meta, settled, name, lasting=lasting, pay=pay)
        rendered = fetched.rendered
        if stand_in := PASSING & set(rendered.degraded):
            if TRUNCATED not in stand_in:
                self._renditions.improve(meta, settled, name, lasting=lasting)
            version = replace(version, etag=ETag(f"{version.etag.value}-pending", weak=True), is_pending=True)
            wanted.check(version)
        made = ObjectMeta(key, len(rendered.data), rendered.content_type, version.etag.value, meta.modified)
        reader = _reader(made, rendered.data, wanted.span_of(version) if settled.moves else None)
        seconds = rendered.seconds if fetched.found == "miss" else NO_SECONDS
        return Opened(reader, version, name, rendered.degraded, fetched.found, fetched.collapsed, seconds, focal)

    def expecting(self, key: Key, count: int) -> AbstractContextManager[None]:
        """Announce *count* calls of `rendition` for *key*, so that one decode serves them all."""
        return self._renditions.expecting(key, count)

    async def plan(self, key: Key, transform: Transform, accept: str, *, lasting: bool = False) -> Plan:
        """What `rendition` would do; nothing is made."""
        meta, focal = await self._metas.get(key), await self._focal(key, transform)
        settled, name, version = _named(meta, transform, accept if transform.varies else "", focal)
        return Plan(meta, settled, name, version, await self._renditions.whereabouts(name, lasting=lasting))

    def kept(self, key: Key, version: str, name: Key, focal: Focal | None) -> Rendered | None:
        """The rendition *name*, if it is in memory and *version* and *focal* are known to be what *key* is now."""
        meta = self._metas.fresh(key)
        if meta is None or meta.etag != version:
            return None
        if focal is not None and ((known := self._descriptions.fresh(key)) is None or known.focal != focal.point):
            return None
        return self._renditions.cached(name)

    async def meta(self, key: Key) -> ObjectMeta:
        """What the store knows of *key*, at most some seconds old and never older than a change made through this process."""
        return await self._metas.get(key)

    async def address(self, key: Key, lifetime_s: int) -> str | None:
        """Where clients can fetch a picture, film or sound from the store itself, for *lifetime_s* seconds; None: nowhere."""
        if not isinstance(self._backend, Presigner):
            return None
        format = formats.by_mime((await self._metas.get(key)).content_type)
        if format is None or format.kind in (Kind.DOCUMENT, Kind.DRAWING):
            return None
        return await self._backend.presign_get(key, lifetime_s)

    async def changed(self, key: Key) -> None:
        """Drop what is known of *key*, here and in all other processes: it was stored, overwritten, removed, or described anew."""
        self._drop(key)
        await self._commons.changed(key)

    async def forget(self, key: Key) -> None:
        """Drop everything that is known and kept of *key*, its stored renditions too: it was removed or overwritten."""
        await self.changed(key)
        await self._renditions.sweep(key)

    async def _focal(self, key: Key, transform: Transform) -> Focal | None:
        return Focal((await self._descriptions.known(key)).focal) if transform.crops else None

    def _drop(self, key: Key) -> None:
        self._metas.drop(key)
        self._descriptions.forget(key)
        self._renditions.drop(key)

    def _drop_all(self) -> None:
        # Renditions may stay: their names have the version in them.
        self._metas.clear()
        self._descriptions.clear()


@lru_cache(NAMES)
def _named(meta: ObjectMeta, transform: Transform, accept: str, focal: Focal | None) -> tuple[Transform, Key, Version]:
    # The name of a rendition is its digest; the same few are asked for again and again.
    settled = transform.settled(meta.content_type, accept, None if focal is None else focal.point)
    name = keys.variant(meta.key, meta.etag, settled.canonical, PIPELINE_REVISION)
    point = None if focal is None else focal.point or ""
    return settled, name, Version(ETag(name[-32:], weak=not settled.moves), meta.modified, meta.etag, focal=point)


def _version(meta: ObjectMeta) -> Version:
    return Version(ETag(meta.etag), meta.modified, meta.etag)


def _reader(made: ObjectMeta, data: bytes, span: ByteRange | None) -> ObjectReader:
    if span is None:
        return ObjectReader(made, _whole(data), data=data)
    part = span.within(made.size)
    return ObjectReader(made, _whole(data[part.start : part.stop]), span=part)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


async def _whole(data: bytes) -> AsyncIterator[bytes]:
    yield data

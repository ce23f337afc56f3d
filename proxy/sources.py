"""Originals as the renderer gets them: one version, no larger than its type may be, and none that costs workers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

from processors import formats
from processors.formats import Kind
from proxy.errors import TooLarge, Unavailable
from proxy.ports import Backend, ByteRange, ObjectMeta, ObjectReader
from proxy.quarantine import Quarantine

IN_PARTS = frozenset({Kind.VIDEO, Kind.AUDIO})
FIRST_BYTES = 1 << 18
"""of what is read in parts: there is nearly always the index, or the word where that is"""


class Overwritten(Unavailable):
    """The object is no longer the version that was asked for."""

    def __init__(self) -> None:
        super().__init__("the object was overwritten at this moment", retry_after_s=1)


class Sources:
    """Opens objects of *backend* for the renderer; *max_bytes* are the limits of uploads, which what others put there passed by."""

    def __init__(self, backend: Backend, max_bytes: Mapping[Kind, int]) -> None:
        self._backend = backend
        self._max_bytes = max_bytes
        self._quarantine = Quarantine()

    @contextmanager
    def admitted(self, meta: ObjectMeta) -> Iterator[None]:
        """Work on the version *meta*; raises TooLarge before anything is fetched, and Corrupt for what has cost workers."""
        format = formats.by_mime(meta.content_type)
        limit = max(self._max_bytes.values()) if format is None else self._max_bytes[format.kind]
        if meta.size > limit:
            raise TooLarge(f"pictures are made of sources of this type with up to {limit} bytes", max_bytes=limit)
        with self._quarantine.guarding(meta):
            yield

    @asynccontextmanager
    async def opened(self, meta: ObjectMeta) -> AsyncIterator[ObjectReader]:
        """The bytes of the version *meta*; raises Overwritten, NotFound, Unavailable."""
        async with await self._backend.open(meta.key) as source:
            if source.meta.etag != meta.etag:
                raise Overwritten
            yield source

    @asynccontextmanager
    async def sought(self, meta: ObjectMeta) -> AsyncIterator[ObjectReader]:
        """The version *meta* for who reads here and there in it: of a film or a sound its beginning, and then part by part."""
        format = formats.by_mime(meta.content_type)
        if format is None or format.kind not in IN_PARTS or not meta.size:
            async with self.opened(meta) as source:
                yield source
            return
        async with await self._part(meta, ByteRange(0, FIRST_BYTES)) as source:
            source.parts = lambda span: self._part(meta, span)
            yield source

    async def _part(self, meta: ObjectMeta, span: ByteRange) -> ObjectReader:
        source = await self._backend.open(meta.key, span)
        if source.meta.etag != meta.etag:
            await source.aclose()
            raise Overwritten
        return source

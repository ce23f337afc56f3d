"""Objects in memory: the reference that says in the fewest words what a store does. For tests; nothing of it lasts."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

from proxy import generations
from proxy.errors import NotFound
from proxy.keys import Key
from proxy.ports import Admit, Body, ByteRange, Listed, ObjectMeta, ObjectReader
from proxy.streams import sized

CHUNK_BYTES = 1 << 16


class MemoryBackend:
    """A store that forgets everything when it is dropped, and holds whole bodies."""

    def __init__(self, *, name: str = "memory") -> None:
        self.name = name
        self._objects: dict[Key, tuple[ObjectMeta, bytes]] = {}

    async def head(self, key: Key) -> ObjectMeta:
        """What was put; raises NotFound."""
        return self._found(key)[0]

    async def open(self, key: Key, span: ByteRange | None = None) -> ObjectReader:
        """The object as it is now; an overwrite or a delete does not touch what is open."""
        meta, data = self._found(key)
        return _reader(meta, data, None if span is None else span.within(meta.size))

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
        """Take it all, *admit*, let it be seen."""
        etag = etag or generations.mint()
        taken = bytearray()
        async for chunk in sized(body, size):
            taken += chunk
        data = bytes(taken)
        meta = ObjectMeta(key, len(data), content_type, etag, generations.began(etag), hashlib.sha256(data).hexdigest(), self.name)
        if admit is not None:
            await admit(_reader(meta, data, None))
        self._objects[key] = (meta, data)
        return meta

    async def delete(self, key: Key) -> None:
        """Remove the object; idempotent."""
        self._objects.pop(key, None)

    async def list(self, prefix: str = "") -> AsyncIterator[Listed]:
        """All with *prefix* at the moment of the call."""
        for meta, _ in list(self._objects.values()):
            if meta.key.startswith(prefix):
                yield Listed(meta.key, meta.size, meta.modified)

    async def ping(self) -> None:
        """Memory is always there."""

    def _found(self, key: Key) -> tuple[ObjectMeta, bytes]:
        try:
            return self._objects[key]
        except KeyError:
            raise NotFound("no object has this key") from None


def _reader(meta: ObjectMeta, data: bytes, span: ByteRange | None) -> ObjectReader:
    part = data if span is None else data[span.start : span.stop]

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(part), CHUNK_BYTES):
            yield part[at : at + CHUNK_BYTES]

    return ObjectReader(meta, chunks(), span, data=part)

"""A store whose questions are spans of the trace that they are asked for (`processors.tracing`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from processors import tracing
from proxy.keys import Key
from proxy.ports import Admit, Backend, Body, ByteRange, Listed, ObjectMeta, ObjectReader


def traced(store: Backend) -> Backend:
    """*store*, seen in traces where there are any."""
    return _TracedBackend(store) if tracing.is_on() else store


class _TracedBackend:
    def __init__(self, store: Backend) -> None:
        self._store = store
        self.name = store.name
        self._about = {"media.store": store.name}

    def __getattr__(self, name: str) -> Any:
        # What else a store can do (`Presigner`, `Clearing`), it can do so, too.
        return getattr(self._store, name)

    async def head(self, key: Key) -> ObjectMeta:
        with tracing.span(f"{self.name} head", self._about):
            return await self._store.head(key)

    async def open(self, key: Key, span: ByteRange | None = None) -> ObjectReader:
        with tracing.span(f"{self.name} open", self._about) as asked:
            reader = await self._store.open(key, span)
            asked.say({"media.bytes": reader.meta.size})
            return reader

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
        with tracing.span(f"{self.name} put", self._about) as asked:
            meta = await self._store.put(key, body, content_type, admit, size=size, etag=etag)
            asked.say({"media.bytes": meta.size})
            return meta

    async def delete(self, key: Key) -> None:
        with tracing.span(f"{self.name} delete", self._about):
            await self._store.delete(key)

    def list(self, prefix: str = "") -> AsyncIterator[Listed]:
        return self._store.list(prefix)

    async def ping(self) -> None:
        await self._store.ping()

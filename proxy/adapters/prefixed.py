"""A part of a store as a store: what lies below one prefix of a bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from proxy.keys import Key
from proxy.ports import Admit, Backend, Body, ByteRange, Listed, ObjectMeta, ObjectReader


class PrefixedBackend:
    """What *store*, which must be open, has below *prefix*, which ends in a slash or is empty."""

    def __init__(self, store: Backend, prefix: str) -> None:
        self.name = store.name
        self._store = store
        self._prefix = prefix

    async def head(self, key: Key) -> ObjectMeta:
        """As the store's."""
        return replace(await self._store.head(self._there(key)), key=key)

    async def open(self, key: Key, span: ByteRange | None = None) -> ObjectReader:
        """As the store's."""
        reader = await self._store.open(self._there(key), span)
        reader.meta = replace(reader.meta, key=key)
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
        """As the store's."""
        meta = await self._store.put(self._there(key), body, content_type, admit, size=size, etag=etag)
        return replace(meta, key=key)

    async def delete(self, key: Key) -> None:
        """As the store's."""
        await self._store.delete(self._there(key))

    async def list(self, prefix: str = "") -> AsyncIterator[Listed]:
        """As the store's, without what lies elsewhere."""
        async for found in self._store.list(self._prefix + prefix):
            yield replace(found, key=Key(found.key[len(self._prefix) :]))

    async def ping(self) -> None:
        """As the store's."""
        await self._store.ping()

    def _there(self, key: Key) -> Key:
        return Key(self._prefix + key)

"""A store as objects are carried out of it and into it: with names that are no keys, and what others say beside an object."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import replace
from typing import Protocol, runtime_checkable

from proxy.keys import Key
from proxy.ports import Backend, Body, Listed, ObjectMeta, ObjectReader


@runtime_checkable
class Labelling(Protocol):
    """A store that lists all names, and keeps metadata of others."""

    def names(self, prefix: str = "") -> AsyncGenerator[Listed, None]: ...

    async def put(
        self, key: Key, body: Body, content_type: str, *, size: int | None, etag: str | None, metadata: Mapping[str, str]
    ) -> ObjectMeta: ...


class Exchange:
    """What *store*, which must be open, has below *prefix*, which ends in a slash or is empty."""

    def __init__(self, store: Backend, prefix: str = "") -> None:
        self._store = store
        self._prefix = prefix

    async def names(self, prefix: str = "") -> AsyncGenerator[Listed, None]:
        """All that there is, as it is called there."""
        store, below = self._store, self._prefix + prefix
        listed: AsyncIterator[Listed] = store.names(below) if isinstance(store, Labelling) else store.list(below)
        async for found in listed:
            yield replace(found, key=Key(found.key[len(self._prefix) :]))

    async def head(self, key: Key) -> ObjectMeta:
        """As the store's."""
        return replace(await self._store.head(self._there(key)), key=key)

    async def open(self, key: Key) -> ObjectReader:
        """As the store's."""
        reader = await self._store.open(self._there(key))
        reader.meta = replace(reader.meta, key=key)
        return reader

    async def put(
        self, key: Key, body: Body, content_type: str, *, size: int, etag: str, metadata: Mapping[str, str]
    ) -> ObjectMeta:
        """As the store's; *metadata* stays where the store can keep it."""
        store, there = self._store, self._there(key)
        if isinstance(store, Labelling):
            meta = await store.put(there, body, content_type, size=size, etag=etag, metadata=metadata)
        else:
            meta = await store.put(there, body, content_type, size=size, etag=etag)
        return replace(meta, key=key)

    def _there(self, key: Key) -> Key:
        return Key(self._prefix + key)

"""Kept renditions: those that last go to the stores, the others to a local store that forgets what is not asked for."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import structlog

from processors.errors import MediaError
from proxy import keys
from proxy.errors import NotFound, Unavailable
from proxy.keys import Key
from proxy.ports import Backend, Rendered

log = structlog.get_logger(__name__)


class Variants:
    """Renditions by their names, in *lasting* or in *fleeting*. What cannot be read or kept counts as not there."""

    def __init__(self, lasting: Backend, fleeting: Backend) -> None:
        self._lasting = lasting
        self._fleeting = fleeting

    async def get(self, name: Key, *, lasting: bool) -> Rendered | None:
        """The rendition, whole and as it was put there."""
        store = self._store(lasting)
        try:
            async with await store.open(name) as reader:
                data = b"".join([chunk async for chunk in reader])
        except NotFound:
            return None
        except Unavailable:
            log.warning("variant.unreadable", variant=name)
            return None
        if hashlib.sha256(data).hexdigest() != reader.meta.sha256:
            log.warning("variant.damaged", variant=name)
            await store.delete(name)
            return None
        return Rendered(data, reader.meta.content_type, 0, 0)

    async def has(self, name: Key, *, lasting: bool) -> bool:
        """Whether the rendition is there."""
        try:
            await self._store(lasting).head(name)
        except (NotFound, Unavailable):
            return False
        return True

    async def put(self, name: Key, rendered: Rendered, *, lasting: bool) -> bool:
        """Keep the rendition; False if it could not be."""
        try:
            await self._store(lasting).put(name, _whole(rendered.data), rendered.content_type, size=len(rendered.data))
        except MediaError as error:
            log.warning("variant.not_stored", variant=name, reason=error.slug)
            return False
        return True

    async def delete(self, name: Key, *, lasting: bool) -> None:
        """Let go of one rendition."""
        await self._store(lasting).delete(name)

    async def sweep(self, key: Key) -> AsyncIterator[Key]:
        """Remove all renditions of the original *key*, and give their names."""
        for store in (self._fleeting, self._lasting):
            async for variant in store.list(keys.variants_prefix(key)):
                yield variant.key
                await store.delete(variant.key)

    def _store(self, lasting: bool) -> Backend:
        return self._lasting if lasting else self._fleeting


async def _whole(data: bytes) -> AsyncIterator[bytes]:
    yield data

"""A body from another media proxy, gone on with where it broke off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

import structlog
from aiohttp import ClientResponse

from proxy.errors import NotFound, PreconditionFailed, RangeNotSatisfiable, Unavailable
from proxy.ports import ByteRange, ObjectMeta

FRUITFUL_BYTES = 1 << 20
PAUSES_S = (0.0, 0.2, 1.0)
"""Before each further try of a body that broke off; one that gave a MiB since the last break begins anew."""

log = structlog.get_logger(__name__)


class Resumable(Protocol):
    """What a download needs of its store."""

    @property
    def name(self) -> str: ...

    async def resume(self, meta: ObjectMeta, at: int, stop: int) -> ClientResponse: ...

    async def chunk(self, response: ClientResponse) -> bytes: ...


class Download:
    """A body on its way here, over one answer or, where that breaks off, several of the same version."""

    def __init__(self, remote: Resumable, meta: ObjectMeta, span: ByteRange | None, response: ClientResponse) -> None:
        self._remote = remote
        self._meta = meta
        self._span = span or ByteRange(0, meta.size)
        self._response: ClientResponse | None = response

    async def chunks(self) -> AsyncIterator[bytes]:
        """Exactly the bytes of the span, or Unavailable."""
        at, stop = self._span.start, self._span.stop or 0
        begun, tries = at, 0
        while at < stop:
            try:
                chunk = await self._next(at, stop)
            except Unavailable as failure:
                await self.close()
                tries = 0 if at - begun >= FRUITFUL_BYTES else tries
                if tries == len(PAUSES_S):
                    raise
                log.info("store.resumed", store=self._remote.name, at=at, reason=repr(failure.__cause__ or failure)[:200])
                await asyncio.sleep(PAUSES_S[tries])
                begun, tries = at, tries + 1
                continue
            except (NotFound, PreconditionFailed, RangeNotSatisfiable) as error:
                raise Unavailable("the object was changed while it was read") from error
            at += len(chunk)
            yield chunk

    async def _next(self, at: int, stop: int) -> bytes:
        if self._response is None:
            self._response = await self._remote.resume(self._meta, at, stop)
        chunk = await self._remote.chunk(self._response)
        if not chunk or at + len(chunk) > stop:
            raise Unavailable("the store gave another number of bytes than it had promised")
        return chunk

    async def close(self) -> None:
        """Let go of the connection."""
        if self._response is not None:
            self._response.close()
            self._response = None

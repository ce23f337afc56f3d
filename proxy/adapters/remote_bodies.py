"""Bodies between two media proxies: one that is sent when it is asked for, one that is gone on with where it broke off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
from aiohttp import ClientResponse

from proxy.adapters.staging import Intake
from proxy.errors import NotFound, PreconditionFailed, RangeNotSatisfiable, Unavailable
from proxy.ports import ByteRange, ObjectMeta

FRUITFUL_BYTES = 1 << 20
PAUSES_S = (0.0, 0.2, 1.0)
"""Before each further try of a body that broke off; one that gave a MiB since the last break begins anew."""
SETTLING_S = 5.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds to connect, until a body is asked for (100 Continue), until an answer begins, between two of its chunks, and
    for a store to make a body that it has in full durable.
    """

    connect_s: float = 1.0
    ready_s: float = 3.0
    first_byte_s: float = 5.0
    progress_s: float = 10.0
    commit_s: float = 60.0


DEADLINES = Deadlines()


class Resumable(Protocol):
    """What a download needs of its store."""

    @property
    def name(self) -> str: ...

    async def resume(self, meta: ObjectMeta, at: int, stop: int) -> ClientResponse: ...

    async def chunk(self, response: ClientResponse) -> bytes: ...


class Sending:
    """Hands blocks from the task of the put, in which body and *admit* run, to that of the request, and keeps the time."""

    def __init__(self, deadlines: Deadlines) -> None:
        self.has_sent_all = False
        self._deadlines = deadlines
        self._is_asked_for = False
        self._block: bytes | bytearray | None = None
        self._offered = asyncio.Event()
        self._moved = asyncio.Event()

    async def body(self) -> AsyncIterator[bytes | bytearray]:
        """What the request sends; it is first read when the other side asks for it."""
        self._is_asked_for = True
        self._moved.set()
        while True:
            await self._offered.wait()
            self._offered.clear()
            block, self._block = self._block, None
            self._moved.set()
            if block is None:
                return
            yield block

    async def through(self, intake: Intake, request: asyncio.Task[ClientResponse]) -> ClientResponse:
        """Send it all; what body, *admit* and the request raise comes through, and Unavailable for what takes too long."""
        request.add_done_callback(lambda _: self._moved.set())
        await self._until(lambda: self._is_asked_for, request, self._deadlines.ready_s)
        async for block in intake.held_back():
            self._block = block
            self._offered.set()
            await self._until(lambda: self._block is None, request, self._deadlines.progress_s)
        self.has_sent_all = True
        self._offered.set()
        try:
            async with asyncio.timeout(self._deadlines.commit_s):
                return await request
        except TimeoutError:
            raise Unavailable("the store does not say that it has the body") from None

    async def _until(self, reached: Callable[[], bool], request: asyncio.Task[ClientResponse], within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                while not reached() and not request.done():
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            raise Unavailable("the store does not take the body") from None
        if request.done():
            request.result()
            raise Unavailable("the store answered before it had the body")


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


async def settled(request: asyncio.Task[ClientResponse]) -> None:
    """Wait for the end of *request*, which is called off if it still runs; nothing of it stays open."""
    request.cancel()
    await asyncio.wait({request}, timeout=SETTLING_S)
    if request.done() and not request.cancelled() and request.exception() is None:
        request.result().close()

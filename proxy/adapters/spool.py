"""Bodies on their way into one of several stores: kept in hand while they are small, so that a second store can be given them."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO

import structlog

from proxy.adapters.places import Attempt, Place
from proxy.ports import Body
from proxy.streams import sized

IN_HAND_BYTES = 8 << 20
"""The longest body that is kept until a store has it."""
MOST_BYTES = 256 << 20
"""Of the disk, for all bodies at a time. One more is streamed, and only as much as it had given is in hand."""
BLOCK = 1 << 18

log = structlog.get_logger(__name__)


class Feed:
    """Gives a body to a store under its *attempt*, whose deadline runs only while the store is at work, not while the sender is.

    *seconds* is how long the store may take between two signs of life. *fault* is what the sender raised, or the admission:
    that is never the store's failure.
    """

    def __init__(self, attempt: Attempt, seconds: float) -> None:
        self.fault: BaseException | None = None
        self._attempt = attempt
        self._seconds = seconds

    async def of(self, body: Body) -> AsyncIterator[bytes]:
        """Pass *body* on."""
        chunks = aiter(body)
        while True:
            with self.sender():
                try:
                    chunk = await anext(chunks)
                except StopAsyncIteration:
                    return
            yield chunk

    @contextmanager
    def sender(self) -> Iterator[None]:
        """What is done within is not the store's: neither its time nor its failure."""
        self._attempt.give(None)
        try:
            yield
        except BaseException as error:
            self.fault = error
            raise
        finally:
            self._attempt.give(self._seconds)


class NotTheStores(Exception):
    """Carries what the sender or the admission raised past the count of the store's failures."""

    def __init__(self, fault: BaseException) -> None:
        super().__init__()
        self.fault = fault


@asynccontextmanager
async def feeding(place: Place, first_s: float, seconds: float) -> AsyncIterator[Feed]:
    """For a put at *place*: it has *first_s* to ask for the body, then *seconds* for each step; raises NotTheStores."""
    async with place.attempt(first_s) as attempt:
        feed = Feed(attempt, seconds)
        try:
            yield feed
        except Exception:
            if feed.fault is not None:
                raise NotTheStores(feed.fault) from None
            raise


class Spool:
    """Room for beginnings of bodies: at most *most_bytes* on the disk in all, in nameless files in *folder*."""

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self.folder = folder
        self.free = most_bytes

    @asynccontextmanager
    async def hold(self, body: Body, size: int | None) -> AsyncIterator[Held]:
        """*body*, checked against its declared *size*; if that is short, or not known, it is taken in hand as far as may be."""
        held = Held(self, size)
        checked = sized(body, size)
        try:
            if size is not None and size > IN_HAND_BYTES:
                held.rest = checked
            else:
                await held.fill(checked)
            yield held
        finally:
            await held.release()


class Held:
    """A body whose beginning is in hand, in a file and up to a block in memory; *rest* gives what is not (None: all of it is)."""

    def __init__(self, spool: Spool, size: int | None) -> None:
        self.size = size
        self.fresh = True
        """Whether it can be read from its beginning: nothing of the rest was asked for."""
        self.rest: Body | None = None
        self._spool = spool
        self._file = _Scratch(spool.folder)
        self._reserved = 0
        self._written = 0
        self._tail = b""

    async def fill(self, body: Body) -> None:
        """Take *body* in hand, until its end, or IN_HAND_BYTES, or the end of the room."""
        gathered = bytearray()
        length = 0
        async for chunk in body:
            gathered += chunk
            length += len(chunk)
            if len(gathered) >= BLOCK and await self._kept(bytes(gathered)):
                gathered = bytearray()
            if length >= IN_HAND_BYTES or len(gathered) >= BLOCK:
                self.rest = body
                break
        self._tail = bytes(gathered)
        if self.rest is None:
            self.size = length

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body from its beginning; only while it is *fresh*."""
        at = 0
        while at < self._written and (block := await asyncio.to_thread(self._file.read, at)):
            at += len(block)
            yield block
        if self._tail:
            yield self._tail
        if self.rest is not None:
            self.fresh = False
            async for chunk in self.rest:
                yield chunk

    async def release(self) -> None:
        """Give the room back."""
        self._spool.free += self._reserved
        if self._reserved:
            self._reserved = 0
            await asyncio.shield(asyncio.to_thread(self._file.close))

    async def _kept(self, block: bytes) -> bool:
        """Whether there was room for *block* on the disk."""
        if self._spool.free < len(block):
            return False
        self._spool.free -= len(block)
        self._reserved += len(block)
        try:
            await asyncio.to_thread(self._file.write, block)
        except OSError as error:
            log.warning("spool.failed", error=error.strerror)
            return False
        self._written += len(block)
        return True


class _Scratch:
    """A file without a name, made by the first write. A thread whose caller has left may come after the close: hence the lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._length = 0
        self._closed = False
        self._file: IO[bytes] | None = None

    def write(self, data: bytes) -> None:
        with self._lock:
            if self._closed:
                return
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - closed by close()
            self._file.seek(self._length)
            at = 0
            while at < len(data):
                at += self._file.write(data[at:])
            self._length += len(data)

    def read(self, at: int) -> bytes:
        with self._lock:
            if self._file is None or self._closed:
                return b""
            self._file.seek(at)
            return self._file.read(min(BLOCK, self._length - at))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._file is not None:
                self._file.close()

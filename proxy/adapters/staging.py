"""Bodies on their way to a store far away: counted, hashed, and kept in a file on this machine until they are admitted."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar

import structlog

from proxy import generations
from proxy.errors import StorageFull, Unavailable
from proxy.keys import Key
from proxy.ports import Admit, Body, ObjectMeta, ObjectReader
from proxy.streams import sized

T = TypeVar("T")

BLOCK_BYTES = 1 << 17
"""A hop to a thread costs as much as hashing 64 KiB; larger blocks cost memory in every upload."""
TAIL_BYTES = 16 << 20
WHOLE_BYTES = 64 << 20
THREADS = 4
DEADLINE_S = 30.0
FRESH_S = 60.0
PREFIX = "staged-"
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

log = structlog.get_logger(__name__)


class Staging:
    """A folder for what is under way, and threads that hash and write it.

    Of a body that is to be admitted the first *whole_bytes* and the last *tail_bytes* are kept: all of a picture, and of a film
    the index, wherever it is, and the first frames. What lies between reads as zeros and takes no room.
    """

    def __init__(
        self, folder: Path, *, whole_bytes: int = WHOLE_BYTES, tail_bytes: int = TAIL_BYTES, deadline_s: float = DEADLINE_S
    ) -> None:
        self.folder = folder
        self.whole_bytes = whole_bytes
        self.tail_bytes = tail_bytes
        self._deadline_s = deadline_s
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="staging")

    async def __aenter__(self) -> Self:
        """Make the folder, and clear what dead processes left in it."""
        await self.run(self._sweep)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await asyncio.to_thread(self._threads.shutdown)

    def intake(
        self, body: Body, key: Key, content_type: str, *, store: str, etag: str, size: int | None, admit: Admit | None, md5: bool
    ) -> Intake:
        """*body* on its way to *store*; raises BadRequest from its blocks when it has not *size* bytes."""
        meta = ObjectMeta(key, size or 0, content_type, etag, generations.began(etag), None, store)
        return Intake(self, sized(body, size), meta, admit, size=size, md5=md5)

    async def run(
        self, work: Callable[..., T], *arguments: object, undo: Callable[[T], None] | None = None, surely: bool = False
    ) -> T:
        """What *work* gives, done in a thread and not broken off within: who is cancelled waits for its end.

        What comes too late goes to *undo*. Only what must *surely* be done is not called off while no thread is free.
        Raises StorageFull and Unavailable for what the disk says.
        """
        future = asyncio.wrap_future(submitted := self._threads.submit(work, *arguments))
        until = asyncio.get_running_loop().time() + self._deadline_s
        cancelled: asyncio.CancelledError | None = None
        while not future.done() and (left := until - asyncio.get_running_loop().time()) > 0:
            try:
                await asyncio.wait([future], timeout=left)
            except asyncio.CancelledError as error:
                cancelled = error
                if not surely:
                    submitted.cancel()
        if cancelled is not None or not future.done():
            future.add_done_callback(partial(_settle, undo))
        if cancelled is not None:
            raise cancelled
        if not future.done():
            log.error("staging.stuck", step=getattr(work, "__name__", ""))
            raise Unavailable("the folder for uploads under way does not answer")
        try:
            return future.result()
        except OSError as error:
            if error.errno in FULL:
                raise StorageFull("there is no room for uploads under way") from error
            log.error("staging.failed", error=error.strerror or repr(error))
            raise Unavailable("the folder for uploads under way cannot be written") from error

    def create(self) -> tuple[BinaryIO, Path]:
        """A new file with a name, locked for as long as it is open; blocking."""
        descriptor, name = tempfile.mkstemp(prefix=PREFIX, dir=self.folder)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return os.fdopen(descriptor, "w+b", buffering=0), Path(name)

    def create_nameless(self) -> BinaryIO:
        """A new file that is gone when it is closed; blocking."""
        return tempfile.TemporaryFile(dir=self.folder, buffering=0)

    def _sweep(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self.folder.glob(PREFIX + "*"):
            try:
                with path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if time.time() - path.stat().st_mtime > FRESH_S:  # younger ones may be about to be locked
                        path.unlink()
            except OSError:
                continue  # it belongs to somebody, or is gone


class Kept:
    """The bytes of one body in a sparse file: the first ones, and the last ones. All its methods block.

    Where the size is not known, the last ones go round in a second file until the end.
    """

    def __init__(self, staging: Staging, size: int | None) -> None:
        self.file, self.path = staging.create()
        self._whole_bytes = staging.whole_bytes
        self._tail_bytes = staging.tail_bytes
        self._tail_start = None if size is None else max(self._whole_bytes, size - self._tail_bytes)
        self._ring: BinaryIO | None = None
        self._new_ring = staging.create_nameless
        self._at = 0

    def write(self, block: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        view = memoryview(block)
        first = view[: max(0, self._whole_bytes - self._at)]
        _write_at(self.file, first, self._at)
        at, rest = self._at + len(first), view[len(first) :]
        self._at += len(view)
        if self._tail_start is not None:
            skipped = min(len(rest), max(0, self._tail_start - at))
            _write_at(self.file, rest[skipped:], at + skipped)
            return
        if rest and self._ring is None:
            self._ring = self._new_ring()
        while rest and self._ring is not None:
            place = at % self._tail_bytes
            piece = rest[: self._tail_bytes - place]
            _write_at(self._ring, piece, place)
            at, rest = at + len(piece), rest[len(piece) :]

    def finish(self) -> None:
        """Bring the file to its whole size, with the last bytes in their place."""
        self.file.truncate(self._at)
        if self._ring is not None:
            at = max(self._whole_bytes, self._at - self._tail_bytes)
            while at < self._at:
                place = at % self._tail_bytes
                piece = os.pread(self._ring.fileno(), min(BLOCK_BYTES, self._at - at, self._tail_bytes - place), place)
                _write_at(self.file, memoryview(piece), at)
                at += len(piece)

    @property
    def has_holes(self) -> bool:
        """Whether some bytes of the middle are missing."""
        return self._at > self._whole_bytes + self._tail_bytes

    def close(self) -> None:
        """Remove it all."""
        self.path.unlink(missing_ok=True)
        self.file.close()
        if self._ring is not None:
            self._ring.close()


class Intake:
    """One body that comes in, as an async context: read it through `held_back`, or through `blocks` and then call `admitted`.

    *size*, *sha256* and *md5* are of what has come so far.
    """

    def __init__(self, staging: Staging, body: Body, meta: ObjectMeta, admit: Admit | None, *, size: int | None, md5: bool) -> None:
        self.size = 0
        self._staging = staging
        self._body = body
        self._meta = meta
        self._admit = admit
        self._declared = size
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None
        self._kept: Kept | None = None

    @property
    def sha256(self) -> str:
        """Lower-case hex."""
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str | None:
        """Lower-case hex; None where it was not asked for."""
        return None if self._md5 is None else self._md5.hexdigest()

    async def __aenter__(self) -> Self:
        if self._admit is not None:
            self._kept = await self._staging.run(Kept, self._staging, self._declared, undo=Kept.close)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._kept is not None:
            await self._staging.run(self._kept.close, surely=True)

    async def blocks(self, also: Callable[[bytearray], None] | None = None) -> AsyncIterator[bytearray]:
        """The body in blocks of 128 KiB or a chunk more. A thread hashes and keeps each, and gives it to *also*, before."""
        gathered = bytearray()
        async for chunk in self._body:
            gathered += chunk
            if len(gathered) >= BLOCK_BYTES:
                await self._take(gathered, also)
                yield gathered
                gathered = bytearray()
        if gathered:
            await self._take(gathered, also)
            yield gathered

    async def held_back(self) -> AsyncIterator[bytearray]:
        """`blocks`, of which the last comes only when the body has ended well and is `admitted`."""
        held: bytearray | None = None
        async for block in self.blocks():
            if held is not None:
                yield held
            held = block
        await self.admitted()
        if held is not None:
            yield held

    async def admitted(self) -> None:
        """Show what came to *admit*, where there is one; the object must not be visible yet. What it raises comes through."""
        if self._admit is None:
            return
        kept = self._kept
        assert kept is not None
        await self._staging.run(kept.finish)
        await self._admit(self._reader(kept))

    async def _take(self, block: bytearray, also: Callable[[bytearray], None] | None) -> None:
        self.size += len(block)
        await self._staging.run(self._work, block, also)

    def _work(self, block: bytearray, also: Callable[[bytearray], None] | None) -> None:
        self._sha256.update(block)
        if self._md5 is not None:
            self._md5.update(block)
        if self._kept is not None:
            self._kept.write(block)
        if also is not None:
            also(block)

    def _reader(self, kept: Kept) -> ObjectReader:
        """The staged object. One with holes is for those who look at the file: it does not go out as if it were whole."""

        async def chunks() -> AsyncIterator[bytes]:
            if kept.has_holes:
                raise Unavailable("only the beginning and the end of the body are still here")
            at = 0
            while chunk := await self._staging.run(partial(os.pread, kept.file.fileno(), BLOCK_BYTES, at)):
                at += len(chunk)
                yield chunk

        meta = self._meta
        staged = ObjectMeta(meta.key, self.size, meta.content_type, meta.etag, meta.modified, self.sha256, meta.store)
        return ObjectReader(staged, chunks(), file=kept.file, path=kept.path)


def _write_at(file: BinaryIO, data: memoryview, at: int) -> None:
    while data:
        written = os.pwrite(file.fileno(), data, at)
        at, data = at + written, data[written:]


def _settle(undo: Callable[[T], None] | None, ended: asyncio.Future[T]) -> None:
    # The result of a step that nobody waits for any more.
    if not ended.cancelled() and ended.exception() is None and undo is not None:
        undo(ended.result())

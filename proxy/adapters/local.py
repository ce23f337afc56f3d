"""Objects on a local disk: crash safe, each visible whole or not at all. What lies where is told in `objects`."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar

import structlog

from proxy import generations
from proxy.adapters.disk import Damaged, Record, Steps
from proxy.adapters.locks import KeyLocks, LockFile, place_of
from proxy.adapters.objects import Objects, Staged
from proxy.adapters.root import claim
from proxy.errors import NotFound, StorageFull, Unavailable
from proxy.keys import Key
from proxy.ports import Admit, Body, ByteRange, Listed, ObjectMeta, ObjectReader
from proxy.streams import sized

T = TypeVar("T")

THREADS = 8
DEADLINE_S = 30.0
WRITE_BYTES = 1 << 18
READ_BYTES = 1 << 18
LIST_BATCH = 256
DIGEST_CHARS = 64
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

log = structlog.get_logger(__name__)


class LocalBackend:
    """A store in the folder *root*, which it locks. With *durable* off nothing is synced: for what can be made again.

    A *shared* one is not locked: the processes of one service use it, beneath the lock of the one that has started them.

    The disk works in threads of its own, and each step of it has *deadline_s* seconds. A put that is cancelled, or too slow,
    while it commits is undone; only when the commit has just come to its end it is too late, and the object is there.
    """

    def __init__(
        self,
        root: Path,
        *,
        name: str = "local",
        durable: bool = True,
        shared: bool = False,
        deadline_s: float = DEADLINE_S,
        steps: Steps | None = None,
    ) -> None:
        self.name = name
        self._root = root
        self._steps = steps or Steps(durable=durable)
        self._objects = Objects(root, self._steps)
        self._deadline_s = deadline_s
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=f"store-{name}")
        self._between = LockFile(root / "keys.lock") if shared else None
        # The threads keep to one change of a key too; waiting here, none of them is taken up.
        self._locks = KeyLocks(deadline_s, self._between)
        self._claim: int | None = None

    async def __aenter__(self) -> Self:
        """Take possession of the folder and clear what the last process left open in it; raises StartError."""
        try:
            if self._between is not None:
                self._between.open()
                return self
            self._claim = await asyncio.to_thread(claim, self._root, self._steps)
            with self._translated():
                await asyncio.to_thread(self._objects.sweep)
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._leave()

    async def _leave(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        if self._between is not None:
            self._between.close()
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    async def head(self, key: Key) -> ObjectMeta:
        """The record's; raises NotFound."""
        with self._translated(), _missing():
            return (await self._step(self._objects.head, key)).meta(self.name)

    async def open(self, key: Key, span: ByteRange | None = None) -> ObjectReader:
        """The object as it is now; an overwrite or a delete does not touch what is open."""
        with self._translated(), _missing():
            record, file, path = await self._step(self._objects.open, key, undo=lambda opened: opened[1].close())
        try:
            return self._reader(record.meta(self.name), file, path, None if span is None else span.within(record.size), owned=True)
        except BaseException:
            file.close()
            raise

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
        """Write and hash, sync, *admit*, commit."""
        etag = etag or generations.mint()
        with self._translated():
            staged = await self._step(self._objects.stage, key, undo=self._objects.unstage)
        try:
            taken, digest = await self._take(staged, sized(body, size))
            if admit is not None:
                meta = ObjectMeta(key, taken, content_type, etag, generations.began(etag), digest, self.name)
                await admit(self._reader(meta, staged.file, staged.path, None, owned=False))
            with self._translated():
                async with self._locks.alone(key):
                    record = await self._step(self._objects.commit, staged, taken, digest, content_type, etag, late=staged)
        except BaseException:
            await self._step(self._objects.unstage, staged, surely=True)
            raise
        staged.file.close()
        return record.meta(self.name)

    async def delete(self, key: Key) -> None:
        """Remove the object; idempotent."""
        with self._translated():
            async with self._locks.alone(key):
                await self._step(self._objects.remove, key)

    async def list(self, prefix: str = "") -> AsyncIterator[Listed]:
        """All with *prefix*; one that ends within the first segment of keys reads every record there is.

        Raises Unavailable at the end if there were damaged ones.
        """
        records = self._objects.records(prefix)
        try:
            with self._translated():
                while batch := await self._step(lambda: tuple(islice(records, LIST_BATCH))):
                    for record in batch:
                        yield Listed(Key(record.key), record.size, generations.began(record.etag))
        finally:
            records.close()

    async def by_use(self) -> AsyncIterator[tuple[float, Listed]]:
        """All objects, each with the time of its data's file, in seconds; damaged ones are left out."""
        records = self._objects.records("")

        def some() -> tuple[tuple[float, Record], ...]:
            return tuple((self._objects.last_use(record), record) for record in islice(records, LIST_BATCH))

        try:
            with self._translated():
                while batch := await self._step(some):
                    for used, record in batch:
                        yield used, Listed(Key(record.key), record.size, generations.began(record.etag))
        finally:
            records.close()

    async def last_use(self, key: Key) -> float:
        """The time of its data's file, in seconds; 0 where there is none."""
        with self._translated():
            try:
                return await self._step(lambda: self._objects.last_use(self._objects.head(key)))
            except FileNotFoundError:
                return 0.0

    async def clear(self, lives: Callable[[int], bool]) -> None:
        """Finish or undo what processes have left that do not *live* any more, while others work; of a shared store."""
        with self._translated():
            for leftover in await self._step(self._objects.leftovers, lives):
                digest = [*leftover.name.split("."), ""][1]
                if len(digest) == DIGEST_CHARS:  # else a probe's, which takes it away itself
                    async with self._locks.alone_at(place_of(digest)):
                        await self._step(self._objects.settle, leftover, surely=True)

    async def ping(self) -> None:
        """Raise Unavailable if a write would not work now."""
        try:
            with self._translated():
                await self._step(self._objects.probe)
        except StorageFull as error:
            raise Unavailable("the store has no room") from error

    async def _step(
        self,
        work: Callable[..., T],
        *arguments: object,
        undo: Callable[[T], None] | None = None,
        late: Staged | None = None,
        surely: bool = False,
    ) -> T:
        """What *work* gives, done in a thread, and not broken off within: nothing may be cleaned up under a running step.

        Who is cancelled waits for its end. If it comes too late, what it has opened goes to *undo*, and *late* is abandoned.
        Only work that must *surely* be done is not called off while it waits for a thread.
        """
        submitted = self._threads.submit(work, *arguments)
        future = asyncio.wrap_future(submitted)

        def call_off() -> None:
            if late is not None:
                late.abandoned = True
            future.add_done_callback(lambda ended: _settle(ended, undo))
            if not surely:
                submitted.cancel()

        try:
            await asyncio.wait([future], timeout=self._deadline_s)
        except asyncio.CancelledError:
            call_off()
            await self._end_of(future)
            raise
        if not future.done():
            call_off()
            log.error("store.stuck", store=self.name, step=getattr(work, "__name__", ""))
            raise Unavailable("the store does not answer")
        return future.result()

    async def _end_of(self, future: asyncio.Future[T]) -> None:
        until = asyncio.get_running_loop().time() + self._deadline_s
        while not future.done() and (left := until - asyncio.get_running_loop().time()) > 0:
            try:
                await asyncio.wait([future], timeout=left)
            except asyncio.CancelledError:
                continue  # it is being cancelled already

    async def _take(self, staged: Staged, body: Body) -> tuple[int, str]:
        # Small chunks are gathered: a hop to a thread costs as much as writing 64 KiB. Not in a list, since a list of many
        # tiny chunks takes fifty times their bytes.
        digest = hashlib.sha256()
        size = 0

        def write(data: bytes | bytearray, *, last: bool = False) -> None:
            digest.update(data)
            self._objects.write(staged, data, last=last)

        gathered = bytearray()
        async for chunk in body:
            size += len(chunk)
            if not gathered and len(chunk) >= WRITE_BYTES:
                with self._translated():
                    await self._step(write, chunk)
                continue
            gathered += chunk
            if len(gathered) >= WRITE_BYTES:
                with self._translated():
                    await self._step(write, gathered)
                gathered = bytearray()
        with self._translated():
            await self._step(lambda: write(gathered, last=True))
        return size, digest.hexdigest()

    def _reader(self, meta: ObjectMeta, file: BinaryIO, path: Path, span: ByteRange | None, *, owned: bool) -> ObjectReader:
        async def chunks() -> AsyncIterator[bytes]:
            at, stop = (0, meta.size) if span is None else (span.start, span.stop or 0)
            while at < stop:
                with self._translated():
                    chunk = await self._step(os.pread, file.fileno(), min(READ_BYTES, stop - at), at)
                    if not chunk:
                        raise Damaged(f"the data {path.name} is shorter than its record says")
                at += len(chunk)
                yield chunk

        async def close() -> None:
            if os.fstat(file.fileno()).st_nlink:
                file.close()
            else:  # the last one who has it: to free gigabytes takes the disk a while
                await self._step(file.close, surely=True)

        return ObjectReader(meta, chunks(), span, file, path, closing=close if owned else None)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except Damaged as error:
            log.error("store.damaged", store=self.name, error=str(error))
            raise Unavailable("the stored object is damaged") from error
        except OSError as error:
            if error.errno in FULL:
                raise StorageFull("the store has no room for the body") from error
            log.error("store.failed", store=self.name, error=error.strerror or repr(error))
            raise Unavailable("the store does not answer") from error


@contextmanager
def _missing() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound("no object has this key") from error


def _settle(ended: asyncio.Future[T], undo: Callable[[T], None] | None) -> None:
    # The result of a step that nobody waits for any more; its failure has been answered for.
    if not ended.cancelled() and ended.exception() is None and undo is not None:
        undo(ended.result())

"""Objects on a local disk: crash safe, each visible whole or not at all. What lies where is told in `disk`."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar

import structlog

from proxy.adapters.disk import Folder, Record, Steps
from proxy.errors import NotFound, StorageFull, Unavailable
from proxy.keys import Key
from proxy.ports import Admit, Body, ByteRange, ObjectMeta, ObjectReader

T = TypeVar("T")

THREADS = 8
WRITE_BYTES = 1 << 18
READ_BYTES = 1 << 18
LIST_BATCH = 256
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

log = structlog.get_logger(__name__)


class LocalBackend:
    """A store in the folder *root*, which it locks. With *durable* off nothing is synced: for what can be made again.

    A put that is cancelled while it commits is cancelled too late: the object is there.
    """

    def __init__(self, root: Path, *, name: str = "local", durable: bool = True, steps: Steps | None = None) -> None:
        self.name = name
        self._folder = Folder(root, steps or Steps(durable=durable))
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=f"store-{name}")
        self._locks: dict[Key, tuple[asyncio.Lock, int]] = {}

    async def __aenter__(self) -> Self:
        """Open the folder; raises StartError."""
        await self._step(self._folder.start)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._threads.shutdown()
        self._folder.stop()

    async def head(self, key: Key) -> ObjectMeta:
        """The record's; raises NotFound."""
        with self._translated():
            return (await self._step(self._folder.read, key)).meta

    async def open(self, key: Key, span: ByteRange | None = None) -> ObjectReader:
        """The object as it is now; an overwrite or a delete does not touch what is open."""
        with self._translated():
            record, file, path = await self._step(self._folder.open, key, undo=lambda opened: opened[1].close())
        try:
            return self._reader(record.meta, file, path, None if span is None else span.within(record.size))
        except BaseException:
            file.close()
            raise

    async def put(self, key: Key, body: Body, content_type: str, admit: Admit | None = None) -> ObjectMeta:
        """Write and hash, sync, *admit*, commit."""
        with self._translated():
            generation, file, path = await self._step(self._folder.stage, undo=lambda staged: self._folder.unstage(*staged[1:]))
        try:
            size, digest = await self._take(file, body)
            record = Record(generation, key, size, digest, content_type, time.time_ns())
            if admit is not None:
                await admit(self._reader(record.meta, file, path, None, closing=False))
            with self._translated():
                async with self._locked(key):
                    await self._step(self._folder.commit, record)
            return record.meta
        finally:
            await self._step(self._folder.unstage, file, path)

    async def delete(self, key: Key) -> None:
        """Remove the object; idempotent."""
        with self._translated():
            async with self._locked(key):
                await self._step(self._folder.remove, key)

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectMeta]:
        """All with *prefix*; one that ends within the first segment of keys reads every record there is."""
        records = self._folder.records(prefix)
        while batch := await self._step(lambda: tuple(islice(records, LIST_BATCH))):
            for record in batch:
                yield record.meta

    async def ping(self) -> None:
        """Raise Unavailable or StorageFull if a write would not work now."""
        with self._translated():
            await self._step(self._folder.probe)

    async def _step(self, work: Callable[..., T], *arguments: object, undo: Callable[[T], None] | None = None) -> T:
        # In a thread of ours. A cancelled caller waits for its end: nothing may be cleaned up under a running step, and what
        # the step has opened is given to *undo*.
        future = asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            if future.exception() is None and undo is not None:
                undo(future.result())
            raise

    async def _take(self, file: BinaryIO, body: Body) -> tuple[int, str]:
        # Small chunks are gathered: a hop to a thread costs as much as writing 64 KiB.
        digest = hashlib.sha256()

        def write(chunks: tuple[bytes, ...]) -> None:
            data = b"".join(chunks)
            digest.update(data)
            self._folder.write(file, data)

        size = held = 0
        waiting: list[bytes] = []
        async for chunk in body:
            waiting.append(chunk)
            held += len(chunk)
            size += len(chunk)
            if held >= WRITE_BYTES:
                with self._translated():
                    await self._step(write, tuple(waiting))
                waiting.clear()
                held = 0
        with self._translated():
            await self._step(write, tuple(waiting))
            await self._step(self._folder.sync, file)
        return size, digest.hexdigest()

    def _reader(
        self, meta: ObjectMeta, file: BinaryIO, path: Path, span: ByteRange | None, *, closing: bool = True
    ) -> ObjectReader:
        async def chunks() -> AsyncIterator[bytes]:
            at, stop = (0, meta.size) if span is None else (span.start, span.stop or 0)
            while at < stop:
                with self._translated():
                    chunk = await self._step(os.pread, file.fileno(), min(READ_BYTES, stop - at), at)
                if not chunk:
                    raise Unavailable("the stored object is shorter than its record says")
                at += len(chunk)
                yield chunk

        async def close() -> None:
            file.close()

        return ObjectReader(meta, chunks(), span, file, path, closing=close if closing else None)

    @asynccontextmanager
    async def _locked(self, key: Key) -> AsyncIterator[None]:
        lock, users = self._locks.get(key) or (asyncio.Lock(), 0)
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            users = self._locks[key][1] - 1
            if users:
                self._locks[key] = (lock, users)
            else:
                del self._locks[key]

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise NotFound("no object has this key") from error
        except OSError as error:
            if error.errno in FULL:
                raise StorageFull("the store has no room for the body") from error
            log.error("store.failed", store=self.name, error=error.strerror or repr(error))
            raise Unavailable("the store does not answer") from error

"""Pictures made by worker processes, here or far: the port over a pool, which wants a file where the store may have none.

A film in a far store is not fetched: its file has holes, which are filled as a worker comes to them (`processors.sparse`).
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import structlog

from processors import tracing
from processors.batch import Batch
from processors.errors import Busy, Crashed, MediaError
from processors.pool import File, Workers
from processors.sparse import Sparse
from processors.values import Inspected
from proxy.errors import Unavailable
from proxy.ports import Body, ByteRange, CleanBody, ObjectReader

log = structlog.get_logger(__name__)

CHUNK_BYTES = 1 << 16
UPLOAD_WAIT_S = 30.0
"""An upload has come in whole when its file is looked at: waiting is cheaper than having it sent again."""


class PoolRenderer:
    """Renders in the worker processes of *pool*, wherever they are.

    A source that is no file of this machine is written to *spool* first. At most as many lie there at a time as *pool* has places:
    beyond them callers are told Busy.
    """

    def __init__(self, pool: Workers, spool: Path) -> None:
        self._pool = pool
        self._spool = spool
        self._sources = 0
        self._drawings = 0

    @property
    def places(self) -> int:
        """How many jobs there may be at one time, in work and waiting."""
        return self._pool.places

    @property
    def is_idle(self) -> bool:
        """Whether no worker has anything to do."""
        return self._pool.is_idle

    async def inspect(self, source: ObjectReader) -> Inspected:
        """What the file is, decoded once from end to end."""
        async with self._file_of(source) as path:
            with tracing.span("inspect"):
                return await self._pool.inspect(path, whole=True, wait_s=UPLOAD_WAIT_S)

    async def render(self, source: ObjectReader, batch: Batch) -> None:
        """Answer those in *batch*; what keeps all of them from being made is raised."""
        began = time.perf_counter()
        async with self._file_of(source) as path:
            batch.spent("fetch", time.perf_counter() - began)
            with tracing.span("render"):
                await self._pool.render(path, batch)

    @asynccontextmanager
    async def cleaned(self, body: Body, *, must: bool = True) -> AsyncIterator[CleanBody]:
        """A drawing without what could act, a picture in fewer bytes. It lies in the spool, beside sources and as many as they."""
        if self._drawings >= self._pool.places:
            raise Busy
        self._drawings += 1
        try:
            with (
                tempfile.NamedTemporaryFile(dir=self._spool, buffering=0) as came,
                tempfile.NamedTemporaryFile(dir=self._spool, buffering=0) as changed,
            ):
                await _fill(came, body)
                data = await self._clean(Path(came.name), must=must)
                if data is None:
                    yield CleanBody(_again(came), came.tell(), is_changed=False)
                    return
                await _fill(changed, _one(data))
                yield CleanBody(_again(changed), changed.tell(), is_changed=True, before=_again(came))
        finally:
            self._drawings -= 1

    async def _clean(self, path: Path, *, must: bool) -> bytes | None:
        try:
            with tracing.span("clean"):
                return (await self._pool.clean(path, wait_s=UPLOAD_WAIT_S)).data
        except MediaError as error:
            if must:
                raise
            log.info("upload.not_optimised", reason=error.slug)
            return None

    @asynccontextmanager
    async def _file_of(self, source: ObjectReader) -> AsyncIterator[File]:
        if source.path is not None:
            try:
                yield source.path
            except FileNotFoundError as error:
                raise Unavailable("the object was overwritten at this moment", retry_after_s=1) from error
            return
        if self._sources >= self._pool.places:
            raise Busy
        self._sources += 1
        try:
            with tempfile.NamedTemporaryFile(dir=self._spool, buffering=0) as spooled:
                await _fill(spooled, aiter(source))
                yield Path(spooled.name) if source.parts is None else await _holed(spooled, source)
        finally:
            self._sources -= 1


async def _holed(spooled: IO[bytes], source: ObjectReader) -> Sparse:
    parts, size, there = source.parts, source.meta.size, spooled.tell()
    assert parts is not None
    spooled.truncate(size)

    async def fill(start: int, stop: int) -> None:
        if not 0 <= start < stop <= size:
            raise Crashed("the decoder fails on this file")
        async with await parts(ByteRange(start, stop)) as part:
            async for chunk in part:
                await _written(spooled, chunk, start)
                start += len(chunk)
        if start != stop:
            raise Unavailable("the store sent fewer bytes than it was asked for")

    return Sparse(Path(spooled.name), size, there, fill)


async def _written(spooled: IO[bytes], chunk: bytes, start: int) -> None:
    try:
        await asyncio.to_thread(os.pwrite, spooled.fileno(), chunk, start)
    except OSError as error:
        raise Unavailable("there is no room to look at the object") from error


async def _fill(spooled: IO[bytes], body: Body) -> None:
    async for chunk in body:
        try:
            await asyncio.to_thread(spooled.write, chunk)
        except OSError as error:
            raise Unavailable("there is no room to look at the object") from error


async def _again(spooled: IO[bytes]) -> AsyncIterator[bytes]:
    spooled.seek(0)
    while chunk := await asyncio.to_thread(spooled.read, CHUNK_BYTES):
        yield chunk


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data

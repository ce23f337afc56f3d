"""One pool of workers for several processes of a machine: `PoolListener` where it is, `PoolClient` for all others.

Each job has a connection of its own, whose end calls it off. A further one tells how the pool is, whenever that changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from processors import framing
from processors.batch import Batch
from processors.conversation import FarBatch, Fill, answer, render, revived, serve
from processors.errors import Busy
from processors.framing import Broken, Words
from processors.pool import File, Pool, named
from processors.sparse import Sparse
from processors.values import Cleaned, Inspected

LOOK_S = 0.1
"""How often the pool is looked at for those who ask how it is."""
PAUSE_S = 0.2
START_S = 15.0
CONNECT_S = 1.0
LONGEST_JOB_S = 300.0
AWAY = "the picture workers are being started again"


class _SocketLine:
    """A conversation over a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def say(self, words: Words, data: bytes = b"") -> None:
        framing.put(self.writer, words, data)

    async def hear(self) -> tuple[Words, bytes]:
        return await framing.heard(self._reader)


class PoolListener:
    """Lets other processes use *pool* through the socket *path*. Enter it to begin."""

    def __init__(self, pool: Pool, path: Path) -> None:
        self._pool = pool
        self._path = path
        self._server: asyncio.Server | None = None
        self._jobs: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._connected, self._path, limit=framing.LIMIT_BYTES)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._jobs.add(task)
        try:
            line = _SocketLine(reader, writer)
            words, _ = await line.hear()
            await self._served(words, line)
        except (Broken, OSError, asyncio.CancelledError):
            pass  # who asked has gone, or we go; nobody waits for this task
        finally:
            self._jobs.discard(task)
            writer.close()

    async def _served(self, words: Words, line: _SocketLine) -> None:
        if words["do"] == "state":
            await self._tell_state(line.writer)
            return
        batch = FarBatch(line, in_background=bool(words.get("nice")))
        path = Path(words["path"])
        file = Sparse(path, words["bytes"], words["there"], batch.fill) if "bytes" in words else path
        await serve(self._pool, words, file, batch, line, batch.listen())
        await line.writer.drain()

    async def _tell_state(self, writer: asyncio.StreamWriter) -> None:
        told: dict[str, Any] = {}
        while not writer.is_closing():
            state: dict[str, Any] = {"idle": self._pool.is_idle}
            with suppress(Busy, TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    state["capabilities"] = await self._pool.capabilities()
            if state != told:
                framing.put(writer, state)
                await writer.drain()
                told = state
            await asyncio.sleep(LOOK_S)


class PoolClient:
    """The pool behind the socket *path*, with what a `Pool` offers; *places* are those it has. Busy while nobody is there."""

    def __init__(self, path: Path, places: int) -> None:
        self._path = path
        self._state: dict[str, Any] = {}
        self._is_up = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._places = places
        self.running = 0
        """jobs that this process has there, in work and waiting"""

    async def __aenter__(self) -> Self:
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._watching is not None
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)

    @property
    def places(self) -> int:
        """As `Pool.places`."""
        return self._places

    @property
    def is_idle(self) -> bool:
        """Whether there are workers and none has anything to do."""
        return bool(self._state.get("idle"))

    async def capabilities(self) -> dict[str, Any]:
        """As `Pool.capabilities`."""
        try:
            async with asyncio.timeout(START_S):
                await self._is_up.wait()
        except TimeoutError:
            raise Busy("no worker process starts") from None
        return dict(self._state.get("capabilities") or {})

    async def inspect(self, path: File, whole: bool = False, *, wait_s: float | None = None) -> Inspected:
        """As `Pool.inspect`."""
        answer, _ = await self._asked({"do": "inspect", **named(path), "whole": whole, "wait_s": wait_s}, path)
        return Inspected(**answer["inspected"])

    async def clean(self, path: Path, *, wait_s: float | None = None) -> Cleaned:
        """As `Pool.clean`."""
        answer, data = await self._asked({"do": "clean", **named(path), "wait_s": wait_s}, path)
        return Cleaned(data if answer["cleaned"] else None)

    async def render(self, path: File, batch: Batch) -> None:
        """As `Pool.render`."""
        async with self._connected() as line:
            line.say({"do": "render", **named(path), "nice": batch.in_background})
            await render(line, batch, _filling(path))

    async def _asked(self, request: Words, file: File) -> tuple[Words, bytes]:
        async with self._connected() as line:
            line.say(request)
            words, data = await answer(line, _filling(file))
            if "failed" in words:
                raise revived(words)
            return words, data

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[_SocketLine]:
        self.running += 1
        try:
            try:
                async with asyncio.timeout(CONNECT_S):
                    reader, writer = await asyncio.open_unix_connection(self._path, limit=framing.LIMIT_BYTES)
            except (OSError, TimeoutError) as error:
                raise Busy(AWAY, retry_after_s=1) from error
            try:
                # The pool has deadlines for each step of a job; what fails here is a pool that does not answer at all.
                async with asyncio.timeout(LONGEST_JOB_S):
                    yield _SocketLine(reader, writer)
            except (Broken, TimeoutError) as error:
                raise Busy(AWAY, retry_after_s=1) from error
            finally:
                writer.close()
        finally:
            self.running -= 1

    async def _watch(self) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path, limit=framing.LIMIT_BYTES)
                try:
                    framing.put(writer, {"do": "state"})
                    while True:
                        self._state, _ = await framing.heard(reader)
                        if "capabilities" in self._state:
                            self._is_up.set()
                finally:
                    writer.close()
            except (Broken, OSError):
                self._state = {}
                self._is_up.clear()
            await asyncio.sleep(PAUSE_S)


def _filling(file: File) -> Fill:
    if not isinstance(file, Path):
        return file.fill

    async def whole(start: int, stop: int) -> None:
        raise Broken

    return whole

"""One pool of workers for several processes of a machine: `PoolListener` where it is, `PoolClient` for all others.

Each job has a connection of its own, whose end calls it off. A further one tells how the pool is, whenever that changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from processors import framing
from processors.batch import Batch
from processors.errors import BadParameter, Busy, Corrupt, Crashed, MediaError, TooCostly, Unsupported
from processors.framing import Broken
from processors.pool import File, Pool, named
from processors.sparse import Sparse
from processors.values import Cleaned, Inspected, Rendered

FAILURES: dict[str, type[MediaError]] = {
    kind.__name__: kind for kind in (BadParameter, Busy, Corrupt, Crashed, TooCostly, Unsupported, MediaError)
}
LOOK_S = 0.1
"""How often the pool is looked at for those who ask how it is."""
PAUSE_S = 0.2
START_S = 15.0
CONNECT_S = 1.0
LONGEST_JOB_S = 300.0
MOST_CHARS = 10_000
"""of what is told of a fault of ours"""
AWAY = "the picture workers are being started again"


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
            words, _ = await framing.heard(reader)
            await self._served(words, reader, writer)
        except (Broken, OSError, asyncio.CancelledError):
            pass  # who asked has gone, or we go; nobody waits for this task
        finally:
            self._jobs.discard(task)
            writer.close()

    async def _served(self, words: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if words["do"] == "state":
            await self._tell_state(writer)
            return
        batch = _FarBatch(writer, in_background=bool(words.get("nice")))
        job = asyncio.ensure_future(self._done(words, batch, writer))
        listening = asyncio.ensure_future(batch.listen(reader))
        try:
            await asyncio.wait([job, listening], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (job, listening):
                task.cancel()
            await asyncio.gather(job, listening, return_exceptions=True)

    async def _done(self, words: dict[str, Any], batch: _FarBatch, writer: asyncio.StreamWriter) -> None:
        path, data = batch.file_of(words), b""
        try:
            if words["do"] == "render":
                await self._pool.render(path, batch)  # type: ignore[arg-type]
                answer: dict[str, Any] = {"end": True}
            elif words["do"] == "clean":
                data = (await self._pool.clean(Path(words["path"]), wait_s=words["wait_s"])).data or b""
                answer = {"cleaned": bool(data)}
            else:
                answer = {"inspected": asdict(await self._pool.inspect(path, words["whole"], wait_s=words["wait_s"]))}
        except Exception as error:  # the root of a task: who has asked hears of it, and writes it down
            answer = _failure(error)
        framing.put(writer, answer, data)
        await writer.drain()

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


class _FarBatch:
    """A `Batch` whose people are in another process, as the pool sees it."""

    def __init__(self, writer: asyncio.StreamWriter, *, in_background: bool) -> None:
        self.in_background = in_background
        self._writer = writer
        self._texts: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self._open: dict[str, bool] = {}
        self._is_over = False
        self._is_here = asyncio.Event()

    def file_of(self, words: dict[str, Any]) -> File:
        """The file of a request, which the other side fills where it has holes."""
        path = Path(words["path"])
        return Sparse(path, words["bytes"], words["there"], self._fill) if "bytes" in words else path

    async def _fill(self, start: int, stop: int) -> None:
        self._is_here.clear()
        framing.put(self._writer, {"need": [start, stop]})
        await self._is_here.wait()

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Take in what the other side says, until it goes."""
        with suppress(Broken):
            while True:
                words, _ = await framing.heard(reader)
                if "texts" in words and not self._texts.done():
                    self._texts.set_result(words["texts"])
                elif "here" in words:
                    self._is_here.set()
                elif "left" in words:
                    self._answered(words["left"])

    @property
    def is_over(self) -> bool:
        return self._is_over

    async def gathered(self) -> None:
        framing.put(self._writer, {"gather": True})
        self._open = dict.fromkeys(await self._texts, True)
        self._is_over = not self._open

    def take(self) -> list[str]:
        return [text for text, is_open in self._open.items() if is_open]

    def wants(self, text: str) -> bool:
        return self._open[text]

    def spent(self, phase: str, seconds: float) -> None:
        framing.put(self._writer, {"spent": [phase, seconds]})

    def give(self, text: str, rendered: Rendered) -> None:
        head = [rendered.content_type, rendered.width, rendered.height, rendered.degraded, dict(rendered.seconds)]
        framing.put(self._writer, {"give": text, "rendered": head}, rendered.data)
        self._answered(text)

    def refuse(self, text: str, error: Exception) -> None:
        framing.put(self._writer, {"refuse": text, **_failure(error)})
        self._answered(text)

    def fail(self, error: Exception) -> None:
        for text in self.take():
            self.refuse(text, error)

    def _answered(self, text: str) -> None:
        self._open[text] = False
        self._is_over = not any(self._open.values())


class PoolClient:
    """The pool behind the socket *path*, with what a `Pool` offers; *places* are those it has. Busy while nobody is there."""

    def __init__(self, path: Path, places: int) -> None:
        self._path = path
        self._state: dict[str, Any] = {}
        self._is_up = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self.places = places
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
        async with self._connected() as (reader, writer):
            framing.put(writer, {"do": "render", **named(path), "nice": batch.in_background})
            while True:
                words, data = await _answer(reader, writer, path)
                if "gather" in words:
                    await batch.gathered()
                    framing.put(writer, {"texts": batch.take()})
                    batch.left = lambda text: framing.put(writer, {"left": text})
                elif "spent" in words:
                    batch.spent(*words["spent"])
                elif "give" in words:
                    content_type, width, height, degraded, seconds = words["rendered"]
                    batch.give(words["give"], Rendered(data, content_type, width, height, tuple(degraded), seconds))
                elif "refuse" in words:
                    batch.refuse(words["refuse"], _revived(words))
                elif "end" in words:
                    return
                else:
                    raise _revived(words)

    async def _asked(self, request: dict[str, Any], file: File) -> tuple[dict[str, Any], bytes]:
        async with self._connected() as (reader, writer):
            framing.put(writer, request)
            words, data = await _answer(reader, writer, file)
            if "failed" in words:
                raise _revived(words)
            return words, data

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
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
                    yield reader, writer
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


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, file: File) -> tuple[dict[str, Any], bytes]:
    while True:
        words, data = await framing.heard(reader)
        if "need" not in words or isinstance(file, Path):
            return words, data
        await file.fill(*words["need"])
        framing.put(writer, {"here": True})


def _failure(error: Exception) -> dict[str, Any]:
    if isinstance(error, FileNotFoundError):
        return {"failed": "gone"}
    if not isinstance(error, MediaError):
        return {"failed": "crashed", "detail": f"{type(error).__name__}: {error}"[:MOST_CHARS]}
    kind = type(error).__name__ if type(error).__name__ in FAILURES else "MediaError"
    return {"failed": kind, "detail": error.detail, "members": error.members}


def _revived(words: dict[str, Any]) -> Exception:
    if words["failed"] == "gone":
        return FileNotFoundError()
    if words["failed"] == "crashed":
        return RuntimeError(words["detail"])
    return FAILURES[words["failed"]](words["detail"], **words["members"])

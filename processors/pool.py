"""Bounded worker processes: how many run, how many wait, who is told Busy. Every look into a picture passes here.

Work is admitted by its estimated memory. A worker that is over its deadline is killed, one that crashes is replaced, and only
the caller that it worked for hears of it. The workers are plain child processes that speak over pipes, not pebble's pool:
there (5.2.3) a worker that dies idle breaks the pool for good, a kill waits three seconds for a handler that cannot run inside
a decoder while all others wait too, and multiprocessing's resource tracker costs 12 MiB.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from processors.errors import BadParameter, Busy, Corrupt, MediaError, TooCostly, Unsupported
from processors.transform import Transform
from processors.values import Inspected, Limits, Rendered

LIBVIPS_FLOOR = (8, 18)
START_S = 15.0
MAX_WORDS_BYTES = 1 << 16
MAX_RENDITION_BYTES = 256 << 20
PIPE_BYTES = 1 << 20
BACKOFF_S = (0.0, 0.5, 2.0, 10.0)
REFUSALS: dict[str, type[MediaError]] = {kind.__name__: kind for kind in (BadParameter, Unsupported, Corrupt, TooCostly)}
# The first words that a worker executes: its modules are ours, whatever the current folder is.
PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from processors.worker import main; main()"

log = logging.getLogger(__name__)


class WorkerDied(Exception):
    """A worker ended in the middle of a job, or spoke nonsense."""


class _NotBegun(Exception):
    """A worker ended before it had said what a job will take: another one may have the job, once."""


class _Worker:
    """One child process and its two pipes; `processors.worker` says what goes over them. At *rest* it has no job."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._requests = process.stdin
        self._answers = process.stdout
        self._is_at_rest = True
        self._retires = False

    @classmethod
    async def start(cls) -> _Worker:
        """A new child; it is ready when it has answered its first words."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-c", PROGRAM, str(Path(__file__).parents[1])),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=PIPE_BYTES,
        )
        return cls(process)

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    @property
    def is_free(self) -> bool:
        """Whether it may take another job."""
        return self.is_alive and self._is_at_rest and not self._retires

    async def ask(self, words: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Say *words*, hear the answer and the picture behind it; raises WorkerDied."""
        self._is_at_rest = False
        try:
            await self._say(words)
            size = int.from_bytes(await self._answers.readexactly(4), "big")
            if size > MAX_WORDS_BYTES:
                raise WorkerDied
            answer = json.loads(await self._answers.readexactly(size))
            length = int(answer.get("size", 0))
            if length > MAX_RENDITION_BYTES:
                raise WorkerDied
            data = await self._answers.readexactly(length) if length else b""
        except (OSError, EOFError, ValueError, AttributeError) as error:
            raise WorkerDied from error
        self._is_at_rest = "estimate" not in answer
        self._retires = bool(answer.get("retire"))
        return answer, data

    async def call_off(self) -> None:
        """Give up the job whose estimate was heard."""
        with contextlib.suppress(OSError):
            await self._say({"go": False})
            self._is_at_rest = True

    async def _say(self, words: dict[str, Any]) -> None:
        text = json.dumps(words).encode()
        self._requests.write(len(text).to_bytes(4, "big") + text)
        await self._requests.drain()

    def kill(self) -> None:
        """End it at once; further calls do nothing."""
        if self.is_alive:
            self._process.kill()

    async def ended(self) -> None:
        """Wait until it has ended."""
        await self._process.wait()
        self._requests.close()


class Pool:
    """Looks into pictures and renders them in *workers* processes.

    At most *queue_length* callers wait for a worker or for memory, each for *queue_wait_s* (seconds); the others are told
    Busy. Closing ends every worker at once. Where the system lets us, workers read no files but those in the folders
    *readable*; None leaves them all.
    """

    def __init__(
        self,
        limits: Limits,
        workers: int,
        queue_length: int,
        queue_wait_s: float = 2.0,
        *,
        readable: tuple[Path, ...] | None = None,
    ) -> None:
        self._limits = limits
        self._readable = None if readable is None else [str(folder.resolve()) for folder in readable]
        self._count = workers
        self._queue_length = queue_length
        self._queue_wait_s = queue_wait_s
        self._workers: set[_Worker] = set()
        self._idle: deque[_Worker] = deque()
        self._in_line: deque[asyncio.Future[_Worker]] = deque()
        self._for_memory: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._reserved = 0
        self._running = 0
        self._keepers: list[asyncio.Task[None]] = []
        self._hello: dict[str, Any] | None = None
        self._is_up = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._keepers = [asyncio.create_task(self._keep()) for _ in range(self._count)]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for waiting in self._in_line:
            if not waiting.done():
                waiting.set_exception(Busy("the service is stopping"))

    @property
    def workers(self) -> int:
        """How many worker processes there are."""
        return len(self._workers)

    @property
    def running(self) -> int:
        """How many jobs are in work."""
        return self._running

    @property
    def waiting(self) -> int:
        """How many callers wait for a worker or for memory."""
        return len(self._in_line) + len(self._for_memory)

    @property
    def reserved_bytes(self) -> int:
        """The estimated memory of the jobs in work."""
        return self._reserved

    async def capabilities(self) -> dict[str, Any]:
        """libvips' version, what is read and written, the largest picture per format in megapixels, how workers are confined.

        Raises Busy if no worker comes up.
        """
        try:
            async with asyncio.timeout(START_S):
                await self._is_up.wait()
        except TimeoutError:
            raise Busy("no worker process starts") from None
        return dict(self._hello or {})

    async def inspect(self, path: Path, whole: bool = False, *, wait_s: float | None = None) -> Inspected:
        """What the file is; *whole* decodes all of it once. Raises Unsupported, Corrupt, TooCostly, Busy, FileNotFoundError.

        *wait_s* seconds instead of *queue_wait_s* may pass until it begins.
        """
        answer, _ = await self._run({"do": "inspect", "path": str(path), "whole": whole}, wait_s)
        return Inspected(**answer["inspected"])

    async def render(self, path: Path, transform: Transform) -> Rendered:
        """What *transform*, a settled one, makes of the file. Raises as `inspect` does."""
        answer, data = await self._run({"do": "render", "path": str(path), "transform": transform.canonical})
        content_type, width, height, *degraded = answer["rendered"]
        return Rendered(data, content_type, width, height, tuple(degraded))

    async def _run(self, request: dict[str, Any], wait_s: float | None = None) -> tuple[dict[str, Any], bytes]:
        patience = max(wait_s or self._queue_wait_s, 0.0 if self._is_up.is_set() else START_S)
        until = asyncio.get_running_loop().time() + patience
        try:
            answer, data = await self._job(request, until)
        except _NotBegun:
            try:
                answer, data = await self._job(request, until)
            except _NotBegun as error:
                raise Corrupt("the decoder fails on this file") from error
        if "refused" in answer:
            raise REFUSALS[answer["refused"]](answer["detail"], **answer["members"])
        if "gone" in answer:
            raise FileNotFoundError
        if "crashed" in answer:
            raise RuntimeError(f"a worker raised\n{answer['crashed']}")
        return answer, data

    async def _job(self, request: dict[str, Any], until: float) -> tuple[dict[str, Any], bytes]:
        async with self._lease(until) as worker:
            try:
                answer, data = await self._heard(worker, request)
            except Corrupt as error:  # it may have died at rest, just before it was asked
                raise _NotBegun from error
            if "estimate" in answer:
                try:
                    memory = await self._reserve(answer["estimate"], until)
                except MediaError:
                    await worker.call_off()
                    raise
                try:
                    answer, data = await self._heard(worker, {"go": True})
                finally:
                    self._release(memory)
        return answer, data

    async def _heard(self, worker: _Worker, words: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        allowed = self._limits.deadline_s
        try:
            async with asyncio.timeout(allowed):
                return await worker.ask(words)
        except TimeoutError:
            raise TooCostly(f"it takes longer than {allowed:g} seconds", limit="seconds", allowed=allowed) from None
        except WorkerDied as error:
            raise Corrupt("the decoder fails on this file") from error

    # -- who may work: first a worker, then memory; both in the order of asking -------------------------------------------------

    @asynccontextmanager
    async def _lease(self, until: float) -> AsyncIterator[_Worker]:
        worker = await self._next_worker(until)
        self._running += 1
        try:
            yield worker
        finally:
            self._running -= 1
            if worker.is_free:
                self._offer(worker)
            else:  # late, broken, or its caller has gone
                worker.kill()

    async def _next_worker(self, until: float) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive:
                return worker
        self._check_queue()
        waiting: asyncio.Future[_Worker] = asyncio.get_running_loop().create_future()
        self._in_line.append(waiting)
        try:
            async with asyncio.timeout_at(until):
                return await waiting
        except TimeoutError:
            raise Busy("no worker became free in time") from None
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                self._offer(waiting.result())
            raise
        finally:
            if waiting in self._in_line:
                self._in_line.remove(waiting)

    def _offer(self, worker: _Worker) -> None:
        while self._in_line:
            waiting = self._in_line.popleft()
            if not waiting.done():
                waiting.set_result(worker)
                return
        self._idle.append(worker)

    async def _reserve(self, size: int, until: float) -> int:
        allowed = self._limits.budget_bytes
        if size > allowed:
            raise TooCostly("decoding it takes more memory than is allowed", limit="memory", allowed=allowed, actual=size)
        if self._for_memory or self._reserved + size > allowed:
            self._check_queue()
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            place = size, waiting
            self._for_memory.append(place)
            try:
                async with asyncio.timeout_at(until):
                    await waiting
            except BaseException as error:
                if waiting.done() and not waiting.cancelled():  # granted at the same moment
                    self._reserved -= size
                if place in self._for_memory:
                    self._for_memory.remove(place)
                self._grant()
                if isinstance(error, TimeoutError):
                    raise Busy("no memory became free in time") from None
                raise
        else:
            self._reserved += size
        return size

    def _release(self, size: int) -> None:
        self._reserved -= size
        self._grant()

    def _grant(self) -> None:
        while self._for_memory and self._reserved + self._for_memory[0][0] <= self._limits.budget_bytes:
            size, waiting = self._for_memory.popleft()
            if not waiting.done():
                self._reserved += size
                waiting.set_result(None)

    def _check_queue(self) -> None:
        if self.waiting >= self._queue_length:
            raise Busy("too many wait already")

    # -- keeping the workers ------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Hold one place: start a worker, wait for its end, start the next; slower after each that did not come up."""
        failures = 0
        while True:
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
            failures = 0 if await self._one_life() else failures + 1

    async def _one_life(self) -> bool:
        worker = await _Worker.start()
        self._workers.add(worker)
        try:
            async with asyncio.timeout(START_S):
                answer, _ = await worker.ask({"limits": asdict(self._limits), "readable": self._readable})
            if "hello" not in answer:
                log.error("a worker process cannot work: %s", answer.get("failed"))
                return False
            self._hello = answer["hello"]
            self._is_up.set()
            self._offer(worker)
            await worker.ended()
        except (TimeoutError, WorkerDied):
            log.error("a worker process does not start")
            return False
        finally:
            worker.kill()
            await asyncio.shield(asyncio.ensure_future(worker.ended()))
            self._workers.discard(worker)
            if worker in self._idle:
                self._idle.remove(worker)
        return True

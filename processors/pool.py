"""Bounded worker processes: how many run, how many wait, who is told Busy. Every look into a picture passes here.

Work is admitted by its estimated memory. A worker that is over its deadline is killed, one that crashes is replaced, and only
the caller that it worked for hears of it. The workers are plain child processes that speak over pipes, not pebble's pool:
there (5.2.3) a worker that dies idle breaks the pool for good, a kill waits three seconds for a handler that cannot run inside
a decoder while all others wait too, and multiprocessing's resource tracker costs 12 MiB.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from processors.batch import Batch
from processors.budget import Budget
from processors.child import Child, WorkerDied
from processors.errors import BadParameter, Busy, Corrupt, Crashed, MediaError, TooCostly, Unsupported
from processors.sparse import Sparse
from processors.values import Cleaned, Inspected, Limits, Rendered

START_S = 15.0
BACKOFF_S = (0.0, 0.5, 2.0, 10.0)
FILL_S = 60.0
"""for all parts of a file together that one answer needs"""
File = Path | Sparse
REFUSALS: dict[str, type[MediaError]] = {kind.__name__: kind for kind in (BadParameter, Busy, Unsupported, Corrupt, TooCostly)}

log = logging.getLogger(__name__)


class Workers(Protocol):
    """What a pool offers, be it here (`Pool`), in another process (`PoolClient`) or on other machines (`FarPool`)."""

    @property
    def places(self) -> int: ...

    @property
    def is_idle(self) -> bool: ...

    async def capabilities(self) -> dict[str, Any]: ...

    async def inspect(self, path: File, whole: bool = False, *, wait_s: float | None = None) -> Inspected: ...

    async def clean(self, path: Path, *, wait_s: float | None = None) -> Cleaned: ...

    async def render(self, path: File, batch: Batch) -> None: ...


class _NotBegun(Exception):
    """A worker ended before it had said what a job will take: another one may have the job, once."""


class Pool:
    """Looks into pictures and renders them in *workers* processes.

    At most *queue_length* callers wait for a worker or for memory, each for *queue_wait_s* (seconds); the others are told
    Busy. Closing ends every worker at once. Where the system lets us, workers read no files but those in the folders
    *readable*; None leaves them all. *lazily*: they are started when there is work for the first time.
    """

    def __init__(
        self,
        limits: Limits,
        workers: int,
        queue_length: int,
        queue_wait_s: float = 2.0,
        *,
        readable: tuple[Path, ...] | None = None,
        lazily: bool = False,
    ) -> None:
        self._limits = limits
        self._readable = None if readable is None else [str(folder.resolve()) for folder in readable]
        self._count = workers
        self._is_lazy = lazily
        self._queue_length = queue_length
        self._queue_wait_s = queue_wait_s
        self._workers: set[Child] = set()
        self._idle: deque[Child] = deque()
        self._in_line: deque[asyncio.Future[Child]] = deque()
        self._budget = Budget(limits.budget_bytes, self._check_queue)
        self._running = 0
        self._waits: dict[object, float] = {}
        self._keepers: list[asyncio.Task[None]] = []
        self._hello: dict[str, Any] | None = None
        self._is_up = asyncio.Event()

    async def __aenter__(self) -> Self:
        if not self._is_lazy:
            self._begin()
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
    def pids(self) -> list[int]:
        """The worker processes."""
        return [worker.pid for worker in self._workers]

    @property
    def running(self) -> int:
        """How many jobs are in work."""
        return self._running

    @property
    def waiting(self) -> int:
        """How many jobs wait for a worker or for memory."""
        return len(self._in_line) + self._budget.waiting

    @property
    def oldest_wait_s(self) -> float:
        """How long the job has waited for a worker or for memory that has waited longest."""
        since = next(iter(self._waits.values()), None)
        return 0.0 if since is None else asyncio.get_running_loop().time() - since

    @property
    def places(self) -> int:
        """How many jobs there may be at one time, in work and waiting."""
        return self._count + self._queue_length

    @property
    def is_idle(self) -> bool:
        """Whether there are workers and none has anything to do."""
        return bool(self._idle) and not self._running and not self.waiting

    @property
    def reserved_bytes(self) -> int:
        """The estimated memory of the jobs in work."""
        return self._budget.reserved

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

    def _begin(self) -> None:
        if not self._keepers:
            self._keepers = [asyncio.create_task(self._keep()) for _ in range(self._count)]

    async def inspect(self, path: Path | Sparse, whole: bool = False, *, wait_s: float | None = None) -> Inspected:
        """What the file is; *whole* decodes all of it once. Raises Unsupported, Corrupt, TooCostly, Busy, FileNotFoundError.

        *wait_s* seconds instead of *queue_wait_s* may pass until it begins.
        """
        answer, _ = await self._looked({"do": "inspect", **named(path), "whole": whole}, wait_s, path)
        return Inspected(**answer["inspected"])

    async def clean(self, path: Path, *, wait_s: float | None = None) -> Cleaned:
        """The drawing in the file without what could act; raises as `inspect` does."""
        answer, data = await self._looked({"do": "clean", **named(path)}, wait_s, path)
        return Cleaned(data if answer["cleaned"] else None)

    async def render(self, path: Path | Sparse, batch: Batch) -> None:
        """Make what *batch* asks of the file, from one decode where that can be, and answer each as soon as it is made.

        What keeps the whole batch from being made is raised, as by `inspect`, and then those who still wait are to be told;
        what befalls one of them is told to that one alone.
        """
        until = self._patience(None)
        began = asyncio.get_running_loop().time()
        until_made: float | None = None
        second = False
        while not batch.is_over:
            try:
                until_made = await self._round(path, batch, until, began, until_made)
            except _NotBegun as error:
                if second:
                    raise Crashed("the decoder fails on this file") from error
                second = True

    def _patience(self, wait_s: float | None) -> float:
        self._begin()
        patience = max(wait_s or self._queue_wait_s, 0.0 if self._is_up.is_set() else START_S)
        return asyncio.get_running_loop().time() + patience

    async def _looked(self, request: dict[str, Any], wait_s: float | None, file: File) -> tuple[dict[str, Any], bytes]:
        until = self._patience(wait_s)
        try:
            return await self._look(request, until, file)
        except _NotBegun:
            try:
                return await self._look(request, until, file)
            except _NotBegun as error:
                raise Crashed("the decoder fails on this file") from error

    async def _look(self, request: dict[str, Any], until: float, file: File) -> tuple[dict[str, Any], bytes]:
        async with self._lease(until) as worker:
            answer = await self._begun(worker, request, file)
            async with self._room(answer["estimate"], until):
                answer, data = await self._heard(worker, {"go": True}, self._limits.deadline_s, file)
                return _sound(answer), data

    async def _round(self, path: File, batch: Batch, until: float, began: float, until_made: float | None) -> float:
        """One worker's try at the batch; gives when the whole must be made. A worker that dies fails what it was at."""
        time = asyncio.get_running_loop().time
        async with self._lease(until if until_made is None else until_made) as worker:
            await self._begun(worker, {"do": "render", **named(path), "nice": batch.in_background}, path)
            if until_made is None:
                await batch.gathered()
            texts = batch.take()
            plan, _ = await self._heard(worker, {"plan": texts}, self._limits.deadline_s, path)
            for number, words in plan["refused"]:
                batch.refuse(texts[number], _failure(words))
            async with self._room(plan["estimate"], until if until_made is None else until_made):
                is_first = until_made is None
                if until_made is None:
                    batch.spent("queue", time() - began)
                    until_made = time() + self._limits.deadline_s
                for number in plan["order"]:
                    if batch.wants(texts[number]):
                        seconds = until_made - time()
                        if not await self._made(worker, batch, number, texts[number], seconds, path, is_first=is_first):
                            return until_made
                        is_first = False
            await self._heard(worker, {"end": True}, self._limits.deadline_s, path)
        return until_made

    async def _made(
        self, worker: Child, batch: Batch, number: int, text: str, seconds: float, file: File, *, is_first: bool
    ) -> bool:
        """Answer *text*; False when the worker is lost."""
        try:
            answer, data = await self._heard(worker, {"make": number}, seconds, file)
        except TooCostly as error:
            batch.refuse(text, error if is_first else Busy("what was asked together took too long"))
            batch.fail(Busy("what was asked together took too long"))
            return False
        except Corrupt as error:
            batch.refuse(text, error)
            return False
        if "rendered" in answer:
            content_type, width, height, degraded, seconds_spent = answer["rendered"]
            batch.give(text, Rendered(data, content_type, width, height, tuple(degraded), seconds_spent))
        else:
            batch.refuse(text, _failure(answer))
        return True

    async def _begun(self, worker: Child, words: dict[str, Any], file: File) -> dict[str, Any]:
        try:
            answer, _ = await self._heard(worker, words, self._limits.deadline_s, file)
        except Corrupt as error:  # it may have died at rest, just before it was asked
            raise _NotBegun from error
        return _sound(answer)

    async def _heard(self, worker: Child, words: dict[str, Any], seconds: float, file: File) -> tuple[dict[str, Any], bytes]:
        """The answer to *words*, in so many *seconds* without those for which the worker has to wait for parts of *file*."""
        waited = 0.0
        while True:
            began = asyncio.get_running_loop().time()
            answer, data = await self._asked(worker, words, seconds)
            if "need" not in answer or isinstance(file, Path):
                return answer, data
            asked = asyncio.get_running_loop().time()
            seconds -= asked - began
            try:
                async with asyncio.timeout(FILL_S - waited):
                    await file.fill(*answer["need"])
            except TimeoutError:
                raise Busy("the store is too slow to make this of it") from None
            waited += asyncio.get_running_loop().time() - asked
            words = {"here": True}

    async def _asked(self, worker: Child, words: dict[str, Any], seconds: float) -> tuple[dict[str, Any], bytes]:
        try:
            async with asyncio.timeout(seconds):
                return await worker.ask(words)
        except TimeoutError:
            allowed = self._limits.deadline_s
            raise TooCostly(f"it takes longer than {allowed:g} seconds", limit="seconds", allowed=allowed) from None
        except WorkerDied as error:
            raise Crashed("the decoder fails on this file") from error

    # -- who may work: first a worker, then memory; both in the order of asking -------------------------------------------------

    @asynccontextmanager
    async def _lease(self, until: float) -> AsyncIterator[Child]:
        worker = await self._next_worker(until)
        self._running += 1
        try:
            yield worker
        finally:
            self._running -= 1
            worker.dismiss()
            if worker.is_free:
                self._offer(worker)

    @asynccontextmanager
    async def _room(self, size: int, until: float) -> AsyncIterator[None]:
        with self._timed():
            memory = await self._budget.reserve(size, until)
        try:
            yield
        finally:
            self._budget.release(memory)

    async def _next_worker(self, until: float) -> Child:
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive:
                return worker
        self._check_queue()
        waiting: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self._in_line.append(waiting)
        try:
            with self._timed():
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

    @contextmanager
    def _timed(self) -> Iterator[None]:
        wait = object()
        self._waits[wait] = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            del self._waits[wait]

    def _offer(self, worker: Child) -> None:
        while self._in_line:
            waiting = self._in_line.popleft()
            if not waiting.done():
                waiting.set_result(worker)
                return
        self._idle.append(worker)

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
        worker = await Child.start()
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


def named(file: File) -> dict[str, Any]:
    """How a file is named to whoever reads it."""
    if isinstance(file, Path):
        return {"path": str(file)}
    return {"path": str(file.path), "bytes": file.size, "there": file.there}


def _sound(answer: dict[str, Any]) -> dict[str, Any]:
    # The answer itself, unless it is a refusal.
    if "refused" in answer or "gone" in answer or "crashed" in answer:
        raise _failure(answer)
    return answer


def _failure(words: dict[str, Any]) -> Exception:
    if "refused" in words:
        return REFUSALS[words["refused"]](words["detail"], **words["members"])
    if "gone" in words:
        return FileNotFoundError()
    return RuntimeError(f"a worker raised\n{words.get('crashed')}")

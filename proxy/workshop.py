"""Works off the book of jobs: some at a time, each held by a lease that goes on as long as the work does."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

import structlog

from processors import tracing
from processors.errors import Busy, Crashed, MediaError
from proxy.claims import Clock, utc_now
from proxy.errors import Conflict, NotFound, StorageFull, Unavailable
from proxy.jobs import MOST_ATTEMPTS, Job, JobBook
from proxy.observe import Metrics

LEASE = timedelta(seconds=15)
"""What a worker that dies keeps a job waiting."""
BEAT_S = 4.0
LOOK_S = 0.4
"""until a worker sees that its job was cancelled"""
POLL_S = 2.0
TIDY_S = 300.0
TIDY_BATCH = 1_000
PAUSES = (timedelta(seconds=5), timedelta(seconds=60))
"""before the next attempt, when a job found something away"""
PASSING = (Busy, Crashed, StorageFull, Unavailable)
"""What may go better another time."""

log = structlog.get_logger(__name__)

Told = Callable[[Job, str, float], Awaitable[None]]
Made = TypeVar("Made")


class Work(Protocol[Made]):
    """What is done for a job, and put where it belongs."""

    async def make(self, job: Job, progress: Callable[[float], None]) -> Made:
        """Do it, and show nobody; *progress* hears how many percent are done. Raises what says why not, and leaves nothing then."""
        ...

    async def finish(self, job: Job, holder: str, made: Made, now: datetime) -> bool:
        """Show what was *made* and end the job, both or neither; False if it is not *holder*'s any more, or its source is gone."""
        ...

    async def drop(self, made: Made) -> None:
        """Take away what nobody has seen."""
        ...

    async def clear(self, job: Job) -> None:
        """Drop what earlier attempts have left, whose workers died."""
        ...

    async def sweep(self) -> None:
        """Clear away what processes have left that are no more."""
        ...


class Workshop(Generic[Made]):
    """Does the *work* of jobs of *book*, *at_once* of them at a time. *told* hears how far each is: its stage, and percent.

    It takes the jobs that classify, or all others.
    """

    def __init__(
        self,
        book: JobBook,
        work: Work[Made],
        at_once: int,
        keep: timedelta,
        metrics: Metrics,
        told: Told,
        clock: Clock = utc_now,
        *,
        classifies: bool = False,
    ) -> None:
        self._book = book
        self._work = work
        self._classifies = classifies
        self._at_once = at_once
        self._keep = keep
        self._metrics = metrics
        self._told = told
        self._clock = clock
        self._news = asyncio.Event()

    def wake(self) -> None:
        """There may be something to do: look now."""
        self._news.set()

    async def run_for_ever(self) -> None:
        """Work; when this is cancelled, what is unfinished is given back, and goes on elsewhere or after the next start."""
        places = [asyncio.create_task(self._place()) for _ in range(self._at_once)]
        try:
            await asyncio.gather(*places, self._tidy())
        finally:
            for place in places:
                place.cancel()
            await asyncio.gather(*places, return_exceptions=True)

    async def _place(self) -> None:
        holder = secrets.token_hex(8)
        while True:
            self._news.clear()
            job = None
            with _kept_alive():
                job = await self._book.claim(holder, self._clock(), self._clock() + LEASE, classifies=self._classifies)
            if job is not None:
                with _kept_alive():
                    await self._do(job, holder)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._news.wait()

    async def _tidy(self) -> None:
        while True:
            with _kept_alive():
                await self._work.sweep()
                await self._book.tidy(self._clock() - self._keep, TIDY_BATCH)
            await asyncio.sleep(TIDY_S)

    async def _do(self, job: Job, holder: str) -> None:
        begun = time.monotonic()
        log.info("job.begun", id=job.id, key=job.key, profile=job.profile, attempt=job.attempts)
        try:
            with tracing.begun(f"job {job.profile}", {"media.job": job.id, "media.attempt": job.attempts}) as span:
                outcome = await self._ended(job, holder)
                span.say({"media.outcome": outcome})
        except asyncio.CancelledError:
            with suppress(MediaError):  # then its lease ends
                await asyncio.shield(asyncio.create_task(self._book.give_back(job.id, holder, self._clock(), counts=False)))
            raise
        self._metrics.job(outcome, time.monotonic() - begun)
        log.info("job.ended", id=job.id, key=job.key, profile=job.profile, outcome=outcome, s=round(time.monotonic() - begun, 1))

    async def _ended(self, job: Job, holder: str) -> str:
        try:
            await self._work.clear(job)
            if job.attempts > MOST_ATTEMPTS:
                raise Conflict(f"it was begun {MOST_ATTEMPTS} times, and no worker has come to its end")
            made = await self._held(job, holder)
            if made is None:
                return "lost"
            # Where the answer to this is lost, it is done, or the next attempt drops what nobody has seen.
            if await self._work.finish(job, holder, made, self._clock()):
                await self._told(job, "done", 100.0)
                return "done"
            await self._work.drop(made)
            if not await self._book.is_held(job.id, holder):
                return "lost"
            raise NotFound("the object, or what was made of it, has been removed meanwhile")
        except PASSING as error:
            if job.attempts < MOST_ATTEMPTS:
                pause = PAUSES[min(job.attempts, len(PAUSES)) - 1]
                await self._book.give_back(job.id, holder, self._clock() + pause, counts=True)
                return "put off"
            return await self._failed(job, holder, error)
        except MediaError as error:
            return await self._failed(job, holder, error)

    async def _failed(self, job: Job, holder: str, error: MediaError) -> str:
        await self._book.fail(job.id, holder, {"code": error.slug, "detail": error.detail}, self._clock())
        await self._told(job, "failed", 0.0)
        return "failed"

    async def _held(self, job: Job, holder: str) -> Made | None:
        """What was made while the lease goes on; None when it is lost, or the job was cancelled: the work is ended then."""
        percent = 0.0

        def progress(now: float) -> None:
            nonlocal percent
            percent = now

        work = asyncio.create_task(self._work.make(job, progress))
        try:
            beat, shown = time.monotonic(), -1.0
            while not (await asyncio.wait({work}, timeout=LOOK_S))[0]:
                if time.monotonic() - beat >= BEAT_S:
                    is_ours = await self._alive(lambda: self._book.beat(job.id, holder, self._clock() + LEASE, percent))
                    beat = time.monotonic() if is_ours else beat
                else:
                    is_ours = await self._alive(lambda: self._book.is_held(job.id, holder))
                if is_ours is False:
                    return None
                if int(percent) != int(shown):
                    shown = percent
                    await self._told(job, "running", percent)
            return work.result()
        finally:
            if not work.done():
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

    @staticmethod
    async def _alive(ask: Callable[[], Awaitable[bool]]) -> bool | None:
        # A database that is away ends no work: the lease outlasts it, or somebody else begins anew, and one of the two is shown.
        try:
            return await ask()
        except Unavailable:
            return None


@contextmanager
def _kept_alive() -> Iterator[None]:
    try:
        yield
    except MediaError as error:
        log.warning("jobs.unread", reason=error.slug)
    except Exception:  # the root of a task: the next turn may be luckier
        log.exception("jobs.unread")


def moment(job: Job, stage: str, percent: float) -> dict[str, Any]:
    """What the owner of *job* is told of it as it happens."""
    return {
        "type": "job.progress",
        "id": job.id,
        "key": job.key,
        "profile": job.profile,
        "state": stage,
        "percent": round(percent, 1),
    }

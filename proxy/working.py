"""Puts together what does long work: with `app` and `stores` a part of the composition root."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

from processors import models, profiles, transcode
from processors.cell import Bounds
from processors.errors import MediaError
from processors.examiner import Examiner
from processors.formats import Kind
from processors.models import BadModel, Model
from processors.profiles import BadProfiles, Profile
from processors.transcode import Transcoder
from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.jobs import SqlJobs
from proxy.bench import Bench, floor
from proxy.claims import utc_now
from proxy.classification import Classification, Classifying
from proxy.delivery import Delivery
from proxy.errors import StartError
from proxy.feed import Feed
from proxy.jobs import CLASSIFY, OPEN, Job, JobBook, Stage
from proxy.observe import Metrics
from proxy.orders import Orders, Recipe, automatic
from proxy.ports import Asset, Backend, Bus
from proxy.settings import Settings
from proxy.workshop import Workshop, moment

TOPIC = "jobs"
"""what a process says when it has ordered something"""
WATCH_S = 10.0


@dataclass(frozen=True, slots=True)
class Working:
    """Who takes orders, and how the work on them is: for health."""

    orders: Orders
    state: Callable[[], Awaitable[Mapping[str, Any]]]


@asynccontextmanager
async def working(
    settings: Settings,
    backend: Backend,
    catalogue: SqlCatalogue,
    limits: Mapping[Kind, int],
    feed: Feed,
    bus: Bus,
    metrics: Metrics,
    at_once: int,
    *,
    watches: bool = False,
    delivery: Delivery | None = None,
) -> AsyncIterator[Working]:
    """All of it, *at_once* jobs in work in this process; raises StartError. Who *watches* has how many are open in the metrics.

    With *delivery* this process also classifies, if that is asked for.
    """
    known = load(settings)
    sought = classification(settings)
    book = SqlJobs(catalogue)
    transcoder = Transcoder(bounds(settings), settings.job_threads)
    async with AsyncExitStack() as stack:
        shops: list[Callable[[], None]] = []

        def wake() -> None:
            for shop in shops:
                shop()

        bus.listen(TOPIC, lambda word: wake(), wake)

        async def told(job: Job, stage: str, percent: float) -> None:
            await feed.passes(job.owner, moment(job, stage, percent))

        keep = timedelta(seconds=settings.media_jobs_keep)
        if sought is not None and delivery is not None:
            work = Classifying(book, delivery, await stack.enter_async_context(_examiner(settings, sought.model)), sought)
            classifying = Workshop(book, work, 1, keep, metrics, told, classifies=True)
            shops.append(classifying.wake)
            stack.push_async_callback(_ended, asyncio.create_task(classifying.run_for_ever()))
        if at_once and transcode.is_there():
            above = await asyncio.to_thread(floor, settings.media_data_dir)
            bench = Bench(book, backend, catalogue, transcoder, known, limits, above)
            workshop = Workshop(book, bench, at_once, keep, metrics, told)
            shops.append(workshop.wake)
            stack.push_async_callback(_ended, asyncio.create_task(workshop.run_for_ever()))

        if watches:
            open_jobs, oldest = dict.fromkeys(OPEN, 0), [0.0]
            metrics.gauge("media_jobs_waiting", "Jobs that wait for a worker", lambda: open_jobs[Stage.WAITING])
            metrics.gauge("media_jobs_running", "Jobs in work, wherever", lambda: open_jobs[Stage.RUNNING])
            metrics.gauge("media_jobs_oldest_seconds", "How long the job waits that has waited longest", lambda: oldest[0])
            stack.push_async_callback(_ended, asyncio.create_task(_watch(book, open_jobs, oldest)))

        async def ordered() -> None:
            wake()
            await bus.say(TOPIC, "ordered")

        orders = Orders(book, catalogue, recipes(known, sought), settings.media_jobs_open, ordered, provided=provided(settings))
        stack.push_async_callback(orders.finish)

        async def state() -> Mapping[str, Any]:
            there = transcode.is_there()
            backlog = {str(stage): count for stage, count in (await book.backlog()).items()}
            return {"ffmpeg": there, "sandbox": (await transcoder.cell()).sandbox if there else None, **backlog}

        yield Working(orders, state)


@asynccontextmanager
async def _examiner(settings: Settings, model: Model) -> AsyncIterator[Examiner]:
    examiner = Examiner(model, settings.media_classifier_deadline, settings.media_classifier_memory)
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(examiner)
        except BadModel as error:
            raise StartError(f"MEDIA_CLASSIFIER: {error}".removesuffix(".")) from None
        yield examiner


def classification(settings: Settings) -> Classification | None:
    """What is to be found out of each upload by the settings; raises StartError."""
    path = settings.media_classifier
    if path is None:
        return None
    if find_spec("onnxruntime") is None:
        raise StartError("MEDIA_CLASSIFIER needs ONNX Runtime: pip install 'sav3-media-proxy[onnx]', or leave it out")
    try:
        return Classification(models.read(path))
    except BadModel as error:
        raise StartError(f"MEDIA_CLASSIFIER: {path} is not usable. {error}".removesuffix(".")) from None


def recipes(known: Mapping[str, Profile], sought: Classification | None) -> dict[str, Recipe]:
    """All that can be ordered."""
    return {**known, **({} if sought is None else {sought.name: sought})}


def orders_of_uploads(settings: Settings) -> Callable[[Asset], list[Job]]:
    """What is ordered for each upload; raises StartError."""
    return automatic(recipes(load(settings) if provided(settings) else {}, classification(settings)))


def provided(settings: Settings) -> bool:
    """Whether there is somebody to work on jobs: here, or elsewhere, as it is then taken for granted."""
    return settings.media_job_workers == 0 or transcode.is_there()


def load(settings: Settings) -> Mapping[str, Profile]:
    """The profiles of the settings; raises StartError."""
    path = settings.media_profiles
    try:
        known = profiles.read(profiles.DEFAULTS if path is None else path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise StartError(f"MEDIA_PROFILES: {path} cannot be read ({reason})") from None
    except BadProfiles as error:
        raise StartError(f"MEDIA_PROFILES: {path} is not usable. {error}".removesuffix(".")) from None
    if CLASSIFY in known:
        raise StartError(f"MEDIA_PROFILES: {path} has a profile called {CLASSIFY}, which means something else here: rename it")
    return known


def bounds(settings: Settings) -> Bounds:
    """What one job may take."""
    deadline_s = settings.media_job_deadline
    return Bounds(deadline_s, int(deadline_s * settings.job_threads) + 1, settings.media_job_memory, settings.media_job_bytes)


async def _watch(book: JobBook, counts: dict[Stage, int], oldest: list[float]) -> None:
    while True:
        with suppress(MediaError):  # then it is shown as it was
            counts.update(await book.backlog())
            oldest[0] = (await book.oldest(utc_now())).total_seconds()
        await asyncio.sleep(WATCH_S)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

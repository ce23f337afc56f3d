"""What a process has of the machine that it runs on: folders, records, picture workers. Like `stores`, it chooses adapters."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import structlog

from processors.errors import MediaError
from processors.pool import Pool
from processors.pool_socket import PoolClient, PoolListener
from processors.values import Limits, Watermark
from proxy import watermarks
from proxy.adapters.bounded import BoundedBackend, UsedBackend
from proxy.adapters.catalogue import Database, SqlCatalogue
from proxy.adapters.events import Notes
from proxy.adapters.local import LocalBackend
from proxy.errors import StartError
from proxy.house import House, Role, lives
from proxy.keys import Key
from proxy.observe import Metrics
from proxy.ports import Bus
from proxy.quotas import Quota
from proxy.settings import Settings, Truncated
from proxy.working import orders_of_uploads

if TYPE_CHECKING:
    from processors.pool_http import FarPool

PATROL_S = 5.0
FLEETING = "fleeting"
"""what a process says when it has put a rendition into the bounded store, or removed one"""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Machine:
    """*thumbnails* is the store of lasting renditions where no other is, *fleeting* that of the others.

    *spool* is for what is on its way, *marks* are the watermarks.
    """

    spool: Path
    marks: tuple[Watermark, ...]
    catalogue: SqlCatalogue
    thumbnails: LocalBackend
    fleeting: BoundedBackend | UsedBackend
    pool: Pool | PoolClient | FarPool


@asynccontextmanager
async def machine(
    settings: Settings, house: House, bus: Bus, metrics: Metrics, told: Callable[[str, int], Awaitable[None]]
) -> AsyncIterator[Machine]:
    """Open it for the part that *house* gives this process; raises StartError. *bus* leads to the machine's other processes.

    *told* hears of what happens to assets.
    """
    data = settings.media_data_dir
    async with AsyncExitStack() as stack:
        # First of all, since it holds the lock that lets one service alone work in the data folder.
        thumbnails = await stack.enter_async_context(
            LocalBackend(data / "thumbnails", name="thumbnails", durable=False, shared=house.is_shared)
        )
        spool = _spool(data / "spool", house)
        marks = _watermarks(settings, data / "watermarks", house)
        orders = orders_of_uploads(settings)
        quota = Quota(settings.media_quota_bytes, settings.media_quota_objects)
        catalogue = await stack.enter_async_context(SqlCatalogue(database(settings), quota, notes(settings), told, orders))
        pool = await stack.enter_async_context(_pool(settings, house, marks, data, metrics))
        fleeting = await stack.enter_async_context(_fleeting(settings, house, bus, metrics))
        yield Machine(spool, marks, catalogue, thumbnails, fleeting, pool)


def notes(settings: Settings) -> Notes:
    """How events are written down."""
    return Notes(settings.media_public_url, sends=settings.media_webhook_url is not None)


def database(settings: Settings) -> Database:
    """Where the records are, not yet opened."""
    if settings.database_url is None:
        from proxy.adapters.sqlite import SqliteDatabase  # noqa: PLC0415

        return SqliteDatabase(settings.media_data_dir / "catalogue.sqlite")
    from proxy.adapters.postgres import PostgresDatabase  # noqa: PLC0415

    return PostgresDatabase(
        settings.database_url.get_secret_value(), settings.media_database_connections, settings.media_database_deadline
    )


@runtime_checkable
class Clearing(Protocol):
    """A store of this machine in which a process may leave something."""

    name: str

    async def clear(self, lives: Callable[[int], bool]) -> None:
        """Finish or undo what processes have left that do not *live* any more."""
        ...


async def patrol(stores: Sequence[Clearing], spools: Path) -> None:
    """For ever: clear away what processes that are no more have left in *stores*, and the folders of *spools* with their ids."""
    while True:
        await asyncio.sleep(PATROL_S)
        for store in stores:
            try:
                await store.clear(lives)
            except MediaError as error:
                log.warning("patrol.failed", store=store.name, reason=error.slug)
        for folder in await asyncio.to_thread(lambda: [*spools.iterdir()]):
            if folder.name.isdigit() and not lives(int(folder.name)):
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def emptied(folder: Path) -> Path:
    """*folder*, new and private."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder


def limits(settings: Settings, marks: tuple[Watermark, ...]) -> Limits:
    """What a picture may cost."""
    return Limits(
        max_pixels=settings.media_max_pixels,
        max_pixels_all_frames=settings.media_max_pixels_all_frames,
        max_frames=settings.media_max_frames,
        budget_bytes=settings.media_decode_budget,
        deadline_s=settings.media_render_deadline,
        shows_truncated=settings.media_truncated is Truncated.SHOW,
        watermarks=marks,
    )


def _spool(folder: Path, house: House) -> Path:
    # Several processes have one each, so that what one leaves when it is killed can be told from what others work on.
    if not house.is_shared:
        return emptied(folder)
    own = folder / str(os.getpid())
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    return own


def _watermarks(settings: Settings, folder: Path, house: House) -> tuple[Watermark, ...]:
    if not house.is_shared:
        emptied(folder)
    return watermarks_in(settings, folder)


def watermarks_in(settings: Settings, folder: Path) -> tuple[Watermark, ...]:
    """The watermarks of this deployment, copied into *folder*, which workers may read; raises StartError."""
    if settings.media_watermarks is None:
        return ()
    try:
        return watermarks.load(settings.media_watermarks, folder)
    except watermarks.BadWatermarks as error:
        raise StartError(f"MEDIA_WATERMARKS: {settings.media_watermarks} is not usable. {error}".removesuffix(".")) from None


@asynccontextmanager
async def _pool(
    settings: Settings, house: House, marks: tuple[Watermark, ...], data: Path, metrics: Metrics
) -> AsyncIterator[Pool | PoolClient | FarPool]:
    processors: list[FarPool] = []
    metrics.gauge(
        "media_processors_up", "Processors of PROCESSOR_URL that take work", lambda: sum(far.up for far in processors), least=True
    )
    if not settings.processor_url:
        async with _near_pool(settings, house, marks, data) as near:
            yield near
        return
    # Imported where there are processors: the client side of HTTP takes memory.
    from processors.pool_http import FarPool  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        local = await stack.enter_async_context(_near_pool(settings, house, marks, data)) if settings.processor_local else None
        token = None if settings.processor_token is None else settings.processor_token.get_secret_value()
        processors.append(await stack.enter_async_context(FarPool(settings.processor_url, token, local, metrics.asked, _noted)))
        yield processors[0]


def _noted(processor: str, reason: str | None) -> None:
    if reason is None:
        log.info("processor.there", processor=processor)
    else:
        log.warning("processor.away", processor=processor, reason=reason)


@asynccontextmanager
async def _near_pool(
    settings: Settings, house: House, marks: tuple[Watermark, ...], data: Path
) -> AsyncIterator[Pool | PoolClient]:
    path = house.sockets / "pool"
    if house.role is Role.SERVER:
        places = settings.render_workers + settings.render_queue
        async with PoolClient(path, places) as client:
            yield client
        return
    readable = tuple(data / name for name in ("media", "thumbnails", "watermarks", "spool"))
    for folder in readable if settings.media_local_store else readable[1:]:
        folder.mkdir(mode=0o700, exist_ok=True)  # what a worker may read is settled when it starts
    async with Pool(
        limits(settings, marks),
        settings.render_workers,
        settings.render_queue,
        settings.media_render_wait,
        readable=readable,
        lazily=bool(settings.processor_url),
    ) as pool:
        if house.role is Role.ALONE:
            yield pool
            return
        async with PoolListener(pool, path):
            yield pool


@asynccontextmanager
async def _fleeting(settings: Settings, house: House, bus: Bus, metrics: Metrics) -> AsyncIterator[BoundedBackend | UsedBackend]:
    folder, most = settings.media_data_dir / "variants", settings.media_variants_bytes
    tasks: set[asyncio.Task[None]] = set()

    def behind(work: asyncio.Task[None]) -> None:
        tasks.add(work)
        work.add_done_callback(tasks.discard)

    if house.role is Role.SERVER:

        def changed_here(key: Key, size: int | None) -> None:
            behind(asyncio.create_task(bus.say(FLEETING, f"{'' if size is None else size} {key}")))

        # What was said while the keeper was away is lost: the next one is to look for itself.
        bus.listen(FLEETING, lambda word: None, lambda: behind(asyncio.create_task(bus.say(FLEETING, ""))))
        async with UsedBackend(folder, most, changed_here) as used:
            yield used
        return
    async with BoundedBackend(folder, most, shared=house.is_shared, evicted=metrics.evicted) as bounded:

        def changed_there(word: str) -> None:
            size, _, key = word.partition(" ")
            if not key:
                bounded.recount()
            elif size:
                behind(asyncio.create_task(bounded.note(Key(key), int(size))))
            else:
                bounded.forget(Key(key))

        bus.listen(FLEETING, changed_there, lambda: None)
        yield bounded

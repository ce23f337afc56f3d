"""`media-proxy worker`: a process that works off jobs beside the service. With `app` and `stores` part of the composition root."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import structlog
from aiohttp import web

from processors import transcode
from processors.errors import MediaError
from proxy import stores
from proxy.adapters.alone import NoBus
from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.local import LocalBackend
from proxy.app import max_bytes, service_token
from proxy.auth import Tokens
from proxy.errors import StartError
from proxy.feed import Feed
from proxy.house import House, Role
from proxy.machine import database, notes
from proxy.observe import Metrics, configure_logs, resident_bytes
from proxy.quotas import Quota
from proxy.run import address_of
from proxy.settings import Settings
from proxy.ties import tied
from proxy.traces import exporting
from proxy.working import Working, working

HEALTH_S = 5.0

log = structlog.get_logger(__name__)


def run(settings: Settings, tokens: Tokens, at_once: int, seen_at: tuple[str, int] | None) -> None:
    """Work until SIGTERM or SIGINT; what is unfinished then is handed back. Raises StartError, and OSError for *seen_at*.

    That is the host and port of its metrics and its health, if it is to show them.
    """
    configure_logs(settings.media_log_level)
    if not transcode.is_there():
        raise StartError("FFmpeg is not installed: apt-get install ffmpeg bubblewrap, or brew install ffmpeg")
    asyncio.run(_work(settings, tokens, at_once, seen_at))


async def _work(settings: Settings, tokens: Tokens, at_once: int, seen_at: tuple[str, int] | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with _opened(settings, tokens, at_once) as (work, metrics), _shown(work, metrics, seen_at):
        log.info("worker.begun", at_once=at_once)
        await stop.wait()
    log.info("worker.ended")


@asynccontextmanager
async def _opened(settings: Settings, tokens: Tokens, at_once: int) -> AsyncIterator[tuple[Working, Metrics]]:
    data, metrics = settings.media_data_dir, Metrics()
    metrics.gauge("media_resident_bytes", "Memory of this process that is in RAM", resident_bytes)
    for name in ("thumbnails", "incoming", *(["media"] if settings.media_local_store else [])):
        (data / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    # As one of several processes: the folders stay the service's, and so does what stores owe each other.
    house = House(Role.SERVER, begins=False)
    async with AsyncExitStack() as stack:
        stack.enter_context(exporting(settings, "media-proxy-worker", ()))
        spool = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="media-proxy-worker-")))
        ties = await stack.enter_async_context(tied(settings, House(), metrics))
        feed = Feed(ties.bus)
        quota = Quota(settings.media_quota_bytes, settings.media_quota_objects)
        catalogue = await stack.enter_async_context(SqlCatalogue(database(settings), quota, notes(settings), feed.happened))
        thumbnails = await stack.enter_async_context(LocalBackend(data / "thumbnails", name="thumbnails", shared=True))
        kept = await stack.enter_async_context(
            stores.opened(settings, thumbnails, catalogue, partial(service_token, tokens), metrics, spool, house, NoBus())
        )
        work = await stack.enter_async_context(
            working(settings, kept.media, catalogue, max_bytes(settings), feed, ties.bus, metrics, at_once, watches=True)
        )
        yield work, metrics


@asynccontextmanager
async def _shown(work: Working, metrics: Metrics, seen_at: tuple[str, int] | None) -> AsyncIterator[None]:
    if seen_at is None:
        yield
        return

    async def page(request: web.Request) -> web.Response:
        body, content_type = metrics.page(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def health(request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(HEALTH_S):
                return web.json_response({"status": "ok", **await work.state()})
        except (MediaError, TimeoutError):
            return web.json_response({"status": "failing"}, status=503)

    app = web.Application()
    app.router.add_get("/metrics", page)
    app.router.add_get("/health", health)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, *seen_at).start()
        log.info("worker.shown", address=address_of(runner.addresses[0]))
        yield
    finally:
        await runner.cleanup()

"""`media-proxy processor`: the picture workers as a service of their own. With `app` and `stores` part of the composition root."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import structlog
from aiohttp import web

from processors.errors import Busy
from processors.pool import Pool
from processors.service import Service, Spool
from proxy.app import max_bytes
from proxy.errors import StartError
from proxy.machine import limits, watermarks_in
from proxy.observe import Metrics, configure_logs, resident_bytes
from proxy.run import address_of
from proxy.server import Listener
from proxy.settings import Settings
from proxy.traces import exporting

LAST_WORDS_S = 2.0
"""for answers that are written already to leave"""

log = structlog.get_logger(__name__)


def run(settings: Settings, greet: Callable[[str], None]) -> None:
    """Work until SIGTERM or SIGINT, then end what is begun; raises StartError, and OSError if the address cannot be had."""
    configure_logs(settings.media_log_level)
    if settings.processor_token is None and not _is_loopback(settings.processor_host):
        raise StartError(
            f"PROCESSOR_TOKEN is not set, so only this machine may ask, and {settings.processor_host} is for others too:"
            " set it here and at the proxies, or listen on 127.0.0.1"
        )
    asyncio.run(_serve(settings, greet))


async def _serve(settings: Settings, greet: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with exporting(settings, "media-proxy-processor", None), tempfile.TemporaryDirectory(prefix="media-proxy-processor-") as name:
        folder, spooled, marked = Path(name), Path(name) / "spool", Path(name) / "watermarks"
        spooled.mkdir(mode=0o700)
        pool = Pool(
            limits(settings, watermarks_in(settings, marked)),
            settings.render_workers,
            settings.render_queue,
            settings.media_render_wait,
            readable=(folder,),
        )
        metrics = Metrics()
        spool = Spool(spooled, max(max_bytes(settings).values()), settings.processor_spool_bytes, partial(metrics.received, "work"))
        token = None if settings.processor_token is None else settings.processor_token.get_secret_value()
        service = Service(pool, spool, token, settings.media_render_wait / 2, metrics.processed, metrics.page)
        _measure(metrics, pool, spool)
        async with pool:
            try:
                await pool.capabilities()
            except Busy:
                raise StartError("no worker process starts; the log says why") from None
            runner = _Runner(
                service.app(),
                handler_cancellation=True,
                access_log=None,
                shutdown_timeout=LAST_WORDS_S,
                head_timeout_s=settings.media_header_timeout,
                metrics=metrics,
            )
            await runner.setup()
            try:
                await web.TCPSite(runner, settings.processor_host, settings.processor_port, backlog=256).start()
                greet(address_of(runner.addresses[0]))
                await stop.wait()
                service.is_stopping = True
                log.info("drain.begun")
                await service.drained(settings.media_drain)
            finally:
                await runner.cleanup()
    log.info("drain.done")


class _Runner(web.AppRunner):
    """Cuts a head that does not come to its end, as the service does."""

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        assert server is not None
        return Listener(
            server.request_handler,
            request_factory=server.request_factory,
            handler_cancellation=server.handler_cancellation,
            **server._kwargs,
        )


def _measure(metrics: Metrics, pool: Pool, spool: Spool) -> None:
    metrics.gauge("media_resident_bytes", "Memory of this process that is in RAM", resident_bytes)
    metrics.gauge(
        "media_render_resident_bytes", "Memory of the picture workers that is in RAM", lambda: sum(map(resident_bytes, pool.pids))
    )
    metrics.gauge("media_render_running", "Renditions in work", lambda: pool.running)
    metrics.gauge("media_render_waiting", "Renditions that wait for a worker or for memory", lambda: pool.waiting)
    metrics.gauge("media_render_oldest_seconds", "How long the rendition waits that has waited longest", lambda: pool.oldest_wait_s)
    metrics.gauge("media_render_reserved_bytes", "Estimated memory of the pictures in work", lambda: pool.reserved_bytes)
    metrics.gauge("media_processor_spool_bytes", "Sources that lie on the disk of a processor", lambda: spool.bytes)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

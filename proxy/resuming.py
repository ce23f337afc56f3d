"""Puts together what takes resumable uploads: with `app`, `stores` and `promising` a part of the composition root."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.sessions import SqlSessions
from proxy.adapters.tails import FolderTails
from proxy.chunked import Chunked
from proxy.finishing import Finishing
from proxy.grants import Grants
from proxy.house import House
from proxy.ingest import Ingest
from proxy.observe import Metrics
from proxy.ports import Bus
from proxy.progress import Passes
from proxy.quotas import Quotas
from proxy.resumable import Uploads
from proxy.routes.assets import Presenter
from proxy.routes.chunks import ChunkRoutes
from proxy.routes.metering import Meter
from proxy.routes.tus import TusRoutes
from proxy.settings import Settings
from proxy.takeovers import Takeovers


@dataclass(frozen=True, slots=True)
class Resuming:
    """The routes of resumable uploads."""

    tus: TusRoutes
    chunks: ChunkRoutes


@asynccontextmanager
async def resuming(
    settings: Settings,
    grants: Grants,
    catalogue: SqlCatalogue,
    ingest: Ingest,
    quotas: Quotas,
    bus: Bus,
    presenter: Presenter,
    meter: Meter,
    metrics: Metrics,
    passes: Passes,
    house: House,
) -> AsyncIterator[Resuming]:
    """All of it, running."""
    lifetime = timedelta(seconds=settings.media_upload_lifetime)
    book = SqlSessions(catalogue)
    async with AsyncExitStack() as stack:
        tails = await stack.enter_async_context(FolderTails(settings.media_data_dir / "uploads"))
        takeovers = Takeovers(tails, bus)
        finishing = Finishing(book, tails, takeovers, grants, catalogue, ingest, quotas, lifetime)
        stack.push_async_callback(finishing.stop)
        uploads = Uploads(
            book,
            tails,
            takeovers,
            finishing,
            ingest,
            quotas,
            lifetime=lifetime,
            most_bytes=settings.media_incoming_bytes,
            passes=passes,
        )
        metrics.gauge("media_uploads_receiving", "Requests that bring bytes of resumable uploads", lambda: uploads.receiving)
        if house.keeps:
            stack.push_async_callback(_ended, asyncio.create_task(uploads.patrol_for_ever()))
        chunked = Chunked(uploads, book, tails, takeovers, finishing, lifetime)
        yield Resuming(
            TusRoutes(uploads, grants, presenter, meter, ingest.max_bytes),
            ChunkRoutes(chunked, grants, catalogue, presenter, meter, settings.media_idle_timeout),
        )


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

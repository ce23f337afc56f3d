"""What commands do beside a running service, on its stores and records: with `app` and `stores` part of the composition root."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from proxy import stores
from proxy.adapters.alone import NoBus
from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.local import LocalBackend
from proxy.adapters.promises import SqlPromises
from proxy.adapters.quotas import SqlQuotas
from proxy.app import service_token
from proxy.auth import Tokens
from proxy.errors import StartError
from proxy.house import House, Role
from proxy.keys import Key
from proxy.machine import database, notes
from proxy.observe import Metrics
from proxy.rescanning import Rescanning, Round
from proxy.scanners import scanner
from proxy.scanning import Scanning
from proxy.settings import Settings
from proxy.stores import Stores
from proxy.sweep import Found, Sweep


async def swept(settings: Settings, tokens: Tokens, age: timedelta, *, is_dry: bool) -> AsyncGenerator[Found]:
    """What a sweep finds; raises StartError, and what `Sweep.run` does."""
    async with _beside(settings, tokens) as (kept, catalogue):
        keep = timedelta(seconds=settings.media_upload_keep)
        book, quotas, now = SqlPromises(catalogue), SqlQuotas(catalogue), datetime.now(UTC)
        sweep = Sweep(kept.media, kept.staged, catalogue, book, quotas, now, age, keep, is_dry=is_dry)
        async for found in sweep.run():
            yield found


@asynccontextmanager
async def scanned(settings: Settings, tokens: Tokens, *, is_dry: bool) -> AsyncIterator[Round]:
    """A round of the scanner through what is stored; raises StartError."""
    clamd = scanner(settings)
    if clamd is None:
        raise StartError("CLAMAV_URL is not set, so there is no scanner: tcp://host:3310 is one")
    async with _beside(settings, tokens) as (kept, catalogue), clamd:
        scanning = Scanning(clamd, Metrics(), lenient=False)
        # The service sees by itself what is withheld from now on, within two seconds.
        rescanning = Rescanning(scanning, kept.media, catalogue, _nobody, _nobody, lambda key, content_type: None)
        yield Round(rescanning, catalogue, clamd.ping, is_dry=is_dry)


@asynccontextmanager
async def _beside(settings: Settings, tokens: Tokens) -> AsyncIterator[tuple[Stores, SqlCatalogue]]:
    data = settings.media_data_dir
    if not data.is_dir():
        raise StartError(f"MEDIA_DATA_DIR: there is no folder {data}")
    async with AsyncExitStack() as stack:
        spool = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="media-proxy-beside-")))
        for name in ("thumbnails", "incoming", *(["media"] if settings.media_local_store else [])):
            (data / name).mkdir(mode=0o700, exist_ok=True)
        catalogue = await stack.enter_async_context(SqlCatalogue(database(settings), notes=notes(settings)))
        thumbnails = await stack.enter_async_context(LocalBackend(data / "thumbnails", name="thumbnails", shared=True))
        # As one of several processes: the folders stay the service's, and so does what stores owe each other.
        house = House(Role.SERVER, begins=False)
        kept = await stack.enter_async_context(
            stores.opened(settings, thumbnails, catalogue, partial(service_token, tokens), Metrics(), spool, house, NoBus())
        )
        yield kept, catalogue


async def _nobody(key: Key) -> None:
    """There is nobody here who must be told of *key*."""

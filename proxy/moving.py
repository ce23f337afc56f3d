"""What the commands that carry objects work on, put together: stores by their locations, records, a private folder."""

from __future__ import annotations

import fcntl
import os
import platform
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from proxy import stores
from proxy.adapters.alone import NoBus
from proxy.adapters.catalogue import Database, SqlCatalogue
from proxy.adapters.exchange import Exchange
from proxy.adapters.folder import FolderBackend
from proxy.adapters.index import Index
from proxy.adapters.local import LocalBackend
from proxy.adapters.prefixed import PrefixedBackend
from proxy.adapters.records import SqlRecords
from proxy.adapters.root import MARKER
from proxy.app import service_token, token_maker
from proxy.errors import NotFound, StartError
from proxy.house import House, Role, lives
from proxy.keys import Key
from proxy.locations import Kind, Location
from proxy.machine import database, notes
from proxy.observe import Metrics
from proxy.ports import Backend, Body
from proxy.settings import BadSettings, Settings

RECORDS_S = 1800.0
"""for all records, out of the database or into it"""
LOCK = Key("lock")
LOCK_HOLDS = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Household:
    """The service's own: its stores as one, its records, and a private folder."""

    media: Backend
    catalogue: SqlCatalogue
    records: SqlRecords
    folder: Path


@asynccontextmanager
async def household(settings: Settings, *, alone: bool) -> AsyncIterator[Household]:
    """Open it beside a running service, or *alone*, which one that runs on this machine does not let happen; raises StartError."""
    data = settings.media_data_dir
    if not alone and settings.database_url is None and not (data / "catalogue.sqlite").exists():
        raise StartError(f"MEDIA_DATA_DIR: there is no catalogue in {data}")
    try:
        tokens, _ = token_maker(settings)
    except BadSettings as error:
        raise StartError(str(error).removesuffix(".")) from None
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="media-proxy-")))
        for name in ("thumbnails", "incoming", *(["media"] if settings.media_local_store else [])):
            if not (data / name / MARKER).exists():  # else the service would not take it for a store of its own
                async with LocalBackend(data / name):
                    pass
        thumbnails = await stack.enter_async_context(LocalBackend(data / "thumbnails", name="thumbnails", shared=not alone))
        catalogue = await stack.enter_async_context(SqlCatalogue(database(settings), notes=notes(settings)))
        await catalogue.ping()  # before hours are given to it
        slow = await stack.enter_async_context(_patient(settings))
        house = House(Role.ALONE if alone else Role.SERVER, begins=False)
        kept = await stack.enter_async_context(
            stores.opened(settings, thumbnails, catalogue, partial(service_token, tokens), Metrics(), folder, house, NoBus())
        )
        yield Household(kept.media, catalogue, SqlRecords(slow), folder)


def _patient(settings: Settings) -> Database:
    if settings.database_url is None:
        from proxy.adapters.sqlite import SqliteDatabase  # noqa: PLC0415

        return SqliteDatabase(settings.media_data_dir / "catalogue.sqlite", RECORDS_S)
    from proxy.adapters.postgres import PostgresDatabase  # noqa: PLC0415

    return PostgresDatabase(settings.database_url.get_secret_value(), 1, RECORDS_S)


@asynccontextmanager
async def records(settings: Settings) -> AsyncIterator[SqlRecords]:
    """The records alone; raises StartError."""
    if settings.database_url is None and not (settings.media_data_dir / "catalogue.sqlite").exists():
        raise StartError(f"MEDIA_DATA_DIR: there is no catalogue in {settings.media_data_dir}")
    async with database(settings) as found:
        yield SqlRecords(found)


@asynccontextmanager
async def opened(location: Location, settings: Settings, spool: Path, *, makes: bool) -> AsyncIterator[Backend]:
    """The store at *location*, which *settings* say how to reach; raises StartError. Of the service's there is `household`."""
    async with _whole(location, settings, spool, makes=makes) as store:
        yield PrefixedBackend(store, location.prefix) if location.prefix else store


@asynccontextmanager
async def exchanged(location: Location, settings: Settings, spool: Path, *, makes: bool) -> AsyncIterator[Exchange]:
    """As `opened`, for objects that are carried between programs."""
    async with _whole(location, settings, spool, makes=makes) as store:
        yield Exchange(store, location.prefix)


@asynccontextmanager
async def _whole(location: Location, settings: Settings, spool: Path, *, makes: bool) -> AsyncIterator[Backend]:
    if location.kind is Kind.LOCAL:
        async with FolderBackend(location.folder, makes=makes) as folder:
            yield folder
        return
    if location.kind is Kind.S3:
        bucket = location.bucket or settings.s3_bucket_name
        if bucket is None or settings.aws_access_key_id is None or settings.aws_secret_access_key is None:
            raise StartError(
                f"{location} needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and a bucket: S3_BUCKET_NAME or its name"
            )
        store = stores.aws(settings, bucket, spool)
    else:
        if settings.minio_endpoint is None or settings.minio_access_key is None or settings.minio_secret_key is None:
            raise StartError(f"{location} needs MINIO_ENDPOINT, MINIO_ACCESS_KEY and MINIO_SECRET_KEY")
        store = stores.minio(settings, location.bucket or settings.minio_bucket_name, spool, "minio")
    async with store as s3:
        yield s3


@asynccontextmanager
async def remembered(path: Path, *, lasting: bool = False) -> AsyncIterator[Index]:
    """Memory for millions of names, in the file *path*."""
    if not lasting:
        with Index(path) as index:
            yield index
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with Index(path, lasting=True) as index:
            yield index
    except BlockingIOError:
        raise StartError(f"another run works with {path}: wait for it") from None
    finally:
        os.close(lock)


@asynccontextmanager
async def held(vault: Backend) -> AsyncIterator[None]:
    """The vault for one run at a time; raises StartError while another has it.

    What a run that was killed on another machine has left holds for a day.
    """
    me = f"{platform.node()} {os.getpid()}"
    try:
        async with await vault.open(LOCK) as reader:
            said = b"".join([chunk async for chunk in reader]).decode("ascii", "replace")[:300]
            since = reader.meta.modified
    except NotFound:
        pass
    else:
        host, _, process = said.partition(" ")
        is_gone = host == platform.node() and process.isdigit() and (int(process) == os.getpid() or not lives(int(process)))
        if not is_gone and datetime.now(UTC) - since < LOCK_HOLDS:
            raise StartError(
                f"another run works on this backup ({said}): wait for it, or remove the object `lock` if it is no more"
            )

    async def body() -> Body:
        yield me.encode()

    await vault.put(LOCK, body(), "text/plain", size=len(me.encode()))
    try:
        yield
    finally:
        await vault.delete(LOCK)

"""The doctor's rounds: which checks there are for which store of the settings. Like `stores`, it knows which stores there are."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from processors import transcode
from processors.cell import Cell, Sandbox
from processors.errors import MediaError
from proxy import disk_probes, doctor, probes, scanner_probes, stores, working
from proxy.adapters.outgoing import Deadlines
from proxy.doctor import Check, Finding, Trouble
from proxy.errors import Unavailable
from proxy.ports import Backend
from proxy.presigned import staged_key
from proxy.promises import Promise, Way
from proxy.scanners import scanner
from proxy.settings import DeliveryMode, Settings

if TYPE_CHECKING:
    from proxy.adapters.clamav import ClamavScanner
    from proxy.adapters.remote import RemoteBackend
    from proxy.adapters.s3 import S3Backend

TWO_PARTS = (8 << 20) + 1
"""Bytes that S3 takes in two parts: the first parts are of 8 MiB."""
UPLOAD_S = 60
OLDEST_POSTGRES = 12
NARROW = "set MINIO_UPLOAD_ACCESS_KEY to one that may only put objects into the temp bucket (docs/presigned.md)"
GENERIC = "set {} to versitygw, whose uploads go out from files"


@dataclass
class Rounds:
    """All checks of *settings*. Stores that can be used are opened as they are examined, and closed at the end."""

    settings: Settings
    admin_token: Callable[[], str]
    _usable: list[Backend] = field(default_factory=list)

    async def findings(self) -> AsyncIterator[Finding]:
        """One for each check, as it comes."""
        settings = self.settings
        async with AsyncExitStack() as stack:
            spool = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="media-proxy-doctor-")))
            sets: list[tuple[str, list[Check]]] = []
            if settings.minio_endpoint is not None:
                sets.append(("minio", self._minio(stack, spool)))
            if settings.s3_bucket_name is not None:
                store = stores.aws(settings, settings.s3_bucket_name, spool)
                url = settings.s3_endpoint_url or f"https://s3.{settings.aws_region}.amazonaws.com"
                way = self._way(url, "S3_ENDPOINT_URL", "S3_ENDPOINT_URL")
                sets.append(("s3", way + self._s3(stack, store, "S3_ENDPOINT_URL", "S3_PROFILE")))
            if settings.media_proxy_url is not None:
                sets.append(("proxy", self._proxy(stack, spool, settings.media_proxy_url)))
            sets.append(("local", self._disk()))
            sets.append(("films", [Check("ffmpeg", self._ffmpeg, vital=True), Check("sandbox", _sandbox)]))
            for url in settings.processor_url:
                reach = Check("reach", partial(probes.reach, url, "PROCESSOR_URL", "PROCESSOR_URL"), vital=True)
                sets.append(("processor", [reach, Check("token", partial(self._processor, url))]))
            if settings.database_url is not None:
                url = settings.database_url.get_secret_value()
                sets.append(("database", [Check("tables", partial(self._tables, url), vital=True)]))
                sets[-1][1].append(Check("connections", partial(self._connections, url)))
            clamd = scanner(settings)
            if clamd is not None:
                sets.append(("scanner", _clamd(clamd, settings.media_scan_limit)))
            for name, checks in sets:
                async for finding in doctor.examined(name, checks):
                    yield finding
            if len(self._usable) > 1:
                async for finding in doctor.examined("all", [Check("apart", partial(probes.apart, self._usable))]):
                    yield finding

    def _way(self, url: str, setting: str, tls_setting: str) -> list[Check]:
        return [
            Check("reach", partial(probes.reach, url, setting, tls_setting), vital=True),
            Check("clock", partial(probes.clock, url)),
        ]

    def _minio(self, stack: AsyncExitStack, spool: Path) -> list[Check]:
        settings = self.settings
        main = stores.minio(settings, settings.minio_bucket_name, spool, "minio")
        others = {
            bucket: stores.minio(settings, bucket, spool, name)
            for name, bucket in (
                ("minio-thumbnails", settings.minio_thumbnails_bucket_name),
                ("minio-temp", settings.minio_temp_bucket_name),
            )
        }
        beside = [Check(f"bucket {bucket}", partial(_entered, stack, store)) for bucket, store in others.items()]
        if settings.minio_public_endpoint is not None:
            temp = next(store for store in others.values() if store.name == "minio-temp")
            beside.append(Check("upload address", partial(self._upload_address, main, temp, settings.minio_public_endpoint)))
        way = self._way(stores.minio_url(settings), "MINIO_ENDPOINT and MINIO_PORT", "MINIO_USE_SSL")
        return way + self._s3(stack, main, "MINIO_PUBLIC_ENDPOINT", "MINIO_PROFILE") + beside

    def _s3(self, stack: AsyncExitStack, store: S3Backend, public: str, profile: str) -> list[Check]:
        return [
            Check("access", partial(self._opened, stack, store), vital=True),
            *self._objects(store, GENERIC.format(profile)),
            Check("multipart", partial(probes.large, store, TWO_PARTS)),
            Check("conditional PUT", partial(_conditional, store)),
            Check("presigned", partial(self._presigned, store, public)),
        ]

    def _proxy(self, stack: AsyncExitStack, spool: Path, url: str) -> list[Check]:
        store = stores.proxy(self.settings, url, self.admin_token, spool)
        return [
            *self._way(url, "MEDIA_PROXY_URL", "MEDIA_PROXY_URL"),
            Check("access", partial(self._opened, stack, store), vital=True),
            *self._objects(store, "bring the other media proxy up to date"),
        ]

    def _objects(self, store: Backend, advice: str) -> list[Check]:
        return [
            Check("100-continue", partial(probes.asks, store), vital=True),
            Check("round trip", partial(probes.round_trip, store)),
            Check("cut upload", partial(probes.cut, store, advice)),
            Check("range", partial(probes.ranges, store)),
        ]

    def _disk(self) -> list[Check]:
        data = self.settings.media_data_dir
        return [
            Check("writable", partial(disk_probes.writable, data / "media"), vital=True),
            Check("one disk", partial(disk_probes.one_file_system, [data, data / "media", data / "media" / "objects"])),
            Check("room", partial(disk_probes.room, data)),
        ]

    async def _ffmpeg(self) -> str:
        known = working.load(self.settings)
        if not transcode.is_there():
            if self.settings.media_job_workers == 0:
                return "not here, where no jobs are worked on"
            raise Trouble(
                "FFmpeg is not installed, and no jobs are taken: apt-get install ffmpeg, or brew install ffmpeg", works=True
            )
        there = await transcode.encoders(await _cell())
        needed = {codec: transcode.ENCODERS[codec][0] for one in known.values() for codec in (one.video, one.audio) if codec}
        if lacking := sorted(codec for codec, encoder in needed.items() if encoder not in there):
            raise Trouble(f"this FFmpeg cannot make {', '.join(lacking)}, which profiles ask for: install one that can", works=True)
        return ""

    async def _processor(self, url: str) -> str:
        from processors.pool_http import Place  # noqa: PLC0415 - of use to nobody without processors

        token = self.settings.processor_token
        place = Place(url, None, None if token is None else token.get_secret_value(), lambda processor, reason: None)
        await place.open()
        try:
            await place.look()
        finally:
            await place.close()
        if place.status == HTTPStatus.UNAUTHORIZED:
            raise Trouble("the processor takes another token: set PROCESSOR_TOKEN to the same on both sides")
        if place.status not in (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE):
            raise Trouble(f"what is at {url} is no processor: PROCESSOR_URL leads to `media-proxy processor`, port 10030")
        if place.told and not place.is_alike:
            raise Trouble("the processor is of another version: bring it and the proxies to the same one")
        if not place.is_up:
            raise Trouble("the processor takes no work at this moment: it stops, or others wait for it", works=True)
        return f"{place.told['places']} places"

    async def _tables(self, url: str) -> str:
        from proxy.adapters import postgres_probes, tables  # noqa: PLC0415 - of use to nobody without PostgreSQL

        seen = await postgres_probes.seen(url)
        if seen.version < OLDEST_POSTGRES:
            raise Trouble(f"PostgreSQL is of version {seen.version}: {OLDEST_POSTGRES} or newer is needed")
        if seen.revision is not None and seen.revision > tables.HEAD:
            raise Trouble("the tables are of a newer version of the service: start that one, or restore a backup")
        if not seen.may_create:
            raise Trouble("the user may not create tables: GRANT CREATE ON SCHEMA public, or make the user the database's owner")
        if seen.revision is None:
            return "made at the first start"
        return "" if seen.revision == tables.HEAD else "brought up at the next start"

    async def _connections(self, url: str) -> str:
        from proxy.adapters import postgres_probes  # noqa: PLC0415 - as above

        processes = self.settings.media_workers + (self.settings.media_workers > 1)
        needed, room = processes * self.settings.media_database_connections, (await postgres_probes.seen(url)).room
        if needed > room:
            raise Trouble(
                f"this service may take {needed} connections, the server has {room}: lower MEDIA_DATABASE_CONNECTIONS",
                works=True,
            )
        return ""

    async def _presigned(self, store: S3Backend, setting: str) -> str:
        from proxy.adapters import s3_probes  # noqa: PLC0415 - the S3 library is 25 MiB

        try:
            await s3_probes.fetched(store, probes.new_key(), setting)
        except MediaError as failure:
            # Of use to nobody but where clients are sent to the store.
            raise Trouble(failure.detail, works=self.settings.media_delivery is not DeliveryMode.REDIRECT) from failure
        return ""

    async def _upload_address(self, main: S3Backend, temp: S3Backend, endpoint: str) -> str:
        from proxy.adapters import s3_client, s3_probes  # noqa: PLC0415 - the S3 library is 25 MiB

        settings, key, now = self.settings, probes.new_key(), datetime.now(UTC)
        promise = Promise(key, "doctor", "image/jpeg", 5, 5, Way.STORE, now, now)
        async with stores.upload_signer(settings, endpoint, warns=False) as signer:
            address = await signer.presign_put(promise, UPLOAD_S)
        assert address is not None
        try:
            await s3_probes.uploaded(address, b"bytes", "MINIO_PUBLIC_ENDPOINT", "MINIO_UPLOAD_ACCESS_KEY")
        finally:
            await temp.delete(staged_key(key))
        if settings.minio_upload_access_key is None or settings.minio_upload_secret_key is None:
            raise Trouble(f"addresses for uploads show the main key: {NARROW}", works=True)
        buckets = settings.minio_temp_bucket_name, settings.minio_bucket_name
        async with s3_client.client(
            endpoint_url=stores.minio_url(settings),
            region=settings.minio_region,
            access_key=settings.minio_upload_access_key,
            secret_key=settings.minio_upload_secret_key.get_secret_value(),
            profile=main.profile,
            deadlines=Deadlines(),
            connections=1,
        ) as client:
            try:
                more = await s3_probes.rights(client, *buckets, key)
            finally:
                await main.delete(key)
        if more:
            raise Trouble(f"the key that addresses for uploads show may also {' and '.join(more)}: {NARROW}", works=True)
        return ""

    async def _opened(self, stack: AsyncExitStack, store: S3Backend | RemoteBackend) -> str:
        seen = await _entered(stack, store)
        self._usable.append(store)
        return seen


def _clamd(clamd: ClamavScanner, max_bytes: int) -> list[Check]:
    return [
        Check("reach", partial(_pinged, clamd), vital=True),
        Check("eicar", partial(scanner_probes.finds, clamd), vital=True),
        Check("signatures", partial(scanner_probes.is_fresh, clamd.version)),
        Check("limit", partial(scanner_probes.sees_all, clamd, max_bytes)),
        Check("alerts", partial(scanner_probes.says_what_it_left_out, clamd)),
    ]


async def _pinged(clamd: ClamavScanner) -> str:
    try:
        await clamd.ping()
    except Unavailable as error:
        raise Trouble("clamd does not answer: is CLAMAV_URL right, and does it listen there (TCPSocket, LocalSocket)?") from error
    return ""


async def _cell() -> Cell:
    with tempfile.TemporaryDirectory() as folder:
        return await Cell.best(Path(folder))


async def _sandbox() -> str:
    sandbox = (await _cell()).sandbox
    if sandbox is not Sandbox.BUBBLEWRAP:
        seen = "files, but no network" if sandbox is Sandbox.NAMESPACE else "files and the network"
        raise Trouble(f"FFmpeg sees the service's {seen}: apt-get install bubblewrap, and let it make namespaces", works=True)
    return sandbox


async def _conditional(store: S3Backend) -> str:
    from proxy.adapters import s3_probes  # noqa: PLC0415 - the S3 library is 25 MiB

    if not await s3_probes.heeds_conditions(store, probes.new_key()):
        raise Trouble("the store ignores If-None-Match on a PUT: nothing here depends on it, other programs may", works=True)
    return ""


async def _entered(stack: AsyncExitStack, store: S3Backend | RemoteBackend) -> str:
    await stack.enter_async_context(store)
    await store.check()
    return ""

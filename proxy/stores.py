"""The stores that the settings name, and all of them seen as one: with `app` the only place that knows which stores there are."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from proxy import peer
from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.local import LocalBackend
from proxy.adapters.outgoing import Deadlines
from proxy.adapters.traced import traced
from proxy.house import House, Role
from proxy.keys import Key
from proxy.observe import Metrics
from proxy.ports import Backend, Bus
from proxy.presigned import STAGED
from proxy.promises import UploadSigner
from proxy.settings import Settings

if TYPE_CHECKING:
    from proxy.adapters.fallback import FallbackBackend
    from proxy.adapters.remote import RemoteBackend
    from proxy.adapters.s3 import S3Backend
    from proxy.adapters.s3_signing import S3UploadSigner

log = structlog.get_logger(__name__)


OWED = "owed"
"""what a process says when a store owes something new"""
_saying: set[asyncio.Future[None]] = set()


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Stores:
    """*media* are the originals, *variants* what is made of them, *each* the stores of originals in their order.

    *staged* keeps uploads that wait to be confirmed, where nobody reads; *incoming* is the part of it on this machine. *signer*
    makes addresses that lead into it, where *is_signable*: while its store answers.
    *own* is what other media proxies may use: None where another media proxy is among the stores, since one hop is enough.
    *states* gives the breaker of each store, *backlog* how many copies and removals it is owed; a disk that is alone has none.
    """

    media: Backend
    variants: Backend
    own: Backend | None
    each: tuple[Backend, ...]
    identities: frozenset[str]
    states: Callable[[], Mapping[str, str]]
    backlog: Callable[[], Mapping[str, int]]
    staged: Backend
    incoming: LocalBackend
    signer: UploadSigner | None = None
    is_signable: Callable[[], bool] = _always


@asynccontextmanager
async def opened(
    settings: Settings,
    thumbnails: LocalBackend,
    catalogue: SqlCatalogue,
    admin_token: Callable[[], str],
    metrics: Metrics,
    spool: Path,
    house: House,
    bus: Bus,
) -> AsyncIterator[Stores]:
    """All stores of *settings*; raises StartError. *thumbnails* keeps what is made of originals where no other store does.

    *admin_token* is for another media proxy, *spool* a folder for what is on its way; *bus* leads to the other processes of the
    machine, of which the keeper pays what stores owe.
    """
    async with AsyncExitStack() as stack:
        incoming = LocalBackend(settings.media_data_dir / "incoming", name="incoming", shared=house.is_shared)
        staged: Backend = await stack.enter_async_context(incoming)
        each: list[Backend] = []
        for store in originals(settings, admin_token, spool, shared=house.is_shared):
            await stack.enter_async_context(store)
            each.append(store)
        if len(each) == 1 and settings.media_local_store:
            alone = traced(each[0])
            yield Stores(alone, traced(thumbnails), alone, tuple(each), identities(settings), dict, dict, staged, incoming)
            return
        from proxy.adapters.fallback import FallbackBackend  # noqa: PLC0415 - memory that one disk alone does not need
        from proxy.adapters.ledger import Forgetful, SqlLedger  # noqa: PLC0415

        media = await stack.enter_async_context(
            FallbackBackend(
                [*map(traced, each)],
                SqlLedger(catalogue),
                spool=spool / "held",
                holder_of=_holder_of(catalogue),
                placed=catalogue.place,
                policy=str(settings.media_home_coming),
                count=metrics.store_event,
                between=settings.media_data_dir / "stores.lock" if house.is_shared else None,
                shared=house.is_shared or catalogue.is_shared,
                wake=None if house.keeps else partial(_say, bus),
            )
        )
        if house.role is Role.KEEPER:
            bus.listen(OWED, lambda word: media.pay(), media.pay)
        variants = traced(thumbnails)
        signer: UploadSigner | None = None
        is_signable: Callable[[], bool] = _always
        if settings.minio_endpoint is not None:
            far = await stack.enter_async_context(minio(settings, settings.minio_thumbnails_bucket_name, spool, "minio-thumbnails"))
            temp = await stack.enter_async_context(minio(settings, settings.minio_temp_bucket_name, spool, "minio-temp"))
            places: list[Backend] = [temp, incoming] if settings.media_local_store else [temp]
            nearby = FallbackBackend(places, Forgetful(), spool=spool / "held-staged")
            staged = await stack.enter_async_context(nearby)
            is_signable = partial(_is_asked, nearby, temp.name)
            if settings.minio_public_endpoint is not None:
                signer = await stack.enter_async_context(upload_signer(settings, settings.minio_public_endpoint, warns=house.keeps))
            variants = await stack.enter_async_context(
                FallbackBackend([traced(far), variants], Forgetful(), spool=spool / "held-variants")
            )
        own = None if settings.media_proxy_url is not None else media
        yield Stores(
            media,
            variants,
            own,
            tuple(each),
            identities(settings),
            lambda: media.states,
            lambda: media.backlog if house.keeps else {},  # others do not learn what has been paid
            staged,
            incoming,
            signer,
            is_signable,
        )


def originals(
    settings: Settings, admin_token: Callable[[], str], spool: Path, *, shared: bool = False
) -> list[LocalBackend | S3Backend | RemoteBackend]:
    """The stores of originals in their order, not yet opened."""
    stores: list[LocalBackend | S3Backend | RemoteBackend] = []
    if settings.minio_endpoint is not None:
        stores.append(minio(settings, settings.minio_bucket_name, spool, "minio"))
    if settings.s3_bucket_name is not None:
        stores.append(aws(settings, settings.s3_bucket_name, spool))
    if settings.media_proxy_url is not None:
        stores.append(proxy(settings, settings.media_proxy_url, admin_token, spool))
    if settings.media_local_store:
        stores.append(LocalBackend(settings.media_data_dir / "media", shared=shared))
    return stores


def buckets(settings: Settings) -> frozenset[str]:
    """The names of the buckets that originals are in."""
    named = (settings.minio_endpoint and settings.minio_bucket_name, settings.s3_bucket_name)
    return frozenset(name for name in named if name)


def minio(settings: Settings, bucket: str, spool: Path, name: str) -> S3Backend:
    """One bucket of the MinIO server."""
    from proxy.adapters.s3 import S3Backend  # noqa: PLC0415
    from proxy.adapters.s3_errors import SettingNames  # noqa: PLC0415

    assert settings.minio_access_key is not None
    assert settings.minio_secret_key is not None
    return S3Backend(
        name,
        bucket=bucket,
        endpoint_url=minio_url(settings),
        region=settings.minio_region,
        access_key=settings.minio_access_key,
        secret_key=settings.minio_secret_key.get_secret_value(),
        spool=spool / name,
        profile=settings.minio_profile,
        public_endpoint=settings.minio_public_endpoint,
        whole_bytes=settings.media_max_bytes_image,
        deadlines=_patience(settings),
        names=SettingNames(
            "MINIO_ENDPOINT and MINIO_PORT", "MINIO_USE_SSL", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY", "MINIO_REGION",
            "MINIO_THUMBNAILS_BUCKET_NAME" if name == "minio-thumbnails" else
            "MINIO_TEMP_BUCKET_NAME" if name == "minio-temp" else "MINIO_BUCKET_NAME",
        ),
    )  # fmt: skip


def upload_signer(settings: Settings, endpoint: str, *, warns: bool) -> S3UploadSigner:
    """What signs addresses that lead into the bucket of uploads in progress, at the public *endpoint* of MinIO."""
    from proxy.adapters.s3_signing import S3UploadSigner  # noqa: PLC0415

    access_key, secret_key = settings.minio_upload_access_key, settings.minio_upload_secret_key
    if access_key is None or secret_key is None:
        access_key, secret_key = settings.minio_access_key, settings.minio_secret_key
        if warns:
            log.warning(
                "presigned.main_key", advice="set MINIO_UPLOAD_ACCESS_KEY: an address for an upload shows the key that signs"
            )
    assert access_key is not None
    assert secret_key is not None
    return S3UploadSigner(
        endpoint_url=endpoint,
        region=settings.minio_region,
        access_key=access_key,
        secret_key=secret_key.get_secret_value(),
        bucket=settings.minio_temp_bucket_name,
        prefix=STAGED,
        profile=settings.minio_profile,
    )


def aws(settings: Settings, bucket: str, spool: Path) -> S3Backend:
    """The bucket of AWS S3, or of what S3_ENDPOINT_URL names."""
    from proxy.adapters.s3 import S3Backend  # noqa: PLC0415
    from proxy.adapters.s3_errors import SettingNames  # noqa: PLC0415

    assert settings.aws_access_key_id is not None
    assert settings.aws_secret_access_key is not None
    return S3Backend(
        "s3",
        bucket=bucket,
        endpoint_url=settings.s3_endpoint_url,
        region=settings.aws_region,
        access_key=settings.aws_access_key_id,
        secret_key=settings.aws_secret_access_key.get_secret_value(),
        spool=spool / "s3",
        profile=settings.s3_profile,
        whole_bytes=settings.media_max_bytes_image,
        deadlines=_patience(settings),
        names=SettingNames(
            "S3_ENDPOINT_URL", "S3_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "S3_BUCKET_NAME"
        ),
    )


def proxy(settings: Settings, url: str, admin_token: Callable[[], str], spool: Path) -> RemoteBackend:
    """The other media proxy at *url*."""
    from proxy.adapters.remote import RemoteBackend  # noqa: PLC0415

    given = settings.media_proxy_token
    return RemoteBackend(
        url,
        admin_token if given is None else given.get_secret_value,
        spool=spool / "proxy",
        identities=identities(settings),
        whole_bytes=settings.media_max_bytes_image,
        deadlines=_patience(settings),
    )


def identities(settings: Settings) -> frozenset[str]:
    """The names by which two media proxies see that they keep objects in one place."""
    places = []
    if settings.minio_endpoint is not None:
        places.append((minio_url(settings), settings.minio_bucket_name))
    if settings.s3_bucket_name is not None:
        places.append((settings.s3_endpoint_url or "aws", settings.s3_bucket_name))
    if settings.media_local_store:
        places.append((platform.node(), str((settings.media_data_dir / "media").resolve())))
    return frozenset(peer.identity(*place) for place in places)


def _say(bus: Bus) -> None:
    # Words are lost where the keeper is away; it looks for itself when it comes, and every half minute.
    task = asyncio.ensure_future(bus.say(OWED, ""))
    _saying.add(task)
    task.add_done_callback(_saying.discard)


def _is_asked(stores: FallbackBackend, name: str) -> bool:
    return stores.states[name] == "closed"


def _holder_of(catalogue: SqlCatalogue) -> Callable[[Key], Awaitable[str | None]]:
    async def holder(key: Key) -> str | None:
        asset = await catalogue.get(key)
        return None if asset is None else asset.store

    return holder


def minio_url(settings: Settings) -> str:
    """Where the MinIO server is."""
    return f"{'https' if settings.minio_use_ssl else 'http'}://{settings.minio_endpoint}:{settings.minio_port}"


def _patience(settings: Settings) -> Deadlines:
    # To connect and to ask for a body takes less than the deadline together: then the next store is tried.
    seconds = settings.media_store_deadline
    return Deadlines(connect=0.3 * seconds, continue_=0.6 * seconds, answer=seconds)

"""The composition root: the only module that names concrete adapters and puts the service together."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp_cors
from aiohttp import web

from processors.formats import Kind
from processors.pool import Pool
from processors.values import Limits, Watermark
from proxy import peer, stores, watermarks
from proxy.access import Gate, presets, signer
from proxy.adapters.bounded import BoundedBackend
from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.local import LocalBackend
from proxy.adapters.renderer import PoolRenderer
from proxy.assets import Assets
from proxy.auth import Tokens, check_key, new_secret
from proxy.commons import Commons
from proxy.delivery import Delivery
from proxy.descriptions import Descriptions
from proxy.errors import StartError
from proxy.hot import HotAnswers
from proxy.ingest import Ingest
from proxy.metas import Metas
from proxy.middleware import REQUEST_ID
from proxy.observe import Metrics
from proxy.ports import Backend
from proxy.presets import Presets
from proxy.renditions import Renditions
from proxy.responses import SERVER
from proxy.routes.assets import AssetRoutes, Presenter
from proxy.routes.media import Departure, MediaRoutes
from proxy.routes.ops import Check, HealthRoutes, Operators, PageRoutes
from proxy.routes.store import StoreRoutes
from proxy.routes.uploads import UploadRoutes
from proxy.server import Runner
from proxy.settings import BadSettings, Settings, Truncated
from proxy.sources import Sources
from proxy.sourcesets import SourceSets
from proxy.stores import Stores
from proxy.ties import Ties, tied
from proxy.turns import Turns
from proxy.variants import Variants
from proxy.warming import Warming
from proxy.watermarks import Watermarks

NAME = "sav3-media-proxy"
SECRET_FILE = "jwt-secret"  # noqa: S105 - a file name
ERRANDS_DEADLINE_S = 10.0
PREFLIGHT_AGE_S = 86_400
SERVICE_TOKEN_S = 300

ALLOWED_HEADERS = (
    *("Authorization", "Content-Type", "Idempotency-Key", "X-Request-ID", "X-Requested-With", "X-HTTP-Method-Override"),
    *("Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"),
    *("Tus-Resumable", "Upload-Length", "Upload-Offset", "Upload-Metadata", "Upload-Defer-Length", "Upload-Concat"),
    *("Upload-Checksum", "Upload-Complete", "Upload-Draft-Interop-Version"),
)
EXPOSED_HEADERS = (
    *("ETag", "Content-Range", "Content-Length", "Accept-Ranges", "Content-Disposition", "Location", "Retry-After"),
    *("X-Request-ID", "X-Media-Degraded", "Upload-Offset", "Upload-Length", "Upload-Metadata", "Upload-Defer-Length"),
    *("Upload-Concat", "Upload-Expires", "Upload-Complete", "Upload-Limit", "Tus-Resumable", "Tus-Version", "Tus-Extension"),
    *("Tus-Max-Size", "Tus-Checksum-Algorithm"),
)


@dataclass(frozen=True, slots=True)
class Service:
    """A running service: what listens, what a stop tells first, and what SIGHUP renews."""

    runner: Runner
    health: HealthRoutes
    presets: Presets
    hot: HotAnswers

    def reload(self) -> None:
        """Read again what may change while the service runs: the presets."""
        if self.presets.reload():
            self.hot.forget()


def token_maker(settings: Settings) -> tuple[Tokens, bool]:
    """The tokens of this deployment, and whether their secret was made by us just now or earlier.

    Without JWT_SECRET or JWT_PUBLIC_KEY the secret in the data folder serves; it is made, with mode 0600, if it is not there.
    """
    key, ours = settings.jwt_public_key, False
    if settings.jwt_secret is not None:
        key = settings.jwt_secret.get_secret_value()
    if key is None:
        key, ours = _own_secret(settings.media_data_dir / SECRET_FILE), True
    try:
        check_key(key, settings.algorithms)
    except ValueError:
        raise BadSettings("JWT_PUBLIC_KEY: is no public key (PEM) of the kind that JWT_ALGORITHMS asks for") from None
    tokens = Tokens(
        key,
        settings.algorithms,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
        max_lifetime_s=settings.jwt_max_lifetime,
    )
    return tokens, ours


@asynccontextmanager
async def create_service(settings: Settings, tokens: Tokens) -> AsyncIterator[Service]:
    """Open every part in order, give the service that is made of them, and close them in reverse."""
    metrics = Metrics()
    data = settings.media_data_dir
    async with AsyncExitStack() as stack:
        # First of all, since it holds the lock that lets one service alone work in the data folder.
        thumbnails = await stack.enter_async_context(LocalBackend(data / "thumbnails", name="thumbnails", durable=False))
        spool = _emptied(data / "spool")
        marks = _watermarks(settings, _emptied(data / "watermarks"))
        catalogue = await stack.enter_async_context(SqlCatalogue(data / "catalogue.sqlite"))
        kept = await stack.enter_async_context(
            stores.opened(settings, thumbnails, catalogue, partial(service_token, tokens), metrics, spool)
        )
        pool = await stack.enter_async_context(
            Pool(
                _limits(settings, marks),
                settings.render_workers,
                settings.render_queue,
                settings.media_render_wait,
                readable=(data / "media", data / "thumbnails", data / "watermarks", spool),
            )
        )
        renderer = PoolRenderer(pool, spool)
        fleeting = await stack.enter_async_context(
            BoundedBackend(data / "variants", settings.media_variants_bytes, evicted=metrics.evicted)
        )
        sources = Sources(kept.media, _max_bytes(settings))
        ties = await stack.enter_async_context(tied(settings, metrics))
        commons = Commons(ties.cache, ties.bus, settings.media_shared_bytes)
        metas = Metas(kept.media, commons)
        renditions = Renditions(
            kept.media,
            metas,
            Variants(kept.variants, fleeting),
            renderer,
            sources,
            commons,
            Turns(ties.cache, ties.bus),
            settings.media_cache_bytes,
            metrics,
        )
        stack.push_async_callback(renditions.finish, ERRANDS_DEADLINE_S)
        descriptions = Descriptions(catalogue, sources, renderer, commons)
        delivery = Delivery(kept.media, metas, renditions, descriptions, commons)
        assets = await stack.enter_async_context(Assets(kept.media, catalogue, delivery))
        watermark_names = Watermarks(marks)
        known_presets = presets(settings, watermark_names)
        gate = Gate(
            tokens,
            signer(settings),
            known_presets,
            settings.media_read_access,
            settings.media_transform_access,
            frozenset(settings.media_ignored_parameters),
            watermark_names,
        )
        warming = Warming(delivery, gate.warm)
        stack.push_async_callback(warming.finish)
        ingest = Ingest(kept.media, catalogue, renderer, _max_bytes(settings), metrics, delivery.changed, warming.begin)

        _measure(metrics, kept, pool, renditions, fleeting, warming, ties)
        presenter = Presenter(settings.media_public_url)
        sets = SourceSets(signer(settings) if settings.media_url_secrets else None)
        health = _health(settings, tokens, kept, catalogue, pool, ties, metrics)
        departure = Departure(settings.media_delivery, settings.media_redirect_lifetime, data / "media")
        hot = HotAnswers(delivery, cross_origin=bool(settings.media_cors_origins))
        app = web.Application()
        _mount(
            app,
            settings.media_cors_origins,
            MediaRoutes(delivery, assets, descriptions, gate, hot, departure, settings.media_idle_timeout),
            UploadRoutes(ingest, tokens, presenter, metrics, settings.media_idle_timeout, settings.media_min_rate),
            AssetRoutes(assets, tokens, presenter, warming, sets, settings.media_idle_timeout),
            StoreRoutes(
                kept.own, tokens, metrics, delivery.forget, identities=kept.identities, max_bytes=max(_max_bytes(settings).values())
            ),
            health,
            PageRoutes(),
        )
        runner = Runner(
            app,
            metrics,
            hot,
            head_timeout_s=settings.media_header_timeout,
            keepalive_s=settings.media_keepalive,
            drain_s=settings.media_drain,
        )
        yield Service(runner, health, known_presets, hot)


def _limits(settings: Settings, marks: tuple[Watermark, ...]) -> Limits:
    return Limits(
        max_pixels=settings.media_max_pixels,
        max_pixels_all_frames=settings.media_max_pixels_all_frames,
        max_frames=settings.media_max_frames,
        budget_bytes=settings.media_decode_budget,
        deadline_s=settings.media_render_deadline,
        shows_truncated=settings.media_truncated is Truncated.SHOW,
        watermarks=marks,
    )


def _watermarks(settings: Settings, folder: Path) -> tuple[Watermark, ...]:
    if settings.media_watermarks is None:
        return ()
    try:
        return watermarks.load(settings.media_watermarks, folder)
    except watermarks.BadWatermarks as error:
        raise StartError(f"MEDIA_WATERMARKS: {settings.media_watermarks} is not usable. {error}".removesuffix(".")) from None


def _measure(
    metrics: Metrics, kept: Stores, pool: Pool, renditions: Renditions, fleeting: BoundedBackend, warming: Warming, ties: Ties
) -> None:
    for name in (store.name for store in kept.each):
        metrics.store(name, partial(_is_asked, kept, name), partial(_owed, kept, name))
    metrics.gauge("media_render_running", "Renditions in work", lambda: pool.running)
    metrics.gauge("media_render_waiting", "Renditions that wait for a worker or for memory", lambda: pool.waiting)
    metrics.gauge("media_render_reserved_bytes", "Estimated memory of the pictures in work", lambda: pool.reserved_bytes)
    metrics.gauge("media_cache_bytes", "Memory of renditions kept in the process", lambda: renditions.cached_bytes)
    metrics.gauge("media_variants_bytes", "Bytes of the disk that renditions in the local store take", lambda: fleeting.bytes)
    metrics.gauge("media_later", "Renditions that wait to be made better when nobody waits for a worker", lambda: renditions.later)
    metrics.gauge("media_storing", "Renditions that are being stored behind their answers", lambda: renditions.storing)
    metrics.gauge(
        "media_redis_up",
        "Whether Redis is asked (1), or not (0): it does not answer, or there is none",
        lambda: ties.cache.is_there,
    )
    metrics.gauge("media_warming", "Uploads whose presets are being made, or wait for it", lambda: len(warming))


def _health(
    settings: Settings, tokens: Tokens, kept: Stores, catalogue: SqlCatalogue, pool: Pool, ties: Ties, metrics: Metrics
) -> HealthRoutes:
    return HealthRoutes(
        {
            "store": _silent(kept.media.ping),
            "catalogue": _silent(catalogue.ping),
            "renderer": pool.capabilities,
        },
        {"variants": _silent(kept.variants.ping), **ties.checks}
        | {f"store.{name}": check for name, check in _each_store(kept).items()},
        {"reads": str(settings.media_read_access), "transforms": str(settings.media_transform_access)},
        version(NAME),
        metrics,
        Operators(settings.media_operator_networks, tokens),
    )


def _mount(
    app: web.Application,
    origins: tuple[str, ...],
    media: MediaRoutes,
    uploads: UploadRoutes,
    assets: AssetRoutes,
    store: StoreRoutes,
    health: HealthRoutes,
    pages: PageRoutes,
) -> None:
    table: list[tuple[str, str, dict[str, Any]]] = [
        ("media", r"/api/media/{key:[\s\S]*}", {"GET": media.get, "HEAD": media.get, "DELETE": media.delete}),
        ("upload", "/api/upload", {"POST": uploads.create}),
        ("assets", "/api/assets", {"GET": assets.page, "HEAD": assets.page}),
        ("assets-query", "/api/assets/query", {"POST": assets.query}),
        ("asset", "/api/assets/{key:.+}", {"GET": assets.get, "HEAD": assets.get, "PATCH": assets.patch}),
        ("store-list", "/api/store", {"GET": store.list, "HEAD": store.list}),
        ("store", r"/api/store/{key:[\s\S]*}", {"GET": store.get, "HEAD": store.get, "PUT": store.put, "DELETE": store.delete}),
        ("health", "/api/health", {"GET": health.health, "HEAD": health.health}),
        ("live", "/api/health/live", {"GET": health.live, "HEAD": health.live}),
        ("ready", "/api/health/ready", {"GET": health.ready, "HEAD": health.ready}),
        ("metrics", "/metrics", {"GET": health.metrics}),
        ("openapi", "/api/openapi.json", {"GET": pages.openapi, "HEAD": pages.openapi}),
        ("docs", "/docs", {"GET": pages.docs, "HEAD": pages.docs}),
        ("console", "/", {"GET": pages.index, "HEAD": pages.index}),
        ("console-file", "/console/{name}", {"GET": pages.file, "HEAD": pages.file}),
    ]
    cors = aiohttp_cors.setup(
        app,
        defaults={
            origin: aiohttp_cors.ResourceOptions(  # type: ignore[no-untyped-call]
                allow_headers=ALLOWED_HEADERS,
                expose_headers=EXPOSED_HEADERS,
                allow_methods=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
                max_age=PREFLIGHT_AGE_S,
            )
            for origin in origins
        },
    )
    for name, path, handlers in table:
        resource = app.router.add_resource(path, name=name)
        shared = cors.add(resource) if origins and _is_for_pages(path) else None
        for method, handler in handlers.items():
            route = resource.add_route(method, handler, expect_handler=_not_yet)
            if shared is not None:
                cors.add(route)
    app.on_response_prepare.append(_stamp(frozenset(origins)))


def _stamp(origins: frozenset[str]) -> Any:
    exposed = ",".join(EXPOSED_HEADERS)

    async def stamp(request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        headers["Server"] = SERVER
        headers["X-Request-ID"] = request[REQUEST_ID]
        if not origins or not _is_for_pages(request.path):
            return
        headers["Vary"] = f"{headers['Vary']}, Origin" if "Vary" in headers else "Origin"
        origin = request.headers.get("Origin")
        if origin in origins and "Access-Control-Allow-Origin" not in headers:
            # What the router itself refuses (404, 405) belongs to no route, so aiohttp-cors leaves it alone.
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = exposed

    return stamp


def _is_for_pages(path: str) -> bool:
    # The API, but for what media proxies say to each other.
    return path.startswith("/api/") and not path.startswith(peer.LIST)


async def _not_yet(request: web.Request) -> None:
    """Leave Expect: 100-continue to the route, which answers it when token and size are in order (aiohttp issue 8877)."""


def _each_store(kept: Stores) -> dict[str, Check]:
    # A disk that is alone is the part "store" already.
    def check(store: Backend) -> Check:
        async def state() -> Mapping[str, Any]:
            await store.ping()
            return {"breaker": kept.states()[store.name]}

        return state

    return {store.name: check(store) for store in kept.each} if len(kept.each) > 1 else {}


def _is_asked(kept: Stores, store: str) -> bool:
    return kept.states().get(store, "closed") == "closed"


def _owed(kept: Stores, store: str) -> int:
    return kept.backlog().get(store, 0)


def service_token(tokens: Tokens) -> str:
    """An admin's token, for other media proxies that share our secret."""
    return tokens.mint("media-proxy", "media:admin", SERVICE_TOKEN_S)


def _silent(ping: Any) -> Any:
    async def check() -> Mapping[str, Any] | None:
        await ping()
        return None

    return check


def _max_bytes(settings: Settings) -> dict[Kind, int]:
    return {
        Kind.IMAGE: settings.media_max_bytes_image,
        Kind.DRAWING: min(settings.media_max_bytes_svg, settings.media_max_bytes_image),
        Kind.VIDEO: settings.media_max_bytes_video,
        Kind.AUDIO: settings.media_max_bytes_audio,
        Kind.DOCUMENT: settings.media_max_bytes_document,
    }


def _own_secret(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise BadSettings(f"MEDIA_DATA_DIR: {SECRET_FILE} in it cannot be read ({error.strerror})") from None
    secret = new_secret()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secret + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise BadSettings(
            f"MEDIA_DATA_DIR: a secret cannot be written there ({error.strerror}); name a folder that is writable"
        ) from None
    return secret


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder

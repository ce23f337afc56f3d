"""Which address leads to which handler, and what pages of other origins may do."""

from __future__ import annotations

from typing import Any

import aiohttp_cors
from aiohttp import web

from proxy import peer
from proxy.middleware import REQUEST_ID
from proxy.responses import SERVER
from proxy.routes.assets import AssetRoutes
from proxy.routes.chunks import ROUTE as UPLOAD_CHUNK
from proxy.routes.chunks import ChunkRoutes
from proxy.routes.events import EventRoutes
from proxy.routes.hooks import HookRoutes
from proxy.routes.jobs import JobRoutes
from proxy.routes.media import MediaRoutes
from proxy.routes.ops import HealthRoutes, PageRoutes
from proxy.routes.promises import ROUTE as PRESIGNED
from proxy.routes.promises import PromiseRoutes
from proxy.routes.similar import SimilarRoutes
from proxy.routes.store import StoreRoutes
from proxy.routes.tus import ROUTE as TUS_UPLOAD
from proxy.routes.tus import VERSION as TUS_VERSION
from proxy.routes.tus import TusRoutes
from proxy.routes.uploads import UploadRoutes
from proxy.routes.usage import UsageRoutes

PREFLIGHT_AGE_S = 86_400
ALLOWED_HEADERS = (
    *("Authorization", "Content-Type", "Idempotency-Key", "X-Request-ID", "X-Requested-With", "X-HTTP-Method-Override"),
    *("Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"),
    *("Tus-Resumable", "Upload-Length", "Upload-Offset", "Upload-Metadata", "Upload-Defer-Length", "Upload-Concat"),
    *("Upload-Checksum", "Upload-Complete", "Upload-Draft-Interop-Version", "Last-Event-ID"),
)
EXPOSED_HEADERS = (
    *(
        "ETag",
        "Content-Range",
        "Content-Length",
        "Accept-Ranges",
        "Content-Disposition",
        "Location",
        "Content-Location",
        "Retry-After",
    ),
    *(
        "X-Request-ID",
        "X-Media-Degraded",
        "X-Media-Key",
        "Upload-Offset",
        "Upload-Length",
        "Upload-Metadata",
        "Upload-Defer-Length",
    ),
    *("Upload-Concat", "Upload-Expires", "Upload-Complete", "Upload-Limit", "Tus-Resumable", "Tus-Version", "Tus-Extension"),
    *("Tus-Max-Size", "Tus-Checksum-Algorithm", "RateLimit", "RateLimit-Policy", "Cache-Status", "Server-Timing"),
)


def mount(
    app: web.Application,
    origins: tuple[str, ...],
    media: MediaRoutes,
    uploads: UploadRoutes,
    promises: PromiseRoutes,
    tus: TusRoutes,
    chunks: ChunkRoutes,
    usage: UsageRoutes,
    assets: AssetRoutes,
    similar: SimilarRoutes,
    store: StoreRoutes,
    events: EventRoutes,
    jobs: JobRoutes,
    hooks: HookRoutes,
    health: HealthRoutes,
    pages: PageRoutes,
) -> None:
    """Give each address of *app* its handlers, and pages of *origins* the right to ask."""
    table: list[tuple[str, str, dict[str, Any]]] = [
        ("media", r"/api/media/{key:[\s\S]*}", {"GET": media.get, "HEAD": media.get, "DELETE": media.delete}),
        ("upload", "/api/upload", {"POST": uploads.create}),
        ("upload-presign", "/api/upload/presigned", {"POST": promises.offer}),
        (
            PRESIGNED,
            r"/api/upload/presigned/{key:[\s\S]+}",
            {"PUT": promises.receive, "POST": promises.receive, "DELETE": promises.withdraw},
        ),
        ("upload-confirm", "/api/upload/confirm", {"POST": promises.confirm}),
        ("upload-tokens", "/api/upload/tokens", {"POST": promises.mint}),
        ("upload-token", r"/api/upload/tokens/{key:[\s\S]+}", {"DELETE": promises.revoke}),
        ("upload-chunked", "/api/upload/chunked", {"POST": chunks.start}),
        (
            "upload-chunked-session",
            "/api/upload/chunked/{id}",
            {"GET": chunks.progress, "HEAD": chunks.progress, "DELETE": chunks.abort},
        ),
        ("upload-chunked-complete", "/api/upload/chunked/{id}/complete", {"POST": chunks.complete}),
        (UPLOAD_CHUNK, "/api/upload/chunked/{id}/{index}", {"PUT": chunks.put}),
        ("tus", "/api/uploads", {"POST": tus.create}),
        (
            TUS_UPLOAD,
            "/api/uploads/{id}",
            {"HEAD": tus.look, "GET": tus.status, "PATCH": tus.append, "DELETE": tus.remove, "POST": tus.overridden},
        ),
        ("assets", "/api/assets", {"GET": assets.page, "HEAD": assets.page}),
        ("assets-query", "/api/assets/query", {"POST": assets.query}),
        ("asset-jobs", "/api/assets/{key:.+}/jobs", {"POST": jobs.order}),
        ("asset-similar", "/api/assets/{key:.+}/similar", {"GET": similar.get, "HEAD": similar.get}),
        ("asset", "/api/assets/{key:.+}", {"GET": assets.get, "HEAD": assets.get, "PATCH": assets.patch}),
        ("usage", "/api/usage", {"GET": usage.get, "HEAD": usage.get}),
        ("owners", "/api/usage/owners", {"GET": usage.owners, "HEAD": usage.owners}),
        ("store-list", "/api/store", {"GET": store.list, "HEAD": store.list}),
        ("store", r"/api/store/{key:[\s\S]*}", {"GET": store.get, "HEAD": store.get, "PUT": store.put, "DELETE": store.delete}),
        ("profiles", "/api/profiles", {"GET": jobs.profiles, "HEAD": jobs.profiles}),
        ("jobs", "/api/jobs", {"GET": jobs.page, "HEAD": jobs.page}),
        ("job", "/api/jobs/{id}", {"GET": jobs.get, "HEAD": jobs.get, "DELETE": jobs.cancel}),
        ("job-retry", "/api/jobs/{id}/retry", {"POST": jobs.retry}),
        ("events", "/api/events", {"GET": events.stream}),
        ("hook", "/api/hooks/minio", {"POST": hooks.notify, "HEAD": hooks.ping}),
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
    app.middlewares.append(_telling(tus))
    app.on_response_prepare.append(_stamp(frozenset(origins)))


def _telling(tus: TusRoutes) -> Any:
    # aiohttp-cors takes OPTIONS for preflights alone, and refuses all others.
    @web.middleware
    async def telling(request: web.Request, handler: Any) -> web.StreamResponse:
        if request.method == "OPTIONS" and _is_tus(request) and "Access-Control-Request-Method" not in request.headers:
            return await tus.options(request)
        response: web.StreamResponse = await handler(request)
        return response

    return telling


def _stamp(origins: frozenset[str]) -> Any:
    exposed = ",".join(EXPOSED_HEADERS)

    async def stamp(request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        headers["Server"] = SERVER
        headers["X-Request-ID"] = request[REQUEST_ID]
        if _is_tus(request):
            headers["Tus-Resumable"] = TUS_VERSION
        if not origins or not _is_for_pages(request.path):
            return
        headers["Vary"] = f"{headers['Vary']}, Origin" if "Vary" in headers else "Origin"
        origin = request.headers.get("Origin")
        if origin in origins and "Access-Control-Allow-Origin" not in headers:
            # What the router itself refuses (404, 405) belongs to no route, so aiohttp-cors leaves it alone.
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = exposed

    return stamp


def _is_tus(request: web.Request) -> bool:
    return request.path.startswith("/api/uploads")


def _is_for_pages(path: str) -> bool:
    # The API, but for what media proxies say to each other.
    return path.startswith("/api/") and not path.startswith(peer.LIST)


async def _not_yet(request: web.Request) -> None:
    """Leave Expect: 100-continue to the route, which answers it when token and size are in order (aiohttp issue 8877)."""

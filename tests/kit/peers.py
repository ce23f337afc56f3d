"""Another media proxy, as far as it is a store: `StoreRoutes` over a given backend, behind the real listening side, on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from processors.errors import MediaError
from proxy.adapters.remote import RemoteBackend
from proxy.auth import Tokens
from proxy.keys import Key
from proxy.observe import Metrics
from proxy.ports import Backend
from proxy.routes.store import StoreRoutes
from proxy.server import Runner

SECRET = "a secret that two media proxies share, for tests"
MAX_BYTES = 1 << 28


@dataclass
class Peer:
    """A running one. *forgotten* are the keys whose change it was told of, *requests* what came in."""

    url: str = ""
    port: int = 0
    tokens: Tokens = field(default_factory=lambda: Tokens(SECRET, ("HS256",)))
    forgotten: list[Key] = field(default_factory=list)
    requests: list[web.BaseRequest] = field(default_factory=list)

    def token(self, scope: str | None = "media:admin") -> str:
        """A token that it takes."""
        return self.tokens.mint("peer", scope, 60)


async def _unchanged(request: web.Request, failure: MediaError) -> MediaError:
    return failure


class _NothingHot:
    def answer(self, request: web.BaseRequest) -> web.Response | None:
        return None


async def _not_yet(request: web.Request) -> None:
    """The routes answer Expect: 100-continue themselves."""


@asynccontextmanager
async def serving(
    backend: Backend | None, *, identities: frozenset[str] = frozenset(), max_bytes: int = MAX_BYTES, idle_s: float = 60.0
) -> AsyncIterator[Peer]:
    """A media proxy that keeps its objects in *backend*."""
    peer = Peer()
    metrics = Metrics()

    async def forget(key: Key) -> None:
        peer.forgotten.append(key)

    @web.middleware
    async def noting(request: web.Request, handler: object) -> web.StreamResponse:
        peer.requests.append(request)
        return await handler(request)  # type: ignore[operator, no-any-return]

    routes = StoreRoutes(backend, peer.tokens, metrics, forget, identities=identities, max_bytes=max_bytes, idle_s=idle_s)
    app = web.Application(middlewares=[noting])
    for path, handlers in {
        r"/api/store/{key:[\s\S]*}": {"GET": routes.get, "HEAD": routes.get, "PUT": routes.put, "DELETE": routes.delete},
        "/api/store": {"GET": routes.list, "HEAD": routes.list},
    }.items():
        resource = app.router.add_resource(path)
        for method, handler in handlers.items():
            resource.add_route(method, handler, expect_handler=_not_yet)
    runner = Runner(app, metrics, _NothingHot(), _unchanged, lambda: None, head_timeout_s=10, keepalive_s=60, drain_s=1)  # type: ignore[arg-type]
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        peer.port = runner.addresses[0][1]
        peer.url = f"http://127.0.0.1:{peer.port}"
        yield peer
    finally:
        await runner.cleanup()


def remote(url: str, token: str, folder: Path, **options: Any) -> RemoteBackend:
    """The store at *url*, not opened yet; what is under way lies below *folder*."""
    return RemoteBackend(url, lambda: token, spool=folder / "spool", **options)

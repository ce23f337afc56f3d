"""/api/health, /metrics, the OpenAPI document and the pages for people."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from aiohttp import web

from processors.errors import MediaError
from proxy.auth import Tokens
from proxy.errors import NotFound
from proxy.observe import Metrics

CHECK_DEADLINE_S = 2.0
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "json": "application/json"}

FORWARDED = frozenset({"Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"})
"""Headers of whoever passes on what others ask: the address of the connection is then not the caller's."""

Check = Callable[[], Awaitable[Mapping[str, Any] | None]]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Operators:
    """Who may look inside: whoever asks directly from one of the *networks*, and holders of ``media:admin``."""

    networks: Sequence[Network]
    tokens: Tokens

    def include(self, request: web.Request) -> bool:
        """Whether *request* comes from one of them; raises Unauthorized for a token that does not hold."""
        principal = self.tokens.bearer(request.headers.getall("Authorization", []))
        if principal is not None and principal.is_admin:
            return True
        if request.remote is None or FORWARDED & request.headers.keys():
            return False
        address = ipaddress.ip_address(request.remote.partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self.networks)


class HealthRoutes:
    """How the parts are. Checks raise when their part is not well, and give what is worth showing of it.

    Without the *vital* parts requests cannot be answered; without *others* the service does with less.
    *modes* are for everybody; the parts, the *version* and the metrics for *operators*.
    """

    def __init__(
        self,
        vital: Mapping[str, Check],
        others: Mapping[str, Check],
        modes: Mapping[str, str],
        version: str,
        metrics: Metrics,
        operators: Operators,
        fresh: Callable[[], Awaitable[None]],
    ) -> None:
        self._fresh = fresh
        self._vital = vital
        self._others = others
        self._modes = modes
        self._version = version
        self._metrics = metrics
        self._operators = operators
        self.is_draining = False

    async def health(self, request: web.Request) -> web.StreamResponse:
        """Every part's state and latency; 200 also when one is not well, for people and dashboards."""
        state = await self._state({**self._vital, **self._others})
        inside = (
            {"version": self._version, "process": os.getpid(), "parts": state["parts"]} if self._operators.include(request) else {}
        )
        return _fresh({"status": state["status"], **self._modes, **inside})

    async def live(self, request: web.Request) -> web.StreamResponse:
        """200 as long as the loop runs."""
        return _fresh({"status": "ok"})

    async def ready(self, request: web.Request) -> web.StreamResponse:
        """200 if requests can be answered, else a true 503."""
        state = await self._state(self._vital)
        return _fresh({"status": state["status"]}, 200 if state["status"] == "ok" else 503)

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Prometheus' text format; raises NotFound for others than operators."""
        if not self._operators.include(request):
            raise NotFound
        await self._fresh()
        body, content_type = self._metrics.page(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    async def _state(self, checks: Mapping[str, Check]) -> dict[str, Any]:
        parts = dict(zip(checks, await asyncio.gather(*map(_checked, checks.values())), strict=True))
        well = all(part["status"] == "ok" for part in parts.values())
        status = "draining" if self.is_draining else "ok" if well else "degraded"
        return {"status": status, "parts": parts}


class PageRoutes:
    """The console at /, its files, the API's description and its reference page; read once, answered from memory."""

    def __init__(self) -> None:
        console = resources.files("proxy") / "console"
        self._files = {file.name: file.read_bytes() for file in console.iterdir() if file.name.rpartition(".")[2] in TYPES}
        self._files["openapi.json"] = (resources.files("proxy") / "openapi.json").read_bytes()
        self._etags = {name: f'"{hashlib.sha256(data).hexdigest()[:32]}"' for name, data in self._files.items()}

    async def index(self, request: web.Request) -> web.StreamResponse:
        """The console."""
        return self._file(request, "index.html")

    async def docs(self, request: web.Request) -> web.StreamResponse:
        """The reference page."""
        return self._file(request, "docs.html")

    async def openapi(self, request: web.Request) -> web.StreamResponse:
        """OpenAPI 3.1."""
        return self._file(request, "openapi.json")

    async def file(self, request: web.Request) -> web.StreamResponse:
        """One of the console's files."""
        return self._file(request, request.match_info["name"])

    def _file(self, request: web.Request, name: str) -> web.StreamResponse:
        data = self._files.get(name)
        if data is None:
            raise NotFound
        headers = {
            "ETag": self._etags[name],
            "Cache-Control": "no-cache",
            "Content-Security-Policy": PAGE_POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }
        if self._etags[name] in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        return web.Response(body=data, headers=headers, content_type=TYPES[name.rpartition(".")[2]], charset="utf-8")


async def _checked(check: Check) -> dict[str, Any]:
    begun = time.perf_counter()
    try:
        async with asyncio.timeout(CHECK_DEADLINE_S):
            facts = await check()
    except (MediaError, TimeoutError) as error:
        return {"status": "failing", "code": error.slug if isinstance(error, MediaError) else "timeout"}
    return {"status": "ok", "ms": round((time.perf_counter() - begun) * 1000, 1), **(facts or {})}


def _fresh(document: dict[str, Any], status: int = 200) -> web.Response:
    return web.json_response(document, status=status, headers={"Cache-Control": "no-store"})

"""Around every request: its id, its access line, its metrics, and the one place where a failure becomes an answer."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http import HttpVersion10, HttpVersion11

from processors import tracing
from processors.errors import MediaError
from processors.tracing import NOTHING, Span
from proxy import caching
from proxy.caching import Terms
from proxy.errors import BadRequest, MethodNotAllowed, NotFound, TooLarge
from proxy.hot import HotAnswers
from proxy.observe import AccessLog, Metrics
from proxy.responses import SERVER, TERMS

VERSIONS = (HttpVersion10, HttpVersion11)
PROBLEM = "application/problem+json"
PROBLEM_MAX_BYTES = 1024
KEPT_S = {404: 60, 400: 10, 403: 10, 415: 10, 422: 10}
"""Seconds that a cache may keep a refusal of a public GET; all others are not to be kept."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
_UNDERSCORE = re.compile(r"_([a-z])")
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Judge = Callable[[web.Request, MediaError], Awaitable[MediaError]]
"""what is told of every failure, and says which one the caller is to hear of"""

log = structlog.get_logger(__name__)


def problem(failure: MediaError, request_id: str, kept_s: int = 0, terms: Terms | None = None) -> web.Response:
    """The problem document of *failure* (RFC 9457): what happened, in at most 1 KiB, and nothing of our insides.

    A cache may keep it for *kept_s* seconds; what the answer would have depended on, by *terms*, it depends on, too.
    """
    document: dict[str, Any] = {
        "type": f"/docs#{failure.slug}",
        "title": failure.title,
        "status": failure.status,
        "detail": failure.detail,
        "code": failure.slug,
        "requestId": request_id,
    }
    members = {_UNDERSCORE.sub(lambda match: match[1].upper(), name): value for name, value in failure.members.items()}
    body = json.dumps({**members, **document}).encode()
    if len(body) > PROBLEM_MAX_BYTES:
        body = json.dumps({**document, "detail": failure.title}).encode()
    headers = {
        "Cache-Control": f"public, max-age={kept_s}" if kept_s else "no-store",
        "X-Content-Type-Options": "nosniff",
        "Server": SERVER,
        **({} if terms is None else caching.selecting(terms)),
        **failure.headers,
    }
    return web.Response(body=body, status=failure.status, headers=headers, content_type=PROBLEM)


class Front:
    """Stands before the application's own handler, so that the router's refusals pass here too."""

    def __init__(self, handler: Handler, hot: HotAnswers, metrics: Metrics, judged: Judge) -> None:
        self._handler = handler
        self._judged = judged
        self._hot = hot
        self._log = AccessLog()
        self._metrics = metrics
        self._under_way = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.is_draining = False
        """Whether connections end with their present request."""

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Answer *request* and write its one line."""
        begun = time.perf_counter()
        request[REQUEST_ID] = secrets.token_hex(8)
        route, span = "other", NOTHING
        failure: BaseException | None = None
        response: web.StreamResponse | None = None
        self._under_way += 1
        self._quiet.clear()
        try:
            _check_protocol(request)
            hot = self._hot.answer(request)
            if hot is not None:
                route, response = "media", hot
                hot.request_id = request[REQUEST_ID]
            else:
                span = tracing.served("request", request.headers, request.remote)
                try:
                    response = await self._handled(request, span)
                finally:
                    route = _route(request)
        except (asyncio.CancelledError, ConnectionError) as error:
            failure = error
            raise  # the client has gone; there is nobody to tell
        except Exception as error:  # here alone every failure becomes an answer
            failure = await self._judged(request, error) if isinstance(error, MediaError) else error
            response = _refusal(request, route, failure)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._quiet.set()
            self._note(request, route, response, failure, span, time.perf_counter() - begun)
        if self.is_draining:
            response.force_close()
        return response

    async def _handled(self, request: web.Request, span: Span) -> web.StreamResponse:
        # What memory answers at once is no span: nobody does anything for it.
        with span:
            status = 500
            try:
                response = await self._handler(request)
                status = response.status
            except MediaError as error:
                status = error.status
                raise
            finally:
                method, route = request.method if request.method in METHODS else "other", _route(request)
                span.rename(f"{method} {route}")
                span.say({"http.route": route, "http.response.status_code": status, "media.request": request[REQUEST_ID]})
            return response

    async def quiet(self, deadline_s: float) -> bool:
        """Wait until no request is under way; False if *deadline_s* seconds were not enough."""
        try:
            async with asyncio.timeout(deadline_s):
                await self._quiet.wait()
        except TimeoutError:
            return False
        return True

    def _note(
        self,
        request: web.Request,
        route: str,
        response: web.StreamResponse | None,
        failure: BaseException | None,
        span: Span,
        seconds: float,
    ) -> None:
        status = 0 if response is None else response.status
        sent = 0 if response is None or request.method == "HEAD" else response.content_length or 0
        outcome = f"{status // 100}xx" if status else "gone"
        self._metrics.request(route, outcome, seconds, sent, span.trace_id(kept=True))
        if status and isinstance(failure, Exception):
            self._metrics.problem(failure.slug if isinstance(failure, MediaError) else _translated(failure).slug)
        line = {
            "id": request[REQUEST_ID],
            "route": route,
            "method": request.method,
            "path": request.raw_path.partition("?")[0][:200],
            "status": status,
            "bytes": sent,
            "ms": round(seconds * 1000, 2),
        }
        if (trace_id := span.trace_id()) is not None:
            line["trace_id"] = trace_id
        if failure is None:
            self._log.write(line)
        elif isinstance(failure, MediaError) or status < 500:
            cause = {} if failure.__cause__ is None else {"cause": repr(failure.__cause__)[:300]}
            log.info("request", **line, code=failure.slug if isinstance(failure, MediaError) else type(failure).__name__, **cause)
        else:
            log.error("request.crashed", **line, exc_info=failure)


def _route(request: web.Request) -> str:
    return request.match_info.route.name or "other"


def _refusal(request: web.Request, route: str, error: Exception) -> web.Response:
    if request.writer.output_size or request.transport is None:
        # A part of a body is out: only a broken connection tells the truth.
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the answer broke off") from error
    failure = error if isinstance(error, MediaError) else _translated(error)
    public = request.method in {"GET", "HEAD"} and "Authorization" not in request.headers and route == "media"
    terms = request.get(TERMS)
    kept_s = caching.kept_s(terms, KEPT_S.get(failure.status, 0)) if public else 0
    response = problem(failure, request[REQUEST_ID], kept_s, terms)
    if not request.content.is_eof() or request.version not in VERSIONS:
        response.force_close()  # what is left of the body is of no use, and may be long
    return response


def _translated(error: Exception) -> MediaError:
    if isinstance(error, web.HTTPMethodNotAllowed):
        return MethodNotAllowed(headers={"Allow": ", ".join(sorted(error.allowed_methods))})
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return TooLarge()
    if isinstance(error, web.HTTPNotFound):
        return NotFound()
    if isinstance(error, web.HTTPException) and error.status < 500:
        return BadRequest(error.reason)
    return MediaError()


@lru_cache(1024)
def _is_host(host: str) -> bool:
    return _HOST.fullmatch(host) is not None


def _check_protocol(request: web.Request) -> None:
    # aiohttp (3.14.5) lets HTTP/0.9 and 2.0 request lines and a Host such as a/x@evil pass.
    if request.version not in VERSIONS:
        raise BadRequest("this server speaks HTTP/1.1")
    host = request.headers.get("Host")
    if (host is None and request.version == HttpVersion11) or (host is not None and not _is_host(host)):
        raise BadRequest("the Host header is not valid")

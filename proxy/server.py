"""The listening side: aiohttp's server with the front before the application, and a deadline for the head of a request."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable
from typing import Any

import structlog
from aiohttp import StreamReader, web
from aiohttp.http_exceptions import BadHttpMethod
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from processors.errors import MediaError
from proxy.errors import BadRequest, MethodNotAllowed, TooSlow
from proxy.hot import HotAnswers
from proxy.middleware import PROBLEM, Front, Judge, problem
from proxy.observe import Metrics

READ_BUFFER_BYTES = 1 << 16
MAX_LINE_BYTES = 8190
LINGERING_S = 5.0
FRESH_S = 0.5
"""in which a connection brings its first request"""
LAST_WORDS_S = 2.0
"""For answers that are written already to leave, when all handlers have come to their end."""
_REQUEST_LINE = re.compile(rb"[A-Za-z-]{1,32} [^ \r\n]{1,8190} HTTP/1\.[01]\r\n")
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

log = structlog.get_logger(__name__)


class Connection(RequestHandler):
    """One connection: cuts a head that does not come to its end, and answers malformed HTTP with a problem document."""

    __slots__ = ("_body", "_head_deadline", "_head_timeout_s", "_metrics", "_names_method", "is_fresh")

    def __init__(self, *args: Any, head_timeout_s: float, metrics: Metrics, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timeout_s = head_timeout_s
        self._metrics = metrics
        self._head_deadline: asyncio.TimerHandle | None = None
        self._names_method = False
        self._body: StreamReader | None = None
        self.is_fresh = True
        """whether it has not brought a request yet: whoever opened it is about to ask"""

    def data_received(self, data: bytes) -> None:
        """As aiohttp does, with an eye on the clock and on what cannot be parsed."""
        super().data_received(data)
        if self._messages:
            self.is_fresh = False
            message, body = self._messages[-1]
            if isinstance(message, _ErrInfo):
                self._give_up(data)
            else:
                self._body = body
        if self._messages or self._current_request is not None:
            self._stop_clock()
        elif self._head_deadline is None:
            self._head_deadline = self._loop.call_later(self._head_timeout_s, self._head_is_late)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_clock()
        super().connection_lost(exc)

    @property
    def is_idle(self) -> bool:
        """Whether no request is in work or waits."""
        return self._current_request is None and not self._messages

    def _give_up(self, data: bytes) -> None:
        # The handler of a request whose body broke the parser would wait for more until its deadline (aiohttp 3.14.5).
        self._names_method = _REQUEST_LINE.match(data) is not None
        if self._body is not None and not self._body.is_eof():
            self._body.set_exception(web.RequestPayloadError("the body is malformed"))
            self._lingering_time = 0.0  # there is no rest of the body to wait for

    def _stop_clock(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _head_is_late(self) -> None:
        self._head_deadline = None
        if self._messages or self._current_request is not None or self.transport is None:
            return
        body = problem(TooSlow("the head of the request did not come to its end"), secrets.token_hex(8)).body
        assert isinstance(body, bytes)
        head = (
            f"HTTP/1.1 408 Request Timeout\r\nContent-Type: {PROBLEM}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self._metrics.request("malformed", "4xx", self._head_timeout_s, len(body))
        self.force_close()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What aiohttp does with bytes that are no HTTP: one line, one problem document, and the end of the connection."""
        if request.writer.output_size > 0:
            raise ConnectionError("a part of an answer is out already")
        request_id = secrets.token_hex(8)
        failure: MediaError = BadRequest("this is not valid HTTP") if status == 400 else MediaError()
        if isinstance(exc, BadHttpMethod) and self._names_method:
            failure = MethodNotAllowed(headers={"Allow": METHODS})
        log.info("request.malformed", id=request_id, status=failure.status, reason=type(exc).__name__)
        self._metrics.request("malformed", f"{failure.status // 100}xx", 0.0, 0)
        response = problem(failure, request_id)
        response.force_close()
        return response


class Listener(web.Server):
    """Makes a `Connection` for each client."""

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Runs the application with our limits, alone or under gunicorn (whose own settings do not reach aiohttp).

    *leaving* ends at a stop what would go on for ever.
    """

    def __init__(
        self,
        app: web.Application,
        metrics: Metrics,
        hot: HotAnswers,
        judged: Judge,
        leaving: Callable[[], None],
        *,
        head_timeout_s: float,
        keepalive_s: float,
        drain_s: float,
    ) -> None:
        super().__init__(
            app,
            handler_cancellation=True,
            shutdown_timeout=LAST_WORDS_S,
            access_log=None,
            auto_decompress=False,
            read_bufsize=READ_BUFFER_BYTES,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            keepalive_timeout=keepalive_s,
            lingering_time=LINGERING_S,
            head_timeout_s=head_timeout_s,
            metrics=metrics,
        )
        self._metrics = metrics
        self._hot = hot
        self._judged = judged
        self._leaving = leaving
        self._drain_s = drain_s
        self._front: Front | None = None

    async def cleanup(self) -> None:
        """Take nothing new and let requests finish, their bodies too: aiohttp's own shutdown (3.14.5) stops reading at once."""
        await self._stop_accepting()
        self._leaving()
        if self._front is not None and self.server is not None:
            self._front.is_draining = True
            await self._first_requests()
            for connection in self.server.connections:
                if isinstance(connection, Connection) and connection.is_idle:
                    connection.close()
            if not await self._front.quiet(self._drain_s):
                log.warning("drain.cut", seconds=self._drain_s)
        await super().cleanup()

    async def _stop_accepting(self) -> None:
        # In this order: asyncio (3.11) drops a connection that it has accepted in the moment before its server is closed.
        for site in self.sites:
            server = site._server
            for listening in () if server is None else server.sockets:  # type: ignore[attr-defined]
                asyncio.get_running_loop().remove_reader(listening.fileno())
        for _ in range(3):  # turns of the loop, in which what is accepted becomes a connection
            await asyncio.sleep(0)
        for site in self.sites:
            await site.stop()

    async def _first_requests(self) -> None:
        # Where others go on listening, who has come to us in the last moment must not find the door shut.
        assert self.server is not None
        until = asyncio.get_running_loop().time() + FRESH_S
        await asyncio.sleep(0)
        while asyncio.get_running_loop().time() < until:
            if not any(isinstance(connection, Connection) and connection.is_fresh for connection in self.server.connections):
                return
            await asyncio.sleep(FRESH_S / 100)

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        assert server is not None
        self._front = Front(server.request_handler, self._hot, self._metrics, self._judged)
        return Listener(
            self._front,  # type: ignore[arg-type]
            request_factory=server.request_factory,
            handler_cancellation=server.handler_cancellation,
            **server._kwargs,
        )

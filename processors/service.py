"""The pictures' own service: a pool of workers behind HTTP, for any number of media proxies.

What a media proxy asks comes over ``/work``, one WebSocket for each job: the source as a stream, of a film only the parts that are
needed, and each rendition back as soon as it is made. ``/render`` and ``/probe`` are the same for who has nothing but curl.
Nothing is fetched from anywhere, and nothing is kept.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from aiohttp import web

from processors import formats, tracing
from processors.batch import Batch
from processors.conversation import FarBatch, serve
from processors.errors import BadParameter, Busy, MediaError, TooCostly
from processors.framing import Broken, Words
from processors.pool import File, Pool
from processors.sparse import Sparse
from processors.tracing import Span
from processors.transform import PIPELINE_REVISION, Transform
from processors.webline import MAX_PART_BYTES, WebLine

UPLOAD_S = 30.0
"""in which the next piece of a source must come"""
WAIT_S = 30.0
JOB_S = 300.0
HEARTBEAT_S = 10.0
RETRY_AFTER_S = 1
UNSENT_BYTES = 256 << 20
"""of renditions, of all jobs together, that wait to be taken"""


class Unauthorized(MediaError):
    """The request does not bring the token that this service shares with its proxies."""

    status = 401
    slug = "unauthorized"
    title = "A valid token is needed"


class Spool:
    """The disk that sources lie on while they are worked on: *most* bytes of one, *all_bytes* of all together, in *folder*.

    *received* hears how many come in.
    """

    def __init__(self, folder: Path, most: int, all_bytes: int, received: Callable[[int], None]) -> None:
        self._folder = folder
        self._most = most
        self._left = all_bytes
        self._all = all_bytes
        self._received = received

    @property
    def bytes(self) -> int:
        """What lies there."""
        return self._all - self._left

    @asynccontextmanager
    async def source(self) -> AsyncIterator[Spooled]:
        """An empty file, which goes when the block ends."""
        with tempfile.NamedTemporaryFile(dir=self._folder, buffering=0) as file:
            spooled = Spooled(file, self._took)
            try:
                yield spooled
            finally:
                self._left += spooled.bytes

    def _took(self, before: int, count: int) -> None:
        if before + count > self._most:
            raise TooCostly(f"a source may have {self._most} bytes", limit="bytes", allowed=self._most)
        if count > self._left:
            raise Busy("the disk for sources is full", retry_after_s=RETRY_AFTER_S)
        self._left -= count
        self._received(count)


class Spooled:
    """A source on its way in: *file*, of which *took* counts the bytes before they are written."""

    def __init__(self, file: IO[bytes], took: Callable[[int, int], None]) -> None:
        self._file = file
        self._took = took
        self.bytes = 0

    @property
    def path(self) -> Path:
        """Where it is."""
        return Path(self._file.name)

    async def write(self, at: int, data: bytes) -> None:
        """Put *data* at its place; raises TooCostly, Busy."""
        self._took(self.bytes, len(data))
        self.bytes += len(data)
        try:
            await asyncio.to_thread(os.pwrite, self._file.fileno(), data, at)
        except OSError as error:
            raise Busy("there is no room for the source", retry_after_s=RETRY_AFTER_S) from error

    def resize(self, size: int) -> None:
        """Let it have *size* bytes, of which those that did not come are a hole; raises Busy."""
        try:
            self._file.truncate(size)
        except OSError as error:
            raise Busy("there is no room for the source", retry_after_s=RETRY_AFTER_S) from error


class Service:
    """The routes over *pool*. Callers bring *token* unless it is None; *counted* hears how each job ended, and after how long.

    Ready is who has nobody waiting for longer than *patience_s*, and does not stop.
    """

    def __init__(
        self,
        pool: Pool,
        spool: Spool,
        token: str | None,
        patience_s: float,
        counted: Callable[[str, str, float], None],
        exposition: Callable[[str], tuple[bytes, str]],
    ) -> None:
        self._pool = pool
        self._spool = spool
        self._token = None if token is None else token.encode()
        self._patience_s = patience_s
        self._counted = counted
        self._exposition = exposition
        self._jobs = 0
        self._unsent_bytes = 0
        self._emptied = asyncio.Event()
        self.is_stopping = False

    def app(self) -> web.Application:
        """The application of it."""
        app = web.Application(middlewares=[self._guarded], client_max_size=0)
        app.router.add_get("/work", self.work)
        app.router.add_post("/render", self.render)
        app.router.add_post("/probe", self.probe)
        app.router.add_get("/health", self.health)
        app.router.add_get("/health/live", self.live)
        app.router.add_get("/health/ready", self.ready)
        app.router.add_get("/metrics", self.metrics)
        return app

    @web.middleware
    async def _guarded(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            if request.path not in {"/health/live", "/health/ready"}:
                self._check(request)
            return await handler(request)
        except MediaError as error:
            return problem(error)

    def _check(self, request: web.Request) -> None:
        if self._token is None and "Origin" in request.headers:
            raise Unauthorized("a page in a browser is not asked by this machine's owner: set PROCESSOR_TOKEN")
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if self._token is not None and not (
            scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token)
        ):
            raise Unauthorized("say Authorization: Bearer and the PROCESSOR_TOKEN that both sides have")

    # -- work ------------------------------------------------------------------------------------------------------------------

    async def work(self, request: web.Request) -> web.StreamResponse:
        """One job of a media proxy; raises Busy before anything is sent."""
        with self._admitted():
            socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, compress=False, max_msg_size=MAX_PART_BYTES, writer_limit=1 << 20)
            await socket.prepare(request)
            try:
                with tracing.served("work", request.headers, request.remote) as span:
                    async with asyncio.timeout(JOB_S), WebLine(socket, self._unsent) as line:
                        await self._converse(line, span)
            except (Broken, TimeoutError):
                pass  # who asked has gone, or says nothing
            finally:
                await socket.close()
            return socket

    async def _converse(self, line: WebLine, span: Span) -> None:
        began = asyncio.get_running_loop().time()
        outcome, do = "gone", "render"
        try:
            async with self._spool.source() as spooled:
                words, _ = await line.hear()
                do = words["do"] if words["do"] in {"render", "inspect", "clean"} else "inspect"
                await _received(line, spooled)
                batch = FarBatch(line, in_background=bool(words.get("nice")), has_room=self._has_room)

                async def taken(part: Words, data: bytes) -> None:
                    await spooled.write(int(part["part"]), data)

                file: File = spooled.path
                if "bytes" in words and spooled.bytes < words["bytes"]:
                    file = Sparse(spooled.path, words["bytes"], spooled.bytes, batch.fill)
                    spooled.resize(words["bytes"])
                outcome = await serve(self._pool, words, file, batch, line, batch.listen(taken))
                await line.flush()
        except MediaError as error:
            outcome = error.slug
            line.refuse(error)
            await line.flush()
        except (KeyError, TypeError, ValueError, AssertionError) as error:
            raise Broken from error
        finally:
            span.rename(do)
            span.say({"media.outcome": outcome})
            self._counted(do, outcome, asyncio.get_running_loop().time() - began)

    def _unsent(self, size: int) -> None:
        self._unsent_bytes += size

    def _has_room(self, size: int) -> bool:
        return not self._unsent_bytes or self._unsent_bytes + size <= UNSENT_BYTES

    # -- the same by hand ------------------------------------------------------------------------------------------------------

    async def render(self, request: web.Request) -> web.Response:
        """What the query makes of the body: one rendition."""
        async with self._body(request) as path:
            with path.open("rb") as file:
                source = formats.sniff(file.read(formats.HEAD_BYTES))
            transform = Transform.parse(request.rel_url.raw_query_string).settled(source.mime, request.headers.get("Accept", ""))
            if transform.is_data:
                raise BadParameter("what is said of a file is told by /probe", param="format", allowed="a format of pictures")
            made = await self._one(path, transform)
        headers = {"X-Media-Degraded": ", ".join(made.degraded)} if made.degraded else {}
        return web.Response(body=made.data, content_type=made.content_type, headers=headers)

    async def probe(self, request: web.Request) -> web.Response:
        """What the body is, decoded once from end to end, or of a film its beginning."""
        async with self._body(request) as path:
            seen = await self._pool.inspect(path, whole=True, wait_s=WAIT_S)
        return web.json_response(asdict(seen))

    async def _one(self, path: Path, transform: Transform) -> Any:
        batch = Batch(lambda: None)
        waiting = asyncio.ensure_future(batch.join(transform))
        await asyncio.sleep(0)
        try:
            await self._pool.render(path, batch)
        except Exception as error:  # noqa: BLE001, RUF100 - whoever waits raises it
            batch.fail(error)
        return await waiting

    @asynccontextmanager
    async def _body(self, request: web.Request) -> AsyncIterator[Path]:
        with self._admitted():
            async with self._spool.source() as spooled:
                try:
                    async with asyncio.timeout(JOB_S):
                        await _read(request, spooled)
                except TimeoutError:
                    raise Busy("the body stands still") from None
                yield spooled.path

    # -- how it is -------------------------------------------------------------------------------------------------------------

    async def health(self, request: web.Request) -> web.Response:
        """All of it in one JSON; 503 while it should get no work."""
        told: dict[str, Any] = {
            "status": self._status(),
            "pipeline": PIPELINE_REVISION,
            "places": self._pool.places,
            "idle": self._pool.is_idle and not self._jobs,
        }
        told |= {
            "running": self._pool.running,
            "waiting": self._pool.waiting,
            "oldestWaitSeconds": round(self._pool.oldest_wait_s, 3),
        }
        with suppress(Busy, TimeoutError):
            async with asyncio.timeout(1.0):
                told["capabilities"] = await self._pool.capabilities()
        return web.json_response(told, status=200 if told["status"] == "ok" and "capabilities" in told else 503)

    async def live(self, request: web.Request) -> web.Response:
        """200 as long as the process answers."""
        return web.json_response({"status": "ok"})

    async def ready(self, request: web.Request) -> web.Response:
        """503 while it stops, and while somebody waits for too long."""
        status = self._status()
        return web.json_response({"status": status}, status=200 if status == "ok" else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        """In the words of Prometheus."""
        body, content_type = self._exposition(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def drained(self, most_s: float) -> None:
        """Wait until no work is left, and so many seconds at most."""
        if self._jobs:
            with suppress(TimeoutError):
                async with asyncio.timeout(most_s):
                    await self._emptied.wait()

    def _status(self) -> str:
        if self.is_stopping:
            return "stopping"
        return "busy" if self._pool.oldest_wait_s > self._patience_s else "ok"

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self.is_stopping:
            raise Busy("the service is stopping", retry_after_s=RETRY_AFTER_S)
        if self._jobs >= self._pool.places:
            raise Busy("too many wait already", retry_after_s=RETRY_AFTER_S)
        self._jobs += 1
        self._emptied.clear()
        try:
            yield
        finally:
            self._jobs -= 1
            if not self._jobs:
                self._emptied.set()


def problem(error: MediaError) -> web.Response:
    """*error* as RFC 9457 has it."""
    document = {
        **error.members,
        "type": f"/docs#{error.slug}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
    }
    body = json.dumps(document | {"code": error.slug}).encode()
    return web.Response(status=error.status, body=body, content_type="application/problem+json", headers=error.headers)


async def _read(request: web.Request, spooled: Spooled) -> None:
    while True:
        async with asyncio.timeout(UPLOAD_S):
            data = await request.content.read(1 << 16)
        if not data:
            return
        await spooled.write(spooled.bytes, data)


async def _received(line: WebLine, spooled: Spooled) -> None:
    # The source, or of a film its beginning, up to the word that this is it.
    while True:
        try:
            async with asyncio.timeout(UPLOAD_S):
                words, data = await line.hear()
        except TimeoutError:
            raise Broken from None
        if "here" in words:
            return
        await spooled.write(int(words["part"]), data)

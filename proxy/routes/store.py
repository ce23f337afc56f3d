"""/api/store: the stores of this media proxy, for another one that keeps objects here (`adapters.remote`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from urllib.parse import parse_qsl

from aiohttp import web
from multidict import CIMultiDict

from processors.errors import MediaError
from proxy import generations, keys, peer, responses, streams
from proxy.auth import Action, Tokens, require_right
from proxy.conditions import ETag, NotModified, Version, Wanted
from proxy.errors import BadRequest, LoopDetected, TooLarge, Unavailable
from proxy.keys import Key
from proxy.observe import Metrics
from proxy.ports import Backend, Listed, ObjectMeta, ObjectReader
from proxy.routes import targets
from proxy.routes.bodies import go_ahead, raw_body

IDLE_S = 600.0
"""Another media proxy passes a slow client's pace on, a block of 128 KiB at a time: at 512 bytes a second it takes 256 s."""
BATCH_BYTES = 1 << 14
HEARTBEAT_S = 1.0
OVERWRITES = 3
REFUSED_ON_PUT = ("Content-Encoding", "Content-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")
INERT = {
    "Cache-Control": "private, no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": responses.SANDBOX,
    "Content-Disposition": "attachment",
    "Accept-Ranges": "bytes",
}
"""What is served is for a program; a browser that comes here shows none of it."""


class StoreRoutes:
    """Objects as a store gives them, for tokens with media:admin.

    **No circles.** *backend* is made of the stores of this proxy itself and never of other proxies: what comes in here is
    answered from here or not at all, so no request goes on to a third proxy, however they name each other. None stands for a
    proxy that could not answer without asking another one; it has nothing to say but LoopDetected (508).

    A proxy that names itself, or one that keeps its objects in the very same store, would be worse than a circle: what it
    copies home and then removes from the other would be gone from both. So every request says by *identities* which stores its
    sender has (`peer.HOP`), and one that has a store in common with us gets LoopDetected too.

    A body is asked for (100 Continue) only when *backend* begins to read it: a store that is away, or full, has then taken
    nothing, and the sender still has the whole. *forget* hears of each key that changed, so that no cache holds on to it.
    """

    def __init__(
        self,
        backend: Backend | None,
        tokens: Tokens,
        metrics: Metrics,
        forget: Callable[[Key], Awaitable[None]],
        *,
        identities: frozenset[str],
        max_bytes: int,
        idle_s: float = IDLE_S,
    ) -> None:
        self._backend = backend
        self._tokens = tokens
        self._metrics = metrics
        self._forget = forget
        self._identities = identities
        self._max_bytes = max_bytes
        self._idle_s = idle_s

    async def get(self, request: web.Request) -> web.StreamResponse:
        """GET and HEAD of an object, or a range of it; If-Match and its kin, and If-Range, hold."""
        with _named():
            backend, key = self._entered(request)
            wanted = responses.wanted(request)
            try:
                reader = await _opened(backend, key, wanted, bodiless=request.method == "HEAD")
            except NotModified as same:
                return web.Response(status=304, headers={**INERT, peer.STORE: peer.OK, "ETag": str(same.version.etag)})
            return await responses.stream(request, reader, CIMultiDict(INERT | peer.described(reader.meta)), self._idle_s)

    async def put(self, request: web.Request) -> web.StreamResponse:
        """Store the body as it comes; 201 with its etag, which is the one in `peer.GENERATION` where the sender gives one."""
        with _named():
            backend, key = self._entered(request)
            content_type, etag = self._check_head(request)
            meta = await backend.put(key, self._body(request), content_type, size=request.content_length, etag=etag)
            await self._forget(key)
            return web.Response(status=201, headers=_kept(meta))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Remove the object; 204 also if there is none."""
        with _named():
            backend, key = self._entered(request)
            await backend.delete(key)
            await self._forget(key)
            return web.Response(status=204, headers={peer.STORE: peer.OK})

    async def list(self, request: web.Request) -> web.StreamResponse:
        """GET: the objects whose keys begin with ``prefix``, a JSON array a line, then `peer.END`. HEAD: would a write work?

        An empty line says that the search goes on. A list that breaks off has no end, nor has its chunked coding.
        """
        with _named():
            backend = self._own(request)
            if request.method == "HEAD":
                await backend.ping()
                return web.Response(headers={"Cache-Control": "no-store", peer.STORE: peer.OK})
            prefix = _prefix(targets.split(request, peer.LIST)[1])
            async with aclosing(_awake(_batches(backend.list(prefix)))) as batches:
                first = await anext(batches)
                headers = INERT | {"Content-Type": "application/x-ndjson", "Accept-Ranges": "none", peer.STORE: peer.OK}
                response = web.StreamResponse(headers=headers)
                response.enable_chunked_encoding()
                await response.prepare(request)
                await self._write(response, first)
                async for batch in batches:
                    await self._write(response, batch)
                await response.write_eof()
                return response

    async def _write(self, response: web.StreamResponse, batch: bytes) -> None:
        async with asyncio.timeout(self._idle_s):
            await response.write(batch)

    def _own(self, request: web.Request) -> Backend:
        # Who may come in, and which stores may answer.
        require_right(self._tokens.bearer(request.headers.getall("Authorization", [])), Action.ADMIN)
        if any(peer.met(value, self._identities) for value in request.headers.getall(peer.HOP, [])):
            raise LoopDetected("this media proxy keeps its objects in a store of the one that asks: they must not name each other")
        if self._backend is None:
            raise LoopDetected("this media proxy keeps its objects at another one, and a request makes one hop only")
        return self._backend

    def _entered(self, request: web.Request) -> tuple[Backend, Key]:
        backend = self._own(request)
        path, query = targets.split(request, peer.OBJECTS)
        if query:
            raise BadRequest("the address of a stored object has no parameters: write ? as %3F")
        return backend, keys.from_target(path)

    def _check_head(self, request: web.Request) -> tuple[str, str | None]:
        for name in REFUSED_ON_PUT:
            if name in request.headers:
                raise BadRequest(f"a store takes whole bodies as they are, without {name}")
        if (request.content_length or 0) > self._max_bytes:
            raise TooLarge(f"a body may have {self._max_bytes} bytes", max_bytes=self._max_bytes)
        content_type = request.headers.get("Content-Type", "")
        etag = request.headers.get(peer.GENERATION)
        if not peer.is_type(content_type):
            raise BadRequest("say the type of the body in Content-Type")
        if etag is not None and not generations.is_generation(etag):
            raise BadRequest(f"{peer.GENERATION} is g and 32 hex digits")
        return content_type, etag

    async def _body(self, request: web.Request) -> AsyncIterator[bytes]:
        await go_ahead(request)
        body = streams.limited(raw_body(request), lambda: self._max_bytes)
        async for chunk in streams.paced(body, self._idle_s, 0):
            self._metrics.received("store", len(chunk))
            yield chunk


@contextmanager
def _named() -> Iterator[None]:
    # Every refusal says that it is ours, and which (`peer.STORE`).
    try:
        yield
    except MediaError as failure:
        failure.headers[peer.STORE] = failure.slug
        raise


async def _opened(backend: Backend, key: Key, wanted: Wanted, *, bodiless: bool) -> ObjectReader:
    """The object or the range of it that is *wanted*, of one version; raises NotModified and PreconditionFailed."""
    if bodiless:
        meta = await backend.head(key)
        wanted.check(_version(meta))
        return ObjectReader(meta, _nothing())
    span = wanted.span
    if span is not None and wanted.is_conditional:  # conditions come before ranges (RFC 9110 section 13.2.2)
        version = _version(await backend.head(key))
        wanted.check(version)
        span = wanted.span_of(version)
    for _ in range(OVERWRITES):
        reader = await backend.open(key, span)
        try:
            version = _version(reader.meta)
            wanted.check(version)
            if span is None or wanted.span_of(version) is not None:
                return reader
        except BaseException:
            await reader.aclose()
            raise
        await reader.aclose()
        span = None  # overwritten since If-Range was weighed: it gets the whole of the new version
    raise Unavailable("the object changes too fast to be read")


def _version(meta: ObjectMeta) -> Version:
    return Version(ETag(meta.etag), meta.modified, meta.etag)


def _kept(meta: ObjectMeta) -> dict[str, str]:
    headers = {"Cache-Control": "no-store"} | peer.described(meta)
    del headers["Content-Type"]  # of the object, and this answer has no body
    return headers


def _prefix(query: str) -> str:
    try:
        given = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=4))
    except ValueError:  # more fields than that
        given = {"": ""}
    if given.keys() - {"prefix"}:
        raise BadRequest("a list has one parameter, prefix")
    return given.get("prefix", "")


async def _batches(listing: AsyncIterator[Listed]) -> AsyncGenerator[bytes, None]:
    batch = bytearray()
    async for found in listing:
        batch += peer.line(found)
        if len(batch) >= BATCH_BYTES:
            yield bytes(batch)
            batch.clear()
    yield bytes(batch) + peer.END


async def _awake(batches: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """*batches*, with an empty line for every second that the next one takes."""
    while True:
        pending = asyncio.ensure_future(_next(batches))
        try:
            while not (await asyncio.wait({pending}, timeout=HEARTBEAT_S))[0]:
                yield b"\n"
        except BaseException:
            pending.cancel()
            await asyncio.wait({pending})
            await batches.aclose()
            raise
        batch = pending.result()
        if batch is None:
            return
        yield batch


async def _next(batches: AsyncGenerator[bytes, None]) -> bytes | None:
    return await anext(batches, None)


async def _nothing() -> AsyncIterator[bytes]:
    for chunk in tuple[bytes, ...]():
        yield chunk

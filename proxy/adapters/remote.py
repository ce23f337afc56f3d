"""Another media proxy as a store: its /api/store (`proxy.routes.store`) over HTTP, both ways as a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import structlog
from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from yarl import URL

from processors import tracing
from processors.errors import MediaError
from proxy import generations, keys, peer
from proxy.adapters.outgoing import Deadlines, Outgoing, send
from proxy.adapters.remote_answers import explained, refusal, translated
from proxy.adapters.remote_reading import Download
from proxy.adapters.staging import WHOLE_BYTES, Intake, Staging
from proxy.errors import Conflict, RangeNotSatisfiable, Unavailable
from proxy.keys import Key
from proxy.ports import Admit, Body, ByteRange, Listed, ObjectMeta, ObjectReader

CONNECTIONS = 64
READ_BYTES = 1 << 16
FAR = 10**15
"""A first byte beyond every object, where a larger number would not be understood."""
DROPPED_BYTES = 4096
DROPPING_S = 1.0

log = structlog.get_logger(__name__)


class RemoteBackend:
    """The stores of the media proxy at *url*, which comes from the configuration alone: no key can lead anywhere else.

    Each request carries what *token* gives (an admin's, for the other proxy) and the names *identities* of our own stores;
    nothing of our client's goes along. Redirects are not followed, cookies not kept, environment proxies not used. *spool* is a
    folder of this machine for what is under way.
    """

    def __init__(
        self,
        url: str,
        token: Callable[[], str],
        *,
        spool: Path,
        name: str = "proxy",
        identities: frozenset[str] = frozenset(),
        whole_bytes: int = WHOLE_BYTES,
        deadlines: Deadlines | None = None,
        upload_connections: int = CONNECTIONS,
        download_connections: int = CONNECTIONS,
    ) -> None:
        self.name = name
        self._origin = peer.checked(url)
        self._token = token
        self._staging = Staging(spool, whole_bytes=whole_bytes)
        self._hop = peer.hop(identities)
        self._connections = (download_connections, upload_connections)
        self._deadlines = deadlines or Deadlines()
        self._stack = AsyncExitStack()
        self._reads: ClientSession | None = None
        self._writes: ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Make ready to connect; nothing is asked yet. Writes have connections of their own, so slow ones leave reads alone."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._staging)
            self._reads, self._writes = [await stack.enter_async_context(self._session(limit)) for limit in self._connections]
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    async def head(self, key: Key) -> ObjectMeta:
        """What the other proxy knows of it; raises NotFound."""
        response = await self._ask("HEAD", _target(key))
        try:
            with self._believed():
                return peer.meta_of(key, response.headers, peer.size_of(response.headers.get("Content-Length")), self.name)
        finally:
            response.release()

    async def open(self, key: Key, span: ByteRange | None = None) -> ObjectReader:
        """The object or the range, from the other's one answer; one that breaks off is gone on with where it broke."""
        if span is not None and span.stop is not None and (span.start < 0 or span.stop <= span.start):
            span = span.within((await self.head(key)).size)  # no Range header says this
        headers = {} if span is None else {"Range": _range(span)}
        response = await self._ask("GET", _target(key), headers, expected=200 if span is None else 206)
        try:
            with self._believed():
                meta, within = self._opened(key, response, span)
        except BaseException:
            response.close()
            raise
        download = Download(self, meta, within, response)
        return ObjectReader(meta, download.chunks(), within, closing=download.close)

    async def put(
        self,
        key: Key,
        body: Body,
        content_type: str,
        admit: Admit | None = None,
        *,
        size: int | None = None,
        etag: str | None = None,
    ) -> ObjectMeta:
        """Send *body* once the other asks for it; its last block goes out when *admit* has agreed.

        Of unknown size, and empty, it goes out chunked: its end is the last that is said. The etag is minted here, so that
        after a lost answer it can be asked whether that write is there.
        """
        if not peer.is_type(content_type):
            raise Conflict("the store cannot hold an object of this type")
        etag = etag or generations.mint()
        headers = {"Content-Type": content_type, peer.GENERATION: etag} | ({"Content-Length": str(size)} if size else {})
        outgoing = Outgoing()
        intake = self._staging.intake(body, key, content_type, store=self.name, etag=etag, size=size, admit=admit, md5=False)

        async def request(blocks: Outgoing) -> ObjectMeta:
            response = await self._ask("PUT", _target(key), headers, expected=201, body=blocks)
            response.release()
            with self._believed():
                return peer.meta_of(key, response.headers, intake.size, self.name, content_type)

        async with intake:
            try:
                meta = await send(request, intake.held_back(), self._deadlines, outgoing)
            except Unavailable:
                if not outgoing.ended or (found := await self._after_all(key, etag, intake)) is None:
                    raise
                return found
            return await self._confirmed(meta, etag, intake)

    async def delete(self, key: Key) -> None:
        """Remove the object; idempotent."""
        (await self._ask("DELETE", _target(key), expected=204)).release()

    async def list(self, prefix: str = "") -> AsyncIterator[Listed]:
        """What the other lists, line by line; raises Unavailable where its last line is missing.

        Names that are no keys (others may have put them into its bucket) are left out: nobody can ask for them.
        """
        response = await self._ask("GET", f"{peer.LIST}?prefix={quote(prefix, safe='')}")
        try:
            async for line in self._lines(response):
                if line == peer.END:
                    return
                if line == b"\n":
                    continue
                with self._believed():
                    found = peer.listed(line)
                if found is not None and found.key.startswith(prefix):
                    yield found
            raise Unavailable("the list of the store broke off")
        finally:
            response.close()

    async def ping(self) -> None:
        """Raise Unavailable, StoreRefused or LoopDetected if a write would not work now."""
        (await self._ask("HEAD", peer.LIST)).release()

    async def resume(self, meta: ObjectMeta, at: int, stop: int) -> ClientResponse:
        """The bytes of *meta*'s version from *at* on; raises PreconditionFailed or NotFound when it is gone."""
        headers = {"Range": f"bytes={at}-{stop - 1}", "If-Match": f'"{meta.etag}"'}
        response = await self._ask("GET", _target(meta.key), headers, expected=206)
        try:
            with self._believed():
                again, _ = self._opened(meta.key, response, ByteRange(at, stop))
                if (again.etag, again.size) != (meta.etag, meta.size):
                    raise peer.Garbled("the rest is of another version than was asked for")
        except BaseException:
            response.close()
            raise
        return response

    async def chunk(self, response: ClientResponse) -> bytes:
        """The next bytes of a body; empty at its end. Raises Unavailable."""
        with translated():
            async with asyncio.timeout(self._deadlines.progress):
                return await response.content.readany()

    # -- asking -------------------------------------------------------------------------------------------------------

    def _session(self, connections: int) -> ClientSession:
        deadlines = self._deadlines
        return ClientSession(
            connector=TCPConnector(limit=connections),
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=READ_BYTES,
            timeout=ClientTimeout(connect=deadlines.connect + deadlines.continue_, sock_connect=deadlines.connect),
            headers={"Accept-Encoding": "identity", "User-Agent": "sav3-media-proxy"},
        )

    async def _ask(
        self,
        method: str,
        target: str,
        headers: dict[str, str] | None = None,
        *,
        expected: int = 200,
        body: Outgoing | None = None,
    ) -> ClientResponse:
        """The answer of status *expected*, its body still to come; what every other means is raised."""
        session = self._reads if body is None else self._writes
        assert session is not None, "it is not open"
        sent = {**(headers or {}), "Authorization": f"Bearer {self._token()}", peer.HOP: self._hop, **tracing.headers()}
        with translated():
            # With a body, `send` keeps the time.
            async with asyncio.timeout(self._deadlines.answer if body is None else None):
                response = await session.request(
                    method,
                    URL(self._origin + target, encoded=True),
                    headers=sent,
                    data=body,
                    expect100=body is not None,
                    allow_redirects=False,
                )
        failure = refusal(response, expected)
        if failure is not None:
            await _dropped(response)
            raise failure
        return response

    def _opened(self, key: Key, response: ClientResponse, span: ByteRange | None) -> tuple[ObjectMeta, ByteRange | None]:
        length = peer.size_of(response.headers.get("Content-Length"))
        if "Transfer-Encoding" in response.headers or response.headers.get("Content-Encoding", "identity") != "identity":
            raise peer.Garbled("the body comes in another coding than was asked for")
        if span is None:
            return peer.meta_of(key, response.headers, length, self.name), None
        start, stop, size = peer.content_range(response.headers.get("Content-Range"))
        try:
            within = span.within(size)
        except RangeNotSatisfiable:
            raise peer.Garbled("a range was answered that no byte lies in") from None
        if (start, stop, length) != (within.start, within.stop, within.length()):
            raise peer.Garbled("another range was answered than was asked for")
        return peer.meta_of(key, response.headers, size, self.name), within

    async def _lines(self, response: ClientResponse) -> AsyncIterator[bytes]:
        rest = b""
        while chunk := await self.chunk(response):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line + b"\n"
            if len(rest) > peer.MAX_LINE_BYTES:
                raise Unavailable("the list of the store has a line without an end")

    async def _after_all(self, key: Key, etag: str, intake: Intake) -> ObjectMeta | None:
        # The answer was lost, not the write, if the object is there as this very write.
        try:
            meta = await self.head(key)
        except MediaError:
            return None
        if (meta.etag, meta.size) != (etag, intake.size) or meta.sha256 not in {None, intake.sha256}:
            return None
        log.info("store.answer_lost", store=self.name, key=key)
        return meta

    async def _confirmed(self, meta: ObjectMeta, etag: str, intake: Intake) -> ObjectMeta:
        if meta.etag == etag and meta.sha256 in {None, intake.sha256}:
            return meta
        log.error("store.lied", store=self.name, key=meta.key, what="it stored other bytes than were sent, or as another write")
        await self.delete(meta.key)
        raise Unavailable("the store stored something else than was sent")

    async def check(self) -> None:
        """Raise StoreRefused, LoopDetected or Unavailable with a sentence for the operator that names the setting to look at."""
        try:
            await self.ping()
        except MediaError as failure:
            raise explained(failure) from failure

    @contextmanager
    def _believed(self) -> Iterator[None]:
        try:
            yield
        except peer.Garbled as error:
            log.error("store.lied", store=self.name, what=str(error))
            raise Unavailable("the store gives answers that cannot be right") from error


def _target(key: Key) -> str:
    # Looked at once more: this is where a key becomes an address, and a segment .. would lead out of the store.
    return peer.OBJECTS + keys.encoded(keys.parse(key))


async def _dropped(response: ClientResponse) -> None:
    # The document of a refusal is short and has come already; reading it keeps the connection.
    try:
        async with asyncio.timeout(DROPPING_S):
            await response.content.read(DROPPED_BYTES)
    except (ClientError, TimeoutError, OSError):
        pass
    response.release()


def _range(span: ByteRange) -> str:
    if span.start < 0:
        return f"bytes={span.start}"
    start = min(span.start, FAR)
    return f"bytes={start}-" if span.stop is None else f"bytes={start}-{min(span.stop, FAR + 1) - 1}"

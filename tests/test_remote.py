"""Another media proxy as a store: no circles, nowhere else to go, and never a false 404 or a body that only looks whole."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from processors.errors import MediaError
from proxy import generations, keys, peer
from proxy.adapters.local import LocalBackend
from proxy.adapters.memory import MemoryBackend
from proxy.adapters.outgoing import Deadlines
from proxy.adapters.remote import RemoteBackend
from proxy.errors import (
    BadKey,
    BadRequest,
    Conflict,
    LoopDetected,
    NotFound,
    RangeNotSatisfiable,
    StorageFull,
    StoreRefused,
    TooLarge,
    Unavailable,
)
from proxy.keys import Key
from proxy.ports import Admit, Body, ByteRange, Listed, ObjectMeta, ObjectReader
from proxy.settings import BadSettings, Settings
from tests import pictures
from tests.contracts.bodies import body, failing_after, read
from tests.kit.client import media
from tests.kit.faults import FaultProxy, Faults
from tests.kit.peers import remote, serving
from tests.kit.server import RunningServer

JPEG = "image/jpeg"
KEY = keys.parse("u7/a.jpg")
SOON = Deadlines(connect=1.0, continue_=0.3, answer=0.5, progress=0.3, commit=0.5)
DEADLINE_S = 30.0
ETAG = generations.mint()


# -- what stands on the other side ------------------------------------------------------------------------------------


@dataclass
class Stub:
    """A server that says exactly what it is told to. *heads* are the requests that came."""

    url: str = ""
    heads: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def saying(*answers: bytes, stays: bool = False) -> AsyncIterator[Stub]:
    """The first request gets the first of *answers*, and so on, the last for ever; then the line ends, unless it *stays*."""
    stub = Stub()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            stub.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answers[min(len(stub.heads), len(answers)) - 1])
            await writer.drain()
            if stays:
                await reader.read()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    stub.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield stub
    finally:
        server.close()
        await server.wait_closed()


def answer(status: str, *fields: str, data: bytes = b"", length: int | None = None) -> bytes:
    """An answer of a store of ours, whole unless its *length* is another than that of *data*."""
    size = len(data) if length is None else length
    head = (f"HTTP/1.1 {status}", f"Content-Length: {size}", f"{peer.STORE}: ok", *fields)
    return "".join(f"{line}\r\n" for line in (*head, "")).encode() + data


def found(data: bytes, *fields: str, length: int | None = None) -> bytes:
    """The answer to a GET."""
    return answer("200 OK", "Content-Type: image/jpeg", f'ETag: "{ETAG}"', *fields, data=data, length=length)


@asynccontextmanager
async def asking(url: str, folder: Path, deadlines: Deadlines = SOON, **options: object) -> AsyncIterator[RemoteBackend]:
    async with remote(url, "the-token", folder, deadlines=deadlines, **options) as backend:
        yield backend


@asynccontextmanager
async def pair(folder: Path, deadlines: Deadlines | None = None) -> AsyncIterator[tuple[RemoteBackend, FaultProxy, MemoryBackend]]:
    """A store over a line that can be broken, and what it keeps its objects in."""
    held = MemoryBackend()
    async with (
        serving(held) as there,
        FaultProxy("127.0.0.1", there.port) as line,
        remote(line.endpoint, there.token(), folder, deadlines=deadlines) as backend,
    ):
        yield backend, line, held


class Listener:
    """A port of this machine that counts who connects to it."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]

    def connections(self) -> int:
        """How many came since it was asked last."""
        count = 0
        try:
            while True:
                self.socket.accept()[0].close()
                count += 1
        except BlockingIOError:
            return count


@pytest.fixture
def elsewhere() -> AsyncIterator[Listener]:
    listener = Listener()
    yield listener  # type: ignore[misc]
    listener.socket.close()


ASK: dict[str, Callable[[RemoteBackend], Awaitable[object]]] = {
    "head": lambda backend: backend.head(KEY),
    "open": lambda backend: backend.open(KEY),
    "put": lambda backend: backend.put(KEY, body(b"data"), JPEG),
    "delete": lambda backend: backend.delete(KEY),
    "list": lambda backend: listed(backend),  # noqa: PLW0108 - defined below
    "ping": lambda backend: backend.ping(),
}


async def listed(backend: RemoteBackend) -> list[Listed]:
    return [one async for one in backend.list()]


async def read_into(got: bytearray, reader: ObjectReader) -> None:
    async with reader:
        async for chunk in reader:
            got += chunk


# -- no circles -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ASK)
async def test_a_proxy_that_names_itself_hears_that_it_is_a_loop_and_changes_nothing(tmp_path: Path, ask: str) -> None:
    mine = frozenset({peer.identity("minio:9000", "sav3-media"), peer.identity("here", "/data")})
    held = MemoryBackend()
    kept = await held.put(KEY, body(b"kept"), JPEG)
    async with serving(held, identities=mine) as itself:
        async with remote(itself.url, itself.token(), tmp_path, identities=mine) as backend:
            with pytest.raises(LoopDetected, match="MEDIA_PROXY_URL"):
                await ASK[ask](backend)
        assert len(itself.requests) == 1
    assert await held.head(KEY) == kept


async def test_two_proxies_with_one_bucket_between_them_hear_of_it(tmp_path: Path) -> None:
    shared = peer.identity("minio:9000", "sav3-media")
    theirs = frozenset({shared, peer.identity("there", "/data")})
    async with serving(MemoryBackend(), identities=theirs) as there:
        ours = frozenset({shared, peer.identity("here", "/data")})
        async with remote(there.url, there.token(), tmp_path, identities=ours) as backend:
            with pytest.raises(LoopDetected):
                await backend.put(KEY, body(b"data"), JPEG)
        async with remote(there.url, there.token(), tmp_path, identities=frozenset({peer.identity("here", "/data")})) as backend:
            assert (await backend.put(KEY, body(b"data"), JPEG)).size == 4


async def test_of_two_proxies_that_name_each_other_each_answers_from_its_own_stores(tmp_path: Path) -> None:
    """What is forwarded is never forwarded again: one request in is one request there, also for what nobody has."""
    async with serving(MemoryBackend()) as first, serving(MemoryBackend()) as second:
        to_first, to_second = remote(first.url, first.token(), tmp_path / "1"), remote(second.url, second.token(), tmp_path / "2")
        async with to_first, to_second:
            await to_first.put(KEY, body(b"data"), JPEG)
            with pytest.raises(NotFound):
                await to_second.head(KEY)
        assert (len(first.requests), len(second.requests)) == (1, 1)


async def test_a_proxy_that_would_have_to_ask_another_one_says_that_one_hop_is_enough(tmp_path: Path) -> None:
    async with serving(None) as there, remote(there.url, there.token(), tmp_path) as backend:
        with pytest.raises(LoopDetected):
            await backend.check()


# -- no way out of the configured address -----------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ["head", "open", "put", "delete"])
async def test_no_key_leads_anywhere_else(tmp_path: Path, elsewhere: Listener, ask: str) -> None:
    at = f"127.0.0.1:{elsewhere.port}"
    hostile = [
        *(f"//{at}/a", f"http://{at}/a", f"@{at}/a", f"a@{at}", f"u7/@{at}/", f"?x={at}", "u7/a?b", "u7/a#b", f"\\\\{at}\\a"),
        *("../../etc", "u7/../../../api/health", "u7/..", ".", "u7/%2e%2e/a", "u7/%2F%2Fa", f":{elsewhere.port}/a", f";{at}"),
        *(f"u7/a HTTP/1.1\r\nHost: {at}\r\n\r\n", "u7/a\r\nX-Injected: 1", "u7/a\nb", "u7/\x00", "u7/a\u2028b", f"。{at}"),
    ]
    held = MemoryBackend()
    async with serving(held) as there, remote(there.url, there.token(), tmp_path) as backend:
        for text in hostile:
            key = Key(text)
            asked: dict[str, Callable[[], Awaitable[object]]] = {
                "head": partial(backend.head, key),
                "open": partial(backend.open, key),
                "put": partial(backend.put, key, body(b"data"), JPEG),
                "delete": partial(backend.delete, key),
            }
            with suppress(BadKey, NotFound):
                await asked[ask]()
        assert there.requests
        for request in there.requests:
            assert request.raw_path.startswith(peer.OBJECTS)
            assert not {"?", "#", "\r", "\n", " "} & set(request.raw_path)
            assert request.headers["Host"] == f"127.0.0.1:{there.port}"
            assert "X-Injected" not in request.headers
        if ask == "put":
            assert {one.key async for one in held.list()} < set(hostile)
    assert elsewhere.connections() == 0


async def test_a_prefix_is_a_parameter_and_nothing_else(tmp_path: Path) -> None:
    async with serving(MemoryBackend()) as there, remote(there.url, there.token(), tmp_path) as backend:
        for prefix in ("a&prefix=b", "a#b", "//evil/", "a b", "a+b", "a%2Fb", "\r\nHost: evil", "ä"):
            assert [one async for one in backend.list(prefix)] == []
        assert [request.query["prefix"] for request in there.requests][:3] == ["a&prefix=b", "a#b", "//evil/"]


@pytest.mark.parametrize("ask", ASK)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(tmp_path: Path, elsewhere: Listener, ask: str, status: int) -> None:
    moved = f"HTTP/1.1 {status} Moved\r\nLocation: http://127.0.0.1:{elsewhere.port}/\r\nContent-Length: 0\r\n\r\n".encode()
    async with saying(moved) as stub, asking(stub.url, tmp_path, Deadlines()) as backend:
        with pytest.raises(StoreRefused, match="MEDIA_PROXY_URL"):
            await ASK[ask](backend)
        assert len(stub.heads) == 1
    assert elsewhere.connections() == 0


async def test_proxies_of_the_environment_are_not_used(
    tmp_path: Path, elsewhere: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{elsewhere.port}")
    async with serving(MemoryBackend()) as there, remote(there.url, there.token(), tmp_path) as backend:
        await backend.ping()
    assert elsewhere.connections() == 0


async def test_cookies_of_the_other_side_are_not_kept(tmp_path: Path) -> None:
    async with saying(answer("200 OK", "Set-Cookie: session=1; Path=/")) as stub:
        named = stub.url.replace("127.0.0.1", "localhost")  # jars of aiohttp take no cookies of bare addresses
        async with asking(named, tmp_path) as backend:
            await backend.ping()
            await backend.ping()
        assert len(stub.heads) == 2
        assert not any(b"cookie" in head.lower() for head in stub.heads)


async def test_each_request_has_the_service_token_and_the_hop(tmp_path: Path) -> None:
    async with saying(answer("200 OK")) as stub, asking(stub.url, tmp_path, identities=frozenset({"abc"})) as backend:
        await backend.ping()
    lines = stub.heads[0].decode().split("\r\n")
    assert "Authorization: Bearer the-token" in lines
    assert f"{peer.HOP}: 1, abc" in lines
    assert "Accept-Encoding: identity" in lines


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://media.example", "media.example", "//media.example", "http://", "http:///a", "http://u:p@media.example"),
        *("http://media.example?a=b", "http://media.example#a", "http://media.example/../a", "http://media.example/a b"),
        *("http://media.example\r\nX: 1", "http://media.example:port", "file:///etc/passwd", "http://media.example/%2e%2e"),
    ],
)
def test_an_address_that_says_more_than_where_is_refused(url: str) -> None:
    with pytest.raises(BadSettings, match="MEDIA_PROXY_URL"):
        Settings.from_env({"MEDIA_PROXY_URL": url})
    with pytest.raises(ValueError, match="and nothing else"):
        peer.checked(url)


async def test_what_lies_in_files_there_comes_whole_and_in_parts(tmp_path: Path) -> None:
    """The other proxy sends files by sendfile."""
    data = random.Random(2).randbytes(3_000_001)
    async with (
        LocalBackend(tmp_path / "store", durable=False) as held,
        serving(held) as there,
        remote(there.url, there.token(), tmp_path) as backend,
    ):
        meta = await backend.put(KEY, body(data[:1_000_000], data[1_000_000:]), JPEG)
        assert meta.sha256 == hashlib.sha256(data).hexdigest()
        assert await read(await backend.open(KEY)) == data
        assert await read(await backend.open(KEY, ByteRange(999_999, 2_999_999))) == data[999_999:2_999_999]


def test_an_address_may_have_a_port_and_a_path() -> None:
    assert peer.checked("https://media.example:8443/media/") == "https://media.example:8443/media"
    assert peer.checked("http://[::1]:10020") == "http://[::1]:10020"


# -- who is let in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ASK)
@pytest.mark.parametrize("scope", [None, "media:read media:write media:delete", "media:transform"])
async def test_only_a_token_with_admin_opens_the_store(tmp_path: Path, ask: str, scope: str | None) -> None:
    held = MemoryBackend()
    kept = await held.put(KEY, body(b"kept"), JPEG)
    async with serving(held) as there, remote(there.url, there.token(scope), tmp_path) as backend:
        with pytest.raises(StoreRefused, match="MEDIA_PROXY_TOKEN"):
            await ASK[ask](backend)
    assert await held.head(KEY) == kept


async def test_a_wall_before_the_other_proxy_is_not_taken_for_it(tmp_path: Path) -> None:
    said = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
    async with saying(said) as stub, asking(stub.url, tmp_path) as backend:
        with pytest.raises(StoreRefused, match="no media proxy"):
            await backend.check()


async def test_without_a_token_nobody_comes_in(tmp_path: Path) -> None:
    async with serving(MemoryBackend()) as there, remote(there.url, "no-token", tmp_path) as backend:
        with pytest.raises(StoreRefused, match="JWT_SECRET"):
            await backend.check()


# -- answers that are none --------------------------------------------------------------------------------------------

FOREIGN = {
    "a 404 of a web server": b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\nnot found",
    "a 404 of a proxy without the route": (
        b"HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json\r\nContent-Length: 20\r\n\r\n" + b'{"code":"not-found"}'
    ),
    "a page for every address": b'HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\nETag: "a"\r\n\r\npage',
    "a 405": b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("ask", ASK)
@pytest.mark.parametrize("what", FOREIGN)
async def test_a_404_of_somebody_else_is_no_missing_object(tmp_path: Path, ask: str, what: str) -> None:
    said = FOREIGN[what] if ask not in {"head", "ping"} else FOREIGN[what].partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    async with saying(said) as stub, asking(stub.url, tmp_path) as backend:
        with pytest.raises(StoreRefused, match="MEDIA_PROXY_URL"):
            await ASK[ask](backend)


@pytest.mark.parametrize("ask", ASK)
@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_web_server_whose_proxy_is_away_is_a_store_that_is_away(tmp_path: Path, ask: str, status: int) -> None:
    async with saying(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()) as stub, asking(stub.url, tmp_path) as backend:
        with pytest.raises(Unavailable):
            await ASK[ask](backend)


LIES = {
    "no length": b'HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nETag: "%s"\r\nMedia-Store: ok\r\n\r\ndata' % ETAG.encode(),
    "chunked": (
        b'HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nETag: "%s"\r\nMedia-Store: ok\r\nTransfer-Encoding: chunked\r\n\r\n'
        b"4\r\ndata\r\n0\r\n\r\n" % ETAG.encode()
    ),
    "compressed": found(b"data", "Content-Encoding: gzip"),
    "no etag": answer("200 OK", "Content-Type: image/jpeg", data=b"data"),
    "a weak etag": answer("200 OK", "Content-Type: image/jpeg", 'ETag: W/"a"', data=b"data"),
    "an endless etag": answer("200 OK", "Content-Type: image/jpeg", f'ETag: "{"a" * 2000}"', data=b"data"),
    "no type": answer("200 OK", f'ETag: "{ETAG}"', data=b"data"),
    "an endless type": answer("200 OK", f"Content-Type: image/{'a' * 2000}", f'ETag: "{ETAG}"', data=b"data"),
    "a size that nobody has": found(b"data", length=10**16),
    "no date, where the etag is none": answer("200 OK", "Content-Type: image/jpeg", 'ETag: "abc"', data=b"data"),
    "a part of it": answer("206 Partial Content", "Content-Type: image/jpeg", f'ETag: "{ETAG}"', data=b"data"),
    "not modified": b"HTTP/1.1 304 Not Modified\r\nMedia-Store: ok\r\n\r\n",
    "no http": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("lie", LIES)
async def test_what_cannot_be_right_is_not_believed(tmp_path: Path, lie: str) -> None:
    async with saying(LIES[lie]) as stub, asking(stub.url, tmp_path) as backend:
        with pytest.raises(Unavailable):
            await backend.open(KEY)


RANGE_LIES = {
    "the whole": found(b"0123456789"),
    "no range": answer("206 Partial Content", "Content-Type: a/b", f'ETag: "{ETAG}"', data=b"234"),
    **{
        said: answer("206 Partial Content", "Content-Type: a/b", f'ETag: "{ETAG}"', f"Content-Range: {said}", data=b"234")
        for said in ("bytes 3-5/10", "bytes 2-5/10", "bytes 2-4/*", "bytes 2-4/3", "bytes */10", "items 2-4/10", "bytes 2-4/10, 5")
    },
    "another 416": answer("416 No", "Content-Range: bytes 1-2/3"),
}


@pytest.mark.parametrize("lie", RANGE_LIES)
async def test_a_range_is_the_one_that_was_asked_for(tmp_path: Path, lie: str) -> None:
    async with saying(RANGE_LIES[lie]) as stub, asking(stub.url, tmp_path) as backend:
        with pytest.raises(Unavailable):
            await backend.open(KEY, ByteRange(2, 5))


async def test_a_body_that_is_too_short_never_ends_well(tmp_path: Path) -> None:
    async with saying(found(b"half", length=8)) as stub, asking(stub.url, tmp_path) as backend:
        reader = await backend.open(KEY)
        got = bytearray()
        with pytest.raises(Unavailable):
            await read_into(got, reader)
        assert got == b"half"
        assert len(stub.heads) > 1


async def test_bytes_behind_a_body_belong_to_no_answer(tmp_path: Path) -> None:
    poison = found(b"data") + found(b"evil")
    async with saying(poison, found(b"next"), stays=True) as stub, asking(stub.url, tmp_path) as backend:
        assert await read(await backend.open(KEY)) == b"data"
        assert await read(await backend.open(KEY)) == b"next"


LISTS = {
    "nothing": b"",
    "no last line": b'["u/a", 1, "2026-01-01T00:00:00+00:00"]\n',
    "half a line": b'["u/a", 1, "2026-01-01T00:00:00+00:00"]\n["u/b", 1',
    "no list": b"<html></html>\n",
    "an object": b'{"key": "u/a"}\n',
    "a size below nothing": b'["u/a", -1, "2026-01-01T00:00:00+00:00"]\n' + peer.END,
    "a time of nowhere": b'["u/a", 1, "2026-01-01T00:00:00"]\n' + peer.END,
    "a line without an end": b"[" * 100_000,
}


@pytest.mark.parametrize("what", LISTS)
async def test_a_list_that_broke_off_or_is_none_is_an_error(tmp_path: Path, what: str) -> None:
    async with saying(answer("200 OK", data=LISTS[what])) as stub, asking(stub.url, tmp_path) as backend:
        with pytest.raises(Unavailable):
            await listed(backend)


async def test_names_in_a_list_that_are_no_keys_are_left_out(tmp_path: Path) -> None:
    lines = b'\n["folder/", 0, "2026-01-01T00:00:00+00:00"]\n\n["u/a", 1, "2026-01-01T00:00:00+00:00"]\n' + peer.END
    async with saying(answer("200 OK", data=lines)) as stub, asking(stub.url, tmp_path) as backend:
        assert await listed(backend) == [Listed(keys.parse("u/a"), 1, datetime(2026, 1, 1, tzinfo=UTC))]


# -- lines that break and stores that stall ---------------------------------------------------------------------------


@pytest.mark.parametrize("after", [2_000, 100_000, 1_000_003])
@pytest.mark.parametrize("how", ["reset", "end", "stall"])
async def test_a_body_that_breaks_off_is_gone_on_with(tmp_path: Path, how: str, after: int) -> None:
    data = random.Random(after).randbytes(2_000_000)
    async with pair(tmp_path, Deadlines(progress=0.5)) as (backend, line, held):
        await held.put(KEY, body(data), JPEG)
        line.down = Faults(**{f"{how}_after": after})
        line.faulty = 1
        reader = await backend.open(KEY, ByteRange(10, 1_999_999))
        assert await read(reader) == data[10:1_999_999]
        assert line.accepted == 2


async def test_a_body_is_never_made_of_two_versions(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(2_000_000)
    async with pair(tmp_path) as (backend, line, held):
        await held.put(KEY, body(data), JPEG)
        line.down, line.faulty = Faults(reset_after=500_000), 1
        reader = await backend.open(KEY)
        got = bytearray(await anext(reader.chunks))
        await held.put(KEY, body(data[::-1]), JPEG)
        with pytest.raises(Unavailable, match="changed"):
            await read_into(got, reader)
        assert data.startswith(got)


@pytest.mark.parametrize(
    "fields",
    [
        (f'ETag: "{generations.mint()}"', "Content-Range: bytes 4-7/8"),
        (f'ETag: "{ETAG}"', "Content-Range: bytes 4-7/9"),
        (f'ETag: "{ETAG}"', "Content-Range: bytes 0-3/8"),
    ],
)
async def test_the_rest_of_another_version_is_not_taken(tmp_path: Path, fields: tuple[str, ...]) -> None:
    """From a store, or a cache before it, that does not heed If-Match."""
    rest = answer("206 Partial Content", "Content-Type: image/jpeg", *fields, data=b"evil")
    async with saying(found(b"half", length=8), rest) as stub, asking(stub.url, tmp_path) as backend:
        got = bytearray()
        reader = await backend.open(KEY)
        with pytest.raises(Unavailable):
            await read_into(got, reader)
        assert got == b"half"
        assert b"If-Match" in stub.heads[1]


async def test_a_line_that_breaks_again_and_again_is_given_up(tmp_path: Path) -> None:
    async with pair(tmp_path) as (backend, line, held):
        await held.put(KEY, body(bytes(1_000_000)), JPEG)
        line.down = Faults(reset_after=50_000)
        reader = await backend.open(KEY)
        with pytest.raises(Unavailable):
            await read(reader)
        assert line.accepted <= 5


async def test_a_store_that_never_asks_for_the_body_has_taken_none_of_it(tmp_path: Path) -> None:
    async with saying(b"", stays=True) as stub, asking(stub.url, tmp_path) as backend:
        source = body(b"first", b"second")
        with pytest.raises(Unavailable):
            await backend.put(KEY, source, JPEG, size=11)
        assert await anext(source) == b"first"


@pytest.mark.parametrize("ask", ["head", "open", "delete", "list", "ping"])
async def test_a_store_that_says_nothing_is_away(tmp_path: Path, ask: str) -> None:
    async with saying(b"", stays=True) as stub, asking(stub.url, tmp_path) as backend:
        with pytest.raises(Unavailable):
            await ASK[ask](backend)


@pytest.mark.parametrize("ask", ASK)
async def test_a_port_that_refuses_is_a_store_that_is_away(tmp_path: Path, elsewhere: Listener, ask: str) -> None:
    elsewhere.socket.close()
    async with asking(f"http://127.0.0.1:{elsewhere.port}", tmp_path) as backend:
        with pytest.raises(Unavailable):
            await ASK[ask](backend)


@pytest.mark.parametrize("how", ["stall", "reset"])
async def test_a_store_that_takes_only_half_of_a_body_has_nothing(tmp_path: Path, how: str) -> None:
    async with pair(tmp_path, SOON) as (backend, line, _):
        line.up = Faults(**{f"{how}_after": 1_000_000})
        line.faulty = 1
        with pytest.raises(Unavailable):
            await backend.put(KEY, body(*[bytes(100_000)] * 200), JPEG)
        line.heal()
        line.reset_all()
        with pytest.raises(NotFound):
            await backend.head(KEY)


async def test_a_write_whose_answer_was_lost_is_found_by_its_etag(tmp_path: Path) -> None:
    async with pair(tmp_path) as (backend, line, held):
        line.down, line.faulty = Faults(reset_after=len("HTTP/1.1 100 Continue\r\n\r\n") + 10), 1
        meta = await backend.put(KEY, body(b"data"), JPEG)
        assert line.accepted == 2
        stored = await held.head(KEY)
    assert (meta.etag, meta.sha256, meta.size) == (stored.etag, hashlib.sha256(b"data").hexdigest(), 4)


async def test_a_write_whose_answer_was_lost_is_not_mistaken_for_another(tmp_path: Path) -> None:
    class Overwritten(MemoryBackend):
        async def put(
            self, key: Key, body_: Body, content_type: str, admit: Admit | None = None, *, size: int | None = None,
            etag: str | None = None,
        ) -> ObjectMeta:  # fmt: skip
            await super().put(key, body_, content_type, admit, size=size, etag=etag)
            return await super().put(key, body(b"data"), content_type)

    async with (
        serving(Overwritten()) as there,
        FaultProxy("127.0.0.1", there.port) as line,
        remote(line.endpoint, there.token(), tmp_path) as backend,
    ):
        line.down, line.faulty = Faults(reset_after=len("HTTP/1.1 100 Continue\r\n\r\n") + 10), 1
        with pytest.raises(Unavailable):
            await backend.put(KEY, body(b"data"), JPEG)


async def test_a_store_that_keeps_other_bytes_than_it_got_is_caught(tmp_path: Path) -> None:
    class Framed(MemoryBackend):
        """Keeps the framing of a body in it, as stores have done (seaweedfs issue 6847)."""

        async def put(
            self, key: Key, body_: Body, content_type: str, admit: Admit | None = None, *, size: int | None = None,
            etag: str | None = None,
        ) -> ObjectMeta:  # fmt: skip
            data = b"".join([chunk async for chunk in body_])
            return await super().put(key, body(b"4;\r\n", data), content_type, etag=etag)

    async with serving(Framed()) as there, remote(there.url, there.token(), tmp_path) as backend:
        with pytest.raises(Unavailable):
            await backend.put(KEY, body(b"data"), JPEG)
        with pytest.raises(NotFound):
            await backend.head(KEY)


# -- refusals, before a byte ------------------------------------------------------------------------------------------


class Refusing(MemoryBackend):
    """Refuses every write before it reads the body."""

    def __init__(self, failure: MediaError) -> None:
        super().__init__()
        self._failure = failure

    async def put(
        self, key: Key, body_: Body, content_type: str, admit: Admit | None = None, *, size: int | None = None,
        etag: str | None = None,
    ) -> ObjectMeta:  # fmt: skip
        raise self._failure

    async def ping(self) -> None:
        raise self._failure


@pytest.mark.parametrize("failure", [Unavailable(), StorageFull(), StoreRefused(), Conflict(), LoopDetected()])
async def test_what_the_other_stores_say_comes_through_and_the_body_is_still_in_hand(tmp_path: Path, failure: MediaError) -> None:
    async with serving(Refusing(failure)) as there, remote(there.url, there.token(), tmp_path) as backend:
        source = body(b"first", b"second")
        with pytest.raises(type(failure)):
            await backend.put(KEY, source, JPEG)
        assert await anext(source) == b"first"
        with pytest.raises(type(failure)):
            await backend.ping()


async def test_a_body_over_the_limit_is_refused_before_a_byte_or_at_the_byte(tmp_path: Path) -> None:
    held = MemoryBackend()
    async with serving(held, max_bytes=1000) as there, remote(there.url, there.token(), tmp_path) as backend:
        source = body(bytes(1001))
        with pytest.raises(TooLarge):
            await backend.put(KEY, source, JPEG, size=1001)
        assert len(await anext(source)) == 1001
        with pytest.raises((TooLarge, Unavailable)):
            await backend.put(KEY, body(*[bytes(1001)] * 100), JPEG)
        assert [one async for one in held.list()] == []


async def test_a_type_that_no_header_can_carry_is_a_conflict(tmp_path: Path) -> None:
    async with serving(MemoryBackend()) as there, remote(there.url, there.token(), tmp_path) as backend:
        for content_type in ("image/jpeg\r\nX: 1", "bild", "image/" + "a" * 500, "image/ä"):
            with pytest.raises(Conflict):
                await backend.put(KEY, body(b"data"), content_type)


async def test_the_body_of_a_client_that_breaks_off_is_no_fault_of_the_store(tmp_path: Path) -> None:
    async with pair(tmp_path) as (backend, _, held):
        failure = BadRequest("the body ends too early")
        with pytest.raises(BadRequest) as raised:
            await backend.put(KEY, failing_after(bytes(500_000), failure), JPEG, size=1_000_000)
        assert raised.value is failure
        assert raised.value.__cause__ is None
        with pytest.raises(NotFound):
            await held.head(KEY)


async def test_a_change_is_told_to_the_caches_of_the_other_proxy(tmp_path: Path) -> None:
    async with serving(MemoryBackend()) as there, remote(there.url, there.token(), tmp_path) as backend:
        await backend.put(KEY, body(b"data"), JPEG)
        await backend.delete(KEY)
        assert there.forgotten == [KEY, KEY]


async def test_an_object_that_others_put_there_keeps_its_etag_and_its_time(tmp_path: Path) -> None:
    class Theirs(MemoryBackend):
        async def head(self, key: Key) -> ObjectMeta:
            return ObjectMeta(key, 4, "image/png; charset=binary", "0123abc-5", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))

    async with serving(Theirs()) as there, remote(there.url, there.token(), tmp_path) as backend:
        meta = await backend.head(KEY)
    modified = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert meta == ObjectMeta(KEY, 4, "image/png; charset=binary", "0123abc-5", modified, None, "proxy")


async def test_a_range_of_an_empty_object_is_refused_with_its_size(tmp_path: Path) -> None:
    async with serving(MemoryBackend()) as there, remote(there.url, there.token(), tmp_path) as backend:
        await backend.put(KEY, body(b"0123456789"), JPEG)
        for span in (ByteRange(4, 4), ByteRange(5, 2)):
            with pytest.raises(RangeNotSatisfiable) as refused:
                await backend.open(KEY, span)
            assert refused.value.members["size"] == 10
        assert await read(await backend.open(KEY, ByteRange(-4, 8))) == b"67"


# -- two whole services -----------------------------------------------------------------------------------------------


def test_a_service_without_a_disk_keeps_its_objects_at_another(serve: Callable[..., RunningServer]) -> None:
    far = serve()
    near = serve(MEDIA_PROXY_URL=far.url, MEDIA_LOCAL_STORE="off")
    photo = pictures.jpeg(320, 240)
    client = near.client("somebody")
    record = client.stored(photo, "image/jpeg")
    path = media(record["key"])
    assert client.get(path).body == photo
    assert client.get(path, {"Range": "bytes=10-19"}).body == photo[10:20]
    assert far.client().get(path).body == photo
    assert client.get(f"{path}?w=32").status == 200
    far.kill()
    assert near.client().get(path).code == "unavailable"
    assert client.upload(photo, "image/jpeg").code == "unavailable"
    assert near.client().get("/api/health/live").status == 200


def test_what_was_deleted_near_is_gone_far(serve: Callable[..., RunningServer]) -> None:
    far = serve()
    near = serve(MEDIA_PROXY_URL=far.url, MEDIA_LOCAL_STORE="off")
    client = near.client("somebody")
    path = media(client.stored(pictures.jpeg(32, 24), "image/jpeg")["key"])
    assert far.client().get(f"{path}?w=16").status == 200
    assert client.delete(path).status == 204
    assert (client.get(path).status, far.client().get(path).status, far.client().get(f"{path}?w=16").status) == (404, 404, 404)


def test_a_service_with_a_proxy_of_its_own_is_no_store_for_others(serve: Callable[..., RunningServer]) -> None:
    far = serve()
    near = serve(MEDIA_PROXY_URL=far.url)
    answered = near.client("service", scope="media:admin").get("/api/store")
    assert (answered.status, answered.code, answered.headers[peer.STORE]) == (508, "loop", "loop")

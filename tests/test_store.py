"""/api/store as it is on the wire: who is let in before a byte, what ranges and conditions give, lists that end or break."""

from __future__ import annotations

import asyncio
import hashlib
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from proxy import generations, keys, peer
from proxy.adapters.memory import MemoryBackend
from proxy.errors import Unavailable
from proxy.keys import Key
from proxy.ports import ByteRange, Listed, ObjectReader
from tests.contracts.bodies import body, read
from tests.kit.peers import Peer, serving

KEY = keys.parse("u7/a.jpg")
AT = f"{peer.OBJECTS}u7/a.jpg"
DATA = b"0123456789"
DEADLINE_S = 20.0


@dataclass
class Got:
    """An answer; *whole* is whether its body came to its end."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    whole: bool = True
    interim: list[int] = field(default_factory=list)

    @property
    def code(self) -> object:
        return json.loads(self.body)["code"]


class Line:
    """One raw connection to a peer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, there: Peer) -> Line:
        return cls(*await asyncio.open_connection("127.0.0.1", there.port))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(DEADLINE_S):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *fields = text.strip().split("\r\n")
        pairs = (one.partition(":") for one in fields)
        return int(line.split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs}

    async def got(self, method: str = "GET") -> Got:
        interim = []
        status, headers = await self.head()
        while status < 200:
            interim.append(status)
            status, headers = await self.head()
        answer = Got(status, headers, interim=interim)
        if method == "HEAD" or status in {204, 304}:
            return answer
        async with asyncio.timeout(DEADLINE_S):
            try:
                if "content-length" in headers:
                    answer.body = await self.reader.readexactly(int(headers["content-length"]))
                else:
                    while size := int(await self.reader.readuntil(b"\r\n"), 16):
                        answer.body += (await self.reader.readexactly(size + 2))[:-2]
            except (asyncio.IncompleteReadError, ConnectionError):
                answer.whole = False
        return answer

    async def ended(self) -> bool:
        async with asyncio.timeout(DEADLINE_S):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True


def head(there: Peer, method: str, target: str, *fields: str, token: str | None = None) -> bytes:
    given = there.token() if token is None else token
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *([f"Authorization: Bearer {given}"] if given else []), *fields]
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


async def ask(there: Peer, method: str, target: str, *fields: str, data: bytes = b"", token: str | None = None) -> Got:
    line = await Line.to(there)
    try:
        length = [f"Content-Length: {len(data)}"] if method == "PUT" else []
        await line.send(head(there, method, target, *length, *fields, token=token) + data)
        return await line.got(method)
    finally:
        line.writer.close()


@pytest.fixture
def held() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
async def there(held: MemoryBackend) -> AsyncIterator[Peer]:
    await held.put(KEY, body(DATA), "text/html")
    async with serving(held, max_bytes=1 << 20) as peer_:
        yield peer_


# -- reading ----------------------------------------------------------------------------------------------------------


async def test_an_object_comes_with_its_etag_digest_and_time_and_is_inert(held: MemoryBackend, there: Peer) -> None:
    meta = await held.head(KEY)
    digest = b64encode(hashlib.sha256(DATA).digest()).decode()
    for method in ("GET", "HEAD"):
        got = await ask(there, method, AT)
        assert (got.status, got.body) == (200, DATA if method == "GET" else b"")
        assert got.headers["etag"] == f'"{meta.etag}"'
        assert got.headers["repr-digest"] == f"sha-256=:{digest}:"
        assert got.headers["content-length"] == "10"
        assert got.headers["content-type"] == "text/html"
        assert got.headers["last-modified"].endswith("GMT")
        assert got.headers[peer.STORE.lower()] == "ok"
        assert got.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in got.headers["content-security-policy"]
        assert got.headers["content-disposition"] == "attachment"
        assert got.headers["cache-control"] == "private, no-store"


@pytest.mark.parametrize(
    ("asked", "expected", "said"),
    [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=3-5", b"345", "bytes 3-5/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-30", DATA, "bytes 0-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
    ],
)
async def test_a_range_gives_206(there: Peer, asked: str, expected: bytes, said: str) -> None:
    got = await ask(there, "GET", AT, f"Range: {asked}")
    assert (got.status, got.body, got.headers["content-range"]) == (206, expected, said)


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=99-100", "bytes=-0"])
async def test_a_range_beyond_the_end_gives_416_with_the_size(there: Peer, asked: str) -> None:
    got = await ask(there, "GET", AT, f"Range: {asked}")
    assert (got.status, got.headers["content-range"], got.code) == (416, "bytes */10", "range-not-satisfiable")
    assert got.headers[peer.STORE.lower()] == "range-not-satisfiable"


async def test_conditions_hold(held: MemoryBackend, there: Peer) -> None:
    etag = (await held.head(KEY)).etag
    assert (await ask(there, "GET", AT, f'If-Match: "{etag}"', "Range: bytes=2-3")).body == b"23"
    assert (await ask(there, "GET", AT, 'If-Match: "other"', "Range: bytes=2-3")).code == "precondition-failed"
    assert (await ask(there, "GET", AT, 'If-Match: "other"', "Range: bytes=99-")).code == "precondition-failed"
    assert (await ask(there, "GET", AT, f'If-None-Match: "{etag}"')).status == 304
    assert (await ask(there, "HEAD", AT, 'If-Match: "other"')).status == 412
    assert (await ask(there, "GET", AT, f'If-Range: "{etag}"', "Range: bytes=2-3")).body == b"23"
    assert (await ask(there, "GET", AT, 'If-Range: "other"', "Range: bytes=2-3")).body == DATA
    assert (await ask(there, "GET", AT, 'If-Range: "other"', "Range: bytes=99-")).body == DATA


async def test_a_range_is_of_the_version_that_was_weighed(there: Peer, held: MemoryBackend) -> None:
    """An overwrite between the look at If-Range and the opening gives the whole of the new version."""

    class Hasty(MemoryBackend):
        async def open(self, key: Key, span: ByteRange | None = None) -> ObjectReader:
            if span is not None:
                await self.put(key, body(b"ABCDEFGHIJ"), "a/b")
            return await super().open(key, span)

    backend = Hasty()
    old = await backend.put(KEY, body(DATA), "a/b")
    async with serving(backend) as hasty:
        got = await ask(hasty, "GET", AT, f'If-Range: "{old.etag}"', "Range: bytes=2-3")
    assert (got.status, got.body) == (200, b"ABCDEFGHIJ")


async def test_what_is_not_there_is_a_404_that_says_whose(there: Peer) -> None:
    for method in ("GET", "HEAD"):
        got = await ask(there, method, f"{AT}x")
        assert (got.status, got.headers[peer.STORE.lower()]) == (404, "not-found")


@pytest.mark.parametrize("path", ["", "u7//a", "../a", "u7/a%zz", "u7/a?a=b", "u7/%2E%2E/a", "u7/.media-proxy/a"])
async def test_an_address_that_is_no_key_is_refused(there: Peer, path: str) -> None:
    got = await ask(there, "GET", peer.OBJECTS + path)
    assert got.status == 400
    assert got.headers[peer.STORE.lower()] == got.code


# -- writing ----------------------------------------------------------------------------------------------------------


async def test_a_put_gives_201_with_the_etag_that_was_sent(held: MemoryBackend, there: Peer) -> None:
    etag = generations.mint()
    got = await ask(there, "PUT", AT, "Content-Type: image/png", f"{peer.GENERATION}: {etag}", data=b"new")
    assert (got.status, got.headers["etag"], got.body) == (201, f'"{etag}"', b"")
    meta = await held.head(KEY)
    assert (meta.etag, meta.content_type, await read(await held.open(KEY))) == (etag, "image/png", b"new")


async def test_a_put_without_an_etag_gets_one(held: MemoryBackend, there: Peer) -> None:
    got = await ask(there, "PUT", AT, "Content-Type: image/png", data=b"new")
    assert generations.is_generation(got.headers["etag"].strip('"'))
    assert got.headers["etag"] == f'"{(await held.head(KEY)).etag}"'


TYPE = "Content-Type: a/b"
REFUSED = {
    "no token": (("",), (TYPE,), 401, "unauthorized"),
    "no admin": (("media:write",), (TYPE,), 403, "forbidden"),
    "no type": ((), (), 400, "bad-request"),
    "a type that is none": ((), ("Content-Type: a b",), 400, "bad-request"),
    "no generation": ((), (TYPE, f"{peer.GENERATION}: g1"), 400, "bad-request"),
    "a part": ((), (TYPE, "Content-Range: bytes 0-9/20"), 400, "bad-request"),
    "compressed": ((), (TYPE, "Content-Encoding: gzip"), 400, "bad-request"),
    "a condition": ((), (TYPE, "If-None-Match: *"), 400, "bad-request"),
    "too large": ((), (TYPE, f"Content-Length: {1 << 21}"), 413, "too-large"),
}


@pytest.mark.parametrize("why", REFUSED)
async def test_a_put_that_is_not_in_order_is_refused_before_a_byte(held: MemoryBackend, there: Peer, why: str) -> None:
    scope, fields, status, code = REFUSED[why]
    before = await held.head(KEY)
    token = None if not scope else ("" if scope == ("",) else there.token(scope[0]))
    length = [] if any(one.startswith("Content-Length") for one in fields) else ["Content-Length: 10"]
    line = await Line.to(there)
    await line.send(head(there, "PUT", AT, *length, *fields, "Expect: 100-continue", token=token))
    got = await line.got()
    assert (got.status, got.code, got.interim, got.headers[peer.STORE.lower()]) == (status, code, [], code)
    line.writer.write_eof()
    assert await line.ended()
    line.writer.close()
    assert await held.head(KEY) == before


async def test_a_body_is_asked_for_when_it_is_read(there: Peer, held: MemoryBackend) -> None:
    line = await Line.to(there)
    await line.send(head(there, "PUT", AT, TYPE, "Content-Length: 4", "Expect: 100-continue"))
    assert (await line.head())[0] == 100
    await line.send(b"data")
    assert (await line.got()).status == 201
    line.writer.close()
    assert await read(await held.open(KEY)) == b"data"


@pytest.mark.parametrize(
    ("framing", "sent"),
    [
        ("Content-Length: 10", b"half"),
        ("Transfer-Encoding: chunked", b"4\r\nhalf\r\n"),
        ("Transfer-Encoding: chunked", b"4\r\nha"),
        ("Transfer-Encoding: chunked", b"4\r\nhalf\r\nzz\r\n"),
    ],
)
async def test_a_body_that_breaks_stores_nothing(there: Peer, held: MemoryBackend, framing: str, sent: bytes) -> None:
    line = await Line.to(there)
    await line.send(head(there, "PUT", f"{AT}x", TYPE, framing) + sent)
    line.writer.write_eof()
    assert await line.reader.read() is not None
    line.writer.close()
    assert [one.key async for one in held.list()] == [KEY]


async def test_a_chunked_body_over_the_limit_stores_nothing(there: Peer, held: MemoryBackend) -> None:
    line = await Line.to(there)
    block = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
    await line.send(head(there, "PUT", f"{AT}x", TYPE, "Transfer-Encoding: chunked") + block * 17)
    got = await line.got()
    assert (got.status, got.code) == (413, "too-large")
    line.writer.close()
    assert [one.key async for one in held.list()] == [KEY]


async def test_a_delete_is_a_204_twice(there: Peer, held: MemoryBackend) -> None:
    for _ in range(2):
        assert (await ask(there, "DELETE", AT)).status == 204
    assert [one async for one in held.list()] == []


# -- lists ------------------------------------------------------------------------------------------------------------


async def test_a_list_is_a_line_for_each_object_and_a_last_one(there: Peer, held: MemoryBackend) -> None:
    got = await ask(there, "GET", f"{peer.LIST}?prefix=u7%2F")
    modified = (await held.head(KEY)).modified
    assert got.body.splitlines(keepends=True) == [peer.line(Listed(KEY, 10, modified)), peer.END]
    assert got.headers["content-type"] == "application/x-ndjson"
    assert (await ask(there, "GET", f"{peer.LIST}?prefix=u8")).body == peer.END
    assert (await ask(there, "GET", f"{peer.LIST}?page=2")).code == "bad-request"


@pytest.mark.parametrize("query", ["prefix=u7&limit=3", "a=1&b=2&c=3&d=4&e=5&f=6", "&&&&&&"])
async def test_a_list_with_other_parameters_is_refused(there: Peer, query: str) -> None:
    assert (await ask(there, "GET", f"{peer.LIST}?{query}")).status == 400


async def test_a_list_that_fails_at_once_is_a_503_and_one_that_fails_midway_breaks_off() -> None:
    class Failing(MemoryBackend):
        def __init__(self, after: int) -> None:
            super().__init__()
            self._after = after

        async def list(self, prefix: str = "") -> AsyncIterator[Listed]:
            for number in range(self._after):
                yield Listed(keys.parse(f"u/{number}"), number, datetime(2026, 1, 1, tzinfo=UTC))
            raise Unavailable

    async with serving(Failing(0)) as there:
        assert (await ask(there, "GET", peer.LIST)).code == "unavailable"
    async with serving(Failing(1000)) as there:
        got = await ask(there, "GET", peer.LIST)
    assert (got.status, got.whole) == (200, False)
    assert peer.END not in got.body


async def test_a_search_that_takes_its_time_is_heard_of() -> None:
    found = asyncio.Event()

    class Slow(MemoryBackend):
        async def list(self, prefix: str = "") -> AsyncIterator[Listed]:
            await found.wait()
            yield Listed(KEY, 1, datetime(2026, 1, 1, tzinfo=UTC))

    async with serving(Slow()) as there:
        line = await Line.to(there)
        await line.send(head(there, "GET", peer.LIST))
        status, _ = await line.head()
        async with asyncio.timeout(DEADLINE_S):
            assert await line.reader.readuntil(b"\n\r\n") == b"1\r\n\n\r\n"
        found.set()
        async with asyncio.timeout(DEADLINE_S):
            rest = await line.reader.readuntil(b"\r\n0\r\n\r\n")
        line.writer.close()
    assert status == 200
    assert peer.END in rest


async def test_a_list_nobody_waits_for_any_more_is_given_up() -> None:
    left = asyncio.Event()

    class Endless(MemoryBackend):
        async def list(self, prefix: str = "") -> AsyncIterator[Listed]:
            try:
                await asyncio.Event().wait()
                yield Listed(KEY, 1, datetime(2026, 1, 1, tzinfo=UTC))
            finally:
                left.set()

    async with serving(Endless()) as there:
        line = await Line.to(there)
        await line.send(head(there, "GET", peer.LIST))
        await line.head()
        line.writer.transport.abort()
        async with asyncio.timeout(DEADLINE_S):
            await left.wait()


async def test_a_ping_is_a_head_of_the_list(there: Peer) -> None:
    got = await ask(there, "HEAD", peer.LIST)
    assert (got.status, got.headers[peer.STORE.lower()]) == (200, "ok")
    assert (await ask(there, "HEAD", peer.LIST, token="")).status == 401

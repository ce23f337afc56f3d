"""Every failure has the one shape, whoever noticed it: our routes, the router, or the parser of HTTP."""

from __future__ import annotations

import pytest

from tests import pictures
from tests.conftest import Harmless
from tests.kit.aftereffects import own_lines
from tests.kit.client import Answer, Client, media
from tests.kit.raw import RawAnswer, upload_head
from tests.kit.server import RunningServer
from tests.kit.waiting import until

ABORTS = 200


@pytest.mark.parametrize(("method", "target", "status", "code"), [
    ("GET", "/nothing", 404, "not-found"), ("GET", "/api", 404, "not-found"), ("GET", "/api/nothing", 404, "not-found"),
    ("GET", "/api/media", 404, "not-found"), ("GET", "/api/media/u/nothing.jpg", 404, "not-found"),
    ("POST", "/nothing", 404, "not-found"),
    ("GET", "/console/../../secret", 404, "not-found"), ("GET", "/console/%2e%2e%2fapp.py", 404, "not-found"),
    ("PUT", "/api/media/u/x.jpg", 405, "method-not-allowed"), ("POST", "/api/media/u/x.jpg", 405, "method-not-allowed"),
    ("GET", "/api/upload", 405, "method-not-allowed"), ("DELETE", "/api/assets", 405, "method-not-allowed"),
    ("POST", "/metrics", 405, "method-not-allowed"), ("PATCH", "/", 405, "method-not-allowed"),
    ("TRACE", "/", 405, "method-not-allowed"),
    ("BREW", "/api/upload", 405, "method-not-allowed"), ("OPTIONS", "/api/upload", 405, "method-not-allowed"),
    ("PROPFIND", "/api/media/u/x.jpg", 405, "method-not-allowed"),
])  # fmt: skip
def test_the_routers_own_refusals_are_problem_documents(
    server: RunningServer, harmless: Harmless, method: str, target: str, status: int, code: str
) -> None:
    with harmless(status, code) as bad, server.wire() as wire:
        answer = bad.answer = wire.request(method, target).answer()
    if status == 405:
        assert answer.header("Allow")


def test_head_of_what_is_not_there_has_no_body(server: RunningServer, stranger: Client) -> None:
    answer = stranger.head("/api/media/u/nothing.jpg")
    assert (answer.status, answer.body) == (404, b"")
    assert answer.headers["Content-Type"].startswith("application/problem+json")


CHUNKED = b"Transfer-Encoding: chunked\r\n"
GOOD = b"GET /api/health/live HTTP/1.1\r\n"
MALFORMED = {
    "no version": b"GET /api/media/u/x\r\n\r\n",
    "HTTP/0.9": b"GET /api/media/u/x HTTP/0.9\r\nHost: x\r\n\r\n",
    "HTTP/2.0": b"GET /api/media/u/x HTTP/2.0\r\nHost: x\r\n\r\n",
    "HTTP/1.2": b"GET /api/media/u/x HTTP/1.2\r\nHost: x\r\n\r\n",
    "HTTP/11": b"GET /api/media/u/x HTTP/11\r\nHost: x\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)) + b"\r\n\r\n",
    "no Host": b"GET /api/media/u/x HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET /api/media/u/x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a Host with a path": b"GET /api/media/u/x HTTP/1.1\r\nHost: a/x@evil\r\n\r\n",
    "a Host with a user": b"GET /api/media/u/x HTTP/1.1\r\nHost: user@evil\r\n\r\n",
    "an empty Host": b"GET /api/media/u/x HTTP/1.1\r\nHost: \r\n\r\n",
    "a Host with spaces": b"GET /api/media/u/x HTTP/1.1\r\nHost: a b\r\n\r\n",
    "length and chunks": b"POST /api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "two lengths": b"POST /api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a length that is none": b"POST /api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello",
    "a negative length": b"POST /api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\nhello",
    "a length list": b"POST /api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\nhello",
    "an odd transfer coding": b"POST /api/upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"POST /api/upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "a bare line feed": b"GET /api/media/u/x HTTP/1.1\nHost: x\n\n",
    "a space in a name": GOOD + b"Host: x\r\nBad Header: 1\r\n\r\n",
    "a space before the colon": GOOD + b"Host: x\r\nBad : 1\r\n\r\n",
    "NUL in a value": GOOD + b"Host: x\r\nBad: a\0b\r\n\r\n",
    "a folded line": GOOD + b"Host: x\r\nBad: a\r\n b\r\n\r\n",
    "no colon": GOOD + b"Host: x\r\nnonsense\r\n\r\n",
    "a long target": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a long header": GOOD + b"Host: x\r\nX-Long: " + b"a" * 20_000 + b"\r\n\r\n",
    "a long name": GOOD + b"Host: x\r\n" + b"a" * 20_000 + b": 1\r\n\r\n",
    "a thousand headers": GOOD + b"Host: x\r\n" + b"".join(b"X-H%d: %s\r\n" % (n, b"v" * 100) for n in range(1000)) + b"\r\n",
    "a method that is none": b"G@T / HTTP/1.1\r\nHost: x\r\n\r\n",
    "only line ends": b"\r\n" * 50 + b"nonsense\r\n\r\n",
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_http_is_400_and_ends_the_connection(server: RunningServer, harmless: Harmless, what: str) -> None:
    with harmless([400, 414, 431, 501, 505]) as bad, server.wire() as wire:
        bad.sent = ["nonsense", "evil", "aaaaaaaa"]
        wire.send_what_it_takes(MALFORMED[what])
        bad.answer = wire.answer()
        assert bad.answer.status == 400 or what not in {"no version", "HTTP/0.9", "two Hosts", "length and chunks"}
        if "Host" not in what:
            assert wire.is_given_up(bad.answer)


def test_nothing_is_smuggled_behind_a_malformed_request(server: RunningServer, harmless: Harmless) -> None:
    hidden = b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n"
    with harmless(400) as bad, server.wire() as wire:
        wire.send(b"POST /api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + hidden)
        bad.answer = wire.answer()
        data, _ = wire.rest()
        assert data == b""


@pytest.mark.parametrize(
    "chunks",
    [
        b"zz\r\nab\r\n",
        b"-1\r\n",
        b"5;a=b\nhello\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
    ],
)
def test_bad_chunks_are_400_and_leave_nothing(server: RunningServer, harmless: Harmless, chunks: bytes) -> None:
    with harmless([400]) as bad, server.wire() as wire:
        wire.send(upload_head(server.token("chunks"), "Transfer-Encoding: chunked"))
        wire.send_what_it_takes(chunks + b"0\r\n\r\n")
        bad.answer = wire.answer()
        assert wire.is_given_up(bad.answer)


def test_every_problem_says_where_it_is_explained(stranger: Client) -> None:
    document = stranger.get("/api/media/u/nothing.jpg").json
    assert document["type"]
    assert document["title"] != document["code"]
    answer = stranger.get("/api/media/u/nothing.jpg")
    assert answer.headers["X-Request-ID"] == answer.json["requestId"]


def test_a_form_or_body_that_a_route_does_not_want_is_not_read(server: RunningServer, harmless: Harmless) -> None:
    with harmless([400, 404, 405, 413]) as bad, server.wire() as wire:
        wire.request("POST", "/nothing", {"Content-Length": str(1 << 30)}).send_what_it_takes(bytes(1 << 20))
        bad.answer = wire.answer()


def test_two_hundred_clients_that_leave_make_no_traceback(server: RunningServer, client: Client, harmless: Harmless) -> None:
    photo = pictures.jpeg(2000, 1500)
    path = media(client.stored(photo)["key"])
    upload = upload_head(server.token("leaver"), f"Content-Length: {len(photo)}") + photo[: len(photo) // 2]
    beginnings = [
        f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
        f"GET {path}?w=1{{}} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
        upload,
        b"GET /api/assets HTTP/1.1\r\nHo",
    ]
    server.warm()
    mark = server.output.mark
    for number in range(ABORTS):
        wire = server.wire()
        wire.send(beginnings[number % 4].replace(b"{}", b"%02d" % (number // 4)))
        if number % 8 < 4:
            wire.reset()
        else:
            wire.close()
    # Connections are taken in the order in which they came: when this one is answered, none of them waits to be taken any more.
    assert Client(server.url).get("/api/health/live").status == 200
    assert until(lambda: server.connections() == 0)
    with harmless(404) as bad:
        bad.answer = client.get("/api/media/u/after-them-all.jpg")
    said = own_lines(server, mark)
    assert not [line for line in said if "Traceback" in line or "exception" in line or "crashed" in line or '"error"' in line]
    assert len(said) <= ABORTS + 10
    assert server.client("leaver").assets() == []


def test_answers_of_every_kind_carry_a_request_id_of_their_own(stranger: Client) -> None:
    answers: list[Answer | RawAnswer] = [
        stranger.get(path) for path in ("/", "/api/health", "/api/media/u/x", "/nothing", "/api/assets")
    ]
    ids = [answer.headers["X-Request-ID"] for answer in answers if isinstance(answer, Answer)]
    assert len(set(ids)) == len(answers)


def test_a_request_id_from_outside_is_no_line_of_the_log(server: RunningServer, stranger: Client) -> None:
    answer = stranger.get("/api/media/u/x.jpg", {"X-Request-ID": "evil\t{}" + "x" * 3000})
    assert answer.status in {400, 404}
    assert not [line for line in server.output.since(0) if "evil\t" in line or "x" * 1000 in line]

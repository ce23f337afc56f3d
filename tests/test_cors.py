"""Other origins: exact ones, on refusals too, preflights before authorization, and never a cookie."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import pictures
from tests.kit.client import Answer, Client, media
from tests.kit.server import RunningServer

ORIGIN = "https://app.example"
SECOND = "http://localhost:3000"
EXPOSED = {"etag", "content-range", "content-length", "location", "retry-after", "accept-ranges"}
ALLOWED = {
    "authorization",
    "content-type",
    "range",
    "if-range",
    "if-none-match",
    "if-modified-since",
    "if-match",
    "idempotency-key",
}


@pytest.fixture(scope="module")
def crossing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that knows two other origins."""
    with RunningServer(tmp_path_factory.mktemp("crossing"), {"MEDIA_CORS_ORIGINS": f"{ORIGIN}, {SECOND}"}) as running:
        yield running


@pytest.fixture(scope="module")
def path(crossing: RunningServer) -> str:
    return media(crossing.client("me").stored(pictures.jpeg(16, 16))["key"])


def listed(answer: Answer, name: str) -> set[str]:
    """The words of a header that is a list, in lower case."""
    return {word.strip().lower() for value in answer.headers.get_all(name, []) for word in value.split(",") if word.strip()}


def test_an_answer_names_the_origin_that_asked_and_varies_by_it(crossing: RunningServer, path: str) -> None:
    for origin in (ORIGIN, SECOND):
        for answer in (
            crossing.client().get(path, {"Origin": origin}),
            crossing.client("me").get("/api/assets", {"Origin": origin}),
        ):
            assert answer.status == 200
            assert answer.headers.get_all("Access-Control-Allow-Origin") == [origin]
            assert listed(answer, "Access-Control-Expose-Headers") >= EXPOSED
            assert "origin" in listed(answer, "Vary")


def test_an_answer_varies_by_origin_also_when_nobody_said_theirs(crossing: RunningServer, path: str) -> None:
    answer = crossing.client().get(path)
    assert "origin" in listed(answer, "Vary")
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_304_206_and_416_cross_origins_too(crossing: RunningServer, path: str) -> None:
    etag = crossing.client().get(path).headers["ETag"]
    for headers, status in (({"If-None-Match": etag}, 304), ({"Range": "bytes=0-3"}, 206), ({"Range": "bytes=99999-"}, 416)):
        answer = crossing.client().get(path, {"Origin": ORIGIN, **headers})
        assert answer.status == status
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "origin" in listed(answer, "Vary")


def test_a_rendition_by_accept_varies_by_both(crossing: RunningServer, path: str) -> None:
    answer = crossing.client().get(f"{path}?w=8&format=auto", {"Origin": ORIGIN})
    assert answer.status == 200
    assert listed(answer, "Vary") == {"accept", "origin"}


@pytest.mark.parametrize("origin", [
    "https://evil.example", "https://app.example.evil.example", "https://app.example:8443", "http://app.example", "null",
    "https://APP.example.",
    "https://app.example/", "*", "",
])  # fmt: skip
def test_another_origin_is_told_nothing(crossing: RunningServer, path: str, origin: str) -> None:
    for answer in (
        crossing.client().get(path, {"Origin": origin}),
        crossing.client().get("/api/media/no/thing", {"Origin": origin}),
    ):
        assert "Access-Control-Allow-Origin" not in answer.headers
    refused = crossing.client().request("OPTIONS", path, {"Origin": origin, "Access-Control-Request-Method": "GET"})
    assert refused.status in {400, 403, 405}
    assert "Access-Control-Allow-Origin" not in refused.headers


@pytest.mark.parametrize(("method", "target", "status"), [
    ("GET", "/api/assets", 401), ("GET", "/api/media/no/thing", 404), ("GET", "/api/media/a//b", 400), ("PUT", "/api/upload", 405),
    ("GET", "/api/nothing", 404), ("DELETE", "/api/media/no/thing", 401), ("POST", "/api/upload", 401),
    ("GET", "/api/media/no/thing?w=x", 400),
])  # fmt: skip
def test_a_refusal_can_be_read_by_the_page_that_caused_it(crossing: RunningServer, method: str, target: str, status: int) -> None:
    answer = crossing.client().request(method, target, {"Origin": ORIGIN})
    assert answer.status == status
    assert answer.code
    assert answer.headers.get_all("Access-Control-Allow-Origin") == [ORIGIN]
    assert "origin" in listed(answer, "Vary")


def test_malformed_http_is_no_cors_matter(crossing: RunningServer) -> None:
    with crossing.wire() as wire:
        answer = wire.send(b"GET /api/assets HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n").answer()
    assert answer.status == 400
    assert answer.header("Access-Control-Allow-Origin") is None


@pytest.mark.parametrize(("method", "target"), [
    ("GET", "/api/assets"), ("POST", "/api/upload"), ("DELETE", "/api/media/a/b.jpg"), ("GET", "/api/media/a/b.jpg"),
    ("HEAD", "/api/media/a/b.jpg"),
])  # fmt: skip
def test_a_preflight_is_answered_without_a_token(crossing: RunningServer, method: str, target: str) -> None:
    asked = "authorization, content-type, range, if-none-match, if-range, idempotency-key"
    answer = crossing.client().request(
        "OPTIONS", target, {"Origin": ORIGIN, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": asked}
    )
    assert answer.status in {200, 204}, answer
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert method.lower() in listed(answer, "Access-Control-Allow-Methods")
    assert listed(answer, "Access-Control-Allow-Headers") >= {word.strip() for word in asked.split(",")}
    assert 600 <= int(answer.headers["Access-Control-Max-Age"]) <= 86_400


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_a_preflight_allows_each_header_that_clients_send(crossing: RunningServer, name: str) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": name}
    assert name in listed(crossing.client().request("OPTIONS", "/api/media/a/b.jpg", asked), "Access-Control-Allow-Headers")


def test_nobody_gets_a_cookie_or_credentials_mode(crossing: RunningServer, path: str) -> None:
    client = crossing.client("me")
    for answer in (client.get(path, {"Origin": ORIGIN}), client.get("/api/assets"), client.get("/"), client.get("/api/health")):
        assert "Set-Cookie" not in answer.headers


def test_no_page_speaks_to_the_stores_of_a_media_proxy(crossing: RunningServer) -> None:
    for path in ("/api/store", "/api/store/me/a.jpg"):
        asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "PUT"}
        for answer in (crossing.client().get(path, {"Origin": ORIGIN}), crossing.client().request("OPTIONS", path, asked)):
            assert answer.status >= 400
            assert "Access-Control-Allow-Origin" not in answer.headers


def test_without_configured_origins_nothing_is_said(server: RunningServer) -> None:
    answer = Client(server.url).get("/api/health/live", {"Origin": ORIGIN})
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]

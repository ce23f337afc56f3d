"""What an answer says beside its bytes: how long it may be kept, on what it depends, by what it is found again, and why."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from io import BytesIO
from urllib.parse import quote

import pytest
from PIL import Image

from processors.grammar import SPELLINGS, Query
from proxy import hints
from proxy.signing import sign
from tests import pictures
from tests.conftest import Harmless
from tests.kit.client import Answer, Client, media
from tests.kit.server import RunningServer

SECRET = "0123456789abcdef-an-url-secret-of-32-bytes-and-more"
BROWSER = {"Accept": "image/webp,image/*,*/*;q=0.8"}
FRESH = "public, max-age=86400, stale-while-revalidate=604800, stale-if-error=604800"
FOR_EVER = "public, max-age=31536000, immutable"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a secret for addresses, which need no end, and further names to ignore."""
    env = {"MEDIA_URL_SECRETS": SECRET, "MEDIA_ETERNAL_ADDRESSES": "on", "MEDIA_IGNORED_PARAMETERS": "msclkid, gad_source"}
    with RunningServer(tmp_path_factory.mktemp("other"), env) as running:
        yield running


@pytest.fixture(scope="module")
def asset(server: RunningServer) -> dict[str, str]:
    """The record of a picture of 320 by 240."""
    return server.client("answers").stored(pictures.jpeg(320, 240))


def width_of(answer: Answer) -> int:
    """The width of the picture that came."""
    assert answer.status == 200, answer
    return Image.open(BytesIO(answer.body)).width


def vary(answer: Answer) -> list[str]:
    """The names in Vary."""
    return [name for name in (answer.headers["Vary"] or "").split(", ") if name]


# -- Cache-Control ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["", "w=20", "w=20&format=auto"])
def test_an_answer_may_be_kept_for_a_day_and_for_ever_where_its_address_names_the_version(
    stranger: Client, asset: dict[str, str], query: str
) -> None:
    assert stranger.get(media(asset["key"], query)).headers["Cache-Control"] == FRESH
    for version, control in ((asset["etag"], FOR_EVER), ("another", FRESH), ("", FRESH)):
        answers = [stranger.get(media(asset["key"], f"{query}&v={version}")) for _ in range(2)]
        assert [answer.headers["Cache-Control"] for answer in answers] == [control, control]
        held = {"If-None-Match": answers[0].headers["ETag"]}
        again = stranger.get(media(asset["key"], f"{query}&v={version}"), held)
        assert (again.status, again.headers["Cache-Control"]) == (304, control)


@pytest.mark.parametrize(("query", "status", "control"), [
    ("w=0", 400, "public, max-age=10"), ("w=20&s=AAAA&exp=1", 403, "public, max-age=10"),
    ("preset=none", 400, "public, max-age=10"),
])  # fmt: skip
def test_a_refusal_is_kept_for_seconds(stranger: Client, asset: dict[str, str], query: str, status: int, control: str) -> None:
    answer = stranger.get(media(asset["key"], query))
    assert (answer.status, answer.headers["Cache-Control"]) == (status, control)


def test_what_is_not_there_is_kept_for_a_minute_and_not_beyond_the_end_of_its_address(other: RunningServer) -> None:
    assert other.client().get(media("u/none.jpg", "w=20")).headers["Cache-Control"] == "public, max-age=60"
    key = other.client("me").stored(pictures.jpeg(16, 16))["key"]

    def kept_s(key: str, seconds: int, **more: str) -> int:
        said = {"exp": str(int(time.time()) + seconds), "w": "20", **more}
        query = "&".join(f"{name}={value}" for name, value in said.items())
        control = other.client().get(media(key, f"{query}&s={sign(SECRET.encode(), key, said)}")).headers["Cache-Control"]
        found = re.search(r"max-age=(\d+)", control)
        assert control.startswith("public")
        assert "stale" not in control
        assert found is not None
        return int(found[1])

    assert kept_s("u/none.jpg", 20) <= 20
    assert kept_s("u/none.jpg", 900) == 60
    assert kept_s(key, 900) <= 900
    assert kept_s(key, 90_000_000) == 86_400
    etag = other.client("me").get(f"/api/assets/{key}").json["etag"]
    assert 86_400 < kept_s(key, 1_000_000, v=etag) <= 1_000_000


def test_an_address_without_an_end_holds_where_the_operator_allows_it(other: RunningServer) -> None:
    key = other.client("mine").stored(pictures.jpeg(64, 64))["key"]

    def answer(**said: str) -> Answer:
        query = "".join(f"{name}={value}&" for name, value in said.items())
        return other.client().get(media(key, f"{query}s={sign(SECRET.encode(), key, said)}"))

    assert [answer(w="20").headers["Cache-Control"] for _ in range(2)] == [FRESH, FRESH]
    assert answer(w="20", exp=str(int(time.time()) - 60)).code == "expired"
    assert answer(w="20", exp="x").code == "bad-signature"


# -- Vary, Content-Location -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("query", "names"), [
    ("w=20", []), ("w=20&format=webp", []), ("w=20&format=auto", ["Accept"]), ("", []), ("w=20&q=auto", ["Save-Data"]),
    ("w=auto", ["Sec-CH-Width", "Width"]), ("w=20&dpr=auto", ["Sec-CH-DPR", "DPR"]),
    ("w=auto&dpr=auto&q=auto&format=auto", ["Accept", "Save-Data", "Sec-CH-Width", "Width", "Sec-CH-DPR", "DPR"]),
])  # fmt: skip
def test_an_answer_names_exactly_the_headers_on_which_it_depends(
    stranger: Client, asset: dict[str, str], query: str, names: list[str]
) -> None:
    answer = stranger.get(media(asset["key"], query), BROWSER)
    assert vary(answer) == names
    again = stranger.get(media(asset["key"], query), {**BROWSER, "If-None-Match": answer.headers["ETag"]})
    assert (again.status, vary(again)) == (304, names)
    absent = stranger.get(media("u/none.jpg", query), BROWSER)
    assert (absent.status, vary(absent)) == (404, names)
    refused = stranger.get(media(asset["key"], f"{query}&s={'A' * 32}"), BROWSER)
    assert (refused.status, vary(refused)) == (403, names)


def test_an_answer_by_accept_names_the_address_that_always_gives_it(stranger: Client, asset: dict[str, str]) -> None:
    for _ in range(2):  # the second from memory
        answer = stranger.get(media(asset["key"], "fm=auto&width=20&utm_source=x"), BROWSER)
        assert answer.headers.get_content_type() == "image/webp"
        assert answer.headers["Content-Location"] == media(asset["key"], "format=webp&w=20")
    assert stranger.get(answer.headers["Content-Location"]).body == answer.body
    assert "Content-Location" not in stranger.get(media(asset["key"], "w=20")).headers


def test_an_answer_from_memory_has_the_headers_of_the_first(stranger: Client, asset: dict[str, str]) -> None:
    path = media(asset["key"], "w=21&format=auto")
    first, *more = (stranger.get(path, BROWSER) for _ in range(3))
    assert first.headers["Server-Timing"].startswith("cache;desc=miss, ")
    assert {answer.headers["Server-Timing"] for answer in more} == {"cache;desc=memory"}
    unlike = {"Date", "X-Request-ID", "Server-Timing", "Cache-Status"}
    for answer in more:
        assert {name: value for name, value in answer.headers.items() if name not in unlike} == {
            name: value for name, value in first.headers.items() if name not in unlike
        }


def test_a_signature_that_leaves_the_format_free_names_the_address_of_the_format(other: RunningServer) -> None:
    key = other.client("me").stored(pictures.jpeg(64, 64))["key"]
    for free, spelled in (({"any": "dpr,format"}, True), ({}, False)):
        said = {"format": "auto", "w": "20", **free}
        signed = {name: value for name, value in said.items() if name != "format" or not spelled}
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in sorted(said.items()))
        answer = other.client().get(media(key, f"{query}&s={sign(SECRET.encode(), key, signed)}"), BROWSER)
        assert answer.headers.get_content_type() == "image/webp"
        assert ("Content-Location" in answer.headers) == spelled
        if spelled:
            assert other.client().get(answer.headers["Content-Location"]).body == answer.body


# -- hints ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("query", "headers", "resolved"), [
    ("w=auto", {"Sec-CH-Width": "300"}, "w=320"), ("w=auto", {"Width": "300"}, "w=320"), ("w=auto", {"Width": "9000"}, "w=3840"),
    ("w=auto", {"Sec-CH-Width": "640", "Width": "300"}, "w=640"), ("w=auto", {}, ""), ("w=auto", {"Width": "-1"}, ""),
    ("w=auto", {"Width": "x"}, ""), ("w=auto", {"Width": "1e9"}, ""), ("w=auto&dpr=2", {"Width": "300"}, "w=320"),
    ("dpr=2&w=auto", {}, "dpr=2"), ("dpr=auto&w=100", {"DPR": "2.625"}, "dpr=3&w=100"),
    ("dpr=auto&w=100", {"DPR": "1.0"}, "dpr=1&w=100"),
    ("dpr=auto&w=100", {"Sec-CH-DPR": "9"}, "dpr=3&w=100"), ("dpr=auto&w=100", {}, "w=100"),
    ("q=auto&w=1", {"Save-Data": "on"}, "q=saving&w=1"),
    ("q=auto&w=1", {"Save-Data": "?0"}, "q=auto&w=1"), ("w=100", {"Width": "300", "DPR": "2", "Save-Data": "on"}, "w=100"),
])  # fmt: skip
def test_what_a_browser_says_of_itself_stands_in_for_auto(query: str, headers: dict[str, str], resolved: str) -> None:
    said = Query.of(dict(pair.split("=") for pair in query.split("&")))
    assert hints.resolved(said, headers).text == resolved


def test_a_hint_decides_also_after_the_answer_to_another_is_in_memory(stranger: Client, asset: dict[str, str]) -> None:
    path = media(asset["key"], "w=auto")
    for _ in range(3):
        assert [width_of(stranger.get(path, {"Width": str(width)})) for width in (60, 100, 16)] == [64, 128, 16]
        assert width_of(stranger.get(path)) == 320
    path = media(asset["key"], "w=32&dpr=auto")
    for _ in range(3):
        assert [width_of(stranger.get(path, {"Sec-CH-DPR": density})) for density in ("1", "2")] == [32, 64]
    assert stranger.get(path).headers["Accept-CH"] == "Sec-CH-DPR"


# -- tags -------------------------------------------------------------------------------------------------------------------


def test_caches_find_an_answer_by_its_key_and_its_owner(client: Client, stranger: Client, owner: str) -> None:
    key = client.stored(pictures.jpeg(32, 32))["key"]

    def tag(kind: str, name: str) -> str:
        return f"{kind}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"

    of_key, of_owner = tag("key", key), tag("owner", owner)
    for query in ("", "w=20"):
        answer = stranger.get(media(key, query))
        assert answer.headers["Cache-Tag"] == f"{of_key}, {of_owner}"
        assert answer.headers["Cache-Groups"] == f'"{of_key}", "{of_owner}"'
    assert client.delete(media(key)).headers["Cache-Group-Invalidation"] == f'"{of_key}"'


def test_caches_are_told_which_parameters_mean_something(stranger: Client, asset: dict[str, str]) -> None:
    told = stranger.get(media(asset["key"], "w=20&utm_source=x")).headers["No-Vary-Search"]
    match = re.fullmatch(r"key-order, params, except=\((.*)\)", told)
    assert match is not None
    assert {name.strip('"') for name in match[1].split()} == SPELLINGS


# -- explain ----------------------------------------------------------------------------------------------------------------


def test_an_explanation_says_how_an_address_is_read_and_makes_nothing(server: RunningServer, asset: dict[str, str]) -> None:
    path = media(asset["key"], "width=19&dppx=2&fit=crop&h=19&f=auto&utm_source=x&explain=1")
    rendered = server.metric("media_render_seconds_count")
    answer = server.client("anybody").get(path, BROWSER)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "private, no-store"
    told = answer.json
    assert told["said"] == "dpr=2&explain=1&fit=cover&format=auto&h=19&w=19"
    assert told["asked"] == "dpr=2&fit=cover&format=auto&h=19&w=19"
    assert told["canonical"] == "fit=cover&format=auto&h=38&w=38"
    assert told["access"] == {"reads": "public", "transforms": "open", "right": "mode"}
    assert (told["vary"], told["preset"], told["private"]) == (["Accept"], None, False)
    assert told["source"]["etag"] == asset["etag"]
    rendition = told["rendition"]
    assert (rendition["width"], rendition["height"], rendition["format"], rendition["found"]) == (38, 38, "webp", "miss")
    assert server.metric("media_render_seconds_count") == rendered
    made = server.client().get(path.replace("&explain=1", ""), BROWSER)
    assert made.headers["ETag"] == rendition["etag"]
    assert server.client("anybody").get(path, BROWSER).json["rendition"]["found"] == "memory"
    assert server.client("anybody").get(media(asset["key"], "explain=1")).json["rendition"] is None


def test_an_explanation_needs_a_token(stranger: Client, asset: dict[str, str], harmless: Harmless) -> None:
    with harmless(401, "unauthorized") as bad:
        bad.answer = stranger.get(media(asset["key"], "w=20&explain=1"))


def test_an_explanation_of_what_is_not_there_is_404(client: Client, harmless: Harmless) -> None:
    with harmless(404, "not-found") as bad:
        bad.answer = client.get(media("u/none.jpg", "w=20&explain=1"))


def test_names_that_the_operator_lists_are_ignored(other: RunningServer) -> None:
    key = other.client("me").stored(pictures.jpeg(64, 64))["key"]
    plain = other.client().get(media(key, "w=20"))
    assert other.client().get(media(key, "w=20&msclkid=5&gad_source=1")).headers["ETag"] == plain.headers["ETag"]
    assert other.client().get(media(key, "w=20&other=5")).code == "bad-parameter"

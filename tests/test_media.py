"""Reading through HTTP: validators, conditions, ranges, caching, keys, and files that must not come alive in a browser."""

from __future__ import annotations

import re
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import pictures
from tests.conftest import Harmless
from tests.kit.client import Answer, Client, media
from tests.kit.files import padded
from tests.kit.server import RunningServer

SMALL = 1_000
LARGE = 300_000
"""Beyond the size from which a file goes out by sendfile."""
FRESH = "public, max-age=86400, stale-while-revalidate=604800, stale-if-error=604800"


class Stored:
    """An object of the shared server, its bytes, and what its headers say of its version."""

    def __init__(self, server: RunningServer, data: bytes) -> None:
        self.data = data
        self.path = media(server.client("reader").stored(data)["key"])
        self._client = server.client()
        plain = self.get()
        self.etag = plain.headers["ETag"]
        self.modified = plain.headers["Last-Modified"]

    def get(self, **headers: str) -> Answer:
        """GET it; headers are written with _ for -."""
        return self._client.get(self.path, {name.replace("_", "-"): value for name, value in headers.items()})

    def head(self, **headers: str) -> Answer:
        """HEAD it."""
        return self._client.head(self.path, {name.replace("_", "-"): value for name, value in headers.items()})

    def later(self, seconds: int) -> str:
        """Its date, moved."""
        return format_datetime(parsedate_to_datetime(self.modified) + timedelta(seconds=seconds), usegmt=True)


@pytest.fixture(scope="module")
def small(server: RunningServer) -> Stored:
    return Stored(server, padded(pictures.jpeg(8, 8), SMALL))


@pytest.fixture(scope="module")
def large(server: RunningServer) -> Stored:
    return Stored(server, padded(pictures.jpeg(8, 8), LARGE))


@pytest.fixture(params=["small", "large"])
def stored(request: pytest.FixtureRequest) -> Stored:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Stored)
    return found


# -- plain --------------------------------------------------------------------------------------------------------------


def test_an_original_comes_with_its_length_type_date_and_strong_tag(stored: Stored) -> None:
    answer = stored.get()
    assert answer.status == 200
    assert answer.body == stored.data
    assert re.fullmatch(r'"[\x21\x23-\x7e]+"', answer.headers["ETag"])
    assert answer.headers["Content-Length"] == str(len(stored.data))
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Cache-Control"] == FRESH
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert parsedate_to_datetime(answer.headers["Last-Modified"]) is not None
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert "Set-Cookie" not in answer.headers
    assert "Content-Disposition" not in answer.headers


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-9"}, {"Range": "bytes=9999999-"}], ids=["plain", "range", "far range"])
def test_head_says_what_get_would_and_knows_no_ranges(stored: Stored, headers: dict[str, str]) -> None:
    got, head = stored.get(), stored.head(**headers)
    assert head.status == 200
    assert head.body == b""
    volatile = {"date", "x-request-id", "connection"}
    assert {name.lower(): value for name, value in head.headers.items() if name.lower() not in volatile} == {
        name.lower(): value for name, value in got.headers.items() if name.lower() not in volatile
    }


def test_two_readings_in_one_connection_do_not_mix(server: RunningServer, small: Stored, large: Stored) -> None:
    with server.wire() as wire:
        for stored in (large, small, large):
            assert wire.request("GET", stored.path).answer().body == stored.data
        wire.request("GET", large.path, {"Range": "bytes=10-19"}).request("HEAD", small.path).request("GET", small.path)
        assert wire.answer().body == large.data[10:20]
        assert wire.answer("HEAD").status == 200
        assert wire.answer().body == small.data


# -- conditions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "status"), [
    ("{etag}", 304), ("W/{etag}", 304), ("*", 304), ('"other", {etag}', 304), ('"a,b" , W/"x",{etag}', 304), ('"other"', 200),
    ('W/"other"', 200), ("{bare}", 200), ("", 200), ('"', 200), ('"other", "and another"', 200),
])  # fmt: skip
def test_if_none_match_is_compared_weakly(stored: Stored, value: str, status: int) -> None:
    value = value.format(etag=stored.etag, bare=stored.etag.strip('"'))
    for answer in (stored.get(If_None_Match=value), stored.head(If_None_Match=value)):
        assert answer.status == status
        assert answer.headers["ETag"] == stored.etag
        assert answer.headers["Cache-Control"] == FRESH
    assert (stored.get(If_None_Match=value).body == b"") == (status == 304)


def test_if_modified_since_is_weighed_by_the_second(stored: Stored) -> None:
    assert stored.get(If_Modified_Since=stored.modified).status == 304
    assert stored.get(If_Modified_Since=stored.later(60)).status == 304
    assert stored.get(If_Modified_Since=stored.later(-1)).status == 200


def test_the_two_old_spellings_of_dates_are_read(stored: Stored) -> None:
    moment = parsedate_to_datetime(stored.modified)
    assert stored.get(If_Modified_Since=moment.strftime("%A, %d-%b-%y %H:%M:%S GMT")).status == 304
    assert stored.get(If_Modified_Since=moment.strftime("%a %b %e %H:%M:%S %Y")).status == 304


@pytest.mark.parametrize("value", ["yesterday", "", "0", "Mon, 99 Foo 2026 00:00:00 GMT", "-1", "1" * 500])
def test_a_date_that_is_none_counts_as_absent(small: Stored, value: str) -> None:
    assert small.get(If_Modified_Since=value).status == 200
    assert small.get(If_Unmodified_Since=value).status == 200


def test_if_none_match_goes_before_if_modified_since(stored: Stored) -> None:
    assert stored.get(If_None_Match='"other"', If_Modified_Since=stored.modified).status == 200
    assert stored.get(If_None_Match=stored.etag, If_Modified_Since=stored.later(-60)).status == 304


def test_if_match_and_if_unmodified_since_that_do_not_hold_are_412(stored: Stored, harmless: Harmless) -> None:
    assert stored.get(If_Match=stored.etag).status == 200
    assert stored.get(If_Match="*").status == 200
    assert stored.get(If_Unmodified_Since=stored.modified).status == 200
    with harmless(412, "precondition-failed") as bad:
        bad.answer = stored.get(If_Match='"other"')
    with harmless(412) as bad:
        bad.answer = stored.get(If_Match=f"W/{stored.etag}")
    with harmless(412) as bad:
        bad.answer = stored.get(If_Unmodified_Since=stored.later(-60))


# -- ranges -------------------------------------------------------------------------------------------------------------


def check_range(stored: Stored, header: str, start: int, stop: int) -> None:
    """The answer to *header* is ``data[start:stop]``, or a 416 if that is empty."""
    answer = stored.get(Range=header)
    size = len(stored.data)
    expected = stored.data[start:stop]
    if not expected:
        assert answer.status == 416, (header, answer)
        assert answer.headers["Content-Range"] == f"bytes */{size}"
        return
    assert answer.status == 206, (header, answer)
    assert answer.body == expected, header
    assert answer.headers["Content-Range"] == f"bytes {start}-{start + len(expected) - 1}/{size}"
    assert answer.headers["Content-Length"] == str(len(expected))
    assert answer.headers["ETag"] == stored.etag


positions = st.one_of(st.integers(0, LARGE + 100), st.integers(LARGE - 3, LARGE + 3), st.integers(0, 10**17))


@settings(max_examples=80)
@given(first=positions, length=st.one_of(st.integers(1, 5), st.integers(1, LARGE * 2)))
def test_a_range_with_both_ends_is_that_slice(server: RunningServer, large: Stored, first: int, length: int) -> None:
    check_range(large, f"bytes={first}-{first + length - 1}", first, first + length)


@settings(max_examples=40)
@given(first=positions)
def test_an_open_range_goes_to_the_end(server: RunningServer, large: Stored, first: int) -> None:
    check_range(large, f"bytes={first}-", first, LARGE)


@settings(max_examples=40)
@given(last=positions)
def test_a_suffix_range_is_the_last_bytes(server: RunningServer, large: Stored, last: int) -> None:
    check_range(large, f"bytes=-{last}", max(0, LARGE - last), LARGE if last else 0)


@pytest.mark.parametrize("header", ["bytes=0-0", "Bytes=0-0", "bytes=0-0 ", "bytes=000-000"])
def test_a_range_may_be_spelled_in_several_ways(small: Stored, header: str) -> None:
    assert small.get(Range=header).body == small.data[:1]


@settings(max_examples=60)
@given(st.text(alphabet="bytes=0123456789-, ;abc*\t", max_size=30).filter(
    lambda text: not re.fullmatch(r"\s*bytes\s*=[\s,]*(\d+\s*-\s*\d*|-\s*\d+)([\s,]*(\d+\s*-\s*\d*|-\s*\d+))*[\s,]*", text)
))  # fmt: skip
def test_a_malformed_range_is_ignored(server: RunningServer, small: Stored, header: str) -> None:
    answer = small.get(Range=header)
    assert answer.status == 200, (header, answer)
    assert answer.body == small.data


@pytest.mark.parametrize(
    "header", ["bytes=5-4", "bytes=", "bytes=-", "bytes=a-b", "lines=0-5", "0-5", "bytes=0x0-0x5", "bytes=-5-", "bytes=٠-٥"]
)
def test_a_range_that_is_none_is_ignored(server: RunningServer, small: Stored, header: str) -> None:
    with server.wire() as wire:
        wire.send(f"GET {small.path} HTTP/1.1\r\nHost: x\r\nRange: {header}\r\n\r\n".encode())
        answer = wire.answer()
    assert (answer.status, answer.body) == (200, small.data)


@pytest.mark.parametrize(
    "header", ["bytes=0-0,5-9", "bytes=0-10, 5-20", "bytes=-5,0-4", "bytes=" + ",".join(f"{n}-{n}" for n in range(900))]
)
def test_several_ranges_are_answered_whole_or_in_parts(small: Stored, header: str) -> None:
    answer = small.get(Range=header)
    assert answer.status == 200 or answer.headers.get_content_type() == "multipart/byteranges"
    if answer.status == 200:
        assert answer.body == small.data


def test_a_range_outside_is_416_and_says_how_large_the_object_is(stored: Stored, harmless: Harmless) -> None:
    for header in (f"bytes={len(stored.data)}-", f"bytes={len(stored.data) + 5}-{len(stored.data) + 9}", "bytes=-0"):
        with harmless(416, "range-not-satisfiable") as bad:
            bad.answer = stored.get(Range=header)
        assert bad.answer is not None
        assert isinstance(bad.answer, Answer)
        assert bad.answer.headers["Content-Range"] == f"bytes */{len(stored.data)}"


@pytest.mark.parametrize(("validator", "status"), [
    ("{etag}", 206), ("W/{etag}", 200), ('"other"', 200), ("{modified}", 206), ("{earlier}", 200), ("{later}", 200),
    ("nonsense", 200),
    ("", 200), ('{etag}, "other"', 200), ("*", 200),
])  # fmt: skip
def test_a_range_is_given_only_of_the_version_that_if_range_names(stored: Stored, validator: str, status: int) -> None:
    value = validator.format(etag=stored.etag, modified=stored.modified, earlier=stored.later(-1), later=stored.later(1))
    answer = stored.get(Range="bytes=0-9", If_Range=value)
    assert answer.status == status
    assert answer.body == (stored.data[:10] if status == 206 else stored.data)


def test_an_unsatisfiable_range_of_another_version_is_answered_whole(stored: Stored) -> None:
    assert stored.get(Range="bytes=99999999-", If_Range='"other"').status == 200


def test_conditions_are_weighed_before_the_range(stored: Stored) -> None:
    assert stored.get(Range="bytes=0-9", If_None_Match=stored.etag).status == 304
    assert stored.get(Range="bytes=0-9", If_None_Match='"other"').status == 206
    assert stored.get(Range="bytes=99999999-", If_None_Match=stored.etag).status == 304
    assert stored.get(Range="bytes=0-9", If_Match='"other"').status == 412


# -- caching and names --------------------------------------------------------------------------------------------------


def test_an_address_that_names_its_version_may_be_kept_for_ever_and_no_other(server: RunningServer, small: Stored) -> None:
    version = small.etag.strip('"')
    client = server.client()
    assert client.get(f"{small.path}?v={version}").headers["Cache-Control"] == "public, max-age=31536000, immutable"
    for other in ("1", "", quote('"' + version + '"'), version[:-1]):
        answer = client.get(f"{small.path}?v={other}")
        assert (answer.status, answer.headers["Cache-Control"]) == (200, FRESH)


@pytest.mark.parametrize("name", ["t", "ts", "_", "cb", "nocache", "ref", "fbclid", "gclid", "utm_source"])
def test_names_that_only_bust_caches_change_nothing(server: RunningServer, small: Stored, name: str) -> None:
    answer = server.client().get(f"{small.path}?{name}=123")
    assert (answer.status, answer.body, answer.headers["ETag"]) == (200, small.data, small.etag)


NAMES = ["plain.jpg", "with space.jpg", "Ünïcode.jpg", 'quote".jpg', "semi;filename=evil.html", "back\\slash.jpg", "100%.jpg",
    "写真 (1).png",
         "../../etc/passwd", "line\r\nX-Injected: 1.jpg", "nul\0.jpg", "🏔️.webp", "a" * 500, "'", "UTF-8''x", " ", ".",
         "=?utf-8?q?x?="]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_download_has_one_safe_name(server: RunningServer, small: Stored, name: str) -> None:
    with server.wire() as wire:
        answer = wire.request("GET", f"{small.path}?dl={quote(name, safe='')}").answer()
    if answer.status == 400:
        return
    assert answer.body == small.data
    assert answer.header("X-Injected") is None
    disposition = answer.header("Content-Disposition")
    assert disposition is not None
    found = re.fullmatch(
        r"attachment; filename=\"([^\"\\\x00-\x1f]*)\"(?:; filename\*=UTF-8''([A-Za-z0-9!#$&+.^_`|~%-]+))?", disposition
    )
    assert found is not None, disposition
    shown = unquote(found[2]) if found[2] else found[1]
    assert shown
    assert "/" not in shown
    assert not re.search(r"[\x00-\x1f\x7f\\]", shown)
    assert len(disposition.encode()) < 4096
    if name in {"plain.jpg", "with space.jpg", "Ünïcode.jpg", "写真 (1).png", 'quote".jpg', "100%.jpg"}:
        assert shown == name


# -- keys ---------------------------------------------------------------------------------------------------------------

BAD_KEYS = [
    ".", "..", "u/.", "u/..", "u/../x.jpg", "u/./x.jpg", "u/%2e%2e/x.jpg", "u/%2E%2e/x.jpg", "u/.%2e/x", "%2e%2e/x",
    "%2e%2e%2fx.jpg",
    "u%2f..%2fx.jpg", "u//x.jpg", "u/x/", "/u/x.jpg", "u/%2f", "u%2f%2fx", "%2fu/x", "u\\x.jpg", "u%5cx.jpg", "..%5cx",
    "u/%5c..%5cx",
    "u/%00", "u/x%00.jpg", "u/x%0a.jpg", "u/x%0d%0aX-Injected:%201", "u/x%7f", "u/%1f", "u/%ff", "u/%c0%ae%c0%ae/x", "u/%c3",
    "u/%ed%a0%80",
    "u/%f5%80%80%80", "u/%zz", "u/%", "u/%4", "u/%u002e", "u/" + "a" * 1030, "u/" + "%61" * 1030,
    "u/" + "ä".encode().hex("%", 1) * 700,
    "u/%c2%85x", "",
]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("key", BAD_KEYS, ids=lambda key: ascii(key[:24]))
def test_a_bad_key_is_400_whatever_its_spelling(server: RunningServer, harmless: Harmless, key: str, method: str) -> None:
    target = "/api/media/" + (("%" + key) if key[:2] == "c3" else key)
    with harmless(400) as bad, server.wire() as wire:
        bad.sent = ["X-Injected", "aaaaaaaa"]
        bad.answer = wire.request(method, target, {"Authorization": f"Bearer {server.token('u', scope='media:admin')}"}).answer()


@pytest.mark.parametrize(
    "target", ["/api/media/../../etc/passwd", "/api/media/u/../../../etc/passwd", "/api/../api/media/x/y", "/../etc/passwd"]
)
def test_a_path_that_climbs_out_leads_nowhere(server: RunningServer, harmless: Harmless, target: str) -> None:
    with harmless([400, 404]) as bad, server.wire() as wire:
        bad.sent = ["passwd"]
        bad.answer = wire.request("GET", target).answer()


@pytest.mark.parametrize(
    "target", [b"/api/media/u/\xc3\xa9", b"/api/media/u/\xff", b"/api/media/u/x y", b"/api/media/u/x#frag", b"/api/media/u/x\x01"]
)
def test_bytes_that_no_url_has_are_400(server: RunningServer, harmless: Harmless, target: bytes) -> None:
    with harmless(400) as bad, server.wire() as wire:
        bad.answer = wire.send(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n").answer()


def test_an_absolute_target_is_served_and_its_host_counts_for_nothing(server: RunningServer, small: Stored) -> None:
    with server.wire() as wire:
        answer = wire.request("GET", f"http://evil.example{small.path}").answer()
    assert (answer.status, answer.body) == (200, small.data)
    assert b"evil" not in answer.head


segments = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\"), min_size=1, max_size=20).filter(
    lambda text: text not in {".", ".."} and not text.startswith(".")
)


@settings(max_examples=100)
@given(st.lists(segments, min_size=1, max_size=4).map("/".join))
def test_any_legal_key_that_is_not_there_is_404_and_never_a_crash(server: RunningServer, key: str) -> None:
    answer = server.client().get(media("nobody/" + key))
    assert answer.status in {400, 404}, answer
    assert answer.code in {"not-found", "bad-key"}


@settings(max_examples=100)
@given(st.binary(max_size=40))
def test_any_bytes_in_a_key_are_answered_400_or_404(server: RunningServer, key: bytes) -> None:
    answer = server.client().get("/api/media/" + quote(key, safe="/%"))
    assert answer.status in {400, 404}, answer


def test_404_may_be_kept_for_a_minute_and_is_no_document_of_ours(
    server: RunningServer, harmless: Harmless, stranger: Client
) -> None:
    with harmless(404, "not-found") as bad:
        bad.answer = stranger.get("/api/media/nobody/nothing.jpg")
    assert isinstance(bad.answer, Answer)
    assert bad.answer.headers["Cache-Control"] == "public, max-age=60"


# -- removal ------------------------------------------------------------------------------------------------------------


def test_a_removed_object_is_gone_at_once_with_record_and_file(server: RunningServer, client: Client) -> None:
    before = server.files()
    record = client.stored(pictures.jpeg(32, 32))
    path = media(record["key"])
    assert client.get(path).status == 200
    answer = client.delete(path)
    assert (answer.status, answer.body) == (204, b"")
    assert client.get(path).status == 404
    assert client.head(path).status == 404
    assert client.delete(path).status == 404
    assert client.get(f"/api/assets/{record['key']}").status == 404
    assert client.assets() == []
    assert server.files() <= before


def test_a_removal_takes_no_parameters(client: Client, harmless: Harmless) -> None:
    path = media(client.stored(pictures.jpeg(32, 32))["key"])
    with harmless(400) as bad:
        bad.answer = client.delete(f"{path}?w=100")
    assert client.get(path).status == 200

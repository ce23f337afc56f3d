"""The records of one's own media: paging, one record, and nobody else's."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests import pictures
from tests.conftest import Harmless
from tests.kit.client import Client, media
from tests.kit.server import RunningServer


def test_records_come_newest_first_in_pages_that_miss_and_repeat_nothing(client: Client) -> None:
    keys = [client.stored(pictures.png(4 + n, 4))["key"] for n in range(7)]
    seen: list[str] = []
    cursor = ""
    sizes = []
    while True:
        page = client.get(f"/api/assets?limit=3{cursor}").json
        sizes.append(len(page["assets"]))
        seen += [asset["key"] for asset in page["assets"]]
        if page["nextCursor"] is None:
            break
        cursor = f"&cursor={quote(page['nextCursor'], safe='')}"
    assert seen == keys[::-1]
    assert sizes == [3, 3, 1]


def test_a_page_that_is_just_full_is_the_last(client: Client) -> None:
    for n in range(2):
        client.stored(pictures.png(4 + n, 4))
    page = client.get("/api/assets?limit=2").json
    assert (len(page["assets"]), page["nextCursor"]) == (2, None)


def test_an_upload_between_two_pages_moves_nothing(client: Client) -> None:
    keys = [client.stored(pictures.png(4 + n, 4))["key"] for n in range(4)]
    first = client.get("/api/assets?limit=2").json
    client.stored(pictures.png(30, 30))
    second = client.get(f"/api/assets?limit=2&cursor={quote(first['nextCursor'], safe='')}").json
    assert [asset["key"] for page in (first, second) for asset in page["assets"]] == keys[::-1]


def test_one_record_is_what_the_upload_answered(client: Client) -> None:
    record = client.stored(pictures.png(10, 20), filename="a.png")
    answer = client.get(f"/api/assets/{record['key']}")
    assert answer.json == record | {"embedded": {"private": {}}}
    assert "no-store" in answer.headers["Cache-Control"]


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "limit=-1", "limit=٣", "limit=1e1", "cursor=nonsense",
    "cursor=%00", "page=2",
                                   "cursor=" + "a" * 3000, "limit=" + "9" * 3000])  # fmt: skip
def test_a_bad_page_is_400(client: Client, harmless: Harmless, query: str) -> None:
    with harmless(400) as bad:
        bad.answer = client.get("/api/assets?" + quote(query, safe="=&%"))


def test_a_cursor_shows_nobody_elses_records(server: RunningServer, client: Client) -> None:
    for n in range(3):
        client.stored(pictures.png(4 + n, 4))
    cursor = client.get("/api/assets?limit=1").json["nextCursor"]
    answer = server.client("another").get(f"/api/assets?limit=10&cursor={quote(cursor, safe='')}")
    assert answer.status in {200, 400}
    if answer.status == 200:
        assert answer.json["assets"] == []


def test_records_are_their_owners_alone(server: RunningServer, client: Client, stranger: Client, harmless: Harmless) -> None:
    key = client.stored(pictures.png(10, 20))["key"]
    with harmless(404, "not-found") as bad:
        bad.answer = server.client("another").get(f"/api/assets/{key}")
    with harmless(401) as bad:
        bad.answer = stranger.get(f"/api/assets/{key}")
    with harmless(401) as bad:
        bad.answer = stranger.get("/api/assets")
    assert server.client("boss", scope="media:admin").get(f"/api/assets/{key}").status == 200


def test_bytes_without_a_record_have_none_and_are_served(client: Client) -> None:
    assert client.get("/api/assets/nobody/nothing.jpg").status == 404
    assert client.get(media("nobody/nothing.jpg")).status == 404

"""Quarantined objects: nobody gets their bytes, and only admins see that they are there."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest

from tests import pictures
from tests.kit.client import Client, media
from tests.kit.server import RunningServer
from tests.kit.waiting import until

PHOTO = pictures.jpeg(64, 48)
WAYS = ("", "?w=20", "?w=21&h=9&fit=cover", "?format=json", "?format=thumbhash")


def mark(server: RunningServer, key: str, state: str) -> None:
    """Move the asset to *state* as a scanner would."""
    with closing(sqlite3.connect(server.data / "catalogue.sqlite")) as database, database:
        assert database.execute("UPDATE assets SET state = ? WHERE key = ?", (state, key)).rowcount == 1


@pytest.fixture
def quarantined(server: RunningServer, owner: str) -> str:
    """The key of an object that everybody had until a moment ago."""
    key: str = server.client(owner).stored(PHOTO, headers={"Idempotency-Key": "once"})["key"]
    reader = Client(server.url)
    for _ in range(3):  # the hottest memory there is
        assert [reader.get(media(key) + way).status for way in WAYS] == [200] * len(WAYS)
    mark(server, key, "quarantined")
    assert until(lambda: reader.get(media(key)).status == 404)
    return key


def test_nobody_gets_its_bytes_or_what_is_made_of_them(server: RunningServer, owner: str, quarantined: str) -> None:
    for client in (Client(server.url), server.client(owner), server.client("boss", scope="media:admin")):
        for way in (*WAYS, "?w=33"):
            answer = client.get(media(quarantined) + way)
            assert (answer.status, answer.code) == (404, "not-found"), way
            assert client.head(media(quarantined) + way).status == 404
        assert client.get(media(quarantined), {"Range": "bytes=0-9"}).status == 404
        assert client.get(media(quarantined), {"If-None-Match": "*"}).status == 404


def test_its_record_is_shown_to_admins_alone(server: RunningServer, owner: str, quarantined: str) -> None:
    client = server.client(owner)
    assert client.get(f"/api/assets/{quarantined}").status == 404
    assert client.get("/api/assets").json["assets"] == []
    told = client.post("/api/assets/query", json.dumps({"keys": [quarantined]}).encode(), {"Content-Type": "application/json"})
    assert told.json["assets"] == [{"key": quarantined, "error": "not-found"}]
    focal = client.request(
        "PATCH", f"/api/assets/{quarantined}", {"Content-Type": "application/json"}, json.dumps({"focal": [0.5, 0.5]}).encode()
    )
    assert focal.status == 404
    record = server.client("boss", scope="media:admin").get(f"/api/assets/{quarantined}")
    assert (record.status, record.json["state"], record.json["size"]) == (200, "quarantined", len(PHOTO))
    again = client.upload(PHOTO, headers={"Idempotency-Key": "once"})
    assert (again.status, again.code) == (409, "conflict")


def test_it_counts_until_it_is_removed(server: RunningServer, owner: str, quarantined: str) -> None:
    client = server.client(owner)
    assert client.get("/api/usage").json["bytes"] == len(PHOTO)
    assert client.delete(media(quarantined)).status == 204
    assert client.get("/api/usage").json["bytes"] == 0
    assert server.client("boss", scope="media:admin").get(f"/api/assets/{quarantined}").status == 404


def test_what_is_marked_ready_again_is_there_again(server: RunningServer, owner: str, quarantined: str) -> None:
    mark(server, quarantined, "ready")
    assert until(lambda: Client(server.url).get(media(quarantined)).status == 200)
    assert [Client(server.url).get(media(quarantined) + way).status for way in WAYS] == [200] * len(WAYS)


def test_a_start_neither_shows_nor_clears_it_away(serve: Callable[..., RunningServer]) -> None:
    server = serve()
    key = server.client("me").stored(PHOTO)["key"]
    mark(server, key, "quarantined")
    server.restart()
    assert Client(server.url).get(media(key)).status == 404
    mark(server, key, "ready")
    assert until(lambda: Client(server.url).get(media(key)).status == 200)


def test_what_was_made_of_it_is_withheld_with_it(server: RunningServer, owner: str, quarantined: str) -> None:
    below = f"{quarantined}/360p-12345678-1.mp4"
    server.place(below, PHOTO, "image/jpeg")
    assert Client(server.url).get(media(below)).status == 404
    mark(server, quarantined, "ready")
    assert until(lambda: Client(server.url).get(media(below)).status == 200)

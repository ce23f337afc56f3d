"""The stored focal point: who may set it, and that every crop goes by it from then on."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests import pictures
from tests.kit.client import Answer, Client, media
from tests.kit.server import RunningServer

CROP = "w=20&h=20&fit=cover&format=png"


def striped() -> bytes:
    """A picture of 120 × 20: red, then green, then blue."""
    picture = Image.new("RGB", (120, 20), "red")
    picture.paste((0, 128, 0), (40, 0, 80, 20))
    picture.paste((0, 0, 255), (80, 0, 120, 20))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def colour(answer: Answer) -> str:
    """Which third is in the middle of the picture in *answer*."""
    assert answer.status == 200, answer
    picture = Image.open(io.BytesIO(answer.body)).convert("RGB")
    parts = picture.getpixel((picture.width // 2, picture.height // 2))
    assert isinstance(parts, tuple)
    return ("red", "green", "blue")[parts.index(max(parts))]


def patch(client: Client, key: str, changes: Any, content_type: str = "application/json") -> Answer:
    """PATCH the record of *key*."""
    body = changes if isinstance(changes, bytes) else json.dumps(changes).encode()
    return client.request("PATCH", f"/api/assets/{key}", {"Content-Type": content_type}, body)


@pytest.fixture
def key(client: Client) -> str:
    """A striped picture."""
    return str(client.stored(striped())["key"])


def test_every_crop_keeps_the_point_and_renews_itself(server: RunningServer, client: Client, key: str) -> None:
    stranger, path = server.client(), media(key)
    queries = (CROP, f"{CROP}&g=focal", "ar=1:1&h=20&format=png")
    before = {query: stranger.get(f"{path}?{query}") for query in queries}
    assert {colour(answer) for answer in before.values()} == {"green"}
    changed = patch(client, key, {"focal": [0.9, 0.5]}, "application/merge-patch+json")
    assert (changed.status, changed.json["focal"]) == (200, [0.9, 0.5])
    for query in queries:
        for _ in range(2):
            after = stranger.get(f"{path}?{query}")
            assert (colour(after), after.headers["ETag"] != before[query].headers["ETag"]) == ("blue", True), query
        old = stranger.get(f"{path}?{query}", {"If-None-Match": before[query].headers["ETag"]})
        assert old.status == 200
    assert colour(stranger.get(f"{path}?{CROP}&g=left")) == "red"
    assert client.get(f"/api/assets/{key}").json["focal"] == [0.9, 0.5]
    assert stranger.get(f"{path}?format=json").json["focal"] == [0.9, 0.5]
    assert patch(client, key, {"focal": None}).json["focal"] is None
    again = stranger.get(f"{path}?{CROP}")
    assert (colour(again), again.headers["ETag"]) == ("green", before[CROP].headers["ETag"])


def test_a_version_that_may_be_kept_for_ever_names_the_point(server: RunningServer, client: Client, key: str) -> None:
    """Else a crop of before would stay in browsers for a year."""
    first = client.get(f"/api/assets/{key}").json["version"]
    second = patch(client, key, {"focal": [0.9, 0.5]}).json["version"]

    def is_for_ever(query: str, version: str) -> bool:
        answer = server.client().get(media(key, f"{query}&v={version}"))
        return "immutable" in answer.headers["Cache-Control"]

    assert first != second
    assert not is_for_ever(CROP, first)
    assert is_for_ever(CROP, second)
    for version in (first, second):  # which does not crop, or not there
        assert is_for_ever("w=20", version)
        assert is_for_ever(f"{CROP}&g=left", version)
    patch(client, key, {"focal": None})
    assert is_for_ever(CROP, first)
    assert not is_for_ever(CROP, second)


def test_the_point_is_followed_through_what_is_cut_turned_and_mirrored_before(
    server: RunningServer, client: Client, key: str
) -> None:
    patch(client, key, {"focal": [0.05, 0.5]})
    stranger, path = server.client(), media(key)
    for change in ("flip=h", "rot=180", "rot=90", "rot=270&flip=v", "crop=0,0,60,20", "crop=0.0,0,0.6,1&flip=h"):
        assert colour(stranger.get(f"{path}?{CROP}&{change}")) == "red", change
    assert colour(stranger.get(f"{path}?{CROP}&crop=40,0,80,20")) == "green"  # as near as it can be


def test_a_point_outlives_a_restart(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        key = server.client("me").stored(striped())["key"]
        patch(server.client("me"), key, {"focal": [0, 1]})
        server.restart()
        assert server.client("me").get(f"/api/assets/{key}").json["focal"] == [0, 1]
        assert colour(server.client().get(f"{media(key)}?{CROP}")) == "red"


def test_only_the_owner_and_an_admin_may_set_it(server: RunningServer, key: str) -> None:
    point = {"focal": [0.1, 0.1]}
    assert patch(server.client(), key, point).status == 401
    assert patch(server.client("somebody"), key, point).status == 404
    assert patch(server.client("user123", scope="media:read"), key, point).status == 403
    assert patch(server.client("admin", scope="media:admin"), key, point).status == 200
    assert patch(server.client("admin", scope="media:admin"), "user123/none.jpg", point).status == 404


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"focal": [0.5]}, 400),
        ({"focal": [1.1, 0]}, 400),
        ({"focal": ["0", "1"]}, 400),
        ({"focal": [True, False]}, 400),
        ({"focal": "center"}, 400),
        ({"focal": [0.5, 0.5], "owner": "me"}, 400),
        ({}, 400),
        ([], 400),
        (b"{", 400),
        (b'{"focal": [NaN, 0]}', 400),
        (b"[" * 60_000, 400),
        (b" " * 70_000, 413),
    ],
)
def test_anything_else_is_refused_and_changes_nothing(client: Client, key: str, changes: Any, status: int) -> None:
    patch(client, key, {"focal": [0.25, 0.25]})
    answer = patch(client, key, changes)
    assert (answer.status, answer.headers.get_content_type()) == (status, "application/problem+json")
    assert client.get(f"/api/assets/{key}").json["focal"] == [0.25, 0.25]


def test_another_type_of_body_is_refused(client: Client, key: str) -> None:
    assert patch(client, key, {"focal": [0, 0]}, "text/plain").status == 415


def test_a_change_of_another_version_is_412(client: Client) -> None:
    address = f"/api/assets/{client.stored(pictures.png(8, 8))['key']}"
    for etag, status in (('"another"', 412), (client.get(address).headers["ETag"], 200)):
        headers = {"Content-Type": "application/json", "If-Match": etag}
        assert client.request("PATCH", address, headers, b'{"focal": [1, 0]}').status == status

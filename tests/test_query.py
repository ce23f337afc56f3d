"""``POST /api/assets/query``: many records at once, with addresses for a page's ``srcset``."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image

from tests import pictures
from tests.kit.client import Answer, Client, media
from tests.kit.server import RunningServer

SECRET = "a-secret-for-addresses-long-enough-that-nobody-knows"


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose pictures are for signed addresses alone."""
    modes = {"MEDIA_READ_ACCESS": "signed", "MEDIA_TRANSFORM_ACCESS": "signed", "MEDIA_URL_SECRETS": SECRET}
    with RunningServer(tmp_path_factory.mktemp("signing"), modes) as running:
        yield running


def ask(client: Client, **wish: Any) -> Answer:
    """The answer to a query."""
    return client.post("/api/assets/query", json.dumps(wish).encode(), {"Content-Type": "application/json"})


def width_of(answer: Answer) -> int:
    """How wide the picture in *answer* is."""
    assert answer.status == 200, answer
    return Image.open(io.BytesIO(answer.body)).width


def test_each_key_is_answered_in_its_place_with_what_is_known_of_it(client: Client) -> None:
    photo, sound = client.stored(pictures.jpeg(800, 600)), client.stored(pictures.mp3())
    answer = ask(client, keys=[sound["key"], "user123/none.jpg", photo["key"], photo["key"]])
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "private, no-store")
    first, missing, third, again = answer.json["assets"]
    assert (first["key"], first["srcset"], first["src"], first["sources"]) == (sound["key"], "", None, {})
    assert missing == {"key": "user123/none.jpg", "error": "not-found"}
    assert third == again
    assert {name: third[name] for name in photo} == photo
    assert third["blurhash"]


def test_the_addresses_are_those_of_a_srcset_and_never_enlarge(server: RunningServer, client: Client) -> None:
    photo = client.stored(pictures.jpeg(800, 600))
    [told] = ask(client, keys=[photo["key"]], widths=[320, 640, 960, 1920], format="webp").json["assets"]
    assert list(told["sources"]) == ["320", "640", "800"]
    assert told["src"] == told["sources"]["800"]
    assert told["srcset"] == ", ".join(f"{address} {width}w" for width, address in told["sources"].items())
    for width, address in told["sources"].items():
        answer = server.client().get(address)
        assert (width_of(answer), answer.headers["Content-Type"]) == (int(width), "image/webp")
        assert "immutable" in answer.headers["Cache-Control"]


def test_where_addresses_are_signed_one_signature_serves_the_widths_of_the_ladder(signing: RunningServer) -> None:
    photo = signing.client("me").stored(pictures.jpeg(800, 600))
    [told] = ask(signing.client("me"), keys=[photo["key"]], widths=[320, 640, 700, 960], expires=600).json["assets"]
    stranger = signing.client()
    assert stranger.get(media(photo["key"], "w=320")).status in {401, 403}
    for width, address in told["sources"].items():
        answer = stranger.get(address)
        assert width_of(answer) == int(width)
        assert stranger.get(address.replace(f"w={width}", "w=128")).status == (200 if width in {"320", "640"} else 403)
        assert stranger.get(address.replace(f"w={width}", "w=129")).status == 403
    signatures = {width: parse_qs(urlsplit(address).query)["s"] for width, address in told["sources"].items()}
    assert signatures["320"] == signatures["640"] != signatures["700"]


def test_nobody_is_told_of_what_belongs_to_another(server: RunningServer, client: Client) -> None:
    key = client.stored(pictures.png(8, 8))["key"]
    assert ask(server.client("somebody"), keys=[key]).json["assets"] == [{"key": key, "error": "not-found"}]
    assert ask(server.client("admin", scope="media:admin"), keys=[key]).json["assets"][0]["width"] == 8
    assert ask(server.client(), keys=[key]).status == 401
    assert ask(server.client("user123", scope="media:write"), keys=[key]).status == 403


@pytest.mark.parametrize(
    ("wish", "param"),
    [
        ({}, "keys"),
        ({"keys": []}, "keys"),
        ({"keys": ["a/b"] * 101}, "keys"),
        ({"keys": [1]}, "keys"),
        ({"keys": ["../x"]}, "keys"),
        ({"keys": ["a/b"], "widths": []}, "widths"),
        ({"keys": ["a/b"], "widths": [0]}, "widths"),
        ({"keys": ["a/b"], "widths": [True]}, "widths"),
        ({"keys": ["a/b"], "format": "json"}, "format"),
        ({"keys": ["a/b"], "format": 1}, "format"),
        ({"keys": ["a/b"], "format": "webp&w=1"}, "format"),
        ({"keys": ["a/b"], "expires": 0}, "expires"),
        ({"keys": ["a/b"], "other": 0}, "other"),
    ],
)
def test_a_wish_that_is_not_right_names_what_is_wrong(client: Client, wish: dict[str, Any], param: str) -> None:
    answer = ask(client, **wish)
    assert (answer.status, answer.json["param"]) == (400, param)

"""The cover of a sound: a picture like others, of whom nobody knows where it comes from."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from tests import pictures
from tests.conftest import Harmless
from tests.kit.client import Client, media


def _size(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as image:
        return image.size


@pytest.mark.parametrize(("cover", "mime"), [(pictures.jpeg(300, 200), "image/jpeg"), (pictures.png(300, 200), "image/png")])
def test_a_sound_is_shown_by_its_cover(client: Client, cover: bytes, mime: str) -> None:
    key = client.stored(pictures.covered(cover, mime), "audio/mpeg")["key"]
    answer = client.get(f"{media(key)}?w=150&h=50&fit=cover&format=webp")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/webp")
    assert _size(answer.body) == (150, 50)


def test_the_type_of_a_cover_is_what_its_bytes_say(client: Client) -> None:
    key = client.stored(pictures.covered(pictures.png(60, 40), "image/jpeg"), "audio/mpeg")["key"]
    assert _size(client.get(f"{media(key)}?w=30").body) == (30, 20)


def test_what_stands_for_a_cover_is_told(client: Client) -> None:
    key = client.stored(pictures.covered(pictures.jpeg(300, 200), "image/jpeg"), "audio/mpeg")["key"]
    told = client.get(f"{media(key)}?format=json").json
    assert (told["width"], told["tracks"]["video"]) == (None, None)
    assert told["thumbhash"]
    assert told["colour"]


def test_a_sound_without_a_cover_has_no_picture(client: Client) -> None:
    answer = client.get(f"{media(client.stored(pictures.mp3(), 'audio/mpeg')['key'])}?w=20")
    assert (answer.status, answer.json["code"]) == (415, "unsupported-type")
    assert "no picture in this file" in answer.json["detail"]


@pytest.mark.parametrize(
    ("cover", "status"),
    [(b'<svg xmlns="http://www.w3.org/2000/svg"/>', 415), (b"no picture at all", 415), (pictures.jpeg(300, 200)[:400], 422)],
)
def test_a_cover_that_cannot_be_shown_leaves_the_sound_as_it_is(client: Client, cover: bytes, status: int) -> None:
    sound = pictures.covered(cover, "image/jpeg")
    key = client.stored(sound, "audio/mpeg")["key"]
    assert client.get(media(key)).body == sound
    assert client.get(f"{media(key)}?w=20").status == status


def test_a_cover_that_would_take_too_much_is_refused_before_it_is_decoded(client: Client, harmless: Harmless) -> None:
    key = client.stored(pictures.covered(pictures.png_bomb(), "image/png"), "audio/mpeg")["key"]
    with harmless(422, "too-costly") as bad:
        bad.answer = client.get(f"{media(key)}?w=20")

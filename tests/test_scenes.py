"""Many pictures of one film: storyboards with their times, and previews that move."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from urllib.parse import urljoin

import av
import pytest
from PIL import Image, ImageSequence

from proxy.signing import address
from tests import pictures
from tests.kit.client import Answer, Client, media
from tests.kit.server import RunningServer

SECRET = "correct-horse-battery-staple-twice-over"
GREY = 14
"""by how much a codec may change a grey"""


@pytest.fixture
def dawn(client: Client) -> str:
    """The address of two seconds, twenty frames, each brighter than the one before."""
    return media(client.stored(pictures.dawn("mp4"))["key"])


def greys(image: Image.Image, columns: int, rows: int) -> list[int]:
    """The brightness in the middle of each tile, in the order of reading."""
    width, height = image.width // columns, image.height // rows
    grey = image.convert("L")
    middles = [(column * width + width // 2, row * height + height // 2) for row in range(rows) for column in range(columns)]
    return [int(grey.getpixel(middle)) for middle in middles]  # type: ignore[arg-type]


def opened(answer: Answer) -> Image.Image:
    assert answer.status == 200, answer
    return Image.open(io.BytesIO(answer.body))


@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_a_storyboard_shows_the_middle_of_each_part_of_a_film(client: Client, kind: str) -> None:
    path = media(client.stored(pictures.dawn(kind))["key"])
    image = opened(client.get(f"{path}?sprite=2x2&w=32&format=png"))
    assert image.size == (64, 48)
    assert greys(image, 2, 2) == pytest.approx([20, 70, 120, 170], abs=GREY)


def test_a_storyboard_of_a_film_that_stands_upright_has_upright_tiles(client: Client) -> None:
    path = media(client.stored(pictures.mp4(160, 120, rotated=90))["key"])
    assert opened(client.get(f"{path}?sprite=3x1&w=60")).size == (180, 80)


def test_a_storyboard_has_the_formats_and_the_fit_of_pictures(client: Client, dawn: str) -> None:
    answer = client.get(f"{dawn}?sprite=4x1&w=40&h=40&fit=cover&format=auto", {"Accept": "image/webp"})
    assert (answer.headers["Content-Type"], opened(answer).size) == ("image/webp", (160, 40))
    assert opened(client.get(f"{dawn}?sprite=2x1")).size == (128, 48)


def test_of_a_long_film_the_key_frames_are_shown(client: Client) -> None:
    path = media(client.stored(pictures.long_dawn())["key"])
    image = opened(client.get(f"{path}?sprite=4x1&w=32&format=png"))
    assert greys(image, 4, 1) == pytest.approx([20, 60, 100, 140], abs=GREY)


def test_cues_lead_from_each_time_to_its_tile(client: Client, dawn: str) -> None:
    answer = client.get(f"{dawn}?sprite=2x2&w=32&format=vtt")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/vtt; charset=utf-8")
    head, *cues = answer.text.rstrip().split("\n\n")
    assert head == "WEBVTT"
    times, places = zip(*(cue.split("\n") for cue in cues), strict=True)
    assert times == (
        "00:00:00.000 --> 00:00:00.500",
        "00:00:00.500 --> 00:00:01.000",
        "00:00:01.000 --> 00:00:01.500",
        "00:00:01.500 --> 00:00:02.000",
    )
    sprites, areas = zip(*(place.split("#xywh=") for place in places), strict=True)
    assert areas == ("0,0,32,24", "32,0,32,24", "0,24,32,24", "32,24,32,24")
    (sprite,) = set(sprites)
    assert opened(client.get(urljoin(dawn, sprite))).size == (64, 48)
    assert client.get(f"{dawn}?sprite=2x2&w=32&format=vtt", {"If-None-Match": answer.headers["ETag"]}).status == 304


def test_who_has_signed_cues_has_their_storyboard(serve: Callable[..., RunningServer], owner: str) -> None:
    server = serve(MEDIA_READ_ACCESS="signed", MEDIA_TRANSFORM_ACCESS="signed", MEDIA_URL_SECRETS=SECRET)
    key = server.client(owner).stored(pictures.dawn("mp4"))["key"]
    query = {"sprite": "2x2", "format": "vtt", "exp": str(int(time.time()) + 60)}
    signed = "/api/media/" + address(SECRET.encode(), key, query)
    stranger = server.client()
    cues = stranger.get(signed).text
    sprite = cues.split("\n")[3].partition("#")[0]
    assert opened(stranger.get(urljoin(signed, sprite))).size == (128, 96)
    assert stranger.get(urljoin(signed, sprite.replace("2x2", "3x2"))).status == 403


def test_a_preview_moves_in_webp_and_gif(client: Client, dawn: str) -> None:
    for query, kind in (("", "WEBP"), ("&format=gif", "GIF"), ("&format=auto", "GIF")):
        image = opened(client.get(f"{dawn}?dur=1&time=0.5&w=32{query}"))
        assert (image.format, image.size) == (kind, (32, 24))
        frames = [greys(frame.copy(), 1, 1)[0] for frame in ImageSequence.Iterator(image)]
        assert frames == pytest.approx([50, 60, 70, 80, 90, 100, 110, 120, 130, 140], abs=GREY)
        assert image.info["duration"] == 100


def test_a_preview_without_a_moment_begins_where_something_is_seen(client: Client) -> None:
    path = media(client.stored(pictures.mp4(160, 120, seconds=3, black_s=1.5))["key"])
    image = opened(client.get(f"{path}?dur=1&w=32"))
    assert min(max(frame.convert("L").getextrema()) for frame in ImageSequence.Iterator(image)) > 100


def test_a_preview_ends_with_its_film(client: Client, dawn: str) -> None:
    for query in ("dur=1&time=1.9", "dur=1&time=100%25"):
        frames = [greys(frame.copy(), 1, 1)[0] for frame in ImageSequence.Iterator(opened(client.get(f"{dawn}?{query}&w=32")))]
        assert frames == pytest.approx(list(range(100, 200, 10)), abs=GREY)
    assert opened(client.get(f"{dawn}?dur=10&w=32")).n_frames == 20  # type: ignore[attr-defined]


def test_a_preview_in_mp4_is_read_in_parts_like_any_film(client: Client, dawn: str) -> None:
    path = f"{dawn}?dur=1&time=0.5&w=33&format=mp4"
    whole = client.get(path)
    assert (whole.status, whole.headers["Content-Type"], whole.headers["Accept-Ranges"]) == (200, "video/mp4", "bytes")
    assert whole.headers["ETag"].startswith('"')
    assert whole.body.index(b"moov") < whole.body.index(b"mdat")
    with av.open(io.BytesIO(whole.body)) as film:
        stream = film.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height, len(film.streams)) == ("h264", 32, 24, 1)
        shown = [greys(frame.to_image(), 1, 1)[0] for frame in film.decode(stream)]
    assert shown == pytest.approx([50, 60, 70, 80, 90, 100, 110, 120, 130, 140], abs=GREY)
    part = client.get(path, {"Range": "bytes=100-199", "If-Range": whole.headers["ETag"]})
    assert (part.status, part.body) == (206, whole.body[100:200])
    assert part.headers["Content-Range"] == f"bytes 100-199/{len(whole.body)}"
    assert client.get(path, {"Range": "bytes=-7"}).body == whole.body[-7:]
    assert client.get(path).body == whole.body
    assert client.get(path, {"Range": f"bytes={len(whole.body)}-"}).status == 416


def test_a_damaged_film_shows_what_is_left_of_it(client: Client) -> None:
    whole = pictures.dawn("webm")
    path = media(client.stored(whole[: len(whole) * 2 // 3])["key"])
    assert greys(opened(client.get(f"{path}?sprite=2x2&w=32&format=png")), 2, 2)[0] == pytest.approx(20, abs=GREY)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("sprite=1x1", "sprite"),
        ("sprite=11x2", "sprite"),
        ("sprite=0x5", "sprite"),
        ("sprite=3", "sprite"),
        ("sprite=10x10&w=900&up=1", "sprite"),
        ("sprite=2x2&dur=2", "dur"),
        ("sprite=2x2&format=mp4", "format"),
        ("dur=0.5", "dur"),
        ("dur=11", "dur"),
        ("dur=2&format=jpg", "format"),
        ("format=mp4", "format"),
        ("format=vtt", "format"),
    ],
)
def test_what_makes_no_sense_is_400_and_names_what(client: Client, dawn: str, query: str, param: str) -> None:
    answer = client.get(f"{dawn}?{query}")
    assert (answer.status, answer.json["code"], answer.json["param"]) == (400, "bad-parameter", param)


@pytest.mark.parametrize("query", ["sprite=2x2", "dur=2", "sprite=2x2&format=vtt"])
def test_pictures_and_sound_have_neither(client: Client, query: str) -> None:
    for data in (pictures.png(8, 8), pictures.mp3()):
        answer = client.get(f"{media(client.stored(data)['key'])}?{query}")
        assert (answer.status, answer.json["code"]) == (415, "unsupported-type")

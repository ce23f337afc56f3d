"""What the parameters do that choose a part of a file, what of its metadata goes along, and how large the answer is."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from PIL import Image

from tests import pictures
from tests.kit.client import Answer, media
from tests.kit.server import RunningServer

COLOURS = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255)}
Fetch = Callable[[bytes, str], Answer]


@pytest.fixture(scope="module")
def fetch(server: RunningServer) -> Fetch:
    """What a stranger gets of a file that somebody has stored, by a query."""

    def fetched(data: bytes, query: str) -> Answer:
        key = server.client("me").stored(data)["key"]
        return server.client().get(media(key, query))

    return fetched


def picture(answer: Answer) -> Image.Image:
    """The picture in *answer*."""
    assert answer.status == 200, answer
    return Image.open(io.BytesIO(answer.body))


def colour(answer: Answer) -> str:
    """The name of the colour in the middle."""
    image = picture(answer).convert("RGB")
    seen = image.getpixel((image.width // 2, image.height // 2))
    return min(COLOURS, key=lambda name: sum(abs(a - b) for a, b in zip(COLOURS[name], seen, strict=True)))  # type: ignore[arg-type]


def paged(kind: str) -> bytes:
    """Three pages of 40 × 30: red, green, blue."""
    pages = [Image.new("RGB", (40, 30), name) for name in COLOURS]
    file = io.BytesIO()
    options = {"duration": 100} if kind in ("GIF", "WEBP") else {}
    pages[0].save(file, kind, save_all=True, append_images=pages[1:], **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF"])
def test_a_page_is_one_still_picture_of_several(fetch: Fetch, kind: str) -> None:
    data = paged(kind)
    for number, name in enumerate(COLOURS, 1):
        answer = fetch(data, f"page={number}&w=20&format=png")
        assert (colour(answer), picture(answer).size) == (name, (20, 15))
    assert getattr(picture(fetch(data, "page=2")), "n_frames", 1) == 1
    missing = fetch(data, "page=4")
    assert (missing.status, missing.json["param"], missing.json["allowed"]) == (400, "page", "1 to 3")


def test_a_moment_of_a_film_can_be_asked_for(fetch: Fetch) -> None:
    film = pictures.mp4(seconds=3, black_s=1.5)

    def brightness(query: str) -> int:
        _, high = picture(fetch(film, f"{query}&w=80")).convert("L").getextrema()
        assert isinstance(high, int)
        return high

    assert brightness("time=0.5") < 60
    assert brightness("time=10%25") < 60
    for query in ("time=2", "time=2s", "at=90%25", "time=1h", "time=auto"):
        assert brightness(query) > 150, query


def test_max_bounds_the_bytes_and_says_when_it_cannot(fetch: Fetch) -> None:
    photo = pictures.jpeg(400, 300)
    full = len(fetch(photo, "w=400&q=95").body)
    for kind in ("jpg", "webp", "avif", "png", "gif"):
        whole = len(fetch(photo, f"w=400&q=95&format={kind}").body)
        bounded = fetch(photo, f"w=400&q=95&format={kind}&max={whole * 2 // 3}")
        assert picture(bounded).size == (400, 300)
        assert len(bounded.body) <= whole * 2 // 3, kind
        assert "X-Media-Degraded" not in bounded.headers
    assert len(fetch(photo, f"w=400&q=95&max={full}").body) == full
    hopeless = fetch(photo, "w=400&max_bytes=10")
    assert (picture(hopeless).size, hopeless.headers["X-Media-Degraded"]) == ((400, 300), "size-nearest")


def test_metadata_goes_along_as_far_as_was_asked_and_the_private_part_only_for_the_owner(server: RunningServer) -> None:
    client, stranger = server.client("me"), server.client()
    path = media(client.stored(pictures.jpeg(200, 150, private=True))["key"])

    def exif(answer: Answer) -> Image.Exif:
        return picture(answer).getexif()

    assert dict(exif(stranger.get(f"{path}?w=100&meta=none"))) == {}
    for query in ("w=100", "w=100&meta=copyright"):
        tags = exif(stranger.get(f"{path}?{query}"))
        assert tags[pictures.COPYRIGHT_TAG] == pictures.COPYRIGHT
        assert pictures.MAKE_TAG not in tags
        assert not tags.get_ifd(pictures.GPS_TAG)
    assert stranger.get(f"{path}?w=100&meta=keep").status in {401, 403}
    assert server.client("somebody").get(f"{path}?w=100&meta=keep").status in {403, 404}
    kept = client.get(f"{path}?w=100&meta=keep")
    assert exif(kept)[pictures.MAKE_TAG] == pictures.CANARY
    assert exif(kept).get_ifd(pictures.GPS_TAG)[1] == "N"
    assert "private" in kept.headers["Cache-Control"]


def test_automatic_quality_looks_like_a_photo_and_saves_more_for_who_asks_for_it(server: RunningServer) -> None:
    client = server.client("me")
    path = media(client.stored(pictures.jpeg(400, 300))["key"])
    for kind in ("jpg", "webp", "avif"):
        best, plain, least = (len(client.get(f"{path}?format={kind}&q={q}").body) for q in (95, "auto", 20))
        saving = client.get(f"{path}?format={kind}&q=auto", {"Save-Data": "on"})
        assert least < len(saving.body) < plain < best, kind
        assert "Save-Data" in saving.headers["Vary"]

"""What is said of a picture without showing it: ``format=json``, ``thumbhash`` and ``blurhash``."""

from __future__ import annotations

import io
import json
import sqlite3
from base64 import b64decode
from collections.abc import Callable
from math import cos, pi
from pathlib import Path

import pytest
from PIL import Image

from processors.placeholders import components
from tests import pictures
from tests.kit.client import Client, media
from tests.kit.server import RunningServer

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"


def number(text: str) -> int:
    """The value of a BlurHash's digits."""
    value = 0
    for letter in text:
        value = value * 83 + DIGITS.index(letter)
    return value


def painted(blurhash: str, x: float, y: float) -> tuple[float, ...]:
    """The colour that a BlurHash has at a place from 0 to 1: its published decoder (woltapp/blurhash, Algorithm.md)."""
    sizes, peak = number(blurhash[0]), (number(blurhash[1]) + 1) / 166
    across, down = sizes % 9 + 1, sizes // 9 + 1
    terms = []
    for place in range(across * down):
        if place == 0:
            packed = number(blurhash[2:6])
            parts = [(packed >> shift & 255) / 255 for shift in (16, 8, 0)]
            terms.append([part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts])
        else:
            packed = number(blurhash[4 + place * 2 : 6 + place * 2])
            steps = [(packed // 361 % 19 - 9) / 9, (packed // 19 % 19 - 9) / 9, (packed % 19 - 9) / 9]
            terms.append([step * abs(step) * peak for step in steps])
    linear = [
        sum(terms[j * across + i][band] * cos(pi * x * i) * cos(pi * y * j) for j in range(down) for i in range(across))
        for band in range(3)
    ]
    clamped = [min(1.0, max(0.0, value)) for value in linear]
    return tuple(255 * (value * 12.92 if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055) for value in clamped)


def average(thumbhash: bytes) -> tuple[float, ...]:
    """The average colour and alpha in a ThumbHash (evanw/thumbhash, thumbHashToAverageRGBA)."""
    head = int.from_bytes(thumbhash[:3], "little")
    luma, yellow, red_green = (head & 63) / 63, (head >> 6 & 63) / 31.5 - 1, (head >> 12 & 63) / 31.5 - 1
    alpha = (thumbhash[5] & 15) / 15 if head >> 23 else 1.0
    blue = luma - 2 / 3 * yellow
    red = (3 * luma - blue + red_green) / 2
    return red, red - red_green, blue, alpha


def near(seen: tuple[float, ...], wanted: tuple[int, ...], by: float) -> bool:
    """Whether two colours are alike."""
    return all(abs(a - b) <= by for a, b in zip(seen, wanted, strict=True))


def nearest(seen: tuple[float, ...]) -> tuple[int, ...]:
    """Which of the colours of the quarters a colour is most like."""
    return min(pictures.QUARTERS, key=lambda quarter: sum(abs(a - b) for a, b in zip(seen, quarter, strict=True)))


@pytest.fixture
def uploaded(client: Client) -> Callable[[bytes], str]:
    """Stores a file and gives its path."""
    return lambda data: media(client.stored(data)["key"])


def test_json_tells_what_a_picture_is(server: RunningServer, uploaded: Callable[[bytes], str]) -> None:
    answer = server.client().get(f"{uploaded(pictures.jpeg(400, 300, orientation=6))}?format=json")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    told = answer.json
    assert (told["width"], told["height"], told["orientation"], told["frames"], told["alpha"]) == (400, 300, 6, 1, False)
    assert (told["contentType"], told["colourSpace"], told["bits"], told["duration"]) == ("image/jpeg", "srgb", 8, None)
    assert told["focal"] is None
    assert "private" not in told
    colour = tuple(bytes.fromhex(told["colour"][1:]))
    assert any(near(colour, quarter, 25) for quarter in pictures.QUARTERS)
    for quarter, place in zip(pictures.QUARTERS, ((0.2, 0.2), (0.8, 0.2), (0.2, 0.8), (0.8, 0.8)), strict=True):
        assert nearest(painted(told["blurhash"], *place)) == quarter


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (lambda: pictures.gif(64, 48, frames=3), {"frames": 3, "contentType": "image/gif"}),
        (pictures.png_16_bit, {"bits": 16}),
        (lambda: pictures.png(64, 48, mode="RGBA"), {"alpha": True}),
        (lambda: pictures.png(64, 48, mode="L"), {"colourSpace": "grey"}),
        (pictures.cmyk_jpeg, {"colourSpace": "cmyk"}),
        (lambda: pictures.mp4(160, 120, rotated=90), {"width": 120, "height": 160, "contentType": "video/mp4"}),
        (lambda: pictures.heic(64, 48), {"contentType": "image/heic", "width": 64}),
        (pictures.mp3, {"width": None, "blurhash": None, "contentType": "audio/mpeg"}),
    ],
)
def test_json_tells_it_of_every_kind_of_file(
    server: RunningServer, uploaded: Callable[[bytes], str], data: Callable[[], bytes], expected: dict[str, object]
) -> None:
    told = server.client().get(f"{uploaded(data())}?format=json").json
    assert {name: told[name] for name in expected} == expected
    if told["width"] is not None:
        assert len(told["blurhash"]) >= 6
        assert told["colour"].startswith("#")


def test_the_hashes_alone_are_text_that_may_be_kept(server: RunningServer, uploaded: Callable[[bytes], str]) -> None:
    path = uploaded(pictures.png(90, 60, mode="RGBA"))
    told = server.client().get(f"{path}?format=json").json
    for name in ("thumbhash", "blurhash"):
        answer = server.client().get(f"{path}?format={name}")
        assert (answer.text, answer.headers["Content-Type"]) == (told[name], "text/plain; charset=utf-8")
        assert answer.headers["Cache-Control"].startswith("public, max-age=86400")
        same = server.client().get(f"{path}?format={name}", {"If-None-Match": answer.headers["ETag"]})
        assert (same.status, same.headers["ETag"]) == (304, answer.headers["ETag"])
        head = server.client().head(f"{path}?format={name}")
        assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(answer.body)))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_thumbhash_has_the_average_colour_and_alpha_of_the_picture(
    server: RunningServer, uploaded: Callable[[bytes], str], mode: str
) -> None:
    data = pictures.png(90, 60, mode=mode)
    hashed = b64decode(server.client().get(f"{uploaded(data)}?format=thumbhash").text)
    picture = Image.open(io.BytesIO(data)).convert("RGBA").resize((1, 1), Image.Resampling.BOX)
    wanted = tuple(part / 255 for part in picture.getpixel((0, 0)))  # type: ignore[union-attr]
    assert near(average(hashed), wanted, 0.06)  # type: ignore[arg-type]


def test_the_dominant_colour_is_that_of_most_of_what_is_visible(server: RunningServer, uploaded: Callable[[bytes], str]) -> None:
    picture = Image.new("RGBA", (100, 100), (0, 255, 0, 0))
    picture.paste((200, 30, 40, 255), (0, 0, 60, 30))
    picture.paste((20, 30, 240, 255), (60, 0, 100, 30))
    file = io.BytesIO()
    picture.save(file, "PNG")
    colour = server.client().get(f"{uploaded(file.getvalue())}?format=json").json["colour"]
    assert near(tuple(bytes.fromhex(colour[1:])), (200, 30, 40), 12)


@pytest.mark.parametrize(("size", "terms"), [((400, 300), (4, 3)), ((300, 400), (3, 4)), ((100, 100), (3, 3)), ((1000, 1), (9, 1))])
def test_a_blurhash_has_about_twelve_terms_in_the_shape_of_the_picture(size: tuple[int, int], terms: tuple[int, int]) -> None:
    assert components(*size) == terms


def test_only_the_owner_is_told_where_a_picture_was_taken(server: RunningServer) -> None:
    path = media(server.client("me").stored(pictures.jpeg(80, 60, private=True))["key"])
    stranger = server.client().get(f"{path}?format=json")
    assert stranger.json["exif"] == {"Artist": pictures.ARTIST, "Copyright": pictures.COPYRIGHT, "Make": pictures.CANARY}
    assert "GPS" not in stranger.text
    assert "LensSerialNumber" not in stranger.text
    for other in (server.client("somebody"), server.client("me", scope="media:write")):
        assert "private" not in other.get(f"{path}?format=json").json
    assert stranger.headers["Vary"] == "Authorization"
    owner = server.client("me").get(f"{path}?format=json")
    assert owner.headers["Vary"] == "Authorization"
    assert owner.json["private"]["GPSLatitude"] == [52.0, 31.0, 12.0]
    assert owner.json["private"]["BodySerialNumber"] == pictures.CANARY
    assert owner.headers["Cache-Control"] == "private, no-store"


def test_a_camera_that_talks_much_is_heard_as_far_as_there_is_room(server: RunningServer) -> None:
    tags = Image.Exif()
    tags[pictures.COPYRIGHT_TAG] = "me"
    for tag in (0x010D, 0x010F, 0x0110, 0x0131, 0x013C):
        tags[tag] = "\xfe" * 199
    for tag in (0x9290, 0x9291, 0x9292, 0xA420, 0xA430, 0xA431, 0xA433, 0xA434, 0xA435):
        tags.get_ifd(pictures.EXIF_TAG)[tag] = "\xfe" * 199
    for tag in (1, 3, 9, 10, 12, 14, 16, 18, 19, 21, 23, 25):
        tags.get_ifd(pictures.GPS_TAG)[tag] = "\xfe" * 199
    path = media(server.client("me").stored(pictures.jpeg(64, 48, exif=tags.tobytes()))["key"])
    answer = server.client("me").get(f"{path}?format=json")
    assert (answer.status, answer.json["exif"]["Copyright"]) == (200, "me")
    assert 1000 < len(json.dumps(answer.json["private"])) <= 9000


def test_what_has_no_picture_or_more_parameters_is_refused(server: RunningServer, uploaded: Callable[[bytes], str]) -> None:
    stranger = server.client()
    document = stranger.get(f"{uploaded(pictures.pdf())}?format=json").json
    assert (document["contentType"], document["width"], document["exif"]) == ("application/pdf", None, {})
    assert stranger.get(f"{uploaded(pictures.pdf())}?format=thumbhash").status == 415
    assert stranger.get(f"{uploaded(pictures.mp3())}?format=blurhash").status == 415
    refused = stranger.get(f"{uploaded(pictures.png(8, 8))}?format=thumbhash&w=10")
    assert (refused.status, refused.json["param"]) == (400, "w")


def test_an_asset_of_before_is_described_when_somebody_asks(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        client = server.client("me")
        record = client.stored(pictures.jpeg(80, 60))
        path = media(record["key"])
        told = client.get(f"{path}?format=blurhash").text
        server.stop()
        with sqlite3.connect(server.data / "catalogue.sqlite") as database:
            database.execute("UPDATE assets SET details = NULL")
        database.close()
        server.start()
        assert client_of(server).get(f"/api/assets/{record['key']}").json["blurhash"] is None
        assert client_of(server).get(f"{path}?format=blurhash").text == told
        assert client_of(server).get(f"/api/assets/{record['key']}").json["blurhash"] == told


def client_of(server: RunningServer) -> Client:
    """The owner, at the server's address of now."""
    return server.client("me")


def test_what_others_put_into_the_store_is_described_too(server: RunningServer) -> None:
    admin = server.client("admin", scope="media:admin")
    data = pictures.png(60, 40)
    put = admin.request("PUT", "/api/store/me/foreign.png", {"Content-Type": "image/png", "Content-Length": str(len(data))}, data)
    assert put.status in {200, 201, 204}, put
    told = server.client().get(f"{media('me/foreign.png')}?format=json").json
    assert (told["width"], told["height"]) == (60, 40)


def test_records_and_uploads_carry_the_placeholders(client: Client) -> None:
    record = client.stored(pictures.png(60, 40))
    assert len(record["blurhash"]) > 6
    assert b64decode(record["thumbhash"])
    assert client.get(f"/api/assets/{record['key']}").json["colour"] == record["colour"]


def test_the_bits_of_a_palette_are_those_of_its_colours(server: RunningServer, uploaded: Callable[[bytes], str]) -> None:
    one_bit = b"GIF89a\1\0\1\0\x80\0\0\xff\0\0\0\0\xff,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"
    assert server.client().get(f"{uploaded(one_bit)}?format=json").json["bits"] == 8

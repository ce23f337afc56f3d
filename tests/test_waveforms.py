"""The shape of a sound: as a picture, and as JSON."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from PIL import Image

from tests import pictures
from tests.kit import films
from tests.kit.client import Answer, Client, media

TONE = 8000 / 32768
"""how far the tones of the tests reach"""


def opened(answer: Answer) -> Image.Image:
    assert answer.status == 200, answer
    return Image.open(io.BytesIO(answer.body))


@pytest.mark.parametrize("make", [pictures.mp3, pictures.wav, pictures.ogg, pictures.m4a])
def test_a_sound_is_drawn_as_far_as_it_reaches(client: Client, make: Callable[[], bytes]) -> None:
    path = media(client.stored(make())["key"])
    image = opened(client.get(f"{path}?waveform=ff0000&w=200&h=100"))
    assert (image.format, image.mode, image.size) == ("PNG", "RGBA", (200, 100))
    assert image.getpixel((100, 50)) == (255, 0, 0, 255)
    covered = [sum(image.getpixel((x, y))[3] for y in range(100)) / 255 for x in range(10, 190)]  # type: ignore[index]
    assert sum(covered) / len(covered) == pytest.approx(100 * TONE, abs=2)
    assert image.getpixel((100, 5))[3] == 0  # type: ignore[index]


def test_silence_is_a_line_and_what_is_loud_comes_where_it_is(client: Client) -> None:
    path = media(client.stored(pictures.half_silent())["key"])
    image = opened(client.get(f"{path}?waveform=1&w=100&h=100"))
    columns = [sum(image.getpixel((x, y))[3] > 0 for y in range(100)) for x in range(100)]  # type: ignore[index]
    assert max(columns[2:48]) == 1
    assert min(columns[52:98]) > 15


def test_it_has_the_formats_and_the_ground_of_pictures(client: Client) -> None:
    path = media(client.stored(pictures.wav())["key"])
    assert opened(client.get(f"{path}?waveform=1")).size == (800, 160)
    assert opened(client.get(f"{path}?waveform=1&w=300&dpr=2&format=webp")).format == "WEBP"
    jpeg = opened(client.get(f"{path}?waveform=blue&w=100&h=50&format=jpg&bg=00ff00"))
    red, green, blue = jpeg.getpixel((50, 2))  # type: ignore[misc]
    assert (red < 60, green > 200, blue < 60) == (True, True, True)


def test_peaks_are_told_as_audiowaveform_does(client: Client) -> None:
    path = media(client.stored(pictures.half_silent())["key"])
    answer = client.get(f"{path}?waveform=1&format=json&w=50")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    told = answer.json
    assert {name: told[name] for name in ("version", "channels", "bits", "sample_rate")} == {
        **{"version": 2, "channels": 1, "bits": 8, "sample_rate": 8_000}
    }
    assert told["length"] <= 50
    assert len(told["data"]) == 2 * told["length"]
    assert told["length"] * told["samples_per_pixel"] / told["sample_rate"] == pytest.approx(2, abs=0.1)
    quiet, loud = told["data"][: told["length"] - 4], told["data"][told["length"] + 4 : -4]
    assert max(map(abs, quiet)) <= 1
    assert (min(loud), max(loud)) == pytest.approx((-128 * TONE, 128 * TONE), abs=2)
    assert client.get(f"{path}?waveform=1&format=json&w=50", {"If-None-Match": answer.headers["ETag"]}).status == 304


def test_a_films_sound_is_drawn_and_one_without_has_none(client: Client, tmp_path_factory: pytest.TempPathFactory) -> None:
    films.provided()
    path = media(client.stored(films.sounding(tmp_path_factory.mktemp("film")))["key"])
    assert opened(client.get(f"{path}?waveform=1&w=90&h=30")).size == (90, 30)
    silent = client.get(f"{media(client.stored(pictures.mp4())['key'])}?waveform=1")
    assert (silent.status, silent.code) == (415, "unsupported-type")
    picture = client.get(f"{media(client.stored(pictures.png(8, 8))['key'])}?waveform=1")
    assert (picture.status, picture.code) == (415, "unsupported-type")


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("waveform=0", "waveform"),
        ("waveform=12345678", "waveform"),
        ("waveform=1&sprite=2x2", "waveform"),
        ("waveform=1&format=mp4", "format"),
        ("waveform=1&format=blurhash", "format"),
    ],
)
def test_what_makes_no_sense_is_400_and_names_what(client: Client, query: str, param: str) -> None:
    answer = client.get(f"{media(client.stored(pictures.mp3())['key'])}?{query}")
    assert (answer.status, answer.json["param"]) == (400, param)

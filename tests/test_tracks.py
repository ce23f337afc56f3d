"""What is told of films and sound: by ``format=json`` and in records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests import pictures
from tests.kit.client import Client, media


@pytest.fixture
def tracks(client: Client) -> Callable[[bytes], dict[str, Any]]:
    """Stores a file and gives what is told of its tracks, which is the same in both places."""

    def told(data: bytes) -> dict[str, Any]:
        key = client.stored(data)["key"]
        found = client.get(f"{media(key)}?format=json").json["tracks"]
        assert client.get(f"/api/assets/{key}").json["tracks"] == found
        assert isinstance(found, dict)
        return found

    return told


def test_a_films_codec_rate_and_rotation_are_told(tracks: Callable[[bytes], dict[str, Any]]) -> None:
    told = tracks(pictures.mp4(160, 120, rotated=90))
    assert (told["container"], told["audio"], told["chapters"]) == ("mp4", [], [])
    assert told["bitRate"] > told["video"]["bitRate"] > 0
    expected = {
        "codec": "h264",
        "width": 160,
        "height": 120,
        "frameRate": 10,
        "rotation": 90,
        "pixelAspect": 1,
        "bits": 8,
        "hdr": None,
    }
    assert {name: told["video"][name] for name in expected} == expected


def test_the_container_is_what_the_content_says(tracks: Callable[[bytes], dict[str, Any]]) -> None:
    told = tracks(pictures.webm())
    assert (told["container"], told["video"]["codec"]) == ("webm", "vp8")


def test_light_colours_languages_and_chapters_are_told(tracks: Callable[[bytes], dict[str, Any]]) -> None:
    told = tracks(pictures.hdr())
    expected = {
        **{"codec": "hevc", "bits": 10, "frameRate": 29.97, "primaries": "bt2020", "transfer": "smpte2084", "hdr": "pq"},
        "mastering": {
            **{"red": [0.68, 0.32], "green": [0.265, 0.69], "blue": [0.15, 0.06], "white": [0.3127, 0.329]},
            **{"minLuminance": 0.005, "maxLuminance": 1000},
        },
        "light": {"maxPixel": 1000, "maxAverage": 400},
    }
    assert {name: told["video"][name] for name in expected} == expected
    assert [(track["codec"], track["language"], track["channels"]) for track in told["audio"]] == [
        ("aac", "fra", 2),
        ("aac", None, 2),
    ]
    assert told["chapters"] == [{"start": 0, "end": 0.5, "title": "Beginning"}, {"start": 0.5, "end": 1, "title": "End"}]


def test_sound_has_tracks_and_no_picture(tracks: Callable[[bytes], dict[str, Any]]) -> None:
    told = tracks(pictures.mp3())
    assert (told["container"], told["video"]) == ("mp3", None)
    assert [(track["codec"], track["sampleRate"], track["channels"]) for track in told["audio"]] == [("mp3", 48_000, 1)]


def test_a_picture_has_no_tracks(client: Client) -> None:
    assert client.get(f"{media(client.stored(pictures.png(8, 8))['key'])}?format=json").json["tracks"] is None

"""Presets that are made at every upload: behind its answer, in one decode, and with progress that can be asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import pictures
from tests.kit.client import Client, media
from tests.kit.server import RunningServer
from tests.kit.sse import Stream
from tests.kit.waiting import until

PRESETS = """
[card]
query = "w=100&h=100&fit=cover"
warm = true
store = true
[wide]
query = "w=200&format=auto"
warm = true
[part]
query = "crop=500,500,10,10"
warm = true
[scenes]
query = "sprite=2x2&w=32"
warm = true
[cold]
query = "w=50"
"""
MODERN = {"Accept": "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"}


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder: Path = tmp_path_factory.mktemp("warm")
    (folder / "presets.toml").write_text(PRESETS)
    with RunningServer(folder, {"MEDIA_PRESETS": "presets.toml", "MEDIA_TRANSFORM_ACCESS": "presets"}) as running:
        yield running


def progress(client: Client, key: str) -> Any:
    """What the record says of its presets."""
    return client.get(f"/api/assets/{key}").json.get("presets")


def made(server: RunningServer, data: bytes) -> tuple[str, Any]:
    """The key of *data*, once it is uploaded and its presets are at an end, and how they ended."""
    client = server.client("me")
    key = client.stored(data)["key"]
    assert until(lambda: "pending" not in (progress(client, key) or {}).values()), progress(client, key)
    return key, progress(client, key)


def test_presets_are_made_at_the_upload_in_one_decode(warm: RunningServer) -> None:
    before, batches = warm.metric("media_render_seconds_count", outcome="ok"), warm.metric("media_render_batches_total")
    key, ended = made(warm, pictures.jpeg(1200, 900))
    assert ended == {"card": "ready", "wide": "ready", "part": "ready"}  # scenes are of films
    assert warm.metric("media_render_seconds_count", outcome="ok") == before + 3
    assert warm.metric("media_render_batches_total") == batches + 1
    for query in ("preset=card", "preset=wide", "preset=part"):
        answer = warm.client().get(media(key, query), MODERN)
        assert answer.status == 200
        assert answer.headers["Server-Timing"] == "cache;desc=memory"
    missed = warm.client().get(media(key, "preset=cold")).headers["Server-Timing"]
    assert missed.startswith("cache;desc=miss, ")
    assert {part.partition(";")[0] for part in missed.split(", ")} >= {"cache", "queue", "fetch"}


def test_a_preset_that_cannot_be_made_of_an_object_has_failed_and_the_others_are_ready(warm: RunningServer) -> None:
    key, ended = made(warm, pictures.jpeg(64, 64))
    assert ended == {"card": "ready", "wide": "ready", "part": "failed"}
    assert warm.client("me").get(media(key)).status == 200


def test_owners_hear_when_the_presets_of_an_upload_have_come_to_an_end(warm: RunningServer, owner: str) -> None:
    client = warm.client(owner)  # who hears of no upload before
    with Stream(warm, owner) as stream:
        key = client.stored(pictures.jpeg(70, 70))["key"]
        assert until(lambda: len(stream.events) == 2)
        (_, stored, _), (id, processed, told) = stream.events
    assert (stored, processed, told["data"]["key"]) == ("asset.stored", "asset.processed", key)
    assert id is not None
    assert told["data"]["presets"] == progress(client, key) == {"card": "ready", "wide": "ready", "part": "failed"}


def test_what_a_preset_stores_lies_in_the_stores_and_all_of_it_goes_with_the_object(warm: RunningServer) -> None:
    def kept() -> tuple[int, int]:
        warm.settle()
        files = [name.partition("/")[0] for name in warm.files()]
        return files.count("thumbnails"), files.count("variants")

    stored, others = kept()
    key, _ = made(warm, pictures.jpeg(1100, 900))
    now_stored, now_others = kept()
    assert now_stored > stored
    assert now_others - others == 2 * (now_stored - stored), "card is stored, wide and part are not"
    told = warm.client("me").get(media(key, "preset=card&explain=1")).json
    assert told["rendition"]["found"] == "memory"
    assert warm.client("me").delete(media(key)).status == 204
    assert kept() == (stored, others)


def test_nothing_is_made_of_what_is_no_picture(warm: RunningServer) -> None:
    client = warm.client("me")
    assert progress(client, client.stored(pictures.wav())["key"]) is None
    assert progress(client, client.stored(pictures.pdf())["key"]) is None


def test_what_a_restart_has_lost_is_made_when_somebody_asks_how_far_it_is(warm: RunningServer) -> None:
    key, _ = made(warm, pictures.jpeg(1000, 800))
    warm.settle()
    begun = [warm.client("me").stored(pictures.jpeg(3000, 2000))["key"] for _ in range(4)]
    assert warm.stop() == 0, "a stop waits for nothing that can be made again"
    for folder in ("thumbnails", "variants"):
        shutil.rmtree(warm.data / folder, ignore_errors=True)
    warm.start()
    client = warm.client("me")
    assert progress(client, key) == {"card": "pending", "wide": "pending", "part": "pending"}
    assert until(lambda: {state for one in (key, *begun) for state in progress(client, one).values()} == {"ready"})
    warm.settle()
    warm.restart()
    assert set(progress(warm.client("me"), key).values()) == {"ready"}, "what is stored needs not be made again"


def test_a_film_has_its_poster_and_its_storyboard_from_the_upload_on(warm: RunningServer) -> None:
    key, ended = made(warm, pictures.mp4())
    assert ended == {"card": "ready", "wide": "ready", "part": "failed", "scenes": "ready"}
    before = warm.metric("media_render_seconds_count", outcome="ok")
    for name in ("card", "scenes"):
        assert warm.client().get(media(key, f"preset={name}")).status == 200
    assert warm.metric("media_render_seconds_count", outcome="ok") == before

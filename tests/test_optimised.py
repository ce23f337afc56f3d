"""Pictures stored in fewer bytes without a pixel being lost: MEDIA_OPTIMIZE."""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pyvips
from PIL import Image

from processors import lossless
from tests import pictures
from tests.kit import shared
from tests.kit.client import media
from tests.kit.server import RunningServer

ONCE = {"Idempotency-Key": "once"}
pytestmark = pytest.mark.skipif(sys.version_info >= (3, 14), reason="pyoxipng has no wheel for this Python")


@pytest.fixture(scope="module")
def smaller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("smaller"), {"MEDIA_OPTIMIZE": "jpeg png"}) as running:
        yield running


def pixels(data: bytes) -> tuple[tuple[int, int], bytes]:
    with Image.open(io.BytesIO(data)) as image:
        return image.size, image.convert("RGBA").tobytes()


def seen(data: bytes) -> tuple[int, int, bytes]:
    """The pixels as libvips has them, whose way with 16 bits and palettes is that of renditions."""
    image = pyvips.Image.new_from_buffer(data, "").colourspace("srgb")
    image = image if image.hasalpha() else image.addalpha()
    return image.width, image.height, bytes(image.cast("uchar").write_to_memory())


def beside(record: dict[str, str]) -> str:
    return f"{record['key']}/original.{record['key'].rpartition('.')[2]}"


@pytest.mark.parametrize(
    "data", [pictures.jpeg(320, 240, quality=92, private=True), pictures.png(320, 240, mode="RGBA", compression=1)]
)
def test_what_is_stored_is_smaller_and_the_same_and_what_came_is_kept(smaller: RunningServer, data: bytes) -> None:
    client = smaller.client("me")
    record = client.stored(data)
    stored = client.get(media(record["key"]))
    assert record["optimised"] is True
    assert len(stored.body) == record["size"] < len(data)
    assert hashlib.sha256(stored.body).hexdigest() == record["sha256"]
    assert pixels(stored.body) == pixels(data)
    assert client.get(media(beside(record))).body == data
    assert client.get(f"/api/assets/{beside(record)}").json["source"] == record["key"]
    assert client.delete(media(record["key"])).status == 204
    assert client.get(media(beside(record))).status == 404


def test_what_a_file_says_stays_in_it(smaller: RunningServer) -> None:
    data = pictures.jpeg(320, 240, orientation=6, private=True)
    client = smaller.client("me")
    record = client.stored(data)
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(client.get(media(record["key"])).body)) as after:
        assert dict(before.getexif()) == dict(after.getexif())
    assert (record["width"], record["height"]) == (320, 240)


@pytest.mark.parametrize(
    "make",
    [
        lambda: pictures.jpeg(320, 240) + b"a film behind it",
        pictures.apng,
        pictures.gif,
        pictures.mp4,
    ],
)
def test_what_would_lose_something_is_stored_as_it_came(smaller: RunningServer, make: Callable[[], bytes]) -> None:
    client, data = smaller.client("me"), make()
    record = client.stored(data)
    assert "optimised" not in record
    assert client.get(media(record["key"])).body == data
    assert client.get(media(beside(record))).status == 404


def test_what_is_small_already_is_not_made_larger(smaller: RunningServer) -> None:
    client = smaller.client("me")
    once = client.get(media(client.stored(pictures.jpeg(320, 240, quality=92))["key"])).body
    record = client.stored(once)
    assert "optimised" not in record
    assert record["size"] == len(once)


def test_the_same_upload_is_known_again(smaller: RunningServer) -> None:
    client = smaller.client("again")
    first = client.stored(pictures.jpeg(320, 240, quality=92), headers=ONCE)
    assert client.stored(pictures.jpeg(320, 240, quality=92), headers=ONCE)["key"] == first["key"]
    assert client.upload(pictures.jpeg(300, 240), headers=ONCE).status == 422
    assert len(client.assets()) == 2


def test_originals_are_left_out_where_that_is_told(tmp_path: Path) -> None:
    with RunningServer(tmp_path, {"MEDIA_OPTIMIZE": "jpeg", "MEDIA_OPTIMIZE_ORIGINALS": "false"}) as server:
        client, data = server.client("me"), pictures.jpeg(320, 240, quality=92)
        record = client.stored(data, headers=ONCE)
        assert record["size"] < len(data)
        assert client.get(media(beside(record))).status == 404
        assert client.stored(data, headers=ONCE)["key"] == record["key"]
        assert "optimised" not in client.stored(pictures.png(320, 240, compression=1))


def test_what_cannot_be_done_costs_no_upload(tmp_path: Path) -> None:
    with RunningServer(tmp_path, {"MEDIA_OPTIMIZE": "jpeg png", "MEDIA_DECODE_BUDGET": "20M"}) as server:
        record = server.client("me").stored(pictures.jpeg(2500, 1500, quality=92))
        assert "optimised" not in record
        assert server.client("me").upload(pictures.jpeg(64, 64)[:300]).status == 422


def test_a_type_that_cannot_be_made_smaller_is_named_at_the_start(serve: Callable[..., RunningServer]) -> None:
    with pytest.raises(AssertionError, match=r"(?s)exit status 2.*MEDIA_OPTIMIZE: lists jpeg and png, and not webp"):
        serve(MEDIA_OPTIMIZE="jpeg webp")


@pytest.mark.skipif(not shared.present() and not shared.required(), reason=shared.ABSENT)
def test_no_picture_of_the_set_loses_a_pixel(tmp_path: Path) -> None:
    saved = 0
    for entry in shared.manifest()["files"]:
        name = {"image/jpeg": "jpeg", "image/png": "png"}.get(entry["media_type"])
        data = shared.data(entry["file"])
        if name is None or entry["expected"] != "serve" or len(data) > 600_000:
            continue
        path = tmp_path / "picture"
        path.write_bytes(data)
        made = lossless.smaller(str(path), name)
        if made is not None:
            saved += 1
            assert len(made) < len(data)
            assert seen(made) == seen(data), entry["file"]
    assert saved > 20

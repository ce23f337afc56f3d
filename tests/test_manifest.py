"""Every file of the shared media set gets what its manifest says."""

from __future__ import annotations

import hashlib
import io
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from PIL import Image
from pillow_heif import register_heif_opener

from tests import pictures
from tests.kit import shared
from tests.kit.aftereffects import MAX_PROBLEM_BYTES, check_problem
from tests.kit.client import Answer, Client, FilePart, media
from tests.kit.server import RunningServer

pytestmark = pytest.mark.skipif(not shared.present() and not shared.required(), reason=shared.ABSENT)

REJECTIONS = {"reject-400": {400, 422}, "reject-413": {413, 422}, "reject-415": {415}}
"""reject-400 and reject-413 are both 422 in our table where they concern what the bytes decode to."""
WIDTH = 320
MAX_SIDE = 8192
CANARY = b"canaryA"
ACTIVE = re.compile(rb"script|alert|\bon[a-z]+=|foreignObject|ENTITY|(?:file|https?):(?!//www\.w3\.org/)")


def test_the_set_is_there() -> None:
    assert shared.present(), shared.ABSENT
    assert len(shared.manifest()["files"]) > 200


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server for the set, which must neither grow nor stop."""
    with RunningServer(tmp_path_factory.mktemp("gallery"), {"MEDIA_RENDER_WAIT": "20"}) as running:
        yield running


@pytest.fixture(scope="module")
def listener() -> Iterator[list[str]]:
    """Whoever connects to port 9 of this machine followed an address in a file; empty where the port cannot be had."""
    callers: list[str] = []
    with socket.socket() as waiting:
        with suppress(OSError):
            waiting.bind(("127.0.0.1", 9))
            waiting.listen()

            def accept() -> None:
                with suppress(OSError):
                    while True:
                        connection, address = waiting.accept()
                        callers.append(repr(address))
                        connection.close()

            threading.Thread(target=accept, daemon=True).start()
        yield callers


def outcomes(entry: dict[str, Any]) -> list[str]:
    """The outcomes that are right for *entry*."""
    return list(entry["accept"]) if entry["expected"] == "either" else [entry["expected"]]


@pytest.mark.parametrize("entry", shared.manifest()["files"], ids=lambda entry: entry["file"])
def test_a_file_of_the_set_gets_what_the_manifest_says(gallery: RunningServer, listener: list[str], entry: dict[str, Any]) -> None:
    data = shared.data(entry["file"])
    client = gallery.client("set")
    claimed = entry.get("type_by_extension") or entry["media_type"]
    answer = client.upload(data, claimed if claimed != "image/apng" else "image/png", entry["file"].rpartition("/")[2])
    assert gallery.running
    assert listener == []
    allowed = outcomes(entry)
    if answer.status != 201:
        right = {status for outcome in allowed for status in REJECTIONS.get(outcome, set())}
        assert answer.status in right, f"{answer.status} and not {allowed}: {answer.body[:300]!r}"
        assert len(answer.body) <= MAX_PROBLEM_BYTES
        check_problem(answer, answer.status)
        return
    try:
        check_served(gallery, entry, data, answer, allowed)
    finally:
        assert client.delete(media(answer.json["key"])).status == 204


def check_served(gallery: RunningServer, entry: dict[str, Any], data: bytes, answer: Answer, allowed: list[str]) -> None:
    """The original is whole and inert; its rendition is right, or refused where that is allowed."""
    record = answer.json
    reader = gallery.client()
    path = media(record["key"])
    back = reader.get(path)
    if record.get("sanitised"):
        assert entry["media_type"] == "image/svg+xml"
        assert not ACTIVE.search(back.body)
    else:
        assert back.body == data
        assert record["sha256"] == entry["sha256"]
    assert record["sha256"] == hashlib.sha256(back.body).hexdigest()
    assert back.headers["X-Content-Type-Options"] == "nosniff"
    true_type = {"image/apng": "image/png"}.get(entry["media_type"], entry["media_type"])
    assert back.headers["Content-Type"] == record["contentType"]
    if entry["expected"] == "serve":
        assert family(record["contentType"]) == family(true_type)
    if record["contentType"].startswith(("text/", "application/", "image/svg")):
        assert "sandbox" in back.headers["Content-Security-Policy"]
        assert back.headers["Content-Disposition"].startswith("attachment")
    rendition = reader.get(f"{path}?w={WIDTH}")
    if record["contentType"].startswith(("audio/", "application/")):
        assert rendition.status == (200 if "mjpeg" in entry.get("codecs", ()) else 415)
        assert "serve" in allowed
        return
    if rendition.status == 200:
        assert "serve" in allowed, "it was to be refused"
        check_rendition(entry, rendition)
        return
    right = {status for outcome in allowed for status in REJECTIONS.get(outcome, set())}
    if entry["expected"] == "either" and record["contentType"].startswith("video/"):
        right |= {415, 422}  # a container without pictures
    assert rendition.status in right, f"{rendition.status} and not {allowed}: {rendition.body[:300]!r}"


def family(content_type: str) -> str:
    """A HEIC file is a HEIF file whose pictures are HEVC: files list both brands, and both names are right."""
    return "image/heif" if content_type == "image/heic" else content_type


def check_rendition(entry: dict[str, Any], rendition: Answer) -> None:
    """320 pixels wide at most, of the right shape, and without what the original's metadata said."""
    register_heif_opener()
    assert CANARY not in rendition.body
    assert b"<?php" not in rendition.body
    with Image.open(io.BytesIO(rendition.body)) as image:
        image.load()
        exif = image.getexif()
        assert 0x8825 not in exif, "a position in a rendition"
        assert exif.get(0x0112, 1) == 1, "an orientation that is still to be applied"
        width, height = image.size
    wide, high = entry.get("display_width"), entry.get("display_height")
    if entry["expected"] != "serve" or not wide or not high:
        return
    scale = min(1, WIDTH / wide, MAX_SIDE / high)
    expected = (max(1, round(wide * scale)), max(1, round(high * scale)))
    assert abs(width - expected[0]) <= 1, f"{width}×{height} and not {expected}"
    assert abs(height - expected[1]) <= max(1, expected[1] // 100), f"{width}×{height} and not {expected}"


@pytest.mark.parametrize("name", [entry["name"] for entry in shared.manifest()["odd_names"]["names"]], ids=ascii)
def test_an_odd_file_name_is_stored_safely_or_refused(gallery: RunningServer, name: str) -> None:
    photo = pictures.jpeg(12, 12)
    client = gallery.client("odd")
    before = gallery.files()
    sent = [client.upload(photo, "image/jpeg", name)]
    if not any(letter in name for letter in '\r\n"\0'):
        sent.append(client.upload_form(FilePart(photo, name, "image/jpeg")))
    for answer in sent:
        assert "X-Injected" not in answer.headers
        if answer.status == 201:
            key = answer.json["key"]
            assert key.startswith("odd/")
            assert client.get(media(key)).body == photo
            shown = answer.json["filename"]
            assert shown is None or not any(letter in shown for letter in "\r\n\0/\\")
            assert Client(gallery.url).get(media(key, "dl=")).status in {200, 400}
            assert client.delete(media(key)).status == 204
        else:
            assert answer.status == 400
    assert gallery.files() <= before
    assert gallery.rss() < 200 << 20

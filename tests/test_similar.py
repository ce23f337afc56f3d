"""Near duplicates over HTTP: GET /api/assets/{key}/similar."""

from __future__ import annotations

import io
import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageEnhance

from tests import pictures
from tests.conftest import Harmless
from tests.kit.client import Client
from tests.kit.server import RunningServer


def scene(seed: int, width: int = 480, height: int = 360) -> Image.Image:
    """A picture with large shapes, another for each *seed*."""
    rough = Image.frombytes("RGB", (8, 6), random.Random(seed).randbytes(8 * 6 * 3))
    return rough.resize((width, height), Image.Resampling.BICUBIC)


def saved(picture: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def similar(client: Client, key: str, query: str = "") -> dict[str, int]:
    """What is near *key*, and how near."""
    answer = client.get(f"/api/assets/{key}/similar{query}")
    assert answer.status == 200, answer
    assert answer.json["complete"] is True
    return {one["asset"]["key"]: one["distance"] for one in answer.json["similar"]}


def test_the_same_picture_in_other_files_is_found_and_other_pictures_are_not(server: RunningServer) -> None:
    client = server.client("similar-1")
    picture = scene(1)
    first = client.stored(saved(picture, quality=92))["key"]
    copies = {
        client.stored(body)["key"]
        for body in (
            saved(picture, quality=35),
            saved(picture.resize((200, 150)), "PNG"),
            saved(picture, "WEBP", quality=60),
            saved(ImageEnhance.Brightness(picture).enhance(1.1), quality=80),
        )
    }
    others = {client.stored(saved(scene(seed)))["key"] for seed in range(2, 8)}
    assert similar(client, first).keys() == copies
    assert not similar(client, first, "?distance=11").keys() & others
    assert list(similar(client, first, "?distance=11&limit=2").values()) == sorted(similar(client, first).values())[:2]


def test_a_picture_that_was_turned_by_its_orientation_is_compared_as_it_is_seen(server: RunningServer) -> None:
    client = server.client("similar-2")
    picture = scene(11)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = client.stored(saved(picture))["key"]
    lying = client.stored(saved(picture.transpose(Image.Transpose.ROTATE_90), exif=exif))["key"]
    assert lying in similar(client, upright)


def test_films_go_by_their_still(server: RunningServer) -> None:
    client = server.client("similar-3")
    film = client.stored(pictures.film_of(scene(12, 160, 120)))["key"]
    again = client.stored(pictures.film_of(scene(12, 128, 96), "webm"))["key"]
    other = client.stored(pictures.film_of(scene(13, 160, 120)))["key"]
    assert similar(client, film).keys() == {again}
    assert similar(client, other) == {}


def test_what_is_deleted_is_found_no_more(server: RunningServer) -> None:
    client = server.client("similar-4")
    one, two = (client.stored(saved(scene(21), quality=quality))["key"] for quality in (80, 90))
    assert two in similar(client, one)
    assert client.delete(f"/api/media/{two}").status == 204
    assert similar(client, one) == {}


def test_owners_see_their_own_alone_and_admins_ask_for_anybody(server: RunningServer, harmless: Harmless) -> None:
    mine, theirs = server.client("similar-5"), server.client("similar-6")
    one, two = (mine.stored(saved(scene(31), quality=quality))["key"] for quality in (80, 90))
    other = theirs.stored(saved(scene(31)))["key"]
    assert similar(mine, one).keys() == {two}
    assert similar(theirs, other) == {}
    with harmless(404) as bad:
        bad.answer = theirs.get(f"/api/assets/{one}/similar")
    with harmless(401) as bad:
        bad.answer = Client(server.url).get(f"/api/assets/{one}/similar")
    admin = server.client("boss", scope="media:admin media:read")
    assert similar(admin, one).keys() == {two}


def test_what_cannot_be_compared_is_a_conflict_and_what_is_not_there_is_404(server: RunningServer, harmless: Harmless) -> None:
    client = server.client("similar-7")
    flat = client.stored(saved(Image.new("RGB", (64, 48), (10, 90, 200)), "PNG"))["key"]
    paper = client.stored(pictures.pdf())["key"]
    for key in (flat, paper):
        with harmless(409) as bad:
            bad.answer = client.get(f"/api/assets/{key}/similar")
        assert bad.answer.code == "conflict"
    with harmless(404) as bad:
        bad.answer = client.get("/api/assets/similar-7/none.jpg/similar")


@pytest.mark.parametrize("query", ["distance=12", "distance=-1", "distance=x", "limit=0", "limit=101", "limit=", "near=1"])
def test_a_bad_question_is_400(server: RunningServer, harmless: Harmless, query: str) -> None:
    with harmless(400) as bad:
        bad.answer = server.client("similar-8").get(f"/api/assets/similar-8/a.jpg/similar?{query}")


def test_an_asset_of_before_is_looked_at_when_somebody_asks(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        client = server.client("similar-9")
        old, new = (client.stored(saved(scene(41), quality=quality))["key"] for quality in (80, 90))
        server.stop()
        with closing(sqlite3.connect(next(tmp_path.rglob("catalogue.sqlite")))) as database, database:
            (details,) = database.execute("SELECT details FROM assets WHERE key = ?", (old,)).fetchone()
            kept = json.loads(details)
            del kept["fingerprint"]
            database.execute("UPDATE assets SET details = ? WHERE key = ?", (json.dumps(kept), old))
            database.execute("DELETE FROM fingerprints WHERE key = ?", (old,))
        client = server.start().client("similar-9")
        assert similar(client, new) == {}
        assert similar(client, old).keys() == {new}
        assert similar(client, new).keys() == {old}, "it is kept from then on"

"""What makers wrote into a file: read at the upload, told to its owner, and to others what tells of no person and no place."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from processors import texts
from proxy.signing import sign
from tests import inscribed, pictures
from tests.inscribed import dataset, named, packet
from tests.kit import shared
from tests.kit.client import Client, media
from tests.kit.server import RunningServer
from tests.kit.waiting import until
from tests.kit.workers import workers

SECRET = "0123456789abcdef0123456789abcdef"
MAX_JSON_BYTES = 16 << 10
OTHERS = (
    "<xmpMM:Pantry><rdf:Bag><rdf:li><rdf:Description dc:title='of another'><dc:creator>Other</dc:creator></rdf:Description>"
    "</rdf:li></rdf:Bag></xmpMM:Pantry>"
)
FACES = (
    '<mwg-rs:Regions rdf:parseType="Resource"><mwg-rs:RegionList><rdf:Bag><rdf:li><rdf:Description mwg-rs:Name="Ada"/></rdf:li>'
    '<rdf:li rdf:parseType="Resource"><mwg-rs:Name>Bob</mwg-rs:Name></rdf:li></rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>'
)
SONG = {
    **{"title": "Sóng", "artist": "Ada", "album": "LP", "track": "3/12", "date": "2011", "genre": "Jazz", "comment": "at home"},
    "location": "+52.5200+013.4050+034.000/",
}


@pytest.fixture
def told(client: Client) -> Callable[[bytes], dict[str, Any]]:
    """Stores a file and gives what its owner is told was in it."""

    def embedded(data: bytes) -> dict[str, Any]:
        found = client.get(f"/api/assets/{client.stored(data)['key']}").json["embedded"]
        assert isinstance(found, dict)
        return found

    return embedded


def xmp(properties: str, attributes: str = "") -> bytes:
    """A JPEG with these properties in XMP."""
    return inscribed.jpeg(xmp=packet(properties, attributes))


def test_a_photo_tells_its_owner_all_and_others_no_place_and_no_device(client: Client, stranger: Client) -> None:
    key = client.stored(inscribed.of_a_phone())["key"]
    public = {
        "creators": ["Ada", "Bob"],
        "copyright": "(c) Ada",
        "date": "2024-05-01T12:30:00.120+02:00",
        "camera": {"make": "Pixelworks", "model": "Pösh 4"},
        "lens": {"make": "Glass", "model": "Wide 4.3"},
        "exposure": {
            **{"time": 0.004, "aperture": 2.8, "bias": -0.5, "focalLength": 4.3, "iso": 100, "focalLength35mm": 26},
            "flash": True,
        },
    }
    private = {
        "location": {"latitude": -33.8583333, "longitude": 151.215, "altitude": -12.5},
        "owner": pictures.CANARY,
        "serialNumbers": {"camera": pictures.CANARY, "lens": pictures.CANARY},
    }
    own = client.get(media(key, "format=json")).json
    assert own["embedded"] == client.get(f"/api/assets/{key}").json["embedded"] == {**public, "private": private}
    others = stranger.get(media(key, "format=json"))
    assert others.json["embedded"] == public
    for secret in (pictures.CANARY, "GPS", "location", "151", "serial", "Pixelworks Maker"):
        assert secret not in others.text


def test_what_people_wrote_counts_before_what_the_camera_did(told: Callable[[bytes], dict[str, Any]]) -> None:
    exif = inscribed.exif({0x010E: "OLYMPUS DIGITAL CAMERA", 0x013B: "nobody", 0x8298: "(c) camera", 0x0132: "2020:01:01 00:00:00"})
    news = dataset(90, b"\x1b%G", record=1) + dataset(5, "Übung".encode()) + dataset(80, b"Ada") + dataset(80, b"Bob")
    news += dataset(25, b"one") + dataset(25, b"two") + dataset(25, b"one") + dataset(120, b"First line\r\nsecond line\0")
    news += dataset(55, b"20240203") + dataset(60, b"101112+0100") + dataset(90, b"Berlin") + dataset(110, b"Agency")
    found = told(inscribed.jpeg(exif=exif, iptc=inscribed.resources(news)))
    assert found == {
        **{"title": "Übung", "creators": ["Ada", "Bob"], "keywords": ["one", "two"], "credit": "Agency"},
        **{"description": "First line\nsecond line", "date": "2024-02-03T10:11:12+01:00", "copyright": "(c) camera"},
        "private": {"place": {"city": "Berlin"}},
    }
    above = packet(
        named("dc:title", "Rom", "Rome", kind="Alt")
        + named("dc:creator", "Zoë", kind="Seq")
        + named("dc:subject", "three")
        + '<cc:license rdf:resource="https://creativecommons.org/licenses/by/4.0/"/><photoshop:City>Rome</photoshop:City>',
        'photoshop:Headline="Head" Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"',
    )
    found = told(inscribed.jpeg(exif=exif, iptc=inscribed.resources(news), xmp=above))
    assert (found["title"], found["creators"], found["keywords"], found["headline"]) == ("Rome", ["Zoë"], ["three"], "Head")
    assert (found["description"], found["private"]) == ("First line\nsecond line", {"place": {"city": "Rome"}})
    assert found["licence"] == "https://creativecommons.org/licenses/by/4.0/"
    assert found["digitalSource"].endswith("trainedAlgorithmicMedia")


def test_faces_and_places_in_xmp_are_the_owners_and_other_pictures_are_not_this_one(client: Client, stranger: Client) -> None:
    attributes = 'exif:GPSLatitude="52,31.2N" exif:GPSLongitude="13,24,18W" aux:SerialNumber="4711" aux:OwnerName="Ada Owner"'
    key = client.stored(xmp(FACES + OTHERS + named("Iptc4xmpExt:PersonInImage", "Cleo") + named("dc:title", "Own"), attributes))[
        "key"
    ]
    assert client.get(media(key, "format=json")).json["embedded"] == {
        "title": "Own",
        "private": {
            **{"location": {"latitude": 52.52, "longitude": -13.405}, "people": ["Cleo", "Ada", "Bob"], "owner": "Ada Owner"},
            "serialNumbers": {"camera": "4711"},
        },
    }
    others = stranger.get(media(key, "format=json"))
    assert others.json["embedded"] == {"title": "Own"}
    assert not any(secret in others.text for secret in ("Ada", "Bob", "Cleo", "52.52", "13.405", "serial", "Other"))


@pytest.mark.parametrize(
    "made",
    [
        lambda exif, xmp: inscribed.jpeg(exif=exif, xmp=xmp),
        lambda exif, xmp: inscribed.png(exif=exif, xmp=xmp),
        lambda exif, xmp: inscribed.png(exif=exif, xmp=xmp, packed=True),
        lambda exif, xmp: inscribed.webp(exif=exif, xmp=xmp),
        lambda exif, xmp: inscribed.avif(exif=exif, xmp=xmp),
        lambda exif, xmp: inscribed.heic(exif=exif, xmp=xmp),
        lambda exif, xmp: inscribed.tiff(xmp=xmp, iptc=dataset(80, b"Ada")),
    ],
    ids=["jpeg", "png", "png-packed", "webp", "avif", "heic", "tiff"],
)
def test_every_kind_of_picture_is_read(told: Callable[[bytes], dict[str, Any]], made: Callable[[bytes, bytes], bytes]) -> None:
    found = told(made(inscribed.exif({0x013B: "Ada"}), packet(named("dc:title", "Rome", kind="Alt"))))
    assert found == {"title": "Rome", "creators": ["Ada"], "private": {}}


def test_a_picture_says_what_moves_or_shines_behind_it(told: Callable[[bytes], dict[str, Any]]) -> None:
    assert told(xmp("", 'GCamera:MotionPhoto="1"'))["contains"] == ["motionPhoto"]
    assert "contains" not in told(xmp("", 'GCamera:MotionPhoto="0"'))


@pytest.mark.skipif(not shared.present() and not shared.required(), reason=shared.ABSENT)
def test_the_sets_pictures_tell_strangers_no_place(client: Client, stranger: Client) -> None:
    seen = 0
    for file in ("jpeg/harvesters_orient6_gps.jpg", "heic/phone_16mp_hdr_gps.heif", "jpeg/dog_12mp_orient6_exif_xmp_icc.jpg"):
        key = client.stored(shared.data(file))["key"]
        private = client.get(media(key, "format=json")).json["embedded"]["private"]
        others = stranger.get(media(key, "format=json"))
        assert not any(secret in others.text for secret in ("GPS", "location", "latitude", '"private"', "Serial"))
        if "location" in private:
            seen += 1
            assert f"{private['location']['latitude']:.3f}" not in others.text
    assert seen == 2
    key = client.stored(shared.data("jpeg/harvesters_made_ultrahdr.jpg"))["key"]
    assert stranger.get(media(key, "format=json")).json["embedded"]["contains"] == ["gainMap"]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        *((pictures.mp4, kind) for kind in ("mp4", "mov")),
        *((pictures.webm, kind) for kind in ("matroska", "webm")),
        (pictures.mp3, "mp3"),
        (pictures.ogg, "ogg"),
        (pictures.flac, "flac"),
        (pictures.m4a, "ipod"),
    ],
)
def test_tags_of_films_and_sound_are_told_and_where_it_was_to_the_owner(
    client: Client, stranger: Client, data: Callable[[], bytes], kind: str
) -> None:
    key = client.stored(inscribed.tagged(data(), kind, SONG | {"encoder": "Secret Maker 7"}))["key"]
    own = client.get(f"/api/assets/{key}").json["embedded"]
    others = stranger.get(media(key, "format=json"))
    assert others.json["embedded"] == {name: value for name, value in own.items() if name != "private"}
    album = {"album": "LP", "track": 3, "trackCount": 12} if kind != "mov" else {"album": "LP"}
    assert others.json["embedded"] == {"title": "Sóng", "artist": "Ada", "genre": "Jazz", "date": "2011", **album}
    assert own["private"]["comment"] == "at home"
    place = {"latitude": 52.52, "longitude": 13.405, "altitude": 34}
    assert own["private"].get("location") == (None if kind in ("mp4", "ipod") else place)
    assert not any(secret in others.text for secret in ("52.52", "Secret Maker", "at home"))


def test_what_a_phone_writes_into_a_film_is_read(told: Callable[[bytes], dict[str, Any]]) -> None:
    tags = {
        **{"com.apple.quicktime.make": "Apple", "com.apple.quicktime.model": "iPhone", "creation_time": "2024-05-01T10:00:00Z"},
        **{
            "com.apple.quicktime.location.ISO6709": "-33.8583+151.2150/",
            "com.apple.quicktime.creationdate": "2024-05-01T12:00:00+0200",
        },
        "com.apple.quicktime.software": "17.4",
    }
    assert told(inscribed.tagged(pictures.mp4(), "mp4", tags, movflags="use_metadata_tags")) == {
        "camera": {"make": "Apple", "model": "iPhone"},
        "date": "2024-05-01T12:00:00+02:00",
        "private": {"location": {"latitude": -33.8583, "longitude": 151.215}},
    }
    unset = told(inscribed.tagged(pictures.mp4(), "mp4", {"creation_time": "1970-01-01T00:00:00Z"}))
    assert unset == {"private": {}}


def test_who_holds_a_signed_address_with_meta_keep_is_told_all(tmp_path: Path) -> None:
    with RunningServer(tmp_path, {"MEDIA_URL_SECRETS": SECRET, "MEDIA_ETERNAL_ADDRESSES": "true"}) as server:
        client, stranger = server.client("me"), server.client()
        key = client.stored(inscribed.of_a_phone())["key"]
        said = {"format": "json", "meta": "keep"}
        signed = stranger.get(media(key, f"format=json&meta=keep&s={sign(SECRET.encode(), key, said)}"))
        assert signed.json["embedded"]["private"]["location"]["longitude"] == 151.215
        assert signed.json["private"]["BodySerialNumber"] == pictures.CANARY
        plain = {"format": "json"}
        assert "private" not in stranger.get(media(key, f"format=json&s={sign(SECRET.encode(), key, plain)}")).json["embedded"]
        assert stranger.get(media(key, "format=json&meta=keep")).status == 401
        assert server.client("somebody").get(media(key, "format=json&meta=keep")).status in {403, 404}
        assert "private" in client.get(media(key, "format=json&meta=keep")).json["embedded"]
        for query in ("format=json&meta=none", "format=thumbhash&meta=keep"):
            assert client.get(media(key, query)).status == 400


def test_lists_and_uploads_go_without_and_a_change_comes_with_it(client: Client) -> None:
    record = client.stored(inscribed.of_a_phone())
    assert "embedded" not in record
    assert [set(one) & {"embedded"} for one in client.assets()] == [set()]
    asked = json.dumps({"keys": [record["key"]]}).encode()
    assert "embedded" not in client.post("/api/assets/query", asked, {"Content-Type": "application/json"}).json["assets"][0]
    change = json.dumps({"metadata": {"title": "mine"}}).encode()
    changed = client.request("PATCH", f"/api/assets/{record['key']}", {"Content-Type": "application/json"}, change).json
    assert changed["metadata"] == {"title": "mine"}
    assert changed["embedded"]["camera"]["make"] == "Pixelworks"


def test_what_was_stored_before_is_read_when_its_description_is_asked_for(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        key = server.client("me").stored(inscribed.tagged(pictures.mp3(), "mp3", SONG))["key"]
        server.stop()
        with sqlite3.connect(server.data / "catalogue.sqlite") as database:
            database.execute("UPDATE assets SET embedded = NULL, details = json_remove(details, '$.tracks')")
        database.close()
        server.start()
        client = server.client("me")
        before = client.get(f"/api/assets/{key}")
        assert (before.json["embedded"], before.json["tracks"]) == (None, None)
        assert server.client().get(media(key, "format=json")).json["embedded"]["album"] == "LP"
        after = client.get(f"/api/assets/{key}")
        assert (after.json["embedded"]["album"], after.json["tracks"]["container"]) == ("LP", "mp3")
        assert after.headers["ETag"] != before.headers["ETag"]


# -- what strangers write -------------------------------------------------------------------------------------------------

ENTITIES = "<!DOCTYPE r [" + '<!ENTITY a "lol">' + "".join(
    f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcdefgh", "bcdefghi", strict=True)
) + "]>"  # fmt: skip
THIEF = '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
CIRCLE = inscribed.directory(*(inscribed.entry(tag, 4, 1, 8) for tag in (0x8769, 0x8825, 0xA005)))
BOUNDLESS = inscribed.directory(inscribed.entry(0x010F, 2, 50, 0x7FFFFFFF), inscribed.entry(0x829A, 3, 0xFFFFFFF0, 8))
ZEROS = (
    inscribed.directory(inscribed.entry(0x829A, 5, 1, 90), inscribed.entry(0x8825, 4, 1, 48)),
    inscribed.directory(inscribed.entry(2, 5, 3, 90), inscribed.entry(4, 5, 3, 90)),
)
HOSTILE: dict[str, Callable[[], bytes]] = {
    "xmp of many megabytes": lambda: inscribed.png(xmp=packet(named("dc:subject", *["word " * 50] * 20_000)), packed=True),
    "xmp of deep elements": lambda: inscribed.png(xmp=packet("<dc:a>" * 50_000 + "</dc:a>" * 50_000)),
    "xmp of many attributes": lambda: inscribed.png(xmp=packet("", " ".join(f'dc:a{n}="{n}"' for n in range(30_000)))),
    "xmp of billion laughs": lambda: inscribed.jpeg(xmp=packet("<dc:title>&i;</dc:title>", before=ENTITIES)),
    "xmp that quotes a file": lambda: inscribed.jpeg(xmp=packet("<dc:title>&x;</dc:title>", before=THIEF)),
    "xmp that is cut": lambda: inscribed.jpeg(xmp=packet(named("dc:title", "x" * 100))[:900]),
    "xmp that is noise": lambda: inscribed.jpeg(xmp=bytes(range(256)) * 20),
    "xmp in an unknown encoding": lambda: inscribed.jpeg(xmp=b'<?xml version="1.0" encoding="klingon"?><a/>'),
    "xmp of numbers without end": lambda: xmp("", 'exif:GPSLatitude="1e999,nanN" exif:GPSLongitude="-,,E"'),
    "iptc with lying lengths": lambda: inscribed.jpeg(iptc=inscribed.resources(dataset(5, b"short", size=0x7FFF), size=1 << 30)),
    "iptc with a length without end": lambda: inscribed.jpeg(iptc=inscribed.resources(dataset(5, b"\xff" * 40, size=0xFFFF))),
    "iptc of many datasets": lambda: inscribed.jpeg(iptc=inscribed.resources(dataset(25, b"k") * 10_000)),
    "exif that leads in a circle": lambda: inscribed.jpeg(exif=inscribed.exif_of(CIRCLE)),
    "exif of many values": lambda: inscribed.jpeg(exif=inscribed.exif_of(BOUNDLESS)),
    "exif of zeros over zero": lambda: inscribed.jpeg(exif=inscribed.exif_of(*ZEROS)),
    "id3 that claims more than there is": lambda: inscribed.id3((b"TIT2", b"\3title"), size=1 << 27),
    "id3 of packed megabytes": lambda: inscribed.id3((b"TIT2", bomb()), flags=b"\0\x09"),
    "id3 of many frames": lambda: inscribed.id3(*[(b"TXXX", b"\3name%d\0value" % n) for n in range(2_000)]),
    "id3 of a long text": lambda: inscribed.id3((b"COMM", b"\3eng\0" + b"x" * 2_000_000)),
    "a hundred chapters": lambda: inscribed.chaptered(["\N{CAMERA}" * 200] * 120),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_hostile_beside_a_sound_file_costs_nobody_anything(gallery: RunningServer, name: str) -> None:
    """The file is taken as before, and what is kept of its words is small and clean; no worker dies of it."""
    assert until(lambda: len(workers(gallery)) == 1)
    (worker,) = workers(gallery)
    client = gallery.client("me")
    stored = client.upload(HOSTILE[name]())
    assert stored.status in {201, 422}
    if stored.status == 422:  # no sound is found behind what it claims
        assert [process.pid for process in workers(gallery)] == [worker.pid]
        return
    key = stored.json["key"]
    answers = [client.get(f"/api/assets/{key}"), client.get(media(key, "format=json"))]
    for answer in answers:
        assert answer.status == 200
        embedded = answer.json["embedded"]
        assert len(json.dumps(embedded, ensure_ascii=False).encode()) <= MAX_JSON_BYTES
        assert not any(word in answer.text for word in ("lollol", "root:", "NaN", "Infinity", "klingon"))
    assert [process.pid for process in workers(gallery)] == [worker.pid]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with one worker, which is to outlive everything."""
    with RunningServer(tmp_path_factory.mktemp("hostile"), {"MEDIA_RENDER_WORKERS": "1"}) as running:
        yield running


def test_words_are_whole_letters_without_controls_and_of_bounded_length(told: Callable[[bytes], dict[str, Any]]) -> None:
    news = dataset(105, b"bell\x07 and\x00nul \x1b[31mred") + dataset(5, b"J\xfcrgen") + dataset(110, b"cut \xc3")
    found = told(inscribed.jpeg(iptc=inscribed.resources(news)))
    assert (found["headline"], found["title"], found["credit"]) == ("bell andnul [31mred", "Jürgen", "cut")
    long = told(
        xmp(named("dc:description", "\u202eevil\u2066 " + "é" * 5000, kind="Alt") + named("dc:subject", *map(str, range(500))))
    )
    assert long["description"] == "evil " + "é" * 1995
    assert long["keywords"] == [str(number) for number in range(100)]
    many = told(xmp(named("dc:subject", *[f"{number:03} " + "\N{CAMERA}" * 60 for number in range(150)])))
    assert 10 < len(many["keywords"]) < 100


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("2024:05:01 12:30:00", "+02:00", "2024-05-01T12:30:00+02:00"),
        ("2024:05:01 12:30:00", "", "2024-05-01T12:30:00"),
        ("2024-05-01T12:30:00.500Z", "+02:00", "2024-05-01T12:30:00.500Z"),
        ("2024-05-01T12:30-0330", "", "2024-05-01T12:30:00-03:30"),
        ("2024-05", "", "2024-05"),
        ("1890", "", "1890"),
        ("2024:05:01 12:30:00", "+99:00", "2024-05-01T12:30:00"),
        ("2024:13:01 12:30:00", "", None),
        ("    :  :     :  :  ", "", None),
        ("0000:00:00 00:00:00", "", None),
        ("yesterday", "", None),
        ("٢٠٢٤", "", None),
    ],
)
def test_a_moment_is_as_exact_as_it_was_said(text: str, zone: str, expected: str | None) -> None:
    assert texts.moment(text, zone) == expected


def bomb() -> bytes:
    """A packed frame of ID3: how much it says that it unpacks to, and ten megabytes."""
    return bytes((0x05, 0x7F, 0x7F, 0x7F)) + zlib.compress(b"\3" + b"x" * 10_000_000, 9)

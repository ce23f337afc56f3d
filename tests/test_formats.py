"""What the first bytes of a file say it is, and what a sender's Content-Type claims."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.errors import Unsupported
from processors.formats import FORMATS, HEAD_BYTES, Kind, agree, by_mime, claimed_kind, sniff
from tests import pictures
from tests.kit import shared

MADE = {
    **{"jpeg": pictures.jpeg, "png": pictures.png, "gif": pictures.gif, "webp": pictures.webp, "avif": pictures.avif},
    **{"heic": pictures.heic, "tiff": pictures.tiff, "bmp": pictures.bmp, "ico": pictures.ico, "pdf": pictures.pdf},
    **{"mp4": pictures.mp4, "webm": pictures.webm, "mp3": pictures.mp3, "ogg": pictures.ogg, "wav": pictures.wav},
    **{"flac": pictures.flac, "m4a": pictures.m4a, "aac": pictures.aac},
}


def box(kind: bytes, body: bytes) -> bytes:
    """A box of ISO base media."""
    return (8 + len(body)).to_bytes(4, "big") + kind + body


def ftyp(major: bytes, *brands: bytes) -> bytes:
    """The first box of a file with these brands."""
    return box(b"ftyp", major + bytes(4) + b"".join(brands)) + box(b"free", b"")


def ebml(doctype: bytes) -> bytes:
    """The head of a Matroska file."""
    elements = b"\x42\x86\x81\x01" + b"\x42\x82" + bytes([0x80 | len(doctype)]) + doctype
    return b"\x1aE\xdf\xa3" + bytes([0x80 | len(elements)]) + elements


BRANDS = [
    ("avif", ftyp(b"avif", b"mif1", b"miaf")),
    ("avif", ftyp(b"mif1", b"avif", b"miaf")),
    ("avif", ftyp(b"avis", b"avif", b"msf1", b"iso8", b"mif1")),
    ("heic", ftyp(b"heic", b"mif1")),
    ("heic", ftyp(b"mif1", b"heic", b"hevc")),
    ("heic", ftyp(b"msf1", b"hevc", b"iso8")),
    ("heif", ftyp(b"mif1", b"miaf")),
    ("m4a", ftyp(b"M4A ", b"isom", b"mp42")),
    ("mov", ftyp(b"qt  ", b"isom")),
    ("mp4", ftyp(b"isom", b"iso2", b"avc1", b"mp41")),
    ("mp4", ftyp(b"3gp5", b"3gp4")),
    ("mp4", ftyp(b"dash", b"iso6")),
    ("mov", box(b"moov", box(b"mvhd", bytes(100)))),
    ("mov", box(b"wide", b"") + box(b"mdat", bytes(50))),
    ("webm", ebml(b"webm")),
    ("mkv", ebml(b"matroska")),
]
FOREIGN = {
    **pictures.DISGUISES,
    "JPEG XL": b"\xff\x0a" + bytes(50),
    "JPEG XL in boxes": box(b"JXL ", b"\r\n\x87\n") + ftyp(b"jxl "),
    "JPEG 2000": box(b"jP  ", b"\r\n\x87\n") + ftyp(b"jp2 "),
    "a camera's raw file": b"II*\0\x10\0\0\0CR\x02\0" + bytes(50),
    "another box file": ftyp(b"crx ", b"crx "),
    "a type box cut short": ftyp(b"isom", b"iso2")[:12],
    "a type box that claims to be huge": (1 << 30).to_bytes(4, "big") + b"ftypisom" + bytes(50),
    "another EBML file": ebml(b"secret"),
    "an EBML head without a type": b"\x1aE\xdf\xa3\x80" + bytes(50),
    "another RIFF": b"RIFF\x24\0\0\0AVI LIST" + bytes(50),
    "a cursor": b"\0\0\2\0\1\0" + pictures.ico()[6:],
    "an icon without entries": b"\0\0\1\0\0\0" + bytes(60),
    "words that begin like a bitmap": b"BMW makes cars, among other things, and motorcycles",
    "words that begin like a tag": b"ID3 is what this text is not about",
    "noise that begins like a frame": b"\xff\xfb\x90\x64" + bytes(range(7, 256)) * 12,
    "one lone frame": b"\xff\xfb\x90\x64" + bytes(400),
    "a byte": b"\xff",
    "a page": b"\r\n <!-- x --><html>",
    "an Ogg without a known codec": b"OggS\0\2" + bytes(20) + b"\x01\x05hello",
}


@pytest.mark.parametrize("name", MADE)
def test_what_we_make_is_known_again(name: str) -> None:
    data = MADE[name]()
    assert sniff(data[:HEAD_BYTES]).name == name


@pytest.mark.parametrize(("name", "data"), BRANDS, ids=lambda value: value if isinstance(value, str) else "")
def test_containers_are_told_apart_by_their_brands(name: str, data: bytes) -> None:
    assert sniff(data).name == name


@pytest.mark.parametrize("what", FOREIGN)
def test_anything_else_is_refused(what: str) -> None:
    with pytest.raises(Unsupported):
        sniff(FOREIGN[what])


@pytest.mark.parametrize("file", ["png/red_blue_anim.png", "audio/tone_with_cover.mp3", "video/phone_rotate90.mov"])
def test_bytes_in_front_make_another_type_of_it(file: str) -> None:
    if not shared.present():
        pytest.skip(shared.ABSENT)
    with pytest.raises(Unsupported):
        sniff(b"\n" + shared.data(file)[:HEAD_BYTES])


@pytest.mark.parametrize("entry", shared.manifest()["files"], ids=lambda entry: entry["file"])
def test_a_file_of_the_set_is_what_the_manifest_says_or_refused(entry: dict[str, Any]) -> None:
    same = {"image/apng": "image/png", "image/heif": "image/heic", "audio/mp4": "video/mp4"}
    try:
        mime = sniff(shared.data(entry["file"])[:HEAD_BYTES]).mime
    except Unsupported:
        mime = None
    if entry["expected"] == "serve" or mime is not None:
        assert mime == same.get(entry["media_type"], entry["media_type"])
    if entry["expected"] == "reject-415":
        assert mime is None


def test_the_set_is_there_where_it_must_be() -> None:
    assert shared.present() or not shared.required()


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\xff", b"\0\0\0\x1cftyp", b"OggS", b"\x1aE\xdf\xa3", b"ID3", b"BM", b"\0\0\1\0", b"RIFF"]),
)
def test_no_bytes_break_it(rest: bytes, start: bytes) -> None:
    with suppress(Unsupported):
        assert sniff(start + rest).name in FORMATS


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        (None, None),
        ("", None),
        ("application/octet-stream", None),
        ("Application/Octet-Stream; x=y", None),
        ("application/x-www-form-urlencoded", None),
        ("multipart/form-data; boundary=x", None),
        ("nonsense", None),
        ("image/png", Kind.IMAGE),
        ("IMAGE/JPEG; charset=utf-8", Kind.IMAGE),
        ("video/x-anything", Kind.VIDEO),
        ("audio/mpeg", Kind.AUDIO),
        ("application/pdf", Kind.DOCUMENT),
        ("text/html", Kind.OTHER),
        ("text/plain; charset=utf-8", Kind.OTHER),
        ("application/xml", Kind.OTHER),
        ("image/svg+xml", Kind.DRAWING),
        ("application/vnd.apple.mpegurl", Kind.OTHER),
    ],
)
def test_a_content_type_claims_a_kind_or_nothing(content_type: str | None, kind: Kind | None) -> None:
    assert claimed_kind(content_type) is kind


@pytest.mark.parametrize(
    ("name", "content_type", "agreed"),
    [
        ("jpeg", "image/png", True),
        ("jpeg", None, True),
        ("jpeg", "video/mp4", False),
        ("jpeg", "text/html", False),
        ("webm", "audio/webm", True),
        ("mp4", "audio/mp4", True),
        ("ogg", "video/ogg", True),
        ("mp3", "video/mp4", False),
        ("mp4", "image/jpeg", False),
        ("svg", "image/svg+xml; charset=utf-8", True),
        ("svg", "application/octet-stream", True),
        ("svg", "image/png", False),
        ("svg", "text/xml", False),
        ("png", "image/svg+xml", False),
    ],
)
def test_sound_in_a_films_container_may_be_called_sound(name: str, content_type: str | None, agreed: bool) -> None:
    assert agree(FORMATS[name], content_type) is agreed


def test_every_format_is_found_by_its_type() -> None:
    assert {by_mime(format.mime) for format in FORMATS.values()} == set(FORMATS.values())
    assert by_mime("text/html") is None


def test_what_we_make_is_shown_by_browsers() -> None:
    assert all(format.shown for format in FORMATS.values() if format.encodes)

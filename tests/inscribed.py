"""Files with what makers write into them, made by script: EXIF, XMP and IPTC of pictures, tags of sound and films, hostile ones."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from typing import Any

import av
import pillow_heif
from PIL import Image, TiffImagePlugin

from tests import pictures
from tests.pictures import CANARY, EXIF_TAG, GPS_TAG

XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"
_NAMESPACES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "cc": "http://creativecommons.org/ns#",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
    "xmpMM": "http://ns.adobe.com/xap/1.0/mm/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "aux": "http://ns.adobe.com/exif/1.0/aux/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "mwg-rs": "http://www.metadataworkinggroup.com/schemas/regions/",
    "GCamera": "http://ns.google.com/photos/1.0/camera/",
}


def packet(properties: str = "", attributes: str = "", *, before: str = "") -> bytes:
    """An XMP packet of RDF; *before* stands in front of its root."""
    spaces = " ".join(f'xmlns:{prefix}="{address}"' for prefix, address in _NAMESPACES.items())
    return (
        f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>{before}<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {spaces}>'
        f'<rdf:Description rdf:about="" {attributes}>{properties}</rdf:Description></rdf:RDF></x:xmpmeta>'
        f'{" " * 200}<?xpacket end="w"?>'
    ).encode()


def named(name: str, *values: str, kind: str = "Bag") -> str:
    """A property of several values; of kind ``Alt`` the last is the one in no language."""
    languages = ["de"] * (len(values) - 1) + ["x-default"]
    items = "".join(
        f'<rdf:li xml:lang="{language}">{value}</rdf:li>' if kind == "Alt" else f"<rdf:li>{value}</rdf:li>"
        for language, value in zip(languages, values, strict=True)
    )
    return f"<{name}><rdf:{kind}>{items}</rdf:{kind}></{name}>"


def dataset(number: int, value: bytes, *, record: int = 2, size: int | None = None) -> bytes:
    """One dataset of IPTC-IIM; *size* is what it claims to have, if not the truth."""
    return struct.pack(">BBBH", 0x1C, record, number, len(value) if size is None else size) + value


def resources(datasets: bytes, size: int | None = None) -> bytes:
    """The resources of Photoshop with *datasets*, behind one that has none."""
    other = b"8BIM" + struct.pack(">HHI", 0x040C, 0, 5) + b"thumb\0"
    told = len(datasets) if size is None else size
    return b"Photoshop 3.0\0" + other + b"8BIM" + struct.pack(">HHI", 0x0404, 0, told) + datasets + b"\0" * (len(datasets) % 2)


def exif(first: Mapping[int, Any], second: Mapping[int, Any] = {}, place: Mapping[int, Any] = {}) -> bytes:
    """An EXIF block of three directories: the picture's, the camera's, the place's."""
    tags = Image.Exif()
    tags.update(first)
    if second:
        tags.get_ifd(EXIF_TAG).update(second)
    if place:
        tags.get_ifd(GPS_TAG).update(place)
    return tags.tobytes()


def entry(tag: int, kind: int, count: int, value: int) -> bytes:
    """One entry of a directory of EXIF, true or not (TIFF 6.0, section 2)."""
    return struct.pack("<HHII", tag, kind, count, value)


def directory(*entries: bytes) -> bytes:
    """A directory that nothing follows."""
    return struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)


def exif_of(*directories: bytes) -> bytes:
    """An EXIF block of *directories*, the first at 8, the others 40 bytes apart, with zeros behind them."""
    body = b"".join(one.ljust(40, b"\0") for one in directories)
    return b"Exif\0\0II*\0\x08\0\0\0" + body + bytes(100)


def jpeg(
    *, exif: bytes | None = None, xmp: bytes | None = None, iptc: bytes | None = None, width: int = 64, height: int = 48
) -> bytes:
    """A JPEG with these blocks, each in its segment (ITU-T T.81, B.1.1.3)."""
    data = pictures.jpeg(width, height)
    segments = b"".join(
        bytes((0xFF, mark)) + struct.pack(">H", len(body) + 2) + body
        for mark, body in (
            (0xE1, exif),
            (0xE1, None if xmp is None else XMP_HEAD + xmp),
            (0xED, iptc),
        )
        if body is not None
    )
    return data[:2] + segments + data[2:]


def png(*, exif: bytes | None = None, xmp: bytes | None = None, packed: bool = False) -> bytes:
    """A PNG with an eXIf chunk, and XMP in an iTXt chunk, which may be packed."""
    data = pictures.png(64, 48)
    chunks = b""
    if exif is not None:
        chunks += pictures.chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    if xmp is not None:
        text = zlib.compress(xmp) if packed else xmp
        chunks += pictures.chunk(b"iTXt", b"XML:com.adobe.xmp\0" + bytes((packed, 0)) + b"\0\0" + text)
    return data[:33] + chunks + data[33:]


def webp(*, exif: bytes, xmp: bytes) -> bytes:
    """A WebP with both."""
    return _saved("WEBP", exif=exif, xmp=xmp)


def avif(*, exif: bytes, xmp: bytes) -> bytes:
    """An AVIF with both."""
    return _saved("AVIF", exif=exif, xmp=xmp)


def tiff(*, xmp: bytes, iptc: bytes) -> bytes:
    """A TIFF with XMP, and IPTC datasets as they are."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[700], tags[33723] = xmp, iptc
    tags.tagtype[700] = tags.tagtype[33723] = 7
    return _saved("TIFF", tiffinfo=tags)


def heic(*, exif: bytes, xmp: bytes) -> bytes:
    """A HEIC with both."""
    picture = pictures.corners(64, 48).copy()
    picture.info |= {"exif": exif, "xmp": xmp}
    buffer = io.BytesIO()
    pillow_heif.from_pillow(picture).save(buffer, quality=90)
    return buffer.getvalue()


def _saved(kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pictures.corners(64, 48).save(buffer, kind, **options)
    return buffer.getvalue()


def tagged(data: bytes, kind: str, tags: Mapping[str, str], **options: str) -> bytes:
    """The film or the sound in *data* with *tags*, written by FFmpeg's muxer *kind*."""
    buffer = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(buffer, "w", format=kind, options=options) as target:
        copies = {stream: target.add_stream_from_template(stream) for stream in (*source.streams.video, *source.streams.audio)}
        target.metadata.update(tags)
        if kind == "ogg":
            copies[source.streams.audio[0]].metadata.update(tags)
        for one in source.demux(*copies):
            if one.dts is not None:
                one.stream = copies[one.stream]
                target.mux(one)
    return buffer.getvalue()


def chaptered(titles: Sequence[str]) -> bytes:
    """A film with chapters of these *titles*."""
    buffer = io.BytesIO()
    with av.open(io.BytesIO(pictures.mp4())) as source, av.open(buffer, "w", format="matroska") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        target.set_chapters(
            [
                {"id": n, "start": n, "end": n + 1, "time_base": Fraction(1, 1000), "metadata": {"title": title}}
                for n, title in enumerate(titles)
            ]
        )
        for one in source.demux(source.streams.video[0]):
            if one.dts is not None:
                one.stream = stream
                target.mux(one)
    return buffer.getvalue()


def id3(*frames: tuple[bytes, bytes], size: int | None = None, flags: bytes = b"\0\0") -> bytes:
    """A sound with an ID3v2.4 tag of *frames*; *size* is what the tag claims to have."""
    body = b"".join(name + _seven(len(value)) + flags + value for name, value in frames)
    return b"ID3\x04\0\0" + _seven(len(body) if size is None else size) + body + pictures.mp3()[_id3_end(pictures.mp3()) :]


def _seven(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def _id3_end(data: bytes) -> int:
    if data[:3] != b"ID3":
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))


@cache
def of_a_phone() -> bytes:
    """A photo as a phone makes it: camera, exposure, time with its zone, and where that was."""
    return jpeg(
        exif=exif(
            {
                0x010F: "Pixelworks",
                0x0110: "P\N{LATIN SMALL LETTER O WITH DIAERESIS}sh 4".encode(),
                0x013B: "Ada; Bob",
                0x8298: "(c) Ada",
                0x0131: "HDR+",
            },
            {
                **{0x9003: "2024:05:01 12:30:00", 0x9011: "+02:00", 0x9291: "120", 0x829A: 0.004, 0x829D: 2.8, 0x8827: 100},
                **{0x9204: -0.5, 0x920A: 4.3, 0xA405: 26, 0x9209: 1, 0xA433: "Glass", 0xA434: "Wide 4.3"},
                **{0xA430: CANARY, 0xA431: CANARY, 0xA435: CANARY, 0x927C: CANARY.encode() * 20},
            },
            {1: "S", 2: (33.0, 51.0, 30.0), 3: "E", 4: (151.0, 12.0, 54.0), 5: b"\1", 6: 12.5, 29: "2024:05:01"},
        )
    )

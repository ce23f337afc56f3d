"""What a camera wrote beside a picture, in words: the part that may be shown to anybody, and the rest. Workers only."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from typing import Any

from PIL import ExifTags, Image

from processors import texts

MAX_TEXT = 200
MAX_NUMBERS = 16
MAX_BLOCK_BYTES = 1 << 20
"""of which most is a thumbnail; a JPEG has room for 64 KiB, a HEIC for what it likes"""
MAX_BYTES = 8192
"""of each part as JSON: what a worker says of a picture has room for both"""
PUBLIC = frozenset(
    (
        *("Make", "Model", "LensMake", "LensModel", "Software", "DateTime", "DateTimeOriginal", "OffsetTimeOriginal"),
        *("ExposureTime", "FNumber", "ISOSpeedRatings", "FocalLength", "FocalLengthIn35mmFilm", "ExposureBiasValue", "Flash"),
        *("ExposureProgram", "MeteringMode", "WhiteBalance", "Artist", "Copyright"),
    )
)
"""Names of Exif 2.32 that tell of the picture and its rights, and not of a person, a place or a single device."""
_BLOCKS = frozenset(
    ("MakerNote", "PrintImageMatching", "XMLPacket", "InterColorProfile", "ImageResources", "IPTCNAA", "UserComment")
)
_POINTERS = frozenset(("ExifOffset", "GPSInfo", "ExifInteroperabilityOffset", "SubIFDs", "JPEGInterchangeFormat"))
_BROKEN = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OSError,
    SyntaxError,
    EOFError,
    OverflowError,
    ArithmeticError,
    struct.error,
)
"""what Pillow raises on blocks that are no EXIF"""


def tags(block: bytes | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """What an EXIF *block* says of the picture, and of the place; each by Exif's names, both empty for one that is broken."""
    if not block or len(block) > MAX_BLOCK_BYTES:
        return {}, {}
    read = Image.Exif()
    try:
        read.load(block)
        found = dict(_named(read, ExifTags.TAGS)) | dict(_named(read.get_ifd(ExifTags.IFD.Exif), ExifTags.TAGS))
        place = dict(_named(read.get_ifd(ExifTags.IFD.GPSInfo), ExifTags.GPSTAGS))
    except _BROKEN:
        return {}, {}
    return found, place


def told(found: Mapping[str, Any], place: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of what `tags` gives the public part and the private one."""
    public = {name: value for name, value in found.items() if name in PUBLIC}
    private = {name: value for name, value in found.items() if name not in PUBLIC and name != "Orientation"}
    return _bounded(public), _bounded({**place, **private})


def _bounded(said: Mapping[str, Any]) -> dict[str, Any]:
    # As much as there is room for: a letter that is not ASCII takes six bytes.
    kept, room = {}, MAX_BYTES
    for name, value in said.items():
        room -= len(json.dumps({name: value}))
        if room < 0:
            break
        kept[name] = value
    return kept


def _named(tags: Mapping[int, Any], names: Mapping[int, str]) -> Iterable[tuple[str, Any]]:
    for number, value in tags.items():
        name = names.get(number)
        if name is None or name in _BLOCKS | _POINTERS:
            continue
        if name.startswith("XP") and isinstance(value, bytes):  # Windows
            value = value.decode("utf-16-le", "ignore")  # noqa: PLW2901
        if (plain := _plain(value)) is not None:
            yield name, plain


def _plain(value: Any) -> str | int | float | list[Any] | None:
    # A value as JSON has it, bounded; None for what says nothing to a reader.
    if isinstance(value, bytes):
        value = value[0] if len(value) == 1 else texts.decoded(value.rstrip(b"\0"))
    elif isinstance(value, str):
        value = texts.mended(value)
    if isinstance(value, str):
        return texts.line(value, MAX_TEXT)
    if isinstance(value, tuple):
        parts = [_plain(part) for part in value[:MAX_NUMBERS]]
        return parts if all(part is not None for part in parts) else None
    if isinstance(value, int):
        return value if abs(value) < 1 << 53 else None
    number = float(value)
    return round(number, 6) if abs(number) < 1e12 else None

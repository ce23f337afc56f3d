"""EXIF for a rendition: its copyright and artist alone, out of a block full of what must not travel on, or all but its turn.

Read and written here because libvips hands such texts on as ASCII: "© Jürgen" would leave as "?? J??rgen".
"""

from __future__ import annotations

import struct

ARTIST, COPYRIGHT = 0x013B, 0x8298
ORIENTATION = 0x0112
PLACES_AND_SIZES = {0x0111: 0x0117, 0x0201: 0x0202}
"""of a thumbnail: strips, or a JPEG"""
ASCII, SHORT = 2, 3
MAX_TEXT_BYTES = 200
MAX_ENTRIES = 512
_PREFIX = b"Exif\0\0"
_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}


def rights(block: bytes) -> bytes | None:
    """An EXIF block with nothing but the artist and the copyright of *block*; None if it names neither or is broken."""
    texts = {tag: text for tag, text in _texts(block.removeprefix(_PREFIX)).items() if text}
    if not texts:
        return None
    entries, values = b"", b""
    start = 8 + 2 + 12 * len(texts) + 4
    for tag, text in sorted(texts.items()):
        value = text.encode() + b"\0"
        place = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", start + len(values))
        entries += struct.pack("<HHI", tag, ASCII, len(value)) + place
        if len(value) > 4:
            values += value + b"\0" * (len(value) % 2)
    return _PREFIX + b"II*\0" + struct.pack("<IH", 8, len(texts)) + entries + bytes(4) + values


def upright(block: bytes) -> bytes | None:
    """*block* for a picture that is turned already, and without its thumbnail; None if it is broken.

    Changed in place: the notes of makers are full of offsets, and survive no other way.
    """
    tiff = bytearray(block.removeprefix(_PREFIX))
    order = _ORDERS.get(bytes(tiff[:4]))
    if order is None:
        return None
    try:
        entries, following = _directory(tiff, order, 4)
        for tag, kind, _, place in entries:
            if tag == ORIENTATION and kind == SHORT:
                struct.pack_into(f"{order}H", tiff, place, 1)
        if struct.unpack_from(f"{order}I", tiff, following) != (0,):
            values = {tag: _number(tiff, order, kind, place) for tag, kind, _, place in _directory(tiff, order, following)[0]}
            struct.pack_into(f"{order}I", tiff, following, 0)
            for start, size in PLACES_AND_SIZES.items():
                _wipe(tiff, values.get(start, 0), values.get(size, 0))
    except struct.error:
        return None
    return _PREFIX + bytes(tiff)


def _directory(tiff: bytearray, order: str, pointer: int) -> tuple[list[tuple[int, int, int, int]], int]:
    # The entries of the directory that *pointer* leads to (tag, type, count, place of the value), and the next pointer.
    (at,) = struct.unpack_from(f"{order}I", tiff, pointer)
    (count,) = struct.unpack_from(f"{order}H", tiff, at)
    starts = [at + 2 + 12 * number for number in range(min(count, MAX_ENTRIES))]
    return [(*struct.unpack_from(f"{order}HHI", tiff, start), start + 8) for start in starts], at + 2 + 12 * count


def _number(tiff: bytearray, order: str, kind: int, place: int) -> int:
    return int(struct.unpack_from(f"{order}{'H' if kind == SHORT else 'I'}", tiff, place)[0])


def _wipe(tiff: bytearray, start: int, size: int) -> None:
    end = min(start + size, len(tiff))
    if not 8 <= start < end:
        return
    if end == len(tiff):
        del tiff[start:]
    else:
        tiff[start:end] = bytes(end - start)


def _texts(tiff: bytes) -> dict[int, str]:
    # The first directory (TIFF 6.0, section 2); the GPS, thumbnail and maker directories hang on others.
    order = _ORDERS.get(tiff[:4])
    if order is None:
        return {}
    found = {}
    try:
        (at,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, at)
        for number in range(min(count, MAX_ENTRIES)):
            entry = at + 2 + 12 * number
            tag, kind, length = struct.unpack_from(f"{order}HHI", tiff, entry)
            if tag in (ARTIST, COPYRIGHT) and kind == ASCII:
                place = entry + 8 if length <= 4 else struct.unpack_from(f"{order}I", tiff, entry + 8)[0]
                found[tag] = _readable(tiff[place : place + min(length, MAX_TEXT_BYTES)])
    except struct.error:
        pass
    return found


def _readable(value: bytes) -> str:
    # A NUL parts the photographer's rights from the editor's (Exif 2.32, section 4.6.5).
    value = value.strip(b"\0 ").replace(b"\0", b"; ")
    text = value.decode("utf-8", "ignore")
    if len(text.encode()) < len(value) - 3:  # more is lost than a character cut at the end
        text = value.decode("latin-1")
    return "".join(letter for letter in text if letter.isprintable()).strip()

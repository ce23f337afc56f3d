"""What a file holds by its own structure, counted before a library sees it: where libraries spend long on much of little.

libvips walks all pages of a TIFF and all frames of a WebP to read a header, the latter in quadratic time (200,000 frames of one
pixel, 12 MB: more than 20 s); libpng unpacks each text, libjpeg decodes each scan. Counting costs some milliseconds at most.
"""

from __future__ import annotations

import io
import mmap
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import BinaryIO

from processors.errors import TooCostly
from processors.formats import Format
from processors.values import Limits

MORE_FRAMES = 10
"""times the frames of an animation that stays one: what has more is not even shown as its first"""
MAX_SCANS_TIMES = 20
"""how often a progressive JPEG of the most pixels may be gone over; smaller ones more often in proportion"""
MAX_SCANS = 1000
MAX_TEXT_BYTES = 16 << 20
MAX_CHUNKS = 10_000
DEFLATE_RATIO = 1032
GIF_NOISE_BYTES = 8192
"""of a GIF's pixels may hold one pair of bytes that looks like the beginning of a frame"""


def check(path: str, format: Format, limits: Limits) -> None:
    """Raise TooCostly if the file holds more frames, pages, scans or packed text than is looked at; damage is for others."""
    with open(path, "rb") as file:  # noqa: PTH123
        check_open(file, format, limits)


def check_open(file: BinaryIO, format: Format, limits: Limits) -> None:
    """The same for a *file* that is open, or in memory as BytesIO."""
    look = _LOOKS.get(format.name)
    if look is not None:
        with suppress(struct.error, IndexError):
            look(file, limits)


def is_cut(path: str, format: Format) -> bool:
    """Whether the end is missing of a file whose format has one (JPEG, PNG, GIF); what follows an end is no matter."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:  # noqa: PTH123
        if format.name == "jpeg":
            return whole.rfind(b"\xff\xd9") < whole.rfind(b"\xff\xda")
        if format.name == "png":
            return whole.rfind(b"IEND\xae\x42\x60\x82") < 0
        return format.name == "gif" and not whole[-64:].rstrip(b"\0").endswith(b";")


def _check_frames(frames: int, limits: Limits, more: int = 0) -> None:
    allowed = MORE_FRAMES * limits.max_frames + more
    if frames > allowed:
        raise TooCostly(f"a file may have {allowed} frames or pages", limit="frames", allowed=allowed)


def _webp(file: BinaryIO, limits: Limits) -> None:
    # RFC 9649, section 2.7: the canvas in VP8X, then one ANMF for each frame.
    frames, canvas = 0, 0
    file.seek(12)
    while len(head := file.read(8)) == 8:
        size = int.from_bytes(head[4:], "little")
        if head[:4] == b"VP8X":
            body = file.read(10)
            canvas = (int.from_bytes(body[4:7], "little") + 1) * (int.from_bytes(body[7:10], "little") + 1)
            size -= len(body)
        elif head[:4] == b"ANMF":
            frames += 1
            _check_frames(frames, limits)
        elif not canvas:
            return
        file.seek(size + size % 2, os.SEEK_CUR)
    if frames * canvas > limits.max_pixels_all_frames:
        allowed = limits.max_pixels_all_frames
        raise TooCostly(
            f"a picture may have {allowed} pixels all frames", limit="pixels-all-frames", allowed=allowed, actual=frames * canvas
        )


def _gif(file: BinaryIO, limits: Limits) -> None:
    # The block before a frame ends with a zero, and a frame begins with a comma.
    more = os.fstat(file.fileno()).st_size // GIF_NOISE_BYTES
    _check_frames(_count(file, b"\0,", MORE_FRAMES * limits.max_frames + more), limits, more)


def _tiff(file: BinaryIO, limits: Limits) -> None:
    # TIFF 6.0, section 2, and BigTIFF: each directory names the place of the next.
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    is_big = struct.unpack(order + "H", head[2:4])[0] == 43
    count_of, entry_bytes, place_of = ("Q", 20, "Q") if is_big else ("H", 12, "I")
    place = struct.unpack(order + place_of, head[8:16] if is_big else head[4:8])[0]
    pages = 0
    while place:
        pages += 1
        _check_frames(pages, limits)
        file.seek(place)
        entries = struct.unpack(order + count_of, file.read(struct.calcsize(count_of)))[0]
        file.seek(min(entries, 1 << 16) * entry_bytes, os.SEEK_CUR)
        place = struct.unpack(order + place_of, file.read(struct.calcsize(place_of)))[0]


def _png(file: BinaryIO, limits: Limits) -> None:
    # PNG, third edition, section 11.3: texts and profiles are packed; those behind the pixels are not read.
    file.seek(8)
    packed, room = 0, MAX_TEXT_BYTES
    for _ in range(MAX_CHUNKS):
        size, kind = struct.unpack(">I4s", file.read(8))
        if kind in (b"IDAT", b"IEND"):
            return
        if kind not in (b"zTXt", b"iTXt", b"iCCP"):
            file.seek(size + 4, os.SEEK_CUR)
            continue
        data = file.read(size)
        file.seek(4, os.SEEK_CUR)
        packed += len(data)
        if packed * DEFLATE_RATIO > MAX_TEXT_BYTES:
            room -= _unpacked_bytes(kind, data, room)
            if room < 0:
                raise TooCostly(
                    f"texts and profiles may unpack to {MAX_TEXT_BYTES} bytes", limit="text-bytes", allowed=MAX_TEXT_BYTES
                )
    raise TooCostly(f"there may be {MAX_CHUNKS} chunks before the pixels", limit="chunks", allowed=MAX_CHUNKS)


def _unpacked_bytes(kind: bytes, data: bytes, room: int) -> int:
    at = data.index(0) + 1 if 0 in data else len(data)
    if kind == b"iTXt":
        if data[at : at + 1] != b"\1":
            return len(data)
        at = data.find(0, data.find(0, at + 2) + 1)  # language, then the translated keyword
    total, unpacker, rest = 0, zlib.decompressobj(), data[at + 1 :]
    with suppress(zlib.error):
        while rest and total <= room:
            total += len(unpacker.decompress(rest, 1 << 20))
            rest = unpacker.unconsumed_tail
    return total


def _jpeg(file: BinaryIO, limits: Limits) -> None:
    # ITU-T T.81, B.2: the frame's header tells that it is progressive, and its size; each scan has a header of its own.
    file.seek(2)
    for _ in range(MAX_CHUNKS):
        mark, size = struct.unpack(">HH", file.read(4))
        if mark in (0xFFC2, 0xFFC6, 0xFFCA, 0xFFCE):
            height, width = struct.unpack(">xHH", file.read(5))
            allowed = min(MAX_SCANS, limits.max_pixels * MAX_SCANS_TIMES // max(1, width * height))
            if _count(file, b"\xff\xda", allowed) > allowed:
                raise TooCostly(f"a JPEG of this size may have {allowed} scans", limit="scans", allowed=allowed)
            return
        if mark == 0xFFDA or mark < 0xFFC0:
            return
        file.seek(size - 2, os.SEEK_CUR)


def _count(file: BinaryIO, needle: bytes, most: int) -> int:
    # How often *needle* is in the file; the count ends when it is more than *most*.
    with _whole(file) as whole:
        found, at = 0, whole.find(needle)
        while at >= 0 and found <= most:
            found += 1
            at = whole.find(needle, at + len(needle))
        return found


@contextmanager
def _whole(file: BinaryIO) -> Iterator[mmap.mmap | bytes]:
    if isinstance(file, io.BytesIO):
        yield file.getvalue()
        return
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        yield whole


_LOOKS: Mapping[str, Callable[[BinaryIO, Limits], None]] = {
    "webp": _webp, "gif": _gif, "tiff": _tiff, "png": _png, "jpeg": _jpeg
}  # fmt: skip

"""Small files that ask for a lot, one or more for every format that is taken; made by script."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from functools import cache, partial

from PIL import Image

from tests import pictures
from tests.pictures import chunk, png_of

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">%s</svg>'


def jpeg_of_scans(side: int = 3000, scans: int = 1000) -> bytes:
    """A progressive JPEG that goes over its *side* × *side* pixels *scans* times."""
    buffer = io.BytesIO()
    Image.new("L", (side, side), 90).save(buffer, "JPEG", progressive=True, quality=30)
    data = buffer.getvalue()
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * scans + data[-2:]


def png_of_texts(count: int = 60, unpacked: int = 20_000_000) -> bytes:
    """A small PNG with *count* text chunks, each of which unpacks to *unpacked* bytes."""
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(unpacked), 9))
    return png_of(8, 8, (b"\0" + bytes(24)) * 8, before=text * count)


def png_of_profile(unpacked: int = 60_000_000) -> bytes:
    """A small PNG whose colour profile unpacks to *unpacked* bytes."""
    return png_of(8, 8, (b"\0" + bytes(24)) * 8, before=chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(unpacked), 9)))


def apng_of(frames: int = 20_000, side: int = 4000) -> bytes:
    """An animated PNG of *frames* frames of one pixel on a large canvas."""
    row = zlib.compress(bytes((side // 8 + 1) * side), 9)
    pixel = zlib.compress(b"\0\0")

    def control(number: int, width: int) -> bytes:
        return chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, width, width, 0, 0, 1, 30, 0, 0))

    parts = [control(0, side), chunk(b"IDAT", row)]
    for frame in range(1, frames):
        parts += [control(2 * frame - 1, 1), chunk(b"fdAT", struct.pack(">I", 2 * frame) + pixel)]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)) + chunk(b"acTL", struct.pack(">II", frames, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(parts) + chunk(b"IEND")


def gif_of(frames: int, side: int = 1) -> bytes:
    """A GIF of *frames* frames of one pixel on a canvas of *side* × *side*."""
    page = b"\x21\xf9\x04\0\x0a\0\0\0" + b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0"
    return b"GIF89a" + struct.pack("<HH", side, side) + b"\x80\0\0\0\0\0\xff\xff\xff" + page * frames + b";"


def webp_of(frames: int = 50_000, side: int = 1000) -> bytes:
    """An animated WebP of *frames* frames of one pixel on a canvas of *side* × *side*."""
    still = pictures.webp(1, 1)[12:]
    head = struct.pack("<IHH", 30, 0, 0)  # 30 ms
    frame = bytes(6) + bytes(6) + head[:3] + b"\0" + still
    frame += bytes(len(frame) % 2)
    size = (side - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + size * 2 + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    body += (b"ANMF" + struct.pack("<I", len(frame)) + frame) * frames
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff_of(pages: int = 50_000) -> bytes:
    """A TIFF of *pages* pages of one pixel."""
    entries = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 1)]
    size = 2 + 12 * len(entries) + 4
    told = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    start = 16
    parts = [told + struct.pack("<I", start + size * (page + 1) if page + 1 < pages else 0) for page in range(pages)]
    return b"II*\0" + struct.pack("<I", start) + bytes(8) + b"".join(parts)


def tiff_of_size(side: int = 60_000) -> bytes:
    """A TIFF whose first page claims *side* × *side* pixels."""
    data = bytearray(tiff_of(1))
    for tag in (256, 257):
        at = data.index(struct.pack("<HHI", tag, 3, 1))
        data[at + 8 : at + 10] = struct.pack("<H", side)
    return bytes(data)


def tiff_that_circles() -> bytes:
    """A TIFF whose last page is followed by its first."""
    return tiff_of(3)[:-4] + struct.pack("<I", 16)


def _resized_box(data: bytes, side: int) -> bytes:
    # The size that a picture of HEIF or AVIF tells of itself (ispe), made larger.
    changed, at = bytearray(data), data.index(b"ispe")
    changed[at + 8 : at + 16] = struct.pack(">II", side, side)
    return bytes(changed)


def bmp_of(side: int = 60_000) -> bytes:
    """A BMP whose header claims *side* × *side* pixels."""
    data = bytearray(pictures.bmp())
    data[18:26] = struct.pack("<ii", side, side)
    return bytes(data)


def icon_of(side: int = 30_000) -> bytes:
    """An icon whose picture is a PNG that claims *side* × *side* pixels."""
    inner = pictures.png_bomb(side)
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(inner), 22) + inner


def film_of(side: int = 65_000) -> bytes:
    """A film whose track and sample description claim *side* × *side* pixels."""
    data, size = bytearray(pictures.mp4()), struct.pack(">H", side)
    at = data.index(b"avc1", data.index(b"stsd")) if b"avc1" in data else data.index(b"mp4v", data.index(b"stsd"))
    data[at + 28 : at + 32] = size * 2
    return bytes(data)


def svg_of_references(depth: int = 9) -> bytes:
    """A drawing that draws 10 ** *depth* times the same."""
    levels = (f'<g id="l{n}">' + f'<use href="#l{n - 1}"/>' * 10 + "</g>" for n in range(1, depth + 1))
    return SVG % ('<g id="l0"><rect/></g>' + "".join(levels)).encode()


def svg_of_entities(depth: int = 9) -> bytes:
    """A drawing whose text becomes 10 ** *depth* words."""
    told = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, depth + 1))
    return f'<!DOCTYPE svg [<!ENTITY l0 "ha">{told}]>'.encode() + SVG % b"<text>&l9;</text>"


BOMBS: Mapping[str, Callable[[], bytes]] = {
    name: cache(make)
    for name, make in {
        "scans.jpg": jpeg_of_scans,
        "size.jpg": pictures.jpeg_bomb,
        "size.png": pictures.png_bomb,
        "one-bit.png": pictures.png_one_bit_bomb,
        "text.png": pictures.png_text_bomb,
        "texts.png": png_of_texts,
        "profile.png": png_of_profile,
        "frames.apng": apng_of,
        "size.gif": pictures.gif_bomb,
        "frames.gif": partial(gif_of, 400_000),
        "canvas.gif": partial(gif_of, 6000, 1200),
        "size.webp": pictures.webp_bomb,
        "frames.webp": webp_of,
        "small-frames.webp": partial(webp_of, 200_000, 1),
        "size.tif": tiff_of_size,
        "pages.tif": tiff_of,
        "circle.tif": tiff_that_circles,
        "size.avif": lambda: _resized_box(pictures.avif(), 60_000),
        "size.heic": lambda: _resized_box(pictures.heic(), 60_000),
        "size.bmp": bmp_of,
        "size.ico": icon_of,
        "size.mp4": film_of,
        "references.svg": svg_of_references,
        "entities.svg": svg_of_entities,
        "elements.svg": lambda: SVG % (b"<g/>" * 1_000_000),
        "nested.svg": lambda: SVG % (b"<g>" * 500_000 + b"</g>" * 500_000),
        "styles.svg": lambda: SVG % (b"<style>" + b"a{" * 1_000_000 + b"</style>"),
        "words.svg": lambda: SVG % (b'<g fill="' + b"a" * 300_000 + b'("><g style="fill:' + b"a" * 300_000 + b'("/></g><'),
        "digits.svg": lambda: SVG.replace(b'"9"', b'"%s!"' % (b"1" * 1_000_000), 1) % b"<",
        "path.svg": lambda: SVG % (b'<path d="' + b"M0 0L9 9" * 100_000 + b'"/>'),
        "entity-names.svg": lambda: b"<!DOCTYPE svg [" + b'<!ENTITY a "b">' * 200_000 + b"]>" + SVG % b"",
    }.items()
}
"""What is made, by a name that tells its kind."""

"""Media made by script: pictures whose corners tell their orientation, animations, films, sound, bombs and disguises.

Everything is bytes, and made once a session. The quarters of a picture are red (top left), green (top right), blue (bottom
left) and yellow (bottom right) as it should be seen.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from array import array
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from random import Random
from typing import Any

import av
import pillow_heif
from PIL import Image, ImageChops, ImageCms

RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 200, 30), (30, 30, 220), (220, 220, 30)
QUARTERS = (RED, GREEN, BLUE, YELLOW)
WRITTEN_UNDER_ORIENTATION = {  # how the pixels of an upright picture lie in a file with that EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
CANARY = "canary-do-not-publish"
COPYRIGHT, ARTIST = "(c) Test Studio", "Ada Photographer"
ORIENTATION_TAG, ARTIST_TAG, COPYRIGHT_TAG, MAKE_TAG, GPS_TAG, EXIF_TAG = 0x0112, 0x013B, 0x8298, 0x010F, 0x8825, 0x8769


@cache
def corners(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """An upright picture of four coloured quarters, with a little noise so that it does not shrink to nothing."""
    picture = Image.new("RGB", (width, height))
    middle_x, middle_y = (width + 1) // 2, (height + 1) // 2
    for colour, x, y in zip(QUARTERS, (0, middle_x, 0, middle_x), (0, 0, middle_y, middle_y), strict=True):
        picture.paste(colour, (x, y, width if x else middle_x, height if y else middle_y))
    noise = Image.frombytes("L", (width, height), Random(1).randbytes(width * height)).point(lambda value: value >> 4)
    return ImageChops.add(picture, Image.merge("RGB", (noise, noise, noise))).convert(mode)


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int | None = None, *, private: bool = False) -> bytes:
    """An EXIF block; *private* adds copyright and artist, and a position, a maker and a serial number, which are private."""
    tags = Image.Exif()
    if orientation is not None:
        tags[ORIENTATION_TAG] = orientation
    if private:
        tags[COPYRIGHT_TAG], tags[ARTIST_TAG], tags[MAKE_TAG] = COPYRIGHT, ARTIST, CANARY
        tags.get_ifd(GPS_TAG).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0), 29: CANARY})
        tags.get_ifd(EXIF_TAG).update({0xA431: CANARY, 0xA430: CANARY})
    return tags.tobytes()


def with_thumbnail(block: bytes, thumbnail: bytes) -> bytes:
    """The EXIF *block* with *thumbnail*, a JPEG, in a second directory at its end."""
    tiff = bytearray(block.removeprefix(b"Exif\0\0"))
    order = "<" if tiff[:2] == b"II" else ">"
    (first,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, first)
    struct.pack_into(f"{order}I", tiff, first + 2 + 12 * count, len(tiff))
    place = len(tiff) + 2 + 12 * 3 + 4
    entries = ((0x0103, 3, 1, 6), (0x0201, 4, 1, place), (0x0202, 4, 1, len(thumbnail)))
    tiff += struct.pack(f"{order}H", len(entries))
    for tag, kind, number, value in entries:
        tiff += struct.pack(f"{order}HHI", tag, kind, number)
        tiff += struct.pack(f"{order}I" if kind == 4 else f"{order}Hxx", value)
    return b"Exif\0\0" + bytes(tiff + bytes(4) + thumbnail)


@cache
def jpeg(width: int = 320, height: int = 240, *, orientation: int | None = None, private: bool = False, **options: Any) -> bytes:
    """A JPEG seen as *width* × *height*: stored turned and tagged if there is an *orientation*. *options* are Pillow's."""
    upright = corners(width, height)
    turn = WRITTEN_UNDER_ORIENTATION.get(orientation or 1)
    stored = upright if turn is None else upright.transpose(turn)
    if orientation is not None or private:
        options["exif"] = exif(orientation, private=private)
    return _saved(stored, "JPEG", **{"quality": 90, **options})


@cache
def png(width: int = 320, height: int = 240, *, mode: str = "RGB", compression: int = 6, orientation: int | None = None) -> bytes:
    """A PNG; with *mode* RGBA its right half is half transparent, the modes L, LA, P and 1 are Pillow's."""
    picture = corners(width, height, mode if mode in ("L", "P", "1") else "RGB")
    if mode in ("RGBA", "LA"):
        alpha = Image.new("L", (width, height), 255)
        alpha.paste(128, (width // 2, 0, width, height))
        picture = picture.convert("RGBA")
        picture.putalpha(alpha)
        picture = picture.convert(mode)
    options = {} if orientation is None else {"exif": exif(orientation)}
    if orientation is not None:
        turn = WRITTEN_UNDER_ORIENTATION.get(orientation)
        picture = picture if turn is None else picture.transpose(turn)
    return _saved(picture, "PNG", compress_level=compression, **options)


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    """One chunk of a PNG with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(
    width: int, height: int, rows: bytes, *, bits: int = 8, colour: int = 2, interlaced: bool = False, before: bytes = b""
) -> bytes:
    """A PNG from filtered *rows*, for what Pillow does not write; *before* are chunks in front of the picture data."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, int(interlaced))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND")


@cache
def png_16_bit(width: int = 64, height: int = 48) -> bytes:
    """A PNG of 16 bits a channel with the usual quarters."""
    small = corners(width, height).tobytes()
    wide = b"".join(
        b"\0" + b"".join(bytes((value, value)) for value in small[row * width * 3 : (row + 1) * width * 3]) for row in range(height)
    )
    return png_of(width, height, wide, bits=16)


@cache
def png_interlaced(width: int = 64, height: int = 48) -> bytes:
    """An Adam7 PNG with the usual quarters."""
    picture = corners(width, height)
    rows = bytearray()
    for x0, y0, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        for y in range(y0, height, dy):
            if line := b"".join(bytes(picture.getpixel((x, y))) for x in range(x0, width, dx)):  # type: ignore[arg-type]
                rows += b"\0" + line
    return png_of(width, height, bytes(rows), interlaced=True)


def _flipbook(width: int, height: int, frames: int) -> list[Image.Image]:
    # No two frames are alike, or encoders join them.
    book = [corners(width, height).copy() for _ in range(frames)]
    for number, page in enumerate(book):
        page.putpixel((number % width, number // width % height), (255, 255, 255))
    return book


@cache
def gif(width: int = 64, height: int = 48, *, frames: int = 1, duration_ms: int = 70, loop: int = 0) -> bytes:
    """A GIF, animated from two frames on."""
    first, *more = _flipbook(width, height, frames)
    if not more:
        return _saved(first, "GIF")
    return _saved(first, "GIF", save_all=True, append_images=more, duration=duration_ms, loop=loop)


@cache
def webp(width: int = 64, height: int = 48, *, frames: int = 1, duration_ms: int = 70, loop: int = 0, mode: str = "RGB") -> bytes:
    """A WebP, animated from two frames on."""
    first, *more = _flipbook(width, height, frames)
    if not more:
        return _saved(first.convert(mode), "WEBP", quality=90)
    return _saved(first, "WEBP", save_all=True, append_images=more, duration=duration_ms, loop=loop)


@cache
def apng(width: int = 64, height: int = 48, *, frames: int = 3) -> bytes:
    """An animated PNG."""
    first, *more = _flipbook(width, height, frames)
    return _saved(first, "PNG", save_all=True, append_images=more, duration=70)


@cache
def avif(width: int = 64, height: int = 48, *, frames: int = 1) -> bytes:
    """An AVIF; from two frames on a sequence."""
    first, *more = _flipbook(width, height, frames)
    return _saved(first, "AVIF", quality=90, **({"save_all": True, "append_images": more} if more else {}))


@cache
def heic(width: int = 64, height: int = 48, *, mode: str = "RGB", tagged_orientation: int | None = None) -> bytes:
    """A HEIC picture, as phones make them; *tagged_orientation* is in its EXIF alone, where it is only information."""
    picture = corners(width, height, mode)
    if tagged_orientation is not None:
        picture.info["exif"] = exif(tagged_orientation)
    buffer = io.BytesIO()
    pillow_heif.from_pillow(picture).save(buffer, quality=90)
    return buffer.getvalue()


@cache
def tiff(width: int = 64, height: int = 48, *, pages: int = 1, orientation: int | None = None) -> bytes:
    """A TIFF of one or more pages."""
    first, *more = _flipbook(width, height, pages)
    turn = WRITTEN_UNDER_ORIENTATION.get(orientation or 1)
    first = first if turn is None else first.transpose(turn)
    options: dict[str, Any] = {} if orientation is None else {"tiffinfo": {ORIENTATION_TAG: orientation}}
    return _saved(first, "TIFF", compression="tiff_lzw", save_all=bool(more), append_images=more, **options)


@cache
def bmp(width: int = 64, height: int = 48) -> bytes:
    """A BMP."""
    return _saved(corners(width, height), "BMP")


@cache
def ico(side: int = 32) -> bytes:
    """An icon of two sizes, *side* and half of it."""
    return _saved(corners(side, side, "RGBA"), "ICO", sizes=[(side, side), (side // 2, side // 2)])


@cache
def cmyk_jpeg(width: int = 64, height: int = 48, profile: bytes | None = None) -> bytes:
    """A CMYK JPEG as Adobe's programs write it (inverted values, an APP14 marker), with or without a profile."""
    options = {} if profile is None else {"icc_profile": profile}
    return _saved(corners(width, height).convert("CMYK"), "JPEG", quality=95, **options)


def with_profile(width: int, height: int, profile: bytes, colour: tuple[int, int, int]) -> bytes:
    """A PNG of one *colour*, to be read in the colour space of *profile*."""
    return _saved(Image.new("RGB", (width, height), colour), "PNG", icc_profile=profile)


@cache
def swapped_profile() -> bytes:
    """An ICC profile whose red and green primaries are swapped: pure red under it is seen as green."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    count = struct.unpack(">I", srgb[128:132])[0]
    tags = {srgb[at : at + 4]: at for at in range(132, 132 + 12 * count, 12)}
    data = bytearray(srgb)
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    data[red + 4 : red + 12], data[green + 4 : green + 12] = srgb[green + 4 : green + 12], srgb[red + 4 : red + 12]
    return bytes(data)


@cache
def adobe_rgb_profile() -> bytes:
    """A profile of the primaries, white and gamma of Adobe RGB (1998), without its name (ICC.1:2010, matrix and curves)."""

    def place(x: float, y: float, z: float) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in (x, y, z)))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, 0x0233)
    values = {
        **{b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"Wide\0" + bytes(78), b"cprt": b"text\0\0\0\0CC0\0"},
        **{b"wtpt": place(0.9642, 1, 0.8249), b"rXYZ": place(0.60974, 0.31111, 0.01947), b"gXYZ": place(0.20528, 0.62567, 0.06087)},
        **{b"bXYZ": place(0.14919, 0.06322, 0.74457), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve},
    }
    table, body = struct.pack(">I", len(values)), b""
    for name, value in values.items():
        value += bytes(-len(value) % 4)  # noqa: PLW2901
        table += name + struct.pack(">II", 132 + 12 * len(values) + len(body), len(value))
        body += value
    head = (
        struct.pack(">I4sI", 128 + len(table) + len(body), bytes(4), 0x02100000) + b"mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28)
    )
    return head + struct.pack(">3i", 63190, 65536, 54061) + bytes(48) + table + body


# -- bombs: small files that claim or unpack to a lot ---------------------------------------------------------------------


@cache
def png_bomb(side: int = 60_000) -> bytes:
    """A PNG whose header claims *side* × *side* pixels, with next to no data."""
    return png_of(side, side, bytes(1000))


@cache
def png_one_bit_bomb(side: int = 30_000) -> bytes:
    """A sound black and white PNG of *side* × *side* pixels in some hundred kilobytes."""
    return png_of(side, side, bytes((side // 8 + 1) * side), bits=1, colour=0)


@cache
def jpeg_bomb(side: int = 65_500) -> bytes:
    """A JPEG whose frame header claims *side* × *side* pixels."""
    data = bytearray(jpeg(16, 16))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", side, side)
    return bytes(data)


@cache
def gif_bomb(side: int = 30_000, frames: int = 400) -> bytes:
    """A GIF of *frames* full frames of *side* × *side* pixels in some kilobytes."""
    page = b"\x2c\0\0\0\0" + struct.pack("<HH", side, side) + b"\0\x02\x02\x44\x01\0"
    return b"GIF89a" + struct.pack("<HH", side, side) + b"\x80\0\0\0\0\0\xff\xff\xff" + page * frames + b";"


@cache
def webp_bomb(side: int = 16_383) -> bytes:
    """A WebP whose lossless header claims *side* × *side* pixels."""
    body = b"\x2f" + struct.pack("<I", (side - 1) | (side - 1) << 14) + bytes(16)
    payload = b"WEBPVP8L" + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    return b"RIFF" + struct.pack("<I", len(payload)) + payload


@cache
def png_text_bomb(unpacked: int = 100_000_000) -> bytes:
    """A small PNG with a text chunk that unpacks to *unpacked* bytes."""
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(unpacked), 9))
    return png_of(8, 8, (b"\0" + bytes(24)) * 8, before=text)


DISGUISES: Mapping[str, bytes] = {
    "page.jpg": b"<!DOCTYPE html><html><script>alert(1)</script></html>",
    "drawing.png": b"<?xml version='1.0'?><svg onload='alert(1)'/>",
    "page.svg": b"<!-- http://www.w3.org/2000/svg --><html xmlns='http://www.w3.org/1999/xhtml'/>",
    "playlist.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
    "concat.mp4": b"ffconcat version 1.0\nfile '/etc/hostname'\n",
    "session.mp4": b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nm=video 9 RTP/AVP 96\r\n",
    "script.png": b"push graphic-context\nviewbox 0 0 1 1\nfill 'url(http://127.0.0.1:9/)'\npop graphic-context\n",
    "print.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n",
    "program.png": b"\x7fELF\x02\x01\x01" + bytes(57),
    "archive.webp": b"PK\x03\x04" + bytes(60),
    "zeros.jpg": bytes(5000),
    "text.gif": b"GIF is what this text is not. " * 20,
    "empty.jpg": b"",
}


def pdf() -> bytes:
    """A PDF of one empty page."""
    return (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj "
        b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
    )


# -- films and sound ------------------------------------------------------------------------------------------------------


def _film(kind: str, codec: str, pages: Sequence[Image.Image]) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as film:
        stream = film.add_stream(codec, rate=10, options={"g": "5"})
        (stream.width, stream.height), stream.pix_fmt = pages[0].size, "yuv420p"
        stream.codec_context.thread_count = 1
        for number, page in enumerate(pages):
            frame = av.VideoFrame.from_image(page)
            frame.pts, frame.time_base = number, Fraction(1, 10)
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
    return buffer.getvalue()


def _pages(width: int, height: int, seconds: float, black_s: float = 0) -> list[Image.Image]:
    black = Image.new("RGB", (width, height))
    return [black if number < black_s * 10 else corners(width, height) for number in range(max(1, round(seconds * 10)))]


def film_of(page: Image.Image, kind: str = "mp4") -> bytes:
    """A film (mp4, webm) of a second that shows *page* all the time."""
    return _film(kind, {"mp4": "libx264", "webm": "libvpx"}[kind], [page] * 10)


@cache
def dawn(kind: str) -> bytes:
    """A film (mp4, webm) of two seconds, ten frames each, that grows brighter: the grey of a frame is ten times its number."""
    codec = {"mp4": "libx264", "webm": "libvpx"}[kind]
    return _film(kind, codec, [Image.new("RGB", (64, 48), (number * 10,) * 3) for number in range(20)])


@cache
def long_dawn() -> bytes:
    """The same for 160 seconds, brighter by one each second; each fifth frame is a key frame."""
    return _film("mp4", "libx264", [Image.new("RGB", (64, 48), (number // 10,) * 3) for number in range(1600)])


@cache
def noisy(seconds: float = 3) -> bytes:
    """A film that does not shrink: some 60 KB a frame."""
    frames = (Random(number).randbytes(320 * 240) for number in range(round(seconds * 10)))
    return _film("mp4", "libx264", [Image.frombytes("L", (320, 240), frame).convert("RGB") for frame in frames])


@cache
def mp4(width: int = 160, height: int = 120, *, seconds: float = 1, black_s: float = 0, rotated: int = 0) -> bytes:
    """An H.264 film, black for its first *black_s*; *rotated* degrees by its display matrix (clockwise, multiples of 90)."""
    data = _film("mp4", "libx264", _pages(width, height, seconds, black_s))
    return _turned(data, rotated) if rotated else data


@cache
def hdr(transfer: str = "smpte2084", codes: tuple[int, int, int] = (520, 512, 512)) -> bytes:
    """A 10-bit HEVC film in the colours of BT.2020, of one colour (Y, Cb, Cr), with a tone in French and one in no language.

    It has two chapters, and says which screen it was made on.
    """
    screen = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
    said = (
        f"colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc:master-display={screen}:max-cll=1000,400:log-level=none:pools=1"
    )
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as film:
        stream = film.add_stream("libx265", rate=Fraction(30000, 1001), options={"preset": "ultrafast", "x265-params": said})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p10le"
        sounds = [film.add_stream("aac", rate=48_000, layout="stereo") for _ in range(2)]
        sounds[0].metadata["language"] = "fra"
        names = ("Beginning", "End")
        film.set_chapters(
            [
                {"id": n, "start": n, "end": n + 1, "time_base": Fraction(1, 2), "metadata": {"title": name}}
                for n, name in enumerate(names)
            ]
        )
        for number in range(30):
            frame = av.VideoFrame(128, 96, "yuv420p10le")
            for plane, code in zip(frame.planes, codes, strict=True):
                plane.update(struct.pack("<H", code) * (plane.buffer_size // 2))
            frame.pts, frame.time_base = number, Fraction(1001, 30000)
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
        for sound in sounds:
            quiet = av.AudioFrame(format="fltp", layout="stereo", samples=1024)
            for part in quiet.planes:
                part.update(bytes(part.buffer_size))
            quiet.sample_rate, quiet.pts, quiet.time_base = 48_000, 0, Fraction(1, 48_000)
            film.mux(sound.encode(quiet))
            film.mux(sound.encode())
    return buffer.getvalue()


def _turned(data: bytes, degrees: int) -> bytes:
    # The matrix of tkhd (ISO/IEC 14496-12, 8.3.2): 16.16 fixed point, the last column 2.30.
    cosine, sine = round(math.cos(math.radians(degrees))) << 16, round(math.sin(math.radians(degrees))) << 16
    matrix = struct.pack(">9i", cosine, sine, 0, -sine, cosine, 0, 0, 0, 1 << 30)
    at = data.index(b"tkhd") + 4 + 40
    return data[:at] + matrix + data[at + 36 :]


@cache
def webm(width: int = 160, height: int = 120, *, seconds: float = 1) -> bytes:
    """A VP8 film."""
    return _film("webm", "libvpx", _pages(width, height, seconds))


def _sound(kind: str, codec: str, seconds: float, silent_s: float = 0) -> bytes:
    rate = 48_000
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as file:
        stream = file.add_stream(codec, rate=rate, layout="mono")
        wave = array("h", bytes(2 * round(silent_s * rate)))
        wave += array("h", (round(8000 * math.sin(2 * math.pi * 440 * n / rate)) for n in range(round(seconds * rate))))
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(wave))
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        frame.planes[0].update(wave.tobytes())
        resampler = av.AudioResampler(stream.format, "mono", rate, frame_size=stream.codec_context.frame_size or 1024)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            file.mux(stream.encode(part))
        file.mux(stream.encode())
    return buffer.getvalue()


@cache
def ogg(seconds: float = 1) -> bytes:
    """A tone in Opus."""
    return _sound("ogg", "libopus", seconds)


@cache
def mp3(seconds: float = 1) -> bytes:
    """A tone in MP3."""
    return _sound("mp3", "libmp3lame", seconds)


def covered(cover: bytes, mime: str) -> bytes:
    """A tone in MP3 with *cover* as its front cover: ID3v2.3, section 4.15."""
    body = b"\0" + mime.encode() + b"\0\x03\0" + cover
    frame = b"APIC" + struct.pack(">IH", len(body), 0) + body
    size = bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\3\0\0" + size + frame + mp3()


@cache
def wav(seconds: float = 1) -> bytes:
    """A tone in PCM."""
    return _sound("wav", "pcm_s16le", seconds)


@cache
def half_silent() -> bytes:
    """A second of silence and a second of a tone, in PCM."""
    return _sound("wav", "pcm_s16le", 1, silent_s=1)


@cache
def m4a(seconds: float = 1) -> bytes:
    """A tone in AAC, in MP4."""
    return _sound("ipod", "aac", seconds)


@cache
def flac(seconds: float = 1) -> bytes:
    """A tone in FLAC."""
    return _sound("flac", "flac", seconds)


@cache
def aac(seconds: float = 1) -> bytes:
    """A tone in AAC, in ADTS frames."""
    return _sound("adts", "aac", seconds)


@cache
def sound_in_mp4(seconds: float = 1) -> bytes:
    """A tone in a film's container, without a picture."""
    return _sound("mp4", "aac", seconds)

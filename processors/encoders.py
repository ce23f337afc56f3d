"""Pictures on their way out: quality and effort per codec, and the metadata that may leave. Workers only.

Quality is on the JPEG scale and mapped per codec. Effort is measured, not guessed: see `_options`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pyvips

from processors import gain_maps
from processors.formats import FORMATS, Format
from processors.metadata import Metadata
from processors.transform import DEFAULT_QUALITY

INLINE_AVIF_PIXELS = 2_000_000
"""the largest AVIF that is made while somebody waits and would take WebP too"""
AUTOMATIC_QUALITY, SAVING_QUALITY = 76, 60
MAX_TRIES = 4
NEAR = 0.92
"""of the bytes that are allowed: near enough to stop the search"""
LOG_BYTES_PER_QUALITY = 0.02
"""of a JPEG of middle quality; the next tries tell better"""
THUMBNAIL = "jpeg-thumbnail-data"
"""where libvips puts the thumbnail in an EXIF block, and what it writes back into any other"""
PALETTE = "gif-palette"
"""where libvips puts the colours of a GIF that has the same ones in all frames"""
BLOCKS = ("exif-data", "xmp-data", "iptc-data")
LATER_AVIF_PIXELS = 16_000_000
"""the largest AVIF that is made at all where WebP would do: some seconds of a worker that has nothing else to do"""
SMALL_PIXELS = 500_000
LARGE_PIXELS = 4_000_000

_FORMAT_OF = {name: FORMATS["jpeg" if name == "jpg" else name] for name in ("jpg", "png", "webp", "avif", "gif")}
_SAVERS = {
    **{"jpg": "jpegsave_buffer", "png": "pngsave_buffer", "webp": "webpsave_buffer"},
    **{"avif": "heifsave_buffer", "gif": "gifsave_buffer"},
}
_QUALITIES = {"jpg": ((1, 1), (100, 100)), "webp": ((1, 1), (80, 79), (100, 100)), "avif": ((1, 10), (80, 63), (100, 90))}
_FEWER_COLOURS: dict[str, tuple[dict[str, Any], ...]] = {
    "png": tuple({"palette": True, "bitdepth": bits} for bits in (8, 4, 2)),
    "gif": tuple({"bitdepth": bits} for bits in (6, 4, 2)),
}


@dataclass(frozen=True, slots=True)
class Output:
    """What is made. *quality* is on the JPEG scale, *pixels* are of one frame, *alpha*: it may have some."""

    name: str
    quality: int
    pixels: int
    alpha: bool = False

    @property
    def format(self) -> Format:
        """The row of the table."""
        return _FORMAT_OF[self.name]

    @property
    def memory_bytes(self) -> int:
        """What encoding one frame holds at its peak, measured."""
        fixed, per_pixel = _MEMORY["webp-alpha" if self.name == "webp" and self.alpha else self.name]
        if self.name == "jpg" and self.pixels > LARGE_PIXELS:
            per_pixel = 0.6
        return round(fixed + per_pixel * self.pixels)

    def encode(self, image: pyvips.Image) -> bytes:
        """The file. *image* is 8 bits a channel, sRGB or grey; an animation is its pages in one strip."""
        return self._saved(image, {"Q": _on_scale(self.quality, _QUALITIES[self.name])} if self.name in _QUALITIES else {})

    def encode_within(self, image: pyvips.Image, max_bytes: int) -> tuple[bytes, bool]:
        """The best file of no more than *max_bytes* that at most four tries find, and True; else the smallest, and False.

        Never of a higher quality than *quality*; what is lossless gets fewer colours. The pixels are held in memory meanwhile.
        """
        image = image.copy_memory()
        return self._fewer_colours(image, max_bytes) if self.name in _FEWER_COLOURS else self._lower_quality(image, max_bytes)

    def _fewer_colours(self, image: pyvips.Image, max_bytes: int) -> tuple[bytes, bool]:
        smallest = b""
        for options in ({}, *_FEWER_COLOURS[self.name]):
            data = self._saved(image, options)
            if len(data) <= max_bytes:
                return data, True
            smallest = min(smallest or data, data, key=len)
        return smallest, False

    def _lower_quality(self, image: pyvips.Image, max_bytes: int) -> tuple[bytes, bool]:
        sizes: dict[int, int] = {}
        best, smallest, quality = b"", b"", self.quality
        while True:
            data = replace(self, quality=quality).encode(image)
            sizes[quality] = len(data)
            smallest = min(smallest or data, data, key=len)
            low = max((quality for quality, size in sizes.items() if size <= max_bytes), default=0)
            high = min((quality for quality, size in sizes.items() if size > max_bytes), default=self.quality + 1)
            if quality == low:
                best = data
            if high - low <= 1 or len(best) >= max_bytes * NEAR or len(sizes) == MAX_TRIES:
                return best or smallest, bool(best)
            is_last_hope = not best and len(sizes) == MAX_TRIES - 1
            quality = 1 if is_last_hope else min(max(low + 1, _guessed(sizes, max_bytes)), high - 1)

    def _saved(self, image: pyvips.Image, options: Mapping[str, Any]) -> bytes:
        keep = ":".join(name.removesuffix("-data") for name in (*BLOCKS, gain_maps.DATA) if image.get_typeof(name))
        if self.name == "gif" and image.get_typeof(PALETTE) and not options:
            options = {"reuse": True}
        data: bytes = getattr(image, _SAVERS[self.name])(keep=keep or "none", **{**_options(self.name, self.pixels), **options})
        return data


def _guessed(sizes: Mapping[int, int], max_bytes: int) -> int:
    # The quality of that size: its logarithm goes nearly straight with quality, and the nearest tries tell how steeply.
    wanted = math.log(max_bytes * (1 + NEAR) / 2)
    (near, size), *others = sorted(sizes.items(), key=lambda item: abs(math.log(item[1]) - wanted))
    slope = LOG_BYTES_PER_QUALITY
    if others and others[0][1] != size:
        slope = max((math.log(others[0][1]) - math.log(size)) / (others[0][0] - near), LOG_BYTES_PER_QUALITY / 4)
    return round(near + (wanted - math.log(size)) / slope)


def _options(name: str, pixels: int) -> dict[str, Any]:
    """How much a codec tries, for CPU time of libvips 8.18.7 on one photo, at 400 (0.1 MP) and 1280 pixels (1.1 MP) of width:

    JPEG plain 1, 5 ms; optimised 2, 15 ms, 1 % smaller; trellis 10, 66 ms, 9 % smaller and 0.7 dB worse.
    WebP effort 2 7, 52 ms; effort 4 14, 107 ms, 4 % smaller and 0.5 dB better.
    AVIF effort 0 13, 75 ms; effort 1 36, 228 ms, 4 % smaller; effort 2 52, 389 ms, no smaller; effort 4 464, 3023 ms.
    PNG level 3, 6 and 9 7, 7, 10 ms and 59, 61, 86 ms, 4 % smaller at 9.
    GIF effort 1 64, 536 ms; effort 7 282, 1755 ms. An animation that keeps the one palette of its source takes half of that, is
    5 to 20 % smaller, and nearer to it. Where frames have palettes of their own, one that is kept longer (interpalette_maxerror
    30 for 3) saves 12 % of a pan over a photo and doubles its error (ΔE 2.2 to 4.5).
    """
    is_small = pixels <= SMALL_PIXELS
    match name:
        case "jpg":
            return {"optimize_coding": pixels <= LARGE_PIXELS}
        case "webp":
            return {"effort": 4 if is_small else 2}
        case "avif":
            return {"compression": "av1", "effort": 1 if is_small else 0, "bitdepth": 8}
        case "gif":
            return {"effort": 1}
        case _:
            return {"compression": 6}


def writable() -> list[str]:
    """The formats that are made in this build."""
    return [name for name, saver in _SAVERS.items() if pyvips.type_find("VipsOperation", saver)]


# Bytes held at the peak of encoding: fixed, and per pixel of a frame (libvips 8.18.7). WebP's transparency takes what is in it:
# 13 bytes where it is smooth, 38 where it is noise, which anybody may upload.
_MEMORY = {
    "jpg": (0, 6.5),
    "png": (0, 4.5),
    "webp": (1 << 20, 6.0),
    "webp-alpha": (1 << 20, 26.0),
    "avif": (8 << 20, 22.0),
    "gif": (3 << 20, 20.0),
}


def output(name: str, quality: int | None, *, animated: bool, alpha: bool, pixels: int) -> Output:
    """The output for a settled format: ``small`` and ``plain`` are decided here, where the picture is known."""
    if name == "small":
        name = "avif" if pixels <= INLINE_AVIF_PIXELS and not animated else "webp"
    elif name == "plain":
        name = "gif" if animated else "png" if alpha else "jpg"
    return Output(name, DEFAULT_QUALITY if quality is None else quality, pixels, alpha)


def comes_later(name: str, pixels: int) -> bool:
    """Whether for a settled format something else stands in, while the better one is made when nobody waits."""
    return name == "small" and INLINE_AVIF_PIXELS < pixels <= LATER_AVIF_PIXELS


def stripped(image: pyvips.Image, metadata: Metadata, policy: str | None = None) -> pyvips.Image:
    """*image* with no metadata but what *policy* lets go of the source's: no profile, and no comment or thumbnail ever."""
    bare = image.copy()
    try:
        for name in [name for name in bare.get_fields() if name.startswith("exif") or name in (*BLOCKS, THUMBNAIL)]:
            bare.remove(name)  # of the rest the savers keep nothing
        if bare.get_typeof("orientation"):
            bare.remove("orientation")  # the pixels are turned already, and AVIF would be turned once more (its irot)
    except UnicodeDecodeError:  # a text chunk of a PNG whose name is not UTF-8: only the pixels go on
        bare = pyvips.Image.new_from_memory(image.write_to_memory(), image.width, image.height, image.bands, "uchar")
        bare = bare.copy(interpretation=image.interpretation)
    leaving = metadata.leaving(policy)
    for name, block in zip(BLOCKS, (leaving.exif, leaving.xmp, leaving.iptc), strict=True):
        if block is not None:
            bare.set_type(pyvips.GValue.blob_type, name, block)
    return bare


def automatic_quality(image: pyvips.Image, format_name: str, *, saving: bool) -> int:
    """The quality that ``q=auto`` stands for; *saving* is for who asked for fewer bytes."""
    return SAVING_QUALITY if saving else AUTOMATIC_QUALITY


def _on_scale(quality: int, points: tuple[tuple[int, int], ...]) -> int:
    for (left, low), (right, high) in pairwise(points):
        if quality <= right:
            return round(low + (high - low) * (quality - left) / (right - left))
    return points[-1][1]

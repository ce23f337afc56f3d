"""Pictures on their way out: quality and effort per codec, and the metadata that may leave. Workers only.

Quality is on the JPEG scale and mapped per codec. Effort is measured, not guessed: see `_options`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyvips

from processors.formats import FORMATS, Format
from processors.transform import DEFAULT_QUALITY

INLINE_AVIF_PIXELS = 2_000_000
"""the largest AVIF that is made while somebody waits and would take WebP too"""
SMALL_PIXELS = 500_000
LARGE_PIXELS = 4_000_000

_FORMAT_OF = {name: FORMATS["jpeg" if name == "jpg" else name] for name in ("jpg", "png", "webp", "avif", "gif")}
_SAVERS = {
    **{"jpg": "jpegsave_buffer", "png": "pngsave_buffer", "webp": "webpsave_buffer"},
    **{"avif": "heifsave_buffer", "gif": "gifsave_buffer"},
}
_QUALITIES = {"jpg": ((1, 1), (100, 100)), "webp": ((1, 1), (80, 79), (100, 100)), "avif": ((1, 10), (80, 63), (100, 90))}


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
        options: dict[str, Any] = _options(self.name, self.pixels)
        if self.name in _QUALITIES:
            options["Q"] = _on_scale(self.quality, _QUALITIES[self.name])
        keep = "exif" if image.get_typeof("exif-data") else "none"
        data: bytes = getattr(image, _SAVERS[self.name])(keep=keep, **options)
        return data


def _options(name: str, pixels: int) -> dict[str, Any]:
    """How much a codec tries, for CPU time of libvips 8.18.7 on one photo, at 400 (0.1 MP) and 1280 pixels (1.1 MP) of width:

    JPEG plain 1, 5 ms; optimised 2, 15 ms, 1 % smaller; trellis 10, 66 ms, 9 % smaller and 0.7 dB worse.
    WebP effort 2 7, 52 ms; effort 4 14, 107 ms, 4 % smaller and 0.5 dB better.
    AVIF effort 0 13, 75 ms; effort 1 36, 228 ms, 4 % smaller; effort 2 52, 389 ms, no smaller; effort 4 464, 3023 ms.
    PNG level 3, 6 and 9 7, 7, 10 ms and 59, 61, 86 ms, 4 % smaller at 9.
    GIF effort 1 64, 536 ms; effort 7 282, 1755 ms. A palette kept while it fits halves an animation's bytes and takes 25 % less.
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
            return {"effort": 1, "interpalette_maxerror": 30}
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
        name = "avif" if pixels <= INLINE_AVIF_PIXELS else "webp"
    elif name == "plain":
        name = "gif" if animated else "png" if alpha else "jpg"
    return Output(name, DEFAULT_QUALITY if quality is None else quality, pixels, alpha)


def stripped(image: pyvips.Image, rights: bytes | None) -> pyvips.Image:
    """*image* with no metadata but *rights*: no position, serial number, owner, comment, profile or thumbnail."""
    bare = image.copy()
    try:
        for name in [name for name in bare.get_fields() if name.startswith("exif")]:
            bare.remove(name)  # of the rest the savers keep nothing
        if bare.get_typeof("orientation"):
            bare.remove("orientation")  # the pixels are turned already, and AVIF would be turned once more (its irot)
    except UnicodeDecodeError:  # a text chunk of a PNG whose name is not UTF-8: only the pixels go on
        bare = pyvips.Image.new_from_memory(image.write_to_memory(), image.width, image.height, image.bands, "uchar")
        bare = bare.copy(interpretation=image.interpretation)
    if rights is not None:
        bare.set_type(pyvips.GValue.blob_type, "exif-data", rights)
    return bare


def _on_scale(quality: int, points: tuple[tuple[int, int], ...]) -> int:
    for (left, low), (right, high) in pairwise(points):
        if quality <= right:
            return round(low + (high - low) * (quality - left) / (right - left))
    return points[-1][1]

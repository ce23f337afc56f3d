"""Pictures on their way out: quality and effort per codec, and the metadata that may leave. Workers only.

Quality is on the JPEG scale and mapped per codec. Both mapping and effort are measured, by `make bench-codecs`.
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
PHOTO, SOFT, SHARP = (76, 60), (62, 45), (84, 70)
"""what ``q=auto`` asks of photos, of soft shapes, and of text and charts; and of each where bytes are to be saved"""
FLAT, EDGES = 0.5, 0.02
"""the share of pixels like their neighbour from which a picture is a drawing, and of hard steps from which that is text"""
EDGE_STEP = 64
LOOK_PIXELS = 100_000
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

_FORMAT_OF = {name: FORMATS["jpeg" if name == "jpg" else name] for name in ("jpg", "png", "webp", "avif", "gif", "mp4")}
_SAVERS = {
    **{"jpg": "jpegsave_buffer", "png": "pngsave_buffer", "webp": "webpsave_buffer"},
    **{"avif": "heifsave_buffer", "gif": "gifsave_buffer"},
}
_QUALITIES = {  # of equal SSIMULACRA2: `make bench-codecs ARGS=qualities` makes what is between the ends
    "jpg": ((1, 1), (100, 100)),
    "webp": ((1, 1), (40, 44), (50, 55), (60, 66), (70, 77), (80, 83), (90, 95), (100, 100)),
    "avif": ((1, 10), (40, 48), (50, 52), (60, 55), (70, 60), (80, 67), (90, 87), (100, 97)),
    "mp4": ((1, 45), (80, 24), (100, 14)),  # x264's constant rate factor, which is lower for better
}
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
        if self.name == "jpg" and self.pixels > SMALL_PIXELS:
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
        if self.name == "mp4":
            from processors import moving  # noqa: PLC0415 - FFmpeg is 30 MiB that only workers with films pay

            return moving.encoded(image, int(options["Q"]))
        keep = ":".join(name.removesuffix("-data") for name in (*BLOCKS, gain_maps.DATA) if image.get_typeof(name))
        if self.name == "gif" and image.get_typeof(PALETTE) and not options:
            options = {"reuse": True}
        options = {**_options(self.name, self.pixels, animated=bool(image.get_typeof("delay"))), **options}
        data: bytes = getattr(image, _SAVERS[self.name])(keep=keep or "none", **options)
        return data


def _guessed(sizes: Mapping[int, int], max_bytes: int) -> int:
    # The quality of that size: its logarithm goes nearly straight with quality, and the nearest tries tell how steeply.
    wanted = math.log(max_bytes * (1 + NEAR) / 2)
    (near, size), *others = sorted(sizes.items(), key=lambda item: abs(math.log(item[1]) - wanted))
    slope = LOG_BYTES_PER_QUALITY
    if others and others[0][1] != size:
        slope = max((math.log(others[0][1]) - math.log(size)) / (others[0][0] - near), LOG_BYTES_PER_QUALITY / 4)
    return round(near + (wanted - math.log(size)) / slope)


def _options(name: str, pixels: int, *, animated: bool) -> dict[str, Any]:
    # How much a codec tries. What each try costs and brings at equal quality stands in docs/benchmarks.md.
    is_small = pixels <= SMALL_PIXELS
    match name:
        case "jpg":
            return {"optimize_coding": is_small}
        case "webp":
            return {"effort": 4 if is_small else 2}
        case "avif":
            return {"compression": "av1", "effort": 1 if is_small else 0, "bitdepth": 8}
        case "gif":
            # Noise that hides steps of colour in a still picture flickers in motion, and costs a quarter of the time.
            return {"effort": 1, "dither": 0.0 if animated else 1.0}
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
    "mp4": (24 << 20, 60.0),
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


def automatic_quality(image: pyvips.Image, *, saving: bool) -> int:
    """The quality that ``q=auto`` stands for: near 75 of SSIMULACRA2, and near 65 with *saving*. *image* is in memory.

    Photos differ little in what they need for that, drawings much (docs/benchmarks.md), so a look at neighbours tells enough.
    """
    if image.width < 2:
        return PHOTO[saving]
    rows = image[0 if image.bands < 3 else 1].subsample(1, min(image.height, 1 + image.width * image.height // LOOK_PIXELS))
    step = (rows.crop(1, 0, rows.width - 1, rows.height) - rows.crop(0, 0, rows.width - 1, rows.height)).abs()
    if (step == 0).avg() < FLAT * 255:
        return PHOTO[saving]
    return (SHARP if (step > EDGE_STEP).avg() > EDGES * 255 else SOFT)[saving]


def _on_scale(quality: int, points: tuple[tuple[int, int], ...]) -> int:
    for (left, low), (right, high) in pairwise(points):
        if quality <= right:
            return round(low + (high - low) * (quality - left) / (right - left))
    return points[-1][1]

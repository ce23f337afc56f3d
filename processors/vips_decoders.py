"""The formats that libvips reads: each by the loader of its name, in strips, so that few cost memory by size. Workers only."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import pyvips

from processors import animations, gain_maps
from processors.costs import COSTS, Cost
from processors.formats import Format
from processors.metadata import Metadata
from processors.source import STRICT, Source, numbered

JPEG_SHRINKS = (8, 4, 2)
MAX_CHUNKS = 64


def _opened(loader: str, file: str | bytes, **options: Any) -> pyvips.Image:
    name = loader if isinstance(file, str) else f"{loader}_buffer"
    return getattr(pyvips.Image, name)(file, access="sequential", **options)


def _field(image: pyvips.Image, name: str, fallback: Any) -> Any:
    return image.get(name) if image.get_typeof(name) else fallback


def _size(image: pyvips.Image) -> tuple[int, int]:
    return image.width, image.height


def _turn(image: pyvips.Image) -> int:
    turn = _field(image, "orientation", 1)
    return turn if 1 <= turn <= 8 else 1


def _pixel_bytes(image: pyvips.Image) -> int:
    sizes = {"uchar": 1, "char": 1, "ushort": 2, "short": 2, "double": 8}
    return int(image.bands * sizes.get(image.format, 4))


def _has_alpha(image: pyvips.Image) -> bool:
    return bool(image.hasalpha())


def _metadata(image: pyvips.Image) -> Metadata:
    blocks = (_field(image, f"{name}-data", None) for name in ("exif", "xmp", "iptc"))
    return Metadata(*(None if block is None else bytes(block) for block in blocks))


def jpeg(file: str | bytes, format: Format, page: int | None, fail_on: str = STRICT) -> Source:
    """A JPEG, at a path or in memory; it is made smaller while it is read."""

    def load(shrink: int, frames: int) -> pyvips.Image:
        return _opened("jpegload", file, shrink=shrink, fail_on=fail_on)

    numbered(page or 1, 1)
    header = load(1, 1)
    name = "jpeg"
    if _field(header, "jpeg-multiscan", 0):
        name = "jpeg-progressive" if _field(header, "jpeg-chroma-subsample", "") == "4:2:0" else "jpeg-progressive-4:4:4"
    return Source(
        format, header.width, header.height, load,
        turn=_turn(header), cost=COSTS[name], pixel_bytes=header.bands, shrinks=JPEG_SHRINKS, metadata=_metadata(header),
        gain_map=partial(gain_maps.found, file, *_size(header)) if isinstance(file, str) and gain_maps.has_parts(file) else None,
    )  # fmt: skip


def png(file: str | bytes, format: Format, page: int | None, fail_on: str = STRICT) -> Source:
    """A PNG, at a path or in memory; of an animated one what is loaded is its still picture, which is all that is in memory."""

    def load(shrink: int, frames: int) -> pyvips.Image:
        return _opened("pngload", file, fail_on=fail_on)

    numbered(page or 1, 1)
    header = load(1, 1)
    pixel_bytes = _pixel_bytes(header)
    cost = Cost(COSTS["png-interlaced"].stored * pixel_bytes / 3) if _field(header, "interlaced", 0) else COSTS["png"]
    still = Source(
        format, header.width, header.height, load,
        alpha=_has_alpha(header), turn=_turn(header), cost=cost, pixel_bytes=pixel_bytes, metadata=_metadata(header),
    )  # fmt: skip
    return still if page or isinstance(file, bytes) else animations.of_png(file, still)


def gif(path: str, format: Format, page: int | None, fail_on: str = STRICT) -> Source:
    """A GIF, or one *page* of it."""

    def load(shrink: int, frames: int) -> pyvips.Image:
        return pyvips.Image.gifload(path, page=first, n=frames, access="sequential", fail_on=fail_on)

    first = 0
    header = load(1, 1)
    pages = _field(header, "n-pages", 1)
    first = numbered(page or 1, pages)
    return Source(
        format, header.width, header.height, load, pages if page is None else 1,
        alpha=_has_alpha(header), cost=COSTS["gif"], pixel_bytes=_pixel_bytes(header), skipped=first,
        loop=_field(header, "loop", 0),
    )  # fmt: skip


def webp(path: str, format: Format, page: int | None) -> Source:
    """A WebP, or one *page* of it."""

    def load(shrink: int, frames: int) -> pyvips.Image:
        return pyvips.Image.webpload(path, page=first, n=frames, scale=1 / shrink, access="sequential", fail_on=STRICT)

    first = 0
    header = load(1, 1)
    pages = _field(header, "n-pages", 1)
    first = numbered(page or 1, pages)
    name = "webp-animated" if pages > 1 else "webp-lossless" if _is_lossless(path) else "webp"
    return Source(
        format, header.width, header.height, load, pages if page is None else 1,
        alpha=_has_alpha(header), turn=_turn(header), cost=COSTS[name], pixel_bytes=_pixel_bytes(header), skipped=first,
        shrinks=JPEG_SHRINKS if pages == 1 else (), metadata=_metadata(header), loop=_field(header, "loop", 0),
    )  # fmt: skip


def _is_lossless(path: str) -> bool:
    # The chunks of the container (RFC 9649, section 2.3) up to the one of the picture.
    with open(path, "rb") as file:  # noqa: PTH123
        file.seek(12)
        for _ in range(MAX_CHUNKS):
            head = file.read(8)
            if head[:4] in (b"VP8L", b"VP8 "):
                return head[:4] == b"VP8L"
            size = int.from_bytes(head[4:], "little")
            file.seek(size + size % 2, os.SEEK_CUR)
    return True


def avif(path: str, format: Format, page: int | None) -> Source:
    """An AVIF; of a sequence what is loaded is its first picture."""
    numbered(page or 1, 1)

    def load(shrink: int, frames: int) -> pyvips.Image:
        return pyvips.Image.heifload(path, access="sequential", fail_on=STRICT)

    header = load(1, 1)  # its irot and imir are applied, and an EXIF orientation beside them is only information
    cost = COSTS["avif-deep" if _field(header, "bits-per-sample", 8) > 8 else "avif"]
    still = Source(
        format, header.width, header.height, load,
        alpha=_has_alpha(header), cost=cost, pixel_bytes=_pixel_bytes(header), metadata=_metadata(header),
    )  # fmt: skip
    return still if page else animations.of_avif(path, still)


def tiff(path: str, format: Format, page: int | None) -> Source:
    """A *page* of a TIFF, without one the first; each has a size of its own."""

    def load(shrink: int, frames: int) -> pyvips.Image:
        return pyvips.Image.tiffload(path, page=place, access="sequential", fail_on=STRICT)

    place = 0
    header = load(1, 1)
    place = numbered(page or 1, _field(header, "n-pages", 1))
    header = load(1, 1) if place else header
    return Source(
        format, header.width, header.height, load,
        alpha=_has_alpha(header), turn=_turn(header), cost=COSTS["tiff"], pixel_bytes=_pixel_bytes(header),
        metadata=_metadata(header),
    )  # fmt: skip

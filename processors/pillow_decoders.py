"""The formats that libvips does not read: HEIC by libheif, icons and bitmaps by Pillow, whole and at once. Workers only."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pyvips

from processors.costs import COSTS
from processors.formats import Format
from processors.metadata import Metadata
from processors.source import Source, numbered

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

MAX_ICON_PIXELS = 1 << 20


def heic(path: str, format: Format, page: int | None) -> Source:
    """A HEIC; its pixels are turned already."""
    import pillow_heif  # noqa: PLC0415 - 9 MiB that only workers with such pictures pay

    numbered(page or 1, 1)
    pillow_heif.options.DECODE_THREADS = 1
    pillow_heif.options.THUMBNAILS = pillow_heif.options.DEPTH_IMAGES = pillow_heif.options.AUX_IMAGES = False
    picture = pillow_heif.open_heif(path)
    width, height = picture.size

    def load(shrink: int, frames: int) -> pyvips.Image:
        bands, data = len(picture.mode), picture.data
        image = pyvips.Image.new_from_memory(data, *picture.size, bands, "uchar")
        image = image.copy(interpretation="b-w" if bands < 3 else "srgb")
        profile = picture.info.get("icc_profile")
        if profile:
            image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
        return image

    metadata = Metadata(picture.info.get("exif") or None, picture.info.get("xmp") or None)
    return Source(format, width, height, load, alpha=picture.has_alpha, cost=COSTS["heic"], metadata=metadata)


def bitmap(path: str, format: Format, page: int | None) -> Source:
    """A BMP, or the largest picture of an ICO."""
    from PIL import Image  # noqa: PLC0415 - as above

    numbered(page or 1, 1)
    name = format.name.upper()

    def opened() -> PillowImage:
        # An icon's directory and the picture in it may disagree about size: Pillow's own limit guards the inner one.
        Image.MAX_IMAGE_PIXELS = MAX_ICON_PIXELS if name == "ICO" else None
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(path, formats=[name])

    def load(shrink: int, frames: int) -> pyvips.Image:
        with opened() as picture:
            mode = "RGBA" if _pillow_alpha(picture) else "RGB"
            pixels = picture if picture.mode == mode else picture.convert(mode)
            image = pyvips.Image.new_from_memory(pixels.tobytes(), pixels.width, pixels.height, len(mode), "uchar")
            return image.copy(interpretation="srgb")

    with opened() as picture:
        width, height = picture.size
        alpha = _pillow_alpha(picture)
    return Source(format, width, height, load, alpha=alpha, cost=COSTS[format.name])


def _pillow_alpha(picture: PillowImage) -> bool:
    return picture.mode in ("RGBA", "PA", "LA") or "transparency" in picture.info

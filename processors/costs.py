"""What pictures cost in memory, by estimate, from their headers: the figures behind admission. Pure.

Measured with libvips 8.18.7, pillow-heif 1.8.1 and PyAV 18.1 on pictures of 3 to 72 megapixels, one thread, as the growth of the
resident set; `tests/test_costs.py` measures again that an estimate is within 0.7 and 1.5 of the truth for large pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

BASE_BYTES = 8 << 20
"""what any job holds: code that is loaded on first use, tables, small buffers"""
STRIP_ROWS = 1400
"""the rows that libvips holds of a picture that it resizes while it reads; without resizing READ_ROWS"""
READ_ROWS = 400
ALPHA_BYTES = 16
"""of a pixel with alpha in those rows, where colour is weighed as four floats"""


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes that a decoder holds per pixel: of the stored size, and of the size after shrink-on-load.

    A decoder that works at once, and not in strips, goes back to *kept* before the rest begins.
    """

    stored: float
    loaded: float = 0.0
    kept: float | None = None


COSTS: Mapping[str, Cost] = {
    "jpeg": Cost(0),
    "jpeg-progressive": Cost(3),  # with colour at half size; the coefficients are kept, two bytes each
    "jpeg-progressive-4:4:4": Cost(6),
    "png": Cost(0),
    "png-interlaced": Cost(3),  # times 8 bits and 3 channels, as all of it is held
    "gif": Cost(12),
    "webp": Cost(0, 7.4),
    "webp-lossless": Cost(4.3, 4.2),
    "webp-animated": Cost(12),
    "avif": Cost(16, kept=4),
    "avif-deep": Cost(19, kept=8),
    "avif-sequence": Cost(22),
    "apng": Cost(22),
    "heic": Cost(6.3, kept=3),
    "tiff": Cost(0),
    "bmp": Cost(10),
    "ico": Cost(10),
    "svg": Cost(0, 4),
    "svg-layers": Cost(0, 12),  # of groups that are drawn apart
    "svg-filters": Cost(0, 32),
    "film": Cost(40, kept=3),
}


def decoding(cost: Cost, width: int, height: int, shrink: int, row_bytes: int, *, is_resized: bool, then_bytes: int = 0) -> int:
    """The bytes of reading a picture of *width* × *height* at 1/*shrink*, and of what comes after it.

    *row_bytes* is one pixel in libvips' rows, *then_bytes* what the later steps and the encoder hold.
    """
    loaded_width, loaded_height = width / shrink, height / shrink
    rows = min(loaded_height, STRIP_ROWS if is_resized else READ_ROWS)
    work = loaded_width * loaded_height * cost.loaded + rows * loaded_width * row_bytes + then_bytes
    stored = width * height * cost.stored
    return round(BASE_BYTES + (stored + work if cost.kept is None else max(stored, width * height * cost.kept + work)))


def largest_megapixels(max_pixels: int, budget_bytes: int) -> dict[str, float]:
    """The largest picture per format that pixels and memory admit."""
    room = budget_bytes - BASE_BYTES
    return {
        name: round(min(max_pixels, room / (cost.stored + cost.loaded) if cost.stored + cost.loaded else max_pixels) / 1e6, 1)
        for name, cost in COSTS.items()
    }

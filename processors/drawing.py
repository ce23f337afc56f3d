"""An SVG as a source of pixels: drawn by librsvg at the size that is wanted, from the sanitised text alone. Workers only."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import pyvips

from processors import svg
from processors.costs import BASE_BYTES, COSTS, Cost
from processors.errors import Corrupt, TooCostly
from processors.formats import Format
from processors.source import Source
from processors.svg import Drawing

MAX_NATURAL_PX = 4096
"""A drawing that calls itself larger is made so large at first: its numbers are units, not pixels."""
FALLBACK_PX = (300, 150)  # CSS 2.2, section 10.3.2: what has no size of its own
MAX_PICTURES_PIXELS = 25_000_000
PICTURE_PIXEL_BYTES = 8
PICTURE_FORMATS = ("PNG", "JPEG", "GIF", "WEBP")
TEXT_BYTES = 24
"""of memory for a byte of the document: the parts of it while it is read, and what librsvg makes of them"""
MAX_TEXT_BYTES = 16 << 20
MAX_GROWN_PX = 8192
MAX_LENGTH_CHARS = 64
CSS_DPI = 96
DPI_SCALE = 72 / 96  # libvips takes a pixel for 1/72 of an inch, and the picture grows by as much as the inch
SHRINKS = (32, 16, 8, 4, 2)
_LAYERS = re.compile(r"<mask|<pattern|<clipPath|opacity|mix-blend|isolation")
_UNITS_PX = {"": 1.0, "px": 1.0, "pt": 96 / 72, "pc": 16.0, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96.0, "em": 16.0, "ex": 8.0}
_LENGTH = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)\s*([a-z]*)\s*")


def look(path: str, format: Format) -> Source:
    """The drawing in the file, of the size that it calls its own; raises what `svg.read` does."""
    drawing = svg.read(_text(path))
    held_bytes = _picture_pixels(drawing) * PICTURE_PIXEL_BYTES + len(drawing.inside) * TEXT_BYTES
    return _Canvas(drawing, format, held_bytes).source(*_natural_size(drawing.root))


def cleaning_bytes(path: str) -> int:
    """The memory that `cleaned` takes, by estimate."""
    return BASE_BYTES + Path(path).stat().st_size * TEXT_BYTES


def cleaned(path: str) -> bytes | None:
    """The document as it may be stored; None where the file's own may be. Raises what `svg.read` does."""
    drawing = svg.read(_text(path))
    _picture_pixels(drawing)
    return drawing.text() if drawing.is_changed else None


@dataclass(frozen=True, slots=True)
class _Canvas:
    """What a drawing is drawn from, at any size. *held_bytes* is the memory of what is in it, whatever the size."""

    drawing: Drawing
    format: Format
    held_bytes: int

    def source(self, width: int, height: int) -> Source:
        """The drawing at *width* × *height*; it can grow to fill a box, but for the largest side that is made."""

        def load(shrink: int, frames: int) -> pyvips.Image:
            attributes = self._placed(max(1, round(width / shrink)), max(1, round(height / shrink)))
            return pyvips.Image.svgload_buffer(self.drawing.text(**attributes), dpi=CSS_DPI, scale=DPI_SCALE)

        def grow(box_width: int, box_height: int) -> Source:
            most = MAX_GROWN_PX / max(width, height)
            factor = max(1.0, min(most, max(box_width / width, box_height / height)))
            return self.source(max(1, round(width * factor)), max(1, round(height * factor)))

        inside = self.drawing.inside
        name = "svg-filters" if "<filter" in inside else "svg-layers" if _LAYERS.search(inside) else "svg"
        cost = Cost(self.held_bytes / (width * height), COSTS[name].loaded)
        return Source(
            self.format, width, height, load, alpha=True, cost=cost, pixel_bytes=4, shrinks=SHRINKS, grow=grow
        )  # fmt: skip

    def _placed(self, width: int, height: int) -> dict[str, str]:
        root = self.drawing.root
        size = _natural_size(root)
        attributes = {"width": str(width), "height": str(height), "viewBox": root.get("viewBox", f"0 0 {size[0]} {size[1]}")}
        box = _box(root)
        if box is not None and abs(box[0] * height - box[1] * width) <= max(box) * 1.5:
            attributes["preserveAspectRatio"] = "none"  # the shape is its own, but for what rounding makes of it
        return attributes


def _text(path: str) -> bytes:
    size = Path(path).stat().st_size
    if size > MAX_TEXT_BYTES:
        raise TooCostly(f"a drawing may have {MAX_TEXT_BYTES} bytes", limit="bytes", allowed=MAX_TEXT_BYTES, actual=size)
    return Path(path).read_bytes()


def _natural_size(root: dict[str, str]) -> tuple[int, int]:
    box = _box(root)
    width, height = _length(root.get("width")), _length(root.get("height"))
    if width is None or height is None:
        shape = box or FALLBACK_PX
        if width is None and height is None:
            width, height = shape
        elif width is None:
            width = (height or 0) * shape[0] / shape[1]
        else:
            height = width * shape[1] / shape[0]
    assert height is not None
    scale = min(1.0, MAX_NATURAL_PX / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _box(root: dict[str, str]) -> tuple[float, float] | None:
    numbers = re.split(r"[\s,]+", root.get("viewBox", "").strip())
    lengths = [_length(number) for number in numbers[2:]]
    if len(numbers) != 4 or lengths[0] is None or lengths[1] is None:
        return None
    return lengths[0], lengths[1]


def _length(text: str | None) -> float | None:
    match = _LENGTH.fullmatch((text or "")[:MAX_LENGTH_CHARS])
    if match is None or match[2] not in _UNITS_PX:
        return None
    pixels = float(match[1]) * _UNITS_PX[match[2]]
    return pixels if 0 < pixels < 1e12 else None


def _picture_pixels(drawing: Drawing) -> int:
    # By their headers alone: librsvg decodes them whole.
    if not drawing.pictures:
        return 0
    from PIL import Image  # noqa: PLC0415 - 9 MiB that only workers with such drawings pay

    total = 0
    for data in drawing.pictures:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with Image.open(io.BytesIO(data), formats=PICTURE_FORMATS) as picture:
                    total += picture.width * picture.height
            except Image.DecompressionBombError:
                total += MAX_PICTURES_PIXELS + 1
            except Exception as error:
                raise Corrupt("a picture within the drawing is damaged") from error
        if total > MAX_PICTURES_PIXELS:
            allowed = MAX_PICTURES_PIXELS
            raise TooCostly(f"pictures within a drawing may have {allowed} pixels", limit="pixels", allowed=allowed, actual=total)
    return total

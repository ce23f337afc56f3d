"""Gain maps: the second, small picture in a JPEG that tells bright screens how much brighter each part may be. Workers only.

Ultra HDR (Android), ISO 21496-1 and Apple's, as far as libultrahdr reads them. A rendition carries the map on: cut, scaled and
turned as the picture is. Who knows nothing of such maps sees the picture as it would be without one, to the last pixel.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyvips

from processors.steps import Step

QUALITY = 85
FIELDS = {
    **dict.fromkeys(
        ("max-content-boost", "min-content-boost", "gamma", "offset-sdr", "offset-hdr"), pyvips.GValue.array_double_type
    ),
    **dict.fromkeys(("hdr-capacity-min", "hdr-capacity-max"), pyvips.GValue.gdouble_type),
    "use-base-cg": pyvips.GValue.gint_type,
}
DATA = "gainmap-data"
MAX_SEGMENTS = 256
_PARTS = b"MPF\0"


@dataclass(frozen=True, slots=True)
class GainMap:
    """The map of a picture that is *shrink* times as wide, and the figures that belong to it."""

    data: bytes
    shrink: float
    figures: dict[str, Any]

    def laid_on(self, image: pyvips.Image, ways: Iterable[Step]) -> pyvips.Image:
        """*image* with the map; *ways* have made it of the picture, and do with the map the same. Without, if the map is broken."""
        try:
            gains = pyvips.Image.jpegload_buffer(self.data, fail_on="error")
            for way in ways:
                gains = way(gains)
            gains = gains.resize(1 / self.shrink) if self.shrink > 1 else gains
            data = gains.jpegsave_buffer(Q=QUALITY, keep="none")
        except pyvips.Error:
            return image
        image = image.copy()
        image.set_type(pyvips.GValue.blob_type, DATA, data)
        for name, value in self.figures.items():
            image.set_type(FIELDS[name], f"gainmap-{name}", value)
        return image


def found(path: str, width: int, height: int) -> GainMap | None:
    """The map in a JPEG of that size; None if there is none that libultrahdr understands, or it is larger than the picture."""
    try:
        header = pyvips.Image.uhdrload(path)
        data = bytes(header.get(DATA))
        gains = pyvips.Image.jpegload_buffer(data)
        figures = {name: header.get(f"gainmap-{name}") for name in FIELDS}
    except pyvips.Error:
        return None
    return GainMap(data, width / gains.width, figures) if gains.width <= width and gains.height <= height else None


def has_parts(path: str) -> bool:
    """Whether the JPEG says that there are other pictures behind it (CIPA DC-007, the Multi-Picture Format)."""
    with open(path, "rb") as file:  # noqa: PTH123
        file.seek(2)
        for _ in range(MAX_SEGMENTS):
            head = file.read(4)
            if len(head) < 4 or head[0] != 0xFF or head[1] == 0xDA:
                return False
            size = int.from_bytes(head[2:]) - 2
            if head[1] == 0xE2 and file.read(4) == _PARTS:
                return True
            file.seek(size - (4 if head[1] == 0xE2 else 0), 1)
    return False

"""Pictures on their way out: quality and effort per codec, and the metadata that may leave. Workers only.

Quality is on the JPEG scale and mapped per codec. Effort is measured, not guessed: see the table in `_OPTIONS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyvips

from processors.formats import FORMATS, Format

INLINE_AVIF_PIXELS = 2_000_000
"""the largest AVIF that is made while somebody waits and would take WebP too"""

_FORMAT_OF = {name: FORMATS["jpeg" if name == "jpg" else name] for name in ("jpg", "png", "webp", "avif", "gif")}
_SAVERS = {
    **{"jpg": "jpegsave_buffer", "png": "pngsave_buffer", "webp": "webpsave_buffer"},
    **{"avif": "heifsave_buffer", "gif": "gifsave_buffer"},
}
_QUALITIES = {"jpg": ((1, 1), (100, 100)), "webp": ((1, 1), (80, 79), (100, 100)), "avif": ((1, 10), (80, 63), (100, 90))}


@dataclass(frozen=True, slots=True)
class Output:
    """What is made. *quality* is on the JPEG scale."""

    name: str
    quality: int

    @property
    def format(self) -> Format:
        """The row of the table."""
        return _FORMAT_OF[self.name]

    def encode(self, image: pyvips.Image) -> bytes:
        """The file. *image* is 8 bits a channel, sRGB or grey; an animation is its pages in one strip."""
        options: dict[str, Any] = dict(_OPTIONS[self.name])
        if self.name in _QUALITIES:
            options["Q"] = _on_scale(self.quality, _QUALITIES[self.name])
        keep = "exif" if image.get_typeof("exif-data") else "none"
        data: bytes = getattr(image, _SAVERS[self.name])(keep=keep, **options)
        return data


_OPTIONS: dict[str, dict[str, Any]] = {
    "jpg": {"optimize_coding": True},
    "png": {"compression": 6},
    "webp": {"effort": 2},
    "avif": {"compression": "av1", "effort": 2, "bitdepth": 8},
    "gif": {"effort": 4},
}


def writable() -> list[str]:
    """The formats that are made in this build."""
    return [name for name, saver in _SAVERS.items() if pyvips.type_find("VipsOperation", saver)]


def output(name: str, quality: int | None, *, animated: bool, alpha: bool, pixels: int) -> Output:
    """The output for a settled format: ``small`` and ``plain`` are decided here, where the picture is known."""
    if name == "small":
        name = "avif" if pixels <= INLINE_AVIF_PIXELS else "webp"
    elif name == "plain":
        name = "gif" if animated else "png" if alpha else "jpg"
    return Output(name, 80 if quality is None else quality)


def stripped(image: pyvips.Image, rights: bytes | None) -> pyvips.Image:
    """*image* with no metadata but *rights*: no position, serial number, owner, comment, profile or thumbnail."""
    bare = image.copy()
    try:
        for name in [name for name in bare.get_fields() if name.startswith("exif")]:
            bare.remove(name)  # of the rest the savers keep nothing
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

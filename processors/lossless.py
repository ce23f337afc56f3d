"""The same picture in fewer bytes: JPEG and PNG written anew without a pixel being changed. Workers only.

MozJPEG's jpegtran orders the same coefficients better, oxipng packs the same pixels better. Whatever else is in the file stays in
it; a file of several pictures, of which these know one, is left as it is.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from processors.errors import Unsupported

LIBRARIES = {"jpeg": "mozjpeg_lossless_optimization", "png": "oxipng"}
PNG_LEVEL = 2
"""of oxipng: the next ones take three times as long for a part in a hundred"""
HELD_BYTES = 7
"""of a pixel: the coefficients of a JPEG, or the pixels of a PNG before and after"""


def missing(names: frozenset[str]) -> list[str]:
    """Those of the formats *names* that cannot be made smaller by this installation."""
    return sorted(name for name in names if name not in LIBRARIES or find_spec(LIBRARIES[name]) is None)


def smaller(path: str, name: str) -> bytes | None:
    """The file of the format *name* in fewer bytes; None if it has none to spare, or is left as it is. Raises Unsupported."""
    if missing(frozenset((name,))):
        raise Unsupported("files of this type are not made smaller here")
    data = Path(path).read_bytes()
    made = _jpeg(path, data) if name == "jpeg" else _png(data)
    return made if made is not None and len(made) < len(data) else None


def _jpeg(path: str, data: bytes) -> bytes | None:
    from processors import gain_maps  # noqa: PLC0415 - libvips is for workers, and what is missing is asked by others

    # What lies behind the picture (a film, a gain map, another view) would be dropped.
    if gain_maps.has_parts(path) or not data.rstrip(b"\0").endswith(b"\xff\xd9"):
        return None
    import mozjpeg_lossless_optimization as mozjpeg  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra

    try:
        made: bytes = mozjpeg.optimize(data, copy=mozjpeg.COPY_MARKERS.ALL)
    except ValueError:  # coded in a way that it does not read
        return None
    return made


def _png(data: bytes) -> bytes | None:
    if b"acTL" in data[: data.find(b"IDAT")]:
        return None
    import oxipng  # noqa: PLC0415 - an extra

    try:
        return oxipng.optimize_from_memory(data, level=PNG_LEVEL, strip=oxipng.StripChunks.none())
    except oxipng.PngError:
        return None

"""Pictures on their way in: what a file's header says of it, what decoding it costs, and its pixels. Workers only.

The decoder is chosen by our own look at the content and called by its name; libvips is told to have no others. A header over
the limits is refused before a pixel is read.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pyvips

from processors import pillow_decoders, structure, vips_decoders
from processors.costs import COSTS
from processors.errors import Corrupt, MediaError, TooCostly, Unsupported
from processors.formats import FORMATS, HEAD_BYTES, Format, Kind, sniff
from processors.source import LENIENT, Source, numbered
from processors.values import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOADERS = {
    **{"jpeg": "jpegload", "png": "pngload", "gif": "gifload", "webp": "webpload", "avif": "heifload", "tiff": "tiffload"},
    "svg": "svgload_buffer",
}
ALLOWED_LOADERS = ("JpegFile", "PngFile", "NsgifFile", "WebpFile", "HeifFile", "TiffFile", "SvgBuffer", "UhdrFile", "JpegBuffer")
"""the last two for gain maps, which are JPEGs within JPEGs"""


def prepare() -> None:
    """Shut every door of libvips but the loaders above, and keep it to one thread and no cache: a worker has one job."""
    pyvips.block_untrusted_set(True)
    pyvips.operation_block_set("VipsForeignLoad", True)
    for name in ALLOWED_LOADERS:
        pyvips.operation_block_set(f"VipsForeignLoad{name}", False)
    pyvips.cache_set_max(0)


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the decoders raise into Corrupt, without their words: they name files."""
    try:
        yield
    except MediaError:
        raise
    except MemoryError as error:
        raise TooCostly("decoding it takes more memory than is allowed", limit="memory") from error
    except Exception as error:  # noqa: BLE001, RUF100 - three libraries, each with a family of its own; the cause is kept
        if isinstance(error, FileNotFoundError):
            raise
        raise Corrupt("the file is damaged or cut short") from error


def sniffed(path: str) -> Format:
    """What the file is; raises Unsupported."""
    with open(path, "rb") as file:  # noqa: PTH123 - a path from another process, which may not be UTF-8
        return sniff(file.read(HEAD_BYTES))


def look(path: str, limits: Limits, page: int | None = None) -> Source:
    """The picture in the file, or that stands for the film, by its header; raises Unsupported, Corrupt, TooCostly.

    Of an animation or a TIFF the one picture at *page*, counted from 1; raises BadParameter where there is none.
    """
    format = sniffed(path)
    if not format.decodes:
        raise Unsupported("no picture can be made of this type")
    structure.check(path, format, limits)
    is_cut = limits.shows_truncated and format.name in _LENIENT and structure.is_cut(path, format)
    with translated():
        source = _LENIENT[format.name](path, format, page, LENIENT) if is_cut else _LOOKS[format.name](path, format, page)
    if is_cut:
        source = replace(source, is_cut=True)
    if source.width < 1 or source.height < 1:
        raise Corrupt("the picture has no pixels")
    check(limits, source.width * source.height, source.frames + source.skipped)
    return source


def readable() -> list[str]:
    """The formats that pictures are made of in this build."""
    built = {name: bool(pyvips.type_find("VipsOperation", loader)) for name, loader in _LOADERS.items()}
    return [name for name in _LOOKS if built.get(name, True)]


def check(limits: Limits, pixels: int, frames: int = 1) -> None:
    """Raise TooCostly if one frame of *pixels*, or all of them, are over the limits."""
    for name, allowed, actual in (
        ("pixels", limits.max_pixels, pixels),
        ("pixels-all-frames", limits.max_pixels_all_frames, pixels * frames),
    ):
        if actual > allowed:
            raise TooCostly(f"a picture may have {allowed} {name.replace('-', ' ')}", limit=name, allowed=allowed, actual=actual)


def _svg(path: str, format: Format, page: int | None) -> Source:
    from processors import drawing  # noqa: PLC0415 - expat and its kin, for workers with drawings

    numbered(page or 1, 1)
    return drawing.look(path, format)


def _film(path: str, format: Format, page: int | None) -> Source:
    from processors import video  # noqa: PLC0415 - FFmpeg is 30 MiB that only workers with films pay

    numbered(page or 1, 1)
    film = video.probe(path, format)
    if film.width is None or film.height is None:
        raise Unsupported("there is no picture in this film")

    def opening(time: str | None) -> Source:
        still = video.still(path, format, time)
        return Source(format, still.image.width, still.image.height, lambda shrink, frames: still.image, turn=still.turn)

    def load(shrink: int, frames: int) -> pyvips.Image:
        return opening(None).load(shrink, frames)

    return Source(format, film.width, film.height, load, cost=COSTS["film"], opening=opening)


_LENIENT: dict[str, Callable[[str, Format, int | None, str], Source]] = {
    "jpeg": vips_decoders.jpeg,
    "png": vips_decoders.png,
    "gif": vips_decoders.gif,
}
_LOOKS: dict[str, Callable[[str, Format, int | None], Source]] = {
    "jpeg": vips_decoders.jpeg,
    "png": vips_decoders.png,
    "gif": vips_decoders.gif,
    "webp": vips_decoders.webp,
    "avif": vips_decoders.avif,
    "heic": pillow_decoders.heic,
    "heif": pillow_decoders.heic,
    "tiff": vips_decoders.tiff,
    "bmp": pillow_decoders.bitmap,
    "ico": pillow_decoders.bitmap,
    "svg": _svg,
    **dict.fromkeys((format.name for format in FORMATS.values() if format.kind is Kind.VIDEO), _film),
}

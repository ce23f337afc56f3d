"""Pictures on their way in: what a file's header says of it, what decoding it costs, and its pixels. Workers only.

The decoder is chosen by our own look at the content and called by its name; libvips is told to have no others. A header over
the limits is refused before a pixel is read.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
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
ALLOWED_LOADERS = (
    *("JpegFile", "PngFile", "NsgifFile", "WebpFile", "HeifFile", "TiffFile", "SvgBuffer"),
    *("UhdrFile", "JpegBuffer", "PngBuffer"),
)
"""the last three for pictures within other files: gain maps in JPEGs, covers of sound"""


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
    """The picture in the file, or that stands for the film or the sound, by its header; raises Unsupported, Corrupt, TooCostly.

    Of an animation or a TIFF the one picture at *page*, counted from 1; raises BadParameter where there is none.
    """
    format = sniffed(path)
    if not format.decodes:
        raise Unsupported("no picture can be made of this type")
    structure.check(path, format, limits)
    is_cut = limits.shows_truncated and format.name in _LENIENT and structure.is_cut(path, format)
    with translated():
        if format.kind in (Kind.VIDEO, Kind.AUDIO):
            source = _film(path, format, page, limits)
        else:
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
    return [format.name for format in FORMATS.values() if format.decodes and built.get(format.name, True)]


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


def _film(path: str, format: Format, page: int | None, limits: Limits) -> Source:
    from processors import scenes, video, waveforms  # noqa: PLC0415 - FFmpeg is 30 MiB that only workers with films pay

    numbered(page or 1, 1)
    film = video.probe(path, format)
    wave, peaks = partial(waveforms.drawn, path, format), partial(waveforms.text, path, format)
    if film.width is None or film.height is None:
        return replace(_sound(path, format, limits), wave=wave, peaks=peaks)

    def opening(time: str | None) -> Source:
        still = video.still(path, format, time)
        return Source(format, still.image.width, still.image.height, lambda shrink, frames: still.image, turn=still.turn)

    def load(shrink: int, frames: int) -> pyvips.Image:
        return opening(None).load(shrink, frames)

    return Source(
        format, film.width, film.height, load, cost=COSTS["film"], opening=opening,
        tiles=partial(scenes.tiles, path, format, film), passage=partial(scenes.passage, path, format, film),
        wave=wave, peaks=peaks,
    )  # fmt: skip


def _sound(path: str, format: Format, limits: Limits) -> Source:
    # Its cover; of a sound without one that can be shown nothing can be loaded, but what is heard can be drawn.
    from processors import video  # noqa: PLC0415 - as above

    try:
        return _cover(video.cover(path, format), limits)
    except MediaError as error:
        refusal = error

    def load(shrink: int, frames: int) -> pyvips.Image:
        raise refusal

    return Source(format, 1, 1, load)


def _cover(data: bytes, limits: Limits) -> Source:
    format = sniff(data[:HEAD_BYTES])
    if format.name not in _COVERS:
        raise Unsupported("covers are shown that are JPEG or PNG")
    structure.check_open(io.BytesIO(data), format, limits)
    return _COVERS[format.name](data, format, 1)


_COVERS: dict[str, Callable[[bytes, Format, int | None], Source]] = {"jpeg": vips_decoders.jpeg, "png": vips_decoders.png}
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
}

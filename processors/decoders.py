"""Pictures on their way in: what a file's header says of it, what decoding it costs, and its pixels. Workers only.

The decoder is chosen by our own look at the content and called by its name; libvips is told to have no others. A header over
the limits is refused before a pixel is read. libvips reads what it can in strips, so few formats cost memory by their size.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyvips

from processors import exif
from processors.costs import COSTS, Cost
from processors.errors import Corrupt, MediaError, TooCostly, Unsupported
from processors.formats import FORMATS, HEAD_BYTES, Format, Kind, sniff
from processors.values import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.Image import Image as PillowImage

_LOADERS = {"jpeg": "jpegload", "png": "pngload", "gif": "gifload", "webp": "webpload", "avif": "heifload", "tiff": "tiffload"}
ALLOWED_LOADERS = ("JpegFile", "PngFile", "NsgifFile", "WebpFile", "HeifFile", "TiffFile")
STRICT = "error"  # a truncated or damaged file is refused; a warning, as of odd metadata, is not
JPEG_SHRINKS = (8, 4, 2)
MAX_ICON_PIXELS = 1 << 20
MAX_CHUNKS = 64


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


@dataclass(frozen=True, slots=True)
class Source:
    """A picture file with its header read. *width* and *height* are of one frame, as stored; *load* gives its pixels.

    ``load(shrink, frames)``: at 1/*shrink* of the size, one of *shrinks* or 1, and *frames* pages (-1: all) in one strip that
    can be read once, from top to bottom. *pixel_bytes* is the size of a decoded pixel. *turn* is the EXIF orientation, 1 to 8.
    *rights* is an EXIF block of copyright and artist alone.
    """

    format: Format
    width: int
    height: int
    load: Callable[[int, int], pyvips.Image]
    frames: int = 1
    alpha: bool = False
    turn: int = 1
    cost: Cost = COSTS["jpeg"]
    pixel_bytes: int = 3
    shrinks: tuple[int, ...] = ()
    rights: bytes | None = None
    opening: Callable[[], Source] | None = None

    def opened(self) -> Source:
        """The source ready to load: of a film, its still is looked for now, and with it how it must be turned."""
        return self if self.opening is None else self.opening()

    def shrink(self, room: float) -> int:
        """The most of *shrinks* that is no more than *room*, or 1."""
        return next((shrink for shrink in self.shrinks if shrink <= room), 1)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as stored."""
        return self.width, self.height

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height after orientation."""
        return (self.height, self.width) if self.turn >= 5 else (self.width, self.height)


def sniffed(path: str) -> Format:
    """What the file is; raises Unsupported."""
    with open(path, "rb") as file:  # noqa: PTH123 - a path from another process, which may not be UTF-8
        return sniff(file.read(HEAD_BYTES))


def look(path: str, limits: Limits) -> Source:
    """The picture in the file, or that stands for the film, by its header; raises Unsupported, Corrupt, TooCostly."""
    format = sniffed(path)
    if not format.decodes:
        raise Unsupported("no picture can be made of this type")
    with translated():
        source = _LOOKS[format.name](path, format)
    if source.width < 1 or source.height < 1:
        raise Corrupt("the picture has no pixels")
    check(limits, source.width * source.height, source.frames)
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


def _field(image: pyvips.Image, name: str, fallback: Any) -> Any:
    return image.get(name) if image.get_typeof(name) else fallback


def _turn(image: pyvips.Image) -> int:
    turn = _field(image, "orientation", 1)
    return turn if 1 <= turn <= 8 else 1


def _pixel_bytes(image: pyvips.Image) -> int:
    sizes = {"uchar": 1, "char": 1, "ushort": 2, "short": 2, "double": 8}
    return int(image.bands * sizes.get(image.format, 4))


def _has_alpha(image: pyvips.Image) -> bool:
    return bool(image.hasalpha())


def _rights(image: pyvips.Image) -> bytes | None:
    return exif.rights(bytes(_field(image, "exif-data", b"")))


def _jpeg(path: str, format: Format) -> Source:
    def load(shrink: int, frames: int) -> pyvips.Image:
        return pyvips.Image.jpegload(path, shrink=shrink, access="sequential", fail_on=STRICT)

    header = load(1, 1)
    name = "jpeg"
    if _field(header, "jpeg-multiscan", 0):
        name = "jpeg-progressive" if _field(header, "jpeg-chroma-subsample", "") == "4:2:0" else "jpeg-progressive-4:4:4"
    return Source(
        format, header.width, header.height, load,
        turn=_turn(header), cost=COSTS[name], pixel_bytes=header.bands, shrinks=JPEG_SHRINKS, rights=_rights(header),
    )  # fmt: skip


def _png(path: str, format: Format) -> Source:
    def load(shrink: int, frames: int) -> pyvips.Image:
        return pyvips.Image.pngload(path, access="sequential", fail_on=STRICT)

    header = load(1, 1)
    pixel_bytes = _pixel_bytes(header)
    cost = Cost(COSTS["png-interlaced"].stored * pixel_bytes / 3) if _field(header, "interlaced", 0) else COSTS["png"]
    return Source(
        format, header.width, header.height, load,
        alpha=_has_alpha(header), turn=_turn(header), cost=cost, pixel_bytes=pixel_bytes, rights=_rights(header),
    )  # fmt: skip


def _gif(path: str, format: Format) -> Source:
    def load(shrink: int, frames: int) -> pyvips.Image:
        return pyvips.Image.gifload(path, n=frames, access="sequential", fail_on=STRICT)

    header = load(1, 1)
    frames = _field(header, "n-pages", 1)
    return Source(
        format, header.width, header.height, load, frames,
        alpha=_has_alpha(header), cost=COSTS["gif"], pixel_bytes=_pixel_bytes(header),
    )  # fmt: skip


def _webp(path: str, format: Format) -> Source:
    def load(shrink: int, frames: int) -> pyvips.Image:
        return pyvips.Image.webpload(path, n=frames, scale=1 / shrink, access="sequential", fail_on=STRICT)

    header = load(1, 1)
    frames = _field(header, "n-pages", 1)
    name = "webp-animated" if frames > 1 else "webp-lossless" if _is_lossless(path) else "webp"
    return Source(
        format, header.width, header.height, load, frames,
        alpha=_has_alpha(header), turn=_turn(header), cost=COSTS[name], pixel_bytes=_pixel_bytes(header),
        shrinks=JPEG_SHRINKS if frames == 1 else (), rights=_rights(header),
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


def _avif(path: str, format: Format) -> Source:
    def load(shrink: int, frames: int) -> pyvips.Image:
        return pyvips.Image.heifload(path, access="sequential", fail_on=STRICT)

    header = load(1, 1)  # its irot and imir are applied, and an EXIF orientation beside them is only information
    cost = COSTS["avif-deep" if _field(header, "bits-per-sample", 8) > 8 else "avif"]
    return Source(
        format, header.width, header.height, load,
        alpha=_has_alpha(header), cost=cost, pixel_bytes=_pixel_bytes(header), rights=_rights(header),
    )  # fmt: skip


def _tiff(path: str, format: Format) -> Source:
    def load(shrink: int, frames: int) -> pyvips.Image:
        return pyvips.Image.tiffload(path, access="sequential", fail_on=STRICT)

    header = load(1, 1)
    return Source(
        format, header.width, header.height, load,
        alpha=_has_alpha(header), turn=_turn(header), cost=COSTS["tiff"], pixel_bytes=_pixel_bytes(header), rights=_rights(header),
    )  # fmt: skip


def _heic(path: str, format: Format) -> Source:
    import pillow_heif  # noqa: PLC0415 - 9 MiB that only workers with such pictures pay

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

    rights = exif.rights(picture.info.get("exif") or b"")
    return Source(format, width, height, load, alpha=picture.has_alpha, cost=COSTS["heic"], rights=rights)


def _by_pillow(path: str, format: Format) -> Source:
    from PIL import Image  # noqa: PLC0415 - as above

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


def _film(path: str, format: Format) -> Source:
    from processors import video  # noqa: PLC0415 - FFmpeg is 30 MiB that only workers with films pay

    film = video.probe(path, format)
    if film.width is None or film.height is None:
        raise Unsupported("there is no picture in this film")

    def opening() -> Source:
        still = video.still(path, format)
        return Source(format, still.image.width, still.image.height, lambda shrink, frames: still.image, turn=still.turn)

    def load(shrink: int, frames: int) -> pyvips.Image:
        return opening().load(shrink, frames)

    return Source(format, film.width, film.height, load, cost=COSTS["film"], opening=opening)


def _pillow_alpha(picture: PillowImage) -> bool:
    return picture.mode in ("RGBA", "PA", "LA") or "transparency" in picture.info


_LOOKS: dict[str, Callable[[str, Format], Source]] = {
    "jpeg": _jpeg,
    "png": _png,
    "gif": _gif,
    "webp": _webp,
    "avif": _avif,
    "heic": _heic,
    "heif": _heic,
    "tiff": _tiff,
    "bmp": _by_pillow,
    "ico": _by_pillow,
    **dict.fromkeys((format.name for format in FORMATS.values() if format.kind is Kind.VIDEO), _film),
}

"""Animations that libvips does not read as such: APNG, and sequences in AVIF. By Pillow, one frame at a time. Workers only."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import pyvips

from processors.costs import COSTS
from processors.source import DELAY_MS, Shown, Source

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

MAX_CHUNKS = 512
MAX_BRANDS_BYTES = 1024
SEQUENCE = b"avis"


def of_png(path: str, still: Source) -> Source:
    """*still*, or the animation of which it is the still picture (PNG, third edition, section 11.3.4)."""
    control = _animation_control(path)
    if control is None or control.frames < 2:
        return still
    each = partial(_frames, partial(_png, path), control.first)
    return replace(still, frames=control.frames, loop=control.plays, cost=COSTS["apng"], each=each)


def of_avif(path: str, still: Source) -> Source:
    """*still*, or the sequence that it begins (AVIF, section 6.3); how often that runs is not told: for ever."""
    with open(path, "rb") as file:  # noqa: PTH123
        brands = file.read(min(int.from_bytes(file.read(4)), MAX_BRANDS_BYTES))
    if SEQUENCE not in brands:
        return still
    with _avif(path) as picture:
        frames = getattr(picture, "n_frames", 1)
        is_whole = _turned(picture) == still.size
    if frames < 2 or not is_whole:
        return still
    return replace(still, frames=frames, cost=COSTS["avif-sequence"], each=partial(_frames, partial(_avif, path), 0))


@dataclass(frozen=True, slots=True)
class _Control:
    # What an animated PNG says in front of its picture; *first* is 1 where that is not part of the animation.

    frames: int
    plays: int
    first: int


def _animation_control(path: str) -> _Control | None:
    frames, plays, is_shown = 0, 0, False
    with open(path, "rb") as file:  # noqa: PTH123
        file.seek(8)
        for _ in range(MAX_CHUNKS):
            size, kind = int.from_bytes(file.read(4)), file.read(4)
            if kind in (b"IDAT", b""):
                break
            body = file.read(min(size, 26))
            if kind == b"IHDR" and body[8:10] == b"\x10\0":
                return None  # grey of 16 bits, which Pillow does not make 8 bits of
            if kind == b"acTL" and len(body) >= 8:
                frames, plays = int.from_bytes(body[:4]), int.from_bytes(body[4:8])
            is_shown = is_shown or kind == b"fcTL"
            file.seek(size - len(body) + 4, 1)
    return _Control(frames, plays, 0 if is_shown else 1) if frames else None


def _png(path: str) -> PillowImage:
    from PIL import Image  # noqa: PLC0415 - memory that only workers with such pictures pay

    Image.MAX_IMAGE_PIXELS = None  # its header was checked
    return Image.open(path, formats=["PNG"])


def _avif(path: str) -> PillowImage:
    from PIL import AvifImagePlugin, Image  # noqa: PLC0415 - as above

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    Image.MAX_IMAGE_PIXELS = None
    return Image.open(path, formats=["AVIF"])


def _frames(opened: Callable[[], PillowImage], first: int, count: int) -> Iterator[Shown]:
    from PIL import ImageOps  # noqa: PLC0415 - as above

    with opened() as picture, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mode = "RGBA" if picture.has_transparency_data else "RGB"
        profile = picture.info.get("icc_profile")
        for number in range(first, first + count):
            picture.seek(number)
            picture.load()
            delay_ms = round(picture.info.get("duration") or DELAY_MS)
            upright = ImageOps.exif_transpose(picture).convert(mode)
            image = pyvips.Image.new_from_memory(upright.tobytes(), upright.width, upright.height, len(mode), "uchar")
            image = image.copy(interpretation="srgb")
            if profile:
                image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
            yield image, delay_ms


def _turned(picture: PillowImage) -> tuple[int, int]:
    return (picture.height, picture.width) if picture.getexif().get(0x0112, 1) >= 5 else picture.size

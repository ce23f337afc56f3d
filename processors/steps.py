"""The steps of the picture pipeline: functions from Image to Image, and the makers of those that need figures. Workers only."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import pyvips

from processors.geometry import SEEKING, TURNS, Area, Size, corner
from processors.values import Watermark

Step = Callable[[pyvips.Image], pyvips.Image]
Colour = tuple[int, ...]
"""Red, green, blue, and for a colour that is not opaque its alpha"""
WHITE: Colour = (255, 255, 255)
KNOWN_PROFILES = 32
MAX_KNOWN_PROFILE_BYTES = 4096
CLEAR: Colour = (0, 0, 0, 0)


def held(image: pyvips.Image) -> pyvips.Image:
    """The picture in memory, and without its alpha where nothing of it is seen through: that halves the cost of a resize."""
    image = image.copy_memory()
    opaque = 65535 if image.format == "ushort" else 255
    return image[:-1] if image.hasalpha() and image[-1].min() == opaque else image


def part(area: Area, of: Size) -> Step:
    """Cut *area* out of a picture that is *of* that size; it may have been loaded at a part of it."""

    def step(image: pyvips.Image) -> pyvips.Image:
        if area == (0, 0, *of):
            return image
        across, down = image.width / of[0], image.height / of[1]
        left, top = min(round(area[0] * across), image.width - 1), min(round(area[1] * down), image.height - 1)
        width, height = max(1, round(area[2] * across)), max(1, round(area[3] * down))
        return image.crop(left, top, min(width, image.width - left), min(height, image.height - top))

    return step


def resized(size: Size) -> Step:
    """Resize to *size*, with a good filter (Lanczos 3)."""

    def step(image: pyvips.Image) -> pyvips.Image:
        if (image.width, image.height) == size:
            return image
        across, down = size[0] / image.width, size[1] / image.height
        if not image.hasalpha():
            return image.resize(across, vscale=down)
        # Colour under alpha is weighed by it, or the edges of what is seen take on the colour of what is not.
        kind = image.format
        weighed = image.premultiply()
        if _is_all_or_nothing(image):
            weighed = weighed.cast(kind)  # loses nothing, and bytes are resized in a third of the time of floats
        return weighed.resize(across, vscale=down).unpremultiply().cast(kind)

    return step


def _is_all_or_nothing(image: pyvips.Image) -> bool:
    # A pixel of a GIF is seen or is not; there is no half.
    return bool(image.get_typeof("vips-loader") and image.get("vips-loader").startswith("gifload"))


def in_srgb(image: pyvips.Image) -> pyvips.Image:
    """The colours as sRGB, or grey, of 8 bits a channel; what the file's profile says is done to the pixels."""
    is_ink = image.interpretation == "cmyk"
    if is_ink or (image.get_typeof("icc-profile-data") and not _is_in_srgb(image)):
        try:
            image = _by_profile(image, "cmyk" if is_ink else "srgb")
        except pyvips.Error:  # a profile that is broken or of another kind of picture: read as if there were none
            image = image.copy()
            image.remove("icc-profile-data")
            image = _by_profile(image, "cmyk") if is_ink else image
    is_grey = image.interpretation in ("b-w", "grey16")
    return image.colourspace("b-w" if is_grey else "srgb").cast("uchar")


def _is_in_srgb(image: pyvips.Image) -> bool:
    profile = bytes(image.get("icc-profile-data"))
    return image.interpretation == "srgb" and len(profile) <= MAX_KNOWN_PROFILE_BYTES and _is_srgb(profile)


@lru_cache(KNOWN_PROFILES)
def _is_srgb(profile: bytes) -> bool:
    # Whether a profile changes nothing, tried on 512 colours: most are one of a few sRGB, and each transform takes 5 ms to set up.
    places = pyvips.Image.xyz(8, 64)
    colours = (places[0] * 36).bandjoin([(places[1] % 8) * 36, (places[1] / 8).floor() * 36])
    colours = colours.cast("uchar").copy(interpretation="srgb")
    colours.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    try:
        return bool((_by_profile(colours, "srgb").cast("short") - colours.cast("short")).abs().max() <= 1)
    except pyvips.Error:
        return False


def _by_profile(image: pyvips.Image, otherwise: str) -> pyvips.Image:
    # By the profile that the file has, or that of libvips called *otherwise*: the usual inks on coated paper, for one.
    return image.icc_transform(
        "srgb", embedded=True, input_profile=otherwise, depth=8, intent="relative", black_point_compensation=True
    )


def grey(image: pyvips.Image) -> pyvips.Image:
    """The picture without its colours."""
    return image.colourspace("b-w")


def blurred(sigma: float) -> Step:
    """Blur the picture by a Gaussian of *sigma* pixels; what is seen through does not bleed into what is seen."""

    def step(image: pyvips.Image) -> pyvips.Image:
        if not image.hasalpha():
            return image.gaussblur(sigma)
        return image.premultiply().gaussblur(sigma).unpremultiply().cast(image.format)

    return step


def sharpened(sigma: float) -> Step:
    """Sharpen the brightness of the picture by an unsharp mask of *sigma* pixels."""

    def step(image: pyvips.Image) -> pyvips.Image:
        kind = image.interpretation
        return image.sharpen(sigma=sigma).colourspace(kind).cast("uchar")

    return step


def upright(turn: int) -> Step:
    """Turn and mirror what lies in the file by EXIF orientation *turn*."""

    def step(image: pyvips.Image) -> pyvips.Image:
        if turn == 1:
            return image
        degrees, is_mirrored = TURNS[turn]
        image = image.copy_memory()
        if is_mirrored:
            image = image.fliphor()
        return image.rot(f"d{degrees}") if degrees else image

    return step


def over(ground: Colour | None) -> Step:
    """Lay the picture over *ground*; None leaves its transparency."""

    def step(image: pyvips.Image) -> pyvips.Image:
        if ground is None or not image.hasalpha():
            return image
        image = _coloured(image, ground)
        if len(ground) == 3:
            return image.flatten(background=_values(ground, image)[:-1])
        behind = (pyvips.Image.black(image.width, image.height, bands=image.bands) + _values(ground, image)).cast("uchar")
        return behind.copy(interpretation=image.interpretation).composite2(image, "over").cast("uchar")

    return step


def padded(box: Size, gravity: str | None, ground: Colour) -> Step:
    """Lay a frame of *ground* around the picture, so that the whole is *box*."""

    def step(image: pyvips.Image) -> pyvips.Image:
        return _on(image, ground, corner(box, (image.width, image.height), gravity), box)

    return step


def framed(pad: tuple[int, int, int, int], ground: Colour) -> Step:
    """Lay a border of *ground* around the picture: *pad* is its width at the top, right, bottom and left."""
    top, right, bottom, left = pad

    def step(image: pyvips.Image) -> pyvips.Image:
        return _on(image, ground, (left, top), (image.width + left + right, image.height + top + bottom))

    return step


def watermarked(mark: Watermark) -> Step:
    """Lay *mark* over the picture; it shrinks where it would not fit between its margins."""

    def step(image: pyvips.Image) -> pyvips.Image:
        margin = round(mark.margin * min(image.width, image.height))
        room = max(1, image.width - 2 * margin), max(1, image.height - 2 * margin)
        width = min(room[0], max(1, round(mark.size * image.width)))
        laid = pyvips.Image.thumbnail(mark.path, width, height=room[1], export_profile="srgb").colourspace("srgb").cast("uchar")
        laid = laid if laid.hasalpha() else laid.addalpha()
        laid = laid * [1, 1, 1, mark.opacity]
        left, top = corner(room, (laid.width, laid.height), mark.place)
        colour = image.colourspace("srgb")
        over = colour.composite2(laid.copy(interpretation="srgb"), "over", x=margin + left, y=margin + top)
        return (over if image.hasalpha() else over.extract_band(0, n=3)).cast("uchar")

    return step


def cropped(box: Size, gravity: str | None) -> Step:
    """Cut *box* out of every frame, at one place: a look at the first frame decides it where *gravity* asks for one."""
    found: list[Size] = []

    def step(image: pyvips.Image) -> pyvips.Image:
        if not found and gravity in SEEKING:
            image = image.copy_memory()
            cut = image.smartcrop(*box, interesting=gravity)
            found.append((-cut.xoffset, -cut.yoffset))
        elif not found:
            found.append(corner((image.width, image.height), box, gravity))
        return image.crop(*found[0], *box)

    return step


def _on(image: pyvips.Image, ground: Colour, place: Size, size: Size) -> pyvips.Image:
    # The picture at *place* on a sheet of that *size* and colour.
    image = _coloured(image, ground)
    if len(ground) == 4 and not image.hasalpha():
        image = image.addalpha()
    values = _values(ground, image)
    return image.embed(*place, *size, extend="background", background=values if image.hasalpha() else values[:-1])


def _coloured(image: pyvips.Image, ground: Colour) -> pyvips.Image:
    # A grey picture takes colour when the ground has some.
    return image.colourspace("srgb") if image.interpretation == "b-w" and len(set(ground[:3])) > 1 else image


def _values(ground: Colour, image: pyvips.Image) -> list[int]:
    # The ground as values of the picture's colours and alpha.
    return [*(ground[:3] if image.bands >= 3 else ground[:1]), ground[3] if len(ground) == 4 else 255]

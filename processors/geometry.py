"""Where the pixels go: sizes, parts and turns, computed before a pixel is read. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from processors.errors import BadParameter
from processors.transform import FOCAL, Fit, Transform

# Degrees clockwise after an optional mirroring from left to right, by EXIF orientation (TIFF 6.0, Orientation).
TURNS = {
    **{1: (0, False), 2: (0, True), 3: (180, False), 4: (180, True)},
    **{5: (270, True), 6: (90, False), 7: (90, True), 8: (270, False)},
}
SEEKING = frozenset(("attention", "entropy"))
"""gravities that are decided by a look at the picture"""
_SIDES = {"left": 0.0, "right": 1.0, "top": 0.0, "bottom": 1.0}
_TURN_OF = {way: turn for turn, way in TURNS.items()}
_FLIPS = {"h": (0, True), "v": (180, True), "hv": (180, False)}

Size = tuple[int, int]
Area = tuple[int, int, int, int]
"""left, top, width, height in pixels"""


@dataclass(frozen=True, slots=True)
class Plan:
    """*area* is cut out of the picture as it is stored, resized so that it is *scaled* once it is turned by *turn* (an EXIF
    orientation); then *box* is cut out of that or laid around it where *gravity* wants it, and *frame* is the box with its
    border. Pixels, as seen.
    """

    area: Area
    turn: int
    scaled: Size
    box: Size
    frame: Size
    gravity: str | None = None


def planned(stored: Size, turn: int, transform: Transform, max_side_px: int, trimmed: Area | None = None) -> Plan:
    """What *transform* does to a picture that is *stored* as large as that, and seen when it is turned by *turn*.

    *trimmed* is what is left of it, as seen, without its border. Nothing is enlarged without ``up``, and no side is less than
    a pixel or more than *max_side_px*. A cover box larger than the picture keeps its shape and shrinks until it fits; a pad
    box keeps its size, and the picture in it keeps its own. Raises BadParameter for a crop that lies outside.
    """
    seen = unturned(stored, turn)
    area = _cropped(trimmed or (0, 0, *seen), transform.crop)
    whole_turn = turned(turn, transform.rot, transform.flip)
    size = (area[3], area[2]) if (TURNS[whole_turn][0] - TURNS[turn][0]) % 180 else (area[2], area[3])
    scaled, box = _resized(size, _boxed(transform, size), max_side_px)
    top, right, bottom, left = transform.pad or (0, 0, 0, 0)
    frame = box[0] + left + right, box[1] + top + bottom
    if max(frame) > max(max_side_px, *box):
        raise BadParameter(
            "with its pad the picture is larger than is made here", param="pad", allowed=f"sides up to {max_side_px}"
        )
    return Plan(_as_stored(area, seen, turn), whole_turn, scaled, box, frame, _gravity(transform, area, seen))


def turned(turn: int, rot: int | None, flip: str | None) -> int:
    """The orientation of what is turned by *turn*, then by *rot* degrees clockwise, then mirrored as *flip* says."""
    degrees, is_mirrored = TURNS[turn]
    degrees += rot or 0
    if flip is not None:
        more, mirrors = _FLIPS[flip]
        degrees = more - degrees if mirrors else more + degrees
        is_mirrored ^= mirrors
    return _TURN_OF[degrees % 360, is_mirrored]


@dataclass(frozen=True, slots=True)
class _Box:
    width: int | None
    height: int | None
    fit: Fit | None
    up: bool


def _boxed(transform: Transform, size: Size) -> _Box:
    # The box of w and h; where a shape is given, it makes the other side, or the largest box of that shape.
    width, height, ratio = transform.width, transform.height, transform.ratio
    if ratio is not None:
        across, down = ratio
        if width is None and height is None:
            scale = min(size[0] / across, size[1] / down)
            width, height = max(1, round(across * scale)), max(1, round(down * scale))
        elif height is None:
            height = max(1, round((width or 1) * down / across))
        else:
            width = max(1, round(height * across / down))
    return _Box(width, height, transform.fit, bool(transform.up))


def _resized(size: Size, wanted: _Box, max_side_px: int) -> tuple[Size, Size]:
    # The size of the whole picture, and that of the box.
    width, height = size
    if wanted.width is None or wanted.height is None:
        scale = wanted.width / width if wanted.width else wanted.height / height if wanted.height else 1.0
        scaled = _whole(size, scale, wanted.up, max_side_px)
        return scaled, scaled
    box = min(wanted.width, max_side_px), min(wanted.height, max_side_px)
    across, down = box[0] / width, box[1] / height
    if wanted.fit is Fit.STRETCH:
        scaled = box if wanted.up else (min(box[0], width), min(box[1], height))
        return scaled, scaled
    if wanted.fit is Fit.COVER:
        box = _sides(box, 1.0 if wanted.up else min(1.0, 1 / max(across, down)))
        scaled = _sides(size, max(box[0] / width, box[1] / height))
        return (max(scaled[0], box[0]), max(scaled[1], box[1])), box
    scaled = _whole(size, max(across, down) if wanted.fit is Fit.OUTSIDE else min(across, down), wanted.up, max_side_px)
    return scaled, box if wanted.fit is Fit.PAD else scaled


def _whole(size: Size, scale: float, up: bool, max_side_px: int) -> Size:
    return _sides(size, min(scale if up else min(scale, 1.0), max_side_px / max(size)))


def _sides(size: Size, scale: float) -> Size:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _cropped(area: Area, crop: str | None) -> Area:
    # The part of *area* that a crop in pixels or fractions names.
    if crop is None:
        return area
    numbers = [float(number) for number in crop.split(",")]
    if "." in crop:
        numbers = [number * side for number, side in zip(numbers, (area[2], area[3]) * 2, strict=True)]
    left, top = round(numbers[0]), round(numbers[1])
    right, bottom = min(area[2], round(numbers[0] + numbers[2])), min(area[3], round(numbers[1] + numbers[3]))
    if "." in crop:  # a fraction of a small picture may be less than a pixel
        left, top = min(left, area[2] - 1), min(top, area[3] - 1)
        right, bottom = max(right, left + 1), max(bottom, top + 1)
    if right <= left or bottom <= top:
        raise BadParameter("the crop lies outside of the picture", param="crop", allowed=f"a part of {area[2]} by {area[3]} pixels")
    return area[0] + left, area[1] + top, right - left, bottom - top


def _gravity(transform: Transform, area: Area, seen: Size) -> str | None:
    # A focal point is one of the whole picture: where is it in the part that is left, once that is turned and mirrored?
    if transform.gravity is None or not transform.gravity.startswith(FOCAL):
        return transform.gravity
    x, y = (float(number) for number in transform.gravity.removeprefix(FOCAL).split("x"))
    x = min(max(0.0, (x * seen[0] - area[0]) / area[2]), 1.0)
    y = min(max(0.0, (y * seen[1] - area[1]) / area[3]), 1.0)
    for _ in range((transform.rot or 0) // 90):
        x, y = 1 - y, x
    flip = transform.flip or ""
    return f"{1 - x if 'h' in flip else x:.4f}x{1 - y if 'v' in flip else y:.4f}"


def _as_stored(area: Area, seen: Size, turn: int) -> Area:
    # The part of a picture as seen, as it lies in the file: turned back by quarters, then mirrored back.
    degrees, is_mirrored = TURNS[turn]
    left, top, width, height = area
    across, down = seen
    for _ in range(degrees // 90):
        left, top, width, height = top, across - left - width, height, width
        across, down = down, across
    if is_mirrored:
        left = across - left - width
    return left, top, width, height


def as_seen(area: Area, stored: Size, turn: int) -> Area:
    """A part of a picture as it lies in the file, as it is seen when the picture is turned by *turn*."""
    degrees, is_mirrored = TURNS[turn]
    left, top, width, height = area
    across, down = stored
    if is_mirrored:
        left = across - left - width
    for _ in range(degrees // 90):
        left, top, width, height = down - top - height, left, height, width
        across, down = down, across
    return left, top, width, height


def unturned(size: Size, turn: int) -> Size:
    """A size as seen, as it lies in a file of EXIF orientation *turn*; or the reverse."""
    return (size[1], size[0]) if turn >= 5 else size


def corner(outer: Size, inner: Size, gravity: str | None) -> Size:
    """Left and top of *inner* within *outer*, where *gravity* wants it: a side, a corner, or a point of *outer* to be near."""
    room = outer[0] - inner[0], outer[1] - inner[1]
    if gravity is None or gravity == "center" or gravity in SEEKING:
        return room[0] // 2, room[1] // 2
    if gravity[0].isdigit():
        x, _, y = gravity.partition("x")
        left, top = round(float(x) * outer[0] - inner[0] / 2), round(float(y) * outer[1] - inner[1] / 2)
        return min(max(0, left), room[0]), min(max(0, top), room[1])
    words = gravity.split("-")
    across = next((_SIDES[word] for word in words if word in ("left", "right")), 0.5)
    down = next((_SIDES[word] for word in words if word in ("top", "bottom")), 0.5)
    return round(room[0] * across), round(room[1] * down)

"""Sizes and places: how large a picture becomes, and which part of it or what around it is shown. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from processors.transform import Fit, Transform

# Degrees clockwise after an optional mirroring from left to right, by EXIF orientation (TIFF 6.0, Orientation).
TURNS = {2: (0, True), 3: (180, False), 4: (180, True), 5: (270, True), 6: (90, False), 7: (90, True), 8: (270, False)}
SEEKING = frozenset(("attention", "entropy"))
"""gravities that are decided by a look at the picture"""
_SIDES = {"left": 0.0, "right": 1.0, "top": 0.0, "bottom": 1.0}

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes in pixels as seen: the picture is resized to *scaled*, then *box* is cut out of it or laid around it."""

    scaled: Size
    box: Size


def planned(size: Size, transform: Transform, max_side_px: int) -> Plan:
    """What *transform* does to a picture of *size*. Nothing is enlarged without ``up``, and no side is less than a pixel.

    A cover box larger than the picture keeps its shape and shrinks until it fits; a pad box keeps its size, and the picture
    in it keeps its own. No side over *max_side_px* is made.
    """
    width, height = size
    across = transform.width / width if transform.width else None
    down = transform.height / height if transform.height else None
    if transform.width is None or transform.height is None or across is None or down is None:
        return _whole(size, across or down or 1.0, transform.up, max_side_px)
    wanted = (transform.width, transform.height)
    if transform.fit is Fit.STRETCH:
        scaled = wanted if transform.up else (min(wanted[0], width), min(wanted[1], height))
        return Plan(scaled, scaled)
    if transform.fit is Fit.COVER:
        box = _sides(wanted, 1.0 if transform.up else min(1.0, 1 / max(across, down)))
        scaled = _sides(size, max(box[0] / width, box[1] / height))
        return Plan((max(scaled[0], box[0]), max(scaled[1], box[1])), box)
    scale = max(across, down) if transform.fit is Fit.OUTSIDE else min(across, down)
    plan = _whole(size, scale, transform.up, max_side_px)
    return Plan(plan.scaled, wanted) if transform.fit is Fit.PAD else plan


def _whole(size: Size, scale: float, up: bool | None, max_side_px: int) -> Plan:
    scaled = _sides(size, min(scale if up else min(scale, 1.0), max_side_px / max(size)))
    return Plan(scaled, scaled)


def _sides(size: Size, scale: float) -> Size:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


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

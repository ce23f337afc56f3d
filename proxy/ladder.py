"""The sizes and qualities that anybody may ask for where renditions are rationed, so that their number stays countable. Pure."""

from __future__ import annotations

from bisect import bisect_left
from math import gcd

from processors.grammar import Query
from proxy.errors import NotOffered

WIDTHS = (
    *(16, 32, 48, 64, 96, 128, 256, 320, 384, 480, 512, 640, 750, 768, 828, 960, 1024, 1080, 1200, 1280, 1440, 1600, 1920),
    *(2048, 2560, 3840),
)
"""of a side, in pixels"""
RATIOS = ((1, 1), (4, 3), (3, 4), (3, 2), (2, 3), (16, 9), (9, 16), (4, 5), (21, 9))
"""of width to height"""
DENSITIES = ("1", "1.5", "2", "3")
QUALITIES = ("50", "60", "70", "75", "80", "85", "90", "95", "auto", "saving")
"""the words among them: low is 50, medium 70, high 85, best 95"""
POINT_STEPS = 20
"""A point of gravity lies on a grid of this many steps to each side; a finer one is moved there."""

FREE = frozenset(("w", "h", "dpr", "ar", "q", "fit", "g", "format", "anim"))
"""what anybody may say"""
OUTSIDE = frozenset(("v", "dl", "explain", "exp", "kid", "any", "s", "preset"))
"""what is no business of the ladder"""


def fitted(query: Query) -> Query:
    """*query* as it may be answered, its size in device pixels and on the ladder; raises NotOffered.

    One side is rounded up. Two must be a width of the ladder and one of the RATIOS; then the width in device pixels is rounded
    up, and the height follows. What is larger than the ladder becomes its largest.
    """
    said = dict(query.pairs)
    for name in sorted(said.keys() - OUTSIDE):
        if name not in FREE:
            raise NotOffered(f"{name} may be said only in a signed address or with a token that has media:transform", param=name)
        if name not in _ROUNDED:
            check(name, said[name])
    density = float(said.pop("dpr", "1"))
    width, height = said.get("w"), said.get("h")
    if width is not None and height is not None:
        check("w", width)
        across, down = _shape(int(width), int(height))
        rung = up(int(width) * density)
        said |= {"w": str(rung), "h": str(max(1, round(rung * down / across)))}
    elif width is not None or height is not None:
        name = "h" if width is None else "w"
        said[name] = str(up(int(said[name]) * density))
    if "g" in said:
        said["g"] = _on_grid(said["g"])
    return Query.of(said)


def check(name: str, value: str) -> None:
    """Raise NotOffered unless anybody may give *value* to *name*, whatever else is said."""
    if name in OUTSIDE:
        return
    allowed = _STEPS.get(name)
    if name not in FREE:
        raise NotOffered(f"{name} may not be changed in an address", param=name)
    if (allowed is not None and value not in allowed) or (name == "g" and _on_grid(value) != value):
        listed = "a side, or a point on a grid of twentieths" if allowed is None else ", ".join(allowed)
        raise NotOffered(f"{name} may be {listed}", param=name, allowed=listed)


def check_freed(said: Query, exact: Query) -> None:
    """Raise NotOffered unless what ``any`` leaves to the holder of a signed address is on the ladder, hints resolved in *exact*."""
    for name in (said.get("any") or "").split(","):
        if name in said and (value := exact.get(name)) is not None:
            check(name, value)


def is_beyond(query: Query) -> bool:
    """Whether a side that is asked for, in device pixels, is larger than the ladder."""
    density = float(query.get("dpr") or 1)
    return any(int(query.get(name) or 0) * density > WIDTHS[-1] for name in ("w", "h"))


def up(pixels: float) -> int:
    """The next step of the ladder from *pixels* on; its last one beyond."""
    return WIDTHS[min(bisect_left(WIDTHS, pixels), len(WIDTHS) - 1)]


def density_up(density: float) -> str:
    """The next of the DENSITIES from *density* on; the last one beyond."""
    return next((step for step in DENSITIES if float(step) >= density), DENSITIES[-1])


_ROUNDED = frozenset(("w", "h", "g"))
_SIDES = tuple(map(str, WIDTHS))
_STEPS = {
    "w": _SIDES,
    "h": _SIDES,
    "dpr": DENSITIES,
    "q": QUALITIES,
    "ar": tuple(f"{across // gcd(across, down)}:{down // gcd(across, down)}" for across, down in RATIOS),
}


def _shape(width: int, height: int) -> tuple[int, int]:
    def distance(ratio: tuple[int, int]) -> float:
        return abs(height - width * ratio[1] / ratio[0])

    nearest = min(RATIOS, key=distance)
    if distance(nearest) > 1:
        listed = ", ".join(_STEPS["ar"])
        raise NotOffered(f"w and h together may be of the shapes {listed}, within a pixel", param="h", allowed=listed)
    return nearest


def _on_grid(gravity: str) -> str:
    x, cross, y = gravity.partition("x")
    if not cross or not x[:1].isdigit():
        return gravity
    return "x".join(f"{round(float(part) * POINT_STEPS) / POINT_STEPS:g}" for part in (x, y))

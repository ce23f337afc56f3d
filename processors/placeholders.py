"""What stands for a picture until it is there: ThumbHash and BlurHash, and its dominant colour. Pure.

The formats are those of github.com/evanw/thumbhash and github.com/woltapp/blurhash, from which these differ by rounding alone.
Both are cosine transforms of a few terms, done here one side after the other: 32 x 32 pixels take less than 2 ms, where the
references' form takes ten times that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import cos, floor, pi, sqrt
from operator import mul

MAX_SIDE_PX = 100
"""of a picture that is hashed: a larger one takes longer and gives the same"""
BLURHASH_TERMS = 12
MAX_COMPONENTS = 9
SEEN = 128
"""the alpha from which on a pixel counts as visible"""
_SHADES = 3  # bits of a channel by which colours are counted: 512 bins for some thousand pixels
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"
_LINEAR = tuple(value / 255 / 12.92 if value / 255 <= 0.04045 else ((value / 255 + 0.055) / 1.055) ** 2.4 for value in range(256))

Plane = list[list[float]]
"""one channel, row by row"""


@dataclass(frozen=True, slots=True)
class Miniature:
    """A very small picture: *rgba* has four bytes a pixel, row by row, sRGB, colour not multiplied by alpha."""

    width: int
    height: int
    rgba: bytes

    def channels(self) -> list[list[list[int]]]:
        """Red, green, blue and alpha, each row by row."""
        row = self.width * 4
        return [[list(self.rgba[at + band : at + row : 4]) for at in range(0, len(self.rgba), row)] for band in range(4)]


def dominant(picture: Miniature) -> str | None:
    """The colour that most of what is visible has, as rrggbb: the mean of the fullest bin; None if nothing is visible."""
    bins: dict[tuple[int, int, int], list[int]] = {}
    fine = 8 - _SHADES
    for at in range(0, len(picture.rgba), 4):
        red, green, blue, alpha = picture.rgba[at : at + 4]
        if alpha >= SEEN:
            full = bins.setdefault((red >> fine, green >> fine, blue >> fine), [0, 0, 0, 0])
            for band, value in enumerate((red, green, blue, 1)):
                full[band] += value
    if not bins:
        return None
    *colour, count = max(bins.values(), key=lambda full: full[3])
    return bytes(_rounded(total / count) for total in colour).hex()


def thumbhash(picture: Miniature) -> bytes:
    """The ThumbHash: about 25 bytes that hold the shape, the average colour, alpha, and a very rough picture."""
    width, height = picture.width, picture.height
    luma, yellow, red_green, alpha, has_alpha = over_average(picture)
    most = 5 if has_alpha else 7
    across, down = (max(1, _rounded(most * side / max(width, height))) for side in (width, height))
    parts = [_terms(luma, max(3, across), max(3, down)), _terms(yellow, 3, 3), _terms(red_green, 3, 3)]
    (l_mean, _, l_scale), (p_mean, _, p_scale), (q_mean, _, q_scale) = parts
    is_landscape = width > height
    head = _rounded(63 * l_mean) | _rounded(31.5 + 31.5 * p_mean) << 6 | _rounded(31.5 + 31.5 * q_mean) << 12
    head |= _rounded(31 * l_scale) << 18 | has_alpha << 23
    shape = (down if is_landscape else across) | _rounded(63 * p_scale) << 3 | _rounded(63 * q_scale) << 9 | is_landscape << 15
    made = head.to_bytes(3, "little") + shape.to_bytes(2, "little")
    if has_alpha:
        parts.append(_terms(alpha, 5, 5))
        made += bytes([_rounded(15 * parts[3][0]) | _rounded(15 * parts[3][2]) << 4])
    nibbles = [_rounded(15 * (0.5 + 0.5 / scale * term if scale else 0)) for _, terms, scale in parts for term in terms]
    nibbles += [0] * (len(nibbles) % 2)
    return made + bytes(low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2], strict=True))


def blurhash(picture: Miniature) -> str:
    """The BlurHash, with about twelve components in the picture's shape: 4 x 3 for 4:3. What is transparent is averaged out."""
    across, down = components(picture.width, picture.height)
    channels = picture.channels()
    alpha = channels.pop()
    if min(map(min, alpha)) < 255:
        channels = _averaged_out(channels, alpha)
    planes = [[[_LINEAR[value] for value in row] for row in channel] for channel in channels]
    grids = [cosines(plane, across, down, middle=0.0) for plane in planes]
    mean, *halves = [tuple(grid[y][x] for grid in grids) for y in range(down) for x in range(across)]
    others = [tuple(2 * value for value in factor) for factor in halves]
    peak = max((abs(value) for factor in others for value in factor), default=0.0)
    level = max(0, min(82, floor(peak * 166 - 0.5))) if others else 0
    scale = (level + 1) / 166 if others else 1.0
    text = _digits(across - 1 + (down - 1) * 9, 1) + _digits(level, 1)
    text += _digits(int.from_bytes(bytes(_srgb(value) for value in mean), "big"), 4)
    for factor in others:
        red, green, blue = (max(0, min(18, floor(_signed_root(value / scale) * 9 + 9.5))) for value in factor)
        text += _digits((red * 19 + green) * 19 + blue, 2)
    return text


def components(width: int, height: int) -> tuple[int, int]:
    """How many terms a BlurHash has to the right and down: about twelve, one at least and nine at most each way."""
    sides = (sqrt(BLURHASH_TERMS * width / height), sqrt(BLURHASH_TERMS * height / width))
    across, down = (max(1, min(MAX_COMPONENTS, _rounded(side))) for side in sides)
    return across, down


def over_average(picture: Miniature) -> tuple[Plane, Plane, Plane, Plane, bool]:
    """Brightness, yellow to blue, red to green, alpha, and whether it has any; colours lie over the average of what is visible."""
    *colours, opacity = picture.channels()
    alpha = [[value / 255 for value in row] for row in opacity]
    total = sum(map(sum, alpha))
    has_alpha = total < picture.width * picture.height - 1e-9
    planes = [[[value / 255 for value in row] for row in channel] for channel in colours]
    if has_alpha:
        means = [
            sum(sum(map(mul, row, over)) for row, over in zip(plane, alpha, strict=True)) / total if total else 0.0
            for plane in planes
        ]
        planes = [
            [
                [mean * (1 - over) + over * value for value, over in zip(row, cover, strict=True)]
                for row, cover in zip(plane, alpha, strict=True)
            ]
            for plane, mean in zip(planes, means, strict=True)
        ]
    rows = [list(zip(*row, strict=True)) for row in zip(*planes, strict=True)]
    luma = [[(red + green + blue) / 3 for red, green, blue in row] for row in rows]
    yellow = [[(red + green) / 2 - blue for red, green, blue in row] for row in rows]
    red_green = [[red - green for red, green, _ in row] for row in rows]
    return luma, yellow, red_green, alpha, has_alpha


def _terms(plane: Plane, across: int, down: int) -> tuple[float, list[float], float]:
    # The mean, the other terms in the order of the format (a triangle of the grid), and the largest of them.
    grid = cosines(plane, across, down)
    kept = [grid[y][x] for y in range(down) for x in range(across) if x * down < across * (down - y)]
    return kept[0], kept[1:], max(map(abs, kept[1:]), default=0.0)


def cosines(plane: Plane, across: int, down: int, *, middle: float = 0.5) -> list[list[float]]:
    """Cosine terms of a plane by row and column, divided by its pixels. *middle* is where a pixel lies from its left and top.

    ThumbHash samples in its centre, BlurHash at its corner.
    """
    height, width = len(plane), len(plane[0])
    by_row = [[sum(map(mul, row, wave)) for wave in _waves(width, across, middle)] for row in plane]
    columns = list(zip(*by_row, strict=True))
    return [[sum(map(mul, column, wave)) / (width * height) for column in columns] for wave in _waves(height, down, middle)]


@lru_cache(64)
def _waves(size: int, count: int, middle: float) -> Sequence[Sequence[float]]:
    return tuple(tuple(cos(pi / size * number * (at + middle)) for at in range(size)) for number in range(count))


def _averaged_out(channels: list[list[list[int]]], alpha: list[list[int]]) -> list[list[list[int]]]:
    total = sum(map(sum, alpha)) or 1
    flat = []
    for channel in channels:
        mean = sum(sum(map(mul, row, over)) for row, over in zip(channel, alpha, strict=True)) / total
        flat.append(
            [
                [_rounded((value * cover + mean * (255 - cover)) / 255) for value, cover in zip(row, over, strict=True)]
                for row, over in zip(channel, alpha, strict=True)
            ]
        )
    return flat


def _srgb(value: float) -> int:
    value = max(0.0, min(1.0, value))
    return floor((value * 12.92 if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055) * 255 + 0.5)


def _signed_root(value: float) -> float:
    return sqrt(value) if value >= 0 else -sqrt(-value)


def _digits(value: int, length: int) -> str:
    return "".join(_DIGITS[value // 83**place % 83] for place in reversed(range(length)))


def _rounded(value: float) -> int:
    # As Math.round: a half goes up, not to the even number.
    return floor(value + 0.5)

"""Values of the grammar that are numbers: each function gives the one canonical text of a value, or refuses it.

Numbers are written without sign, without leading zeros and without zeros at the end: ``0.5``, not ``.50``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import gcd
from typing import NoReturn

from processors.errors import BadParameter

MAX_SIDE_PX = 8192
MAX_SOURCE_PX = 1_000_000
MAX_BORDER_PX = 2000
MAX_PAGE = 100_000
MAX_SECONDS = 999_999
MAX_TILES = 10
"""of a storyboard, each way"""
MAX_PREVIEW_SECONDS = 10
TOLERANCE = 10
"""what ``trim=auto`` means: steps of 255 by which a border may differ from its corner"""

_DECIMAL = re.compile(r"0{0,8}(\d{0,6})(?:\.(\d{1,4})0{0,8})?", re.ASCII)
_WHOLE = re.compile(r"0{0,8}(\d{1,9})", re.ASCII)
_TILES = re.compile(r"([1-9]\d?)x([1-9]\d?)", re.ASCII)
_CLOCK = re.compile(r"(?:(\d{1,3})h)?(?:(\d{1,4})m)?(?:(\d{1,6}(?:\.\d{1,3})?)s?)?", re.ASCII)


def refuse(given: str, allowed: str, detail: str = "") -> NoReturn:
    """Raise BadParameter for the parameter that was *given*: what it may be."""
    raise BadParameter(detail or f"{given} may be {allowed}", param=given, allowed=allowed)


def _whole(given: str, value: str, low: int, high: int, allowed: str = "") -> int:
    match = _WHOLE.fullmatch(value)
    if match is None or not low <= int(match[1]) <= high:
        refuse(given, allowed or f"{low} to {high}")
    return int(match[1])


def _decimal(value: str, places: int) -> str | None:
    # The canonical text of a number, None for what is none.
    match = _DECIMAL.fullmatch(value)
    if match is None or not (match[1] or match[2] or value.startswith("0")):
        return None
    decimals = (match[2] or "").rstrip("0")
    if len(decimals) > places:
        return None
    whole = match[1].lstrip("0") or "0"
    return f"{whole}.{decimals}" if decimals else whole


def side(given: str, value: str) -> str:
    """A width or a height in CSS pixels."""
    return str(_whole(given, value, 1, MAX_SIDE_PX))


def device_ratio(given: str, value: str) -> str:
    """Device pixels for each CSS pixel."""
    text = _decimal(value, 2)
    if text is None or not 1 <= float(text) <= 4:
        refuse(given, "1 to 4, with at most two decimals")
    return text


def quality(given: str, value: str) -> str:
    """A quality on the JPEG scale."""
    return str(_whole(given, value, 1, 100, "1 to 100, or low, medium, high, best, auto"))


def size(given: str, value: str) -> str:
    """A number of bytes."""
    return str(_whole(given, value, 1, 1 << 28))


def ordinal(given: str, value: str) -> str:
    """A page, counted from 1."""
    return str(_whole(given, value, 1, MAX_PAGE))


def tolerance(given: str, value: str) -> str:
    """How far a border may be from the colour of its corner, and still be a border."""
    return str(TOLERANCE) if value.lower() == "auto" else str(_whole(given, value, 0, 254, "auto, or 0 to 254"))


def number(low: float, high: float) -> Callable[[str, str], str]:
    """A number from *low* to *high* with at most two decimals."""

    def reader(given: str, value: str) -> str:
        text = _decimal(value, 2)
        if text is None or not low <= float(text) <= high:
            refuse(given, f"{low:g} to {high:g}, with at most two decimals")
        return text

    return reader


def aspect(given: str, value: str) -> str:
    """A shape as width:height, in its lowest terms; also one number."""
    width, colon, height = value.partition(":")
    across, down = _decimal(width, 4), _decimal(height, 4) if colon else "1"
    if across is None or down is None or not 0.01 <= (float(across) / (float(down) or 1e9)) <= 100:
        refuse(given, "width:height, such as 16:9, from 1:100 to 100:1")
    numerator, denominator = round(float(across) * 10_000), round(float(down) * 10_000)
    common = gcd(numerator, denominator)
    return f"{numerator // common}:{denominator // common}"


def point(given: str, value: str) -> str:
    """A place as XxY, from 0x0 (top left) to 1x1."""
    x, cross, y = value.partition("x")
    place = [_decimal(part, 4) for part in (x, y)]
    if not cross or any(part is None or float(part) > 1 for part in place):
        refuse(given, "center, top, top-right and so on, attention, entropy, focal, or XxY with both from 0 to 1")
    return f"{place[0]}x{place[1]}"


def area(given: str, value: str) -> str:
    """A part of the picture as x,y,width,height: in pixels, or, if a dot is in it, in fractions of its sides."""
    allowed = "x,y,width,height in pixels, or in fractions of the picture, written with a dot"
    numbers = [_decimal(part, 4) for part in value.split(",")]
    if len(numbers) != 4 or any(number is None for number in numbers):
        refuse(given, allowed)
    texts = [text for text in numbers if text is not None]
    x, y, width, height = (float(text) for text in texts)
    if "." in value:
        if not (width and height) or x + width > 1.0001 or y + height > 1.0001:
            refuse(given, allowed, "a crop in fractions lies within 0 and 1, and has a width and a height")
        return "0.0,0,1,1" if all("." not in text for text in texts) else ",".join(texts)
    if not (width and height) or max(x, y, width, height) > MAX_SOURCE_PX:
        refuse(given, allowed)
    return ",".join(texts)


def border(given: str, value: str) -> str:
    """The width of a frame in CSS pixels: one number, or top,right,bottom,left."""
    parts = value.split(",")
    if len(parts) not in (1, 4):
        refuse(given, f"one number, or top,right,bottom,left, each from 0 to {MAX_BORDER_PX}")
    sides = [str(_whole(given, part, 0, MAX_BORDER_PX)) for part in parts]
    return sides[0] if len(set(sides)) == 1 else ",".join(sides)


def tiles(given: str, value: str) -> str:
    """Columns and rows of a storyboard, as CxR."""
    match = _TILES.fullmatch(value)
    if match is None or not all(1 <= int(part) <= MAX_TILES for part in match.groups()) or match.groups() == ("1", "1"):
        refuse(given, f"columns x rows, such as 5x4, each from 1 to {MAX_TILES}, and two pictures or more")
    return value


def length(given: str, value: str) -> str:
    """How many seconds a preview takes."""
    text = _decimal(value, 1)
    if text is None or not 1 <= float(text) <= MAX_PREVIEW_SECONDS:
        refuse(given, f"1 to {MAX_PREVIEW_SECONDS} seconds, with at most one decimal")
    return text


def moment(given: str, value: str) -> str:
    """A moment of a film: ``auto``, seconds, ``1m30s``, or ``50%`` of its length."""
    text = value.lower()
    if text == "auto":
        return text
    if text.endswith("%"):
        part = _decimal(text[:-1], 2)
        if part is not None and float(part) <= 100:
            return f"{part}%"
    match = _CLOCK.fullmatch(text)
    if text and match is not None and any(match.groups()):
        hours, minutes, seconds = (float(part or 0) for part in match.groups())
        total = hours * 3600 + minutes * 60 + seconds
        if total <= MAX_SECONDS:
            return f"{total:.3f}".rstrip("0").rstrip(".")
    refuse(given, "auto, seconds such as 5 or 1.5, 1m30s, or a part such as 50%")

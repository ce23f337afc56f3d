"""What a picture shall become: the query string of an address, read strictly, and its one canonical text.

A query says each thing once, in names and values of this grammar; anything else is refused with what would have been right.
Cache busters and trackers are dropped, the names of signed addresses are left to others.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import unquote_to_bytes

from processors.colours import COLOURS
from processors.errors import BadParameter
from processors.formats import FORMATS, Kind, by_mime

PIPELINE_REVISION = 1
"""Raised whenever the same transform of the same source gives other pixels: every kept rendition then gets a new name."""

MAX_SIDE_PX = 8192
MAX_NAME_CHARS = 255
DEFAULT_QUALITY = 80
CACHED_CHARS = 512  # of one query or Accept: what is longer is parsed each time, so that a cache has a size in bytes
CACHED = 2048


class Fit(StrEnum):
    """How a picture meets the box of w and h."""

    INSIDE = "inside"
    COVER = "cover"
    PAD = "pad"
    STRETCH = "stretch"
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class Transform:
    """One rendition. None is what the query did not say.

    *width* and *height* are device pixels: dpr is folded in. *gravity* is a compass name, ``center``, ``attention``,
    ``entropy`` or ``XxY`` from 0x0 (top left) to 1x1. *quality* is on the JPEG scale. *bg* is rrggbb or rrggbbaa.
    *download* and *version* concern the answer, not the picture, and are not in the canonical text.
    """

    width: int | None = None
    height: int | None = None
    fit: Fit | None = None
    gravity: str | None = None
    quality: int | None = None
    format: str | None = None
    up: bool | None = None
    bg: str | None = None
    download: str | None = None
    version: str | None = None
    canonical: str = field(init=False, compare=False, default="")
    """the one text of everything that asks for the same: names sorted by byte, nothing percent-encoded"""

    def __post_init__(self) -> None:
        up = None if self.up is None else int(self.up)
        pairs = (
            *(("bg", self.bg), ("fit", self.fit), ("format", self.format), ("g", self.gravity), ("h", self.height)),
            *(("q", self.quality), ("up", up), ("w", self.width)),
        )
        object.__setattr__(self, "canonical", "&".join(f"{name}={value}" for name, value in pairs if value is not None))

    @classmethod
    def parse(cls, query: str) -> Transform:
        """The transform of a raw query string; raises BadParameter with *param*, *allowed* and, if one is like it, *nearest*."""
        return _kept(query) if len(query) <= CACHED_CHARS else _parsed(query)

    @classmethod
    def restore(cls, canonical: str) -> Transform:
        """The transform of a canonical text that we made, `settled` formats included."""
        return _parsed(canonical, _SETTLED_FORMATS)

    @property
    def is_identity(self) -> bool:
        """Whether nothing was asked of the picture: the stored bytes are the answer."""
        return not self.canonical

    @property
    def varies(self) -> bool:
        """Whether the answer depends on Accept."""
        return self.format == "auto"

    def settled(self, source_mime: str, accept: str = "") -> Transform:
        """The same rendition with its format decided, and without what makes no difference, so that it has one name.

        What only a look into the file tells is left to the renderer: ``small`` is AVIF, or WebP where AVIF would take too
        long, ``plain`` is JPEG, PNG for a picture with alpha, GIF for an animation.
        """
        bare = self if self.download is None and self.version is None else replace(self, download=None, version=None)
        return _settled(bare, source_mime, _accepted(accept[:CACHED_CHARS]) if self.format == "auto" else ())


# -- the grammar ----------------------------------------------------------------------------------------------------------

_ALIASES = {
    **{"w": "w", "width": "w", "h": "h", "height": "h", "dpr": "dpr", "dppx": "dpr", "fit": "fit", "up": "up", "enlarge": "up"},
    **{"g": "g", "gravity": "g", "position": "g", "q": "q", "quality": "q", "bg": "bg", "v": "v", "dl": "dl", "download": "dl"},
    **{"format": "format", "f": "format", "fm": "format", "output": "format", "auto": "format"},
    **{"exp": "exp", "kid": "kid", "any": "any", "s": "s"},
}
_SIGNING = frozenset(("exp", "kid", "any", "s"))
_IGNORED = frozenset(("t", "ts", "_", "cb", "nocache", "ref", "fbclid", "gclid"))

_FITS = {
    **{str(fit): fit for fit in Fit},
    **dict.fromkeys(("scale-down", "contain", "clip", "max", "limit"), Fit.INSIDE),
    **dict.fromkeys(("scale", "squeeze", "force"), Fit.STRETCH),
    **{"crop": Fit.COVER, "letterbox": Fit.PAD},
}
_FORMATS = {name: name for name in ("source", "auto", "jpg", "png", "webp", "avif", "gif")} | {"jpeg": "jpg"}
_SETTLED_FORMATS = _FORMATS | {"small": "small", "plain": "plain"}
_QUALITIES = {"low": 50, "medium": 70, "high": 85, "best": 95}
_GRAVITIES = {
    **{name: name for name in ("center", "attention", "entropy", "top", "right", "bottom", "left")},
    **{name: name for name in ("top-left", "top-right", "bottom-left", "bottom-right")},
    **{"centre": "center", "auto": "attention", "smart": "attention"},
    **{"n": "top", "e": "right", "s": "bottom", "w": "left"},
    **{"ne": "top-right", "nw": "top-left", "se": "bottom-right", "sw": "bottom-left"},
    **{"north": "top", "east": "right", "south": "bottom", "west": "left"},
    **{"northeast": "top-right", "northwest": "top-left", "southeast": "bottom-right", "southwest": "bottom-left"},
}
_SWITCH = {"0": False, "1": True}

_WHOLE = re.compile(r"0{0,8}(\d{1,4})", re.ASCII)
_RATIO = re.compile(r"0{0,8}(\d)(?:\.(\d{1,2})0{0,8})?", re.ASCII)
_POINT = re.compile(r"(0{0,8}1?)(?:\.(\d{1,4})0{0,8})?x(0{0,8}1?)(?:\.(\d{1,4})0{0,8})?", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{3}|[0-9a-f]{6}|[0-9a-f]{8}")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,23}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _parsed(query: str, formats: dict[str, str] = _FORMATS) -> Transform:
    said: dict[str, tuple[str, str]] = {}
    for given, value in _pairs(query):
        name = _ALIASES.get(given)
        if name is None:
            if given in _IGNORED or given.startswith("utm_"):
                continue
            _unknown(given)
        if name in said:
            raise BadParameter(f"{name} is given more than once", param=name, allowed="one value")
        said[name] = given, value
    read: dict[str, Any] = {}
    for name, (given, value) in said.items():
        if name == "format":
            read["format"] = _format(given, value, formats)
        elif name == "dpr":
            continue
        elif name not in _SIGNING:
            field_name, reader = _READERS[name]
            read[field_name] = reader(given, value)
    if "dpr" in said:
        hundredths = _ratio(*said["dpr"])
        for name, side in (("w", "width"), ("h", "height")):
            if side in read:
                read[side] = _device_px(read[side], hundredths, said[name][0])
    return Transform(**read)


_kept = lru_cache(CACHED)(_parsed)


def _pairs(query: str) -> Iterator[tuple[str, str]]:
    for pair in query.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            yield _decoded(name), _decoded(value)


def _decoded(text: str) -> str:
    # As forms write it: + is a space, %XX a byte of UTF-8.
    if text.isascii() and "%" not in text and "+" not in text:
        return text
    if _BAD_ESCAPE.search(text):
        raise BadParameter("a % in the query is not followed by two hexadecimal digits", allowed="percent-encoded UTF-8")
    try:
        return unquote_to_bytes(text.replace("+", " ")).decode()
    except UnicodeError:
        raise BadParameter("the query is not UTF-8", allowed="percent-encoded UTF-8") from None


def _unknown(given: str) -> NoReturn:
    known = sorted(_ALIASES)
    near = difflib.get_close_matches(given[:24].lower(), known, n=1)
    members: dict[str, Any] = {"param": given} if _PLAIN_NAME.fullmatch(given) else {}
    if near:
        members["nearest"] = near[0]
    raise BadParameter("a parameter has a name that is not known", allowed=known, **members)


def _refuse(given: str, allowed: str, detail: str = "") -> NoReturn:
    raise BadParameter(detail or f"{given} may be {allowed}", param=given, allowed=allowed)


def _side(given: str, value: str) -> int:
    match = _WHOLE.fullmatch(value)
    if match is None or not 1 <= (side := int(match[1])) <= MAX_SIDE_PX:
        _refuse(given, f"1 to {MAX_SIDE_PX}")
    return side


def _ratio(given: str, value: str) -> int:
    match = _RATIO.fullmatch(value)
    hundredths = 0 if match is None else int(match[1]) * 100 + int((match[2] or "").ljust(2, "0"))
    if not 100 <= hundredths <= 400:
        _refuse(given, "1 to 4, with at most two decimals")
    return hundredths


def _device_px(side: int, hundredths: int, given: str) -> int:
    pixels = (side * hundredths + 50) // 100
    if pixels > MAX_SIDE_PX:
        _refuse(given, f"1 to {MAX_SIDE_PX} after dpr is multiplied in")
    return pixels


def _fit(given: str, value: str) -> Fit:
    fit = _FITS.get(value.lower())
    if fit is None:
        allowed = ", ".join(Fit)
        if value.lower() == "fill":
            _refuse(given, allowed, "fill means stretch (CSS), pad (imgix) or cover (Cloudinary): say stretch, pad or cover")
        _refuse(given, allowed)
    return fit


def _gravity(given: str, value: str) -> str:
    text = value.lower()
    name = _GRAVITIES.get(text)
    if name is not None:
        return name
    match = _POINT.fullmatch(text)
    if match is not None:
        x, y = _fraction(match[1], match[2]), _fraction(match[3], match[4])
        if x is not None and y is not None:
            return f"{x}x{y}"
    _refuse(given, "center, top, top-right and so on, attention, entropy, or XxY with both from 0 to 1")


def _fraction(whole: str, decimals: str | None) -> str | None:
    # The canonical text of a number from 0 to 1, None for any other.
    rest = (decimals or "").rstrip("0")
    if whole.endswith("1"):
        return None if rest else "1"
    if not whole and decimals is None:
        return None
    return f"0.{rest}" if rest else "0"


def _quality(given: str, value: str) -> int:
    word = _QUALITIES.get(value.lower())
    if word is not None:
        return word
    match = _WHOLE.fullmatch(value)
    if match is None or not 1 <= (quality := int(match[1])) <= 100:
        _refuse(given, "1 to 100, or low, medium, high, best")
    return quality


def _format(given: str, value: str, formats: dict[str, str]) -> str:
    text = value.lower()
    if given == "auto":  # the spelling auto=format
        if text != "format":
            _refuse(given, "format")
        return "auto"
    name = formats.get(text)
    if name is None:
        _refuse(given, "source, auto, jpg, png, webp, avif, gif")
    return name


def _switch(given: str, value: str) -> bool:
    switch = _SWITCH.get(value)
    if switch is None:
        _refuse(given, "0 or 1")
    return switch


def _colour(given: str, value: str) -> str:
    text = value.lower()
    text = COLOURS.get(text, text)
    if not _HEX.fullmatch(text):
        _refuse(given, "rrggbb, rrggbbaa, rgb, or a colour name of CSS")
    if len(text) == 3:
        text = "".join(digit * 2 for digit in text)
    return text[:6] if text[6:] == "ff" else text


def _download(given: str, value: str) -> str:
    if len(value) > MAX_NAME_CHARS or _CONTROL.search(value):
        _refuse(given, f"a file name of at most {MAX_NAME_CHARS} characters")
    return value


def _version(given: str, value: str) -> str:
    return value


_READERS: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "w": ("width", _side),
    "h": ("height", _side),
    "fit": ("fit", _fit),
    "g": ("gravity", _gravity),
    "q": ("quality", _quality),
    "up": ("up", _switch),
    "bg": ("bg", _colour),
    "dl": ("download", _download),
    "v": ("version", _version),
}


# -- settling -------------------------------------------------------------------------------------------------------------

_LOSSLESS = frozenset(("png", "gif"))
_PLACES = frozenset(("attention", "entropy"))  # gravities that look for a place in the picture: only a crop has a choice


@lru_cache(CACHED)
def _settled(transform: Transform, source_mime: str, accepted: tuple[tuple[str, float], ...]) -> Transform:
    boxed = transform.width is not None and transform.height is not None
    sized = transform.width is not None or transform.height is not None
    fit = transform.fit if boxed and transform.fit is not Fit.INSIDE else None
    gravity = transform.gravity if fit in (Fit.COVER, Fit.PAD) and transform.gravity != "center" else None
    if fit is Fit.PAD and gravity in _PLACES:
        gravity = None
    name = _own(source_mime) if transform.format in (None, "source") else transform.format
    if name == "auto":
        name = _negotiated(source_mime, dict(accepted))
    quality = None if transform.quality == DEFAULT_QUALITY or name in _LOSSLESS else transform.quality
    return replace(transform, fit=fit, gravity=gravity, format=name, quality=quality, up=True if sized and transform.up else None)


def _own(source_mime: str) -> str:
    source = by_mime(source_mime)
    if source is not None and (source.name == "jpeg" or source.kind is Kind.VIDEO):
        return "jpg"
    return source.name if source is not None and source.shown and source.encodes else "plain"


def _negotiated(source_mime: str, accepted: dict[str, float]) -> str:
    # Only a type that is named counts as wanted: browsers send */* and image/* also where they cannot show AVIF or WebP.
    # An animation stays one in WebP and not in AVIF, and a GIF or WebP may be one.
    own = _own(source_mime)
    mime = FORMATS["jpeg" if own == "jpg" else own].mime if own != "plain" else "image/jpeg"
    wish = accepted.get(mime, accepted.get("image/*", accepted.get("*/*", 0.0)))
    names = ("webp",) if own in ("gif", "webp") else ("avif", "webp")
    best, name = max(((accepted.get(f"image/{name}", 0.0), name) for name in names), key=lambda pair: pair[0])
    if best > 0 and best >= wish:
        return "small" if name == "avif" and accepted.get("image/webp", 0.0) > 0 else name
    names_types = any(not wanted.endswith("/*") for wanted in accepted)
    return "plain" if own in ("webp", "avif") and names_types and mime not in accepted else own


@lru_cache(CACHED // 4)
def _accepted(accept: str) -> tuple[tuple[str, float], ...]:
    # The picture types and wildcards of an Accept header (RFC 9110 section 12.5.1) with their weights.
    weights: dict[str, float] = {}
    for entry in accept.lower().split(","):
        mime, *parameters = (part.strip() for part in entry.split(";"))
        if mime == "*/*" or mime.startswith("image/"):
            weights[mime] = next((_weight(text[2:]) for text in parameters if text.startswith("q=")), 1.0)
    return tuple(weights.items())


def _weight(text: str) -> float:
    return float(text) if re.fullmatch(r"0(\.\d{0,3})?|1(\.0{0,3})?", text) else 0.0

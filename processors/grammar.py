"""The query string of an address, read strictly: names and values in their one canonical spelling.

A query says each thing once, in names and values of this grammar; anything else is refused with what would have been right.
Cache busters and trackers are dropped. What a query asks of a picture is the business of `transform`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import unquote_to_bytes

from processors import quantities
from processors.colours import COLOURS
from processors.errors import BadParameter
from processors.quantities import refuse

MAX_NAME_CHARS = 255
CACHED_CHARS = 512  # of one query: what is longer is read each time, so that a cache has a size in bytes
CACHED = 2048

SIGNING = frozenset(("exp", "kid", "any", "s"))
"""names that concern who may have the answer"""
ASIDE = SIGNING | {"dl", "v", "preset", "explain"}
"""names that say nothing of the picture by themselves"""


@dataclass(frozen=True, slots=True)
class Query:
    """What an address says, each thing once: canonical names and values, sorted by name. Nothing is percent-encoded."""

    pairs: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Query:
        """The query of canonical names and values."""
        return cls(tuple(sorted(values.items())))

    def get(self, name: str) -> str | None:
        """The value of *name*, a canonical one; None if it is not said."""
        return next((value for said, value in self.pairs if said == name), None)

    def __contains__(self, name: str) -> bool:
        return any(said == name for said, _ in self.pairs)

    @property
    def names(self) -> frozenset[str]:
        """The names that are said."""
        return frozenset(name for name, _ in self.pairs)

    @property
    def text(self) -> str:
        """All of it in one text, names sorted by byte."""
        return "&".join(f"{name}={value}" for name, value in self.pairs)

    def over(self, base: Query) -> Query:
        """*base* with what this one says in place of its own."""
        return Query.of({**dict(base.pairs), **dict(self.pairs)})

    def without(self, *names: str) -> Query:
        """The same without *names*."""
        return Query(tuple(pair for pair in self.pairs if pair[0] not in names))


def read(query: str, ignored: frozenset[str] = frozenset()) -> Query:
    """What a raw query string says; names in *ignored* are dropped, too.

    Raises BadParameter with *param*, *allowed* and, if a known name is like it, *nearest*.
    """
    return _kept(query, ignored) if len(query) <= CACHED_CHARS else _read(query, ignored)


_ALIASES = {
    **{"w": "w", "width": "w", "h": "h", "height": "h", "dpr": "dpr", "dppx": "dpr", "ar": "ar", "fit": "fit"},
    **{"up": "up", "enlarge": "up", "g": "g", "gravity": "g", "position": "g", "crop": "crop", "rect": "crop", "trim": "trim"},
    **{"rot": "rot", "flip": "flip", "blur": "blur", "sharp": "sharp", "gray": "gray", "grey": "gray", "pad": "pad", "bg": "bg"},
    **{"wm": "wm", "q": "q", "quality": "q", "max": "max", "max_bytes": "max", "meta": "meta"},
    **{"format": "format", "f": "format", "fm": "format", "output": "format", "auto": "format"},
    **{"anim": "anim", "page": "page", "time": "time", "at": "time", "sprite": "sprite", "dur": "dur"},
    **{"waveform": "waveform"},
    **{"preset": "preset", "p": "preset", "v": "v", "dl": "dl", "download": "dl", "explain": "explain"},
    **{"exp": "exp", "kid": "kid", "any": "any", "s": "s"},
}
NAMES = frozenset(_ALIASES.values())
"""every canonical name"""
SPELLINGS = frozenset(_ALIASES)
"""every name in every spelling"""
_IGNORED = frozenset(("t", "ts", "_", "cb", "nocache", "ref", "fbclid", "gclid"))

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,23}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HEX = re.compile(r"[0-9a-f]{3}|[0-9a-f]{6}|[0-9a-f]{8}")
_NAMED = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_REVISED = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}(@[a-z0-9]{1,32})?")


def _read(query: str, ignored: frozenset[str]) -> Query:
    said: dict[str, str] = {}
    for given, value in _pairs(query):
        name = _ALIASES.get(given)
        if name is None:
            if given in _IGNORED or given in ignored or given.startswith("utm_"):
                continue
            _unknown(given)
        if name in said:
            raise BadParameter(f"{name} is given more than once", param=name, allowed="one value")
        said[name] = _READERS[name](given, value)
    return Query.of(said)


_kept = lru_cache(CACHED)(_read)


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


# -- values that are words: each reader gives the canonical text ----------------------------------------------------------

Reader = Callable[[str, str], str]


def _word(allowed: str, words: Mapping[str, str]) -> Reader:
    def reader(given: str, value: str) -> str:
        word = words.get(value.lower())
        if word is None:
            refuse(given, allowed)
        return word

    return reader


def _same(*words: str) -> dict[str, str]:
    return {word: word for word in words}


_FITS = {
    **_same("inside", "cover", "pad", "stretch", "outside"),
    **dict.fromkeys(("scale-down", "contain", "clip", "max", "limit"), "inside"),
    **dict.fromkeys(("scale", "squeeze", "force"), "stretch"),
    **{"crop": "cover", "letterbox": "pad"},
}
_GRAVITIES = {
    **_same("center", "attention", "entropy", "focal", "top", "right", "bottom", "left"),
    **_same("top-left", "top-right", "bottom-left", "bottom-right"),
    **{"centre": "center", "auto": "attention", "smart": "attention"},
    **{"n": "top", "e": "right", "s": "bottom", "w": "left"},
    **{"ne": "top-right", "nw": "top-left", "se": "bottom-right", "sw": "bottom-left"},
    **{"north": "top", "east": "right", "south": "bottom", "west": "left"},
    **{"northeast": "top-right", "northwest": "top-left", "southeast": "bottom-right", "southwest": "bottom-left"},
}
FORMATS = ("source", "auto", "jpg", "png", "webp", "avif", "gif", "mp4", "vtt", "json", "thumbhash", "blurhash")
_FORMAT_WORDS = _same(*FORMATS) | {"jpeg": "jpg"}
_QUALITIES = {"low": "50", "medium": "70", "high": "85", "best": "95", "auto": "auto"}
_HINTED = "auto"
"""w and dpr: what the client says of itself (client hints)"""


def _fit(given: str, value: str) -> str:
    allowed = "inside, cover, pad, stretch, outside"
    if value.lower() == "fill":
        refuse(given, allowed, "fill means stretch (CSS), pad (imgix) or cover (Cloudinary): say stretch, pad or cover")
    return _word(allowed, _FITS)(given, value)


def _width(given: str, value: str) -> str:
    return _HINTED if value == _HINTED else quantities.side(given, value)


def _ratio_of_pixels(given: str, value: str) -> str:
    return _HINTED if value == _HINTED else quantities.device_ratio(given, value)


def _gravity(given: str, value: str) -> str:
    word = _GRAVITIES.get(value.lower())
    return quantities.point(given, value.lower()) if word is None else word


def _quality(given: str, value: str) -> str:
    word = _QUALITIES.get(value.lower())
    return quantities.quality(given, value) if word is None else word


def _format(given: str, value: str) -> str:
    if given == "auto":  # the spelling auto=format
        return _word("format", {"format": "auto"})(given, value)
    return _word(", ".join(FORMATS), _FORMAT_WORDS)(given, value)


def _colour(given: str, value: str) -> str:
    text = value.lower()
    text = COLOURS.get(text, text)
    if not _HEX.fullmatch(text):
        refuse(given, "rrggbb, rrggbbaa, rgb, or a colour name of CSS")
    if len(text) == 3:
        text = "".join(digit * 2 for digit in text)
    return text[:6] if text[6:] == "ff" else text


def _wave(given: str, value: str) -> str:
    text = COLOURS.get(value.lower(), value.lower())
    if (text != "1" and not _HEX.fullmatch(text)) or len(text) == 8:
        refuse(given, "1, rrggbb, rgb, or a colour name of CSS")
    return text if text == "1" else _colour(given, text)


def _shaped(allowed: str, shape: re.Pattern[str]) -> Reader:
    def reader(given: str, value: str) -> str:
        if not shape.fullmatch(value):
            refuse(given, allowed)
        return value

    return reader


def _download(given: str, value: str) -> str:
    if len(value) > MAX_NAME_CHARS or _CONTROL.search(value):
        refuse(given, f"a file name of at most {MAX_NAME_CHARS} characters")
    return value


def _freed(given: str, value: str) -> str:
    names = value.split(",")
    if sorted(set(names)) != names or not set(names) <= NAMES - SIGNING:
        refuse(given, "names of parameters in their short spelling, sorted, with commas between them")
    return value


def _as_it_is(given: str, value: str) -> str:
    return value


_SWITCH = _word("0 or 1", _same("0", "1"))
_READERS: dict[str, Reader] = {
    "w": _width,
    "h": quantities.side,
    "dpr": _ratio_of_pixels,
    "ar": quantities.aspect,
    "fit": _fit,
    "up": _SWITCH,
    "g": _gravity,
    "crop": quantities.area,
    "trim": quantities.tolerance,
    "rot": _word("0, 90, 180 or 270", _same("0", "90", "180", "270")),
    "flip": _word("h, v or hv", _same("h", "v", "hv") | {"vh": "hv"}),
    "blur": quantities.number(0.3, 100),
    "sharp": quantities.number(0.1, 10),
    "gray": _SWITCH,
    "pad": quantities.border,
    "bg": _colour,
    "wm": _shaped("the name of a watermark", _NAMED),
    "q": _quality,
    "max": quantities.size,
    "meta": _word("none, copyright or keep", _same("none", "copyright", "keep")),
    "format": _format,
    "anim": _SWITCH,
    "page": quantities.ordinal,
    "time": quantities.moment,
    "sprite": quantities.tiles,
    "dur": quantities.length,
    "waveform": _wave,
    "preset": _shaped("the name of a preset, or name@revision", _REVISED),
    "v": _as_it_is,
    "dl": _download,
    "explain": _word("1", _same("1")),
    "exp": _as_it_is,
    "kid": _as_it_is,
    "any": _freed,
    "s": _as_it_is,
}

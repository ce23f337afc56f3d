"""Which format answers ``format=auto``: by what the client names, and what the source can become. Standard library only."""

from __future__ import annotations

import re
from functools import lru_cache

from processors.formats import FORMATS, Format, Kind
from processors.grammar import CACHED


def own_format(source: Format | None) -> str:
    """The format that a picture keeps when none is asked for: its own if browsers show it and we make it."""
    if source is not None and (source.name == "jpeg" or source.kind is Kind.VIDEO):
        return "jpg"
    return source.name if source is not None and source.shown and source.encodes else "plain"


def negotiated(source: Format | None, accepted: dict[str, float]) -> str:
    """The format for a client that *accepted* these types, by weight."""
    # Only a type that is named counts as wanted: browsers send */* and image/* also where they cannot show AVIF or WebP.
    # An animation stays one in WebP and not in AVIF, and a GIF or WebP may be one.
    own = own_format(source)
    mime = FORMATS["jpeg" if own == "jpg" else own].mime if own != "plain" else "image/jpeg"
    wish = accepted.get(mime, accepted.get("image/*", accepted.get("*/*", 0.0)))
    names = ("webp",) if own in ("gif", "webp") else ("avif", "webp")
    best, name = max(((accepted.get(f"image/{name}", 0.0), name) for name in names), key=lambda pair: pair[0])
    if best > 0 and best >= wish:
        return "small" if name == "avif" and accepted.get("image/webp", 0.0) > 0 else name
    names_types = any(not wanted.endswith("/*") for wanted in accepted)
    return "plain" if own in ("webp", "avif") and names_types and mime not in accepted else own


@lru_cache(CACHED // 4)
def accepted_types(accept: str) -> tuple[tuple[str, float], ...]:
    """The picture types and wildcards of an Accept header (RFC 9110 section 12.5.1) with their weights."""
    weights: dict[str, float] = {}
    for entry in accept.lower().split(","):
        mime, *parameters = (part.strip() for part in entry.split(";"))
        if mime == "*/*" or mime.startswith("image/"):
            weights[mime] = next((_weight(text[2:]) for text in parameters if text.startswith("q=")), 1.0)
    return tuple(weights.items())


def _weight(text: str) -> float:
    return float(text) if re.fullmatch(r"0(\.\d{0,3})?|1(\.0{0,3})?", text) else 0.0

"""Watermarks: the pictures that an operator lays over renditions, and the names under which addresses ask for them."""

from __future__ import annotations

import hashlib
import os
import shutil
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from processors import grammar
from processors.errors import BadParameter, Unsupported
from processors.formats import HEAD_BYTES, sniff
from processors.grammar import Query
from processors.values import Watermark

MAX_WATERMARKS = 100
MAX_BYTES = 4 << 20
TAKEN = frozenset(("png", "webp", "jpeg"))
REVISION_CHARS = 12


class BadWatermarks(ValueError):
    """The file is not usable; the text has a sentence for each fault."""


class Watermarks:
    """The watermarks of one deployment. A new picture or place under an old name makes new renditions of all that carry it."""

    def __init__(self, known: Iterable[Watermark]) -> None:
        self._known = {mark.name.partition("@")[0]: mark.name for mark in known}

    def resolved(self, query: Query) -> Query:
        """*query* with the revision of its watermark; raises BadParameter if no watermark has its name."""
        name = query.get("wm")
        if name is None:
            return query
        mark = self._known.get(name)
        if mark is None:
            raise BadParameter("no watermark has this name", param="wm", allowed=", ".join(sorted(self._known)[:20]) or "none")
        return Query.of({"wm": mark}).over(query)


def load(path: Path, folder: Path) -> tuple[Watermark, ...]:
    """The watermarks of the TOML file *path*, their pictures copied into *folder*, which workers may read; raises BadWatermarks."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError) as error:
        raise BadWatermarks(f"It cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'}).") from None
    except tomllib.TOMLDecodeError as error:
        raise BadWatermarks(f"It is no TOML: {error}.") from None
    faults = [] if len(entries) <= MAX_WATERMARKS else [f"It has {len(entries)} watermarks; there may be {MAX_WATERMARKS}."]
    marks = []
    for name, entry in entries.items():
        try:
            mark = _read(name, entry, path.parent)
        except BadParameter as error:
            faults.append(f"{name}: {error.detail}.")
        else:
            kept = folder / mark.name
            if not kept.exists():  # another process may have put it there; its name is of what is in it
                draft = kept.with_name(f".{mark.name}.{os.getpid()}")
                shutil.copyfile(mark.path, draft)
                draft.replace(kept)
            marks.append(replace(mark, path=str(kept)))
    if faults:
        raise BadWatermarks("\n".join(faults))
    return tuple(marks)


def _read(name: str, entry: Any, folder: Path) -> Watermark:
    if not isinstance(entry, dict) or not isinstance(entry.get("file"), str):
        raise BadParameter("it is no table with a file")
    if unknown := entry.keys() - {"file", "place", "size", "margin", "opacity"}:
        raise BadParameter(f"{min(unknown)} is not known here, only file, place, size, margin and opacity are")
    if grammar.read(f"wm={name}").get("wm") != name:
        raise BadParameter("the name of a watermark has letters from a to z, digits, - and _")
    place = grammar.read(f"g={entry.get('place', 'bottom-right')}").get("g") or ""
    if place in {"attention", "entropy", "focal"}:
        raise BadParameter("place is a corner, a side, center or XxY")
    file = folder / entry["file"]
    try:
        data = file.read_bytes() if file.stat().st_size <= MAX_BYTES else b""
    except OSError as error:
        raise BadParameter(f"{file.name} cannot be read ({error.strerror})") from None
    if not data or not _is_taken(data):
        raise BadParameter(f"{file.name} is no PNG, WebP or JPEG of at most {MAX_BYTES >> 20} MiB")
    mark = Watermark(
        name,
        str(file),
        place,
        size=_share(entry, "size", 0.2),
        margin=_share(entry, "margin", 0.02),
        opacity=_share(entry, "opacity", 1.0),
    )
    said = f"{mark.place} {mark.size} {mark.margin} {mark.opacity} ".encode()
    return replace(mark, name=f"{name}@{hashlib.sha256(said + data).hexdigest()[:REVISION_CHARS]}")


def _share(entry: Mapping[str, Any], name: str, usual: float) -> float:
    value = entry.get(name, usual)
    if type(value) not in (int, float) or not 0 <= value <= 1 or (name == "size" and not value):
        raise BadParameter(f"{name} is a part of the whole, from 0 to 1")
    return float(value)


def _is_taken(data: bytes) -> bool:
    try:
        return sniff(data[:HEAD_BYTES]).name in TAKEN
    except Unsupported:
        return False

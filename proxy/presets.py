"""Presets: renditions that the operator has named in a file, and what an address may change of them."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from processors import grammar
from processors.errors import BadParameter
from processors.grammar import ASIDE, NAMES, Query
from processors.transform import Transform

CHANGEABLE = frozenset(("dpr", "format"))
"""what an address may change of a preset that does not say"""
MAX_PRESETS = 1_000
REVISION_CHARS = 8

log = structlog.get_logger(__name__)


class BadPresets(ValueError):
    """The file is not usable; the text has a sentence for each fault."""


@dataclass(frozen=True, slots=True)
class Preset:
    """What *name* stands for. *allow* are the names that an address may change or add.

    *revision* names what it makes now: it changes with the query, and with the watermark that the query names.
    *warm*: made at every upload; *store*: kept in the stores, and not where room is made for others.
    """

    name: str
    query: Query
    revision: str
    allow: frozenset[str] = CHANGEABLE
    warm: bool = False
    store: bool = False

    def under(self, said: Query) -> Query:
        """The query that *said*, which names this preset, stands for."""
        return said.without("preset").over(self.query)

    def names_revision(self, said: Query) -> bool:
        """Whether *said* names what the preset makes now: ``name@revision``."""
        return said.get("preset") == f"{self.name}@{self.revision}"


class Presets:
    """The presets of one file, which may be read again while they are in use. Without a *path* there are none.

    *watermarked* raises BadParameter for a query whose watermark is not known.
    """

    def __init__(
        self, path: Path | None, ignored: frozenset[str] = frozenset(), watermarked: Callable[[Query], Query] = lambda query: query
    ) -> None:
        self._path = path
        self._ignored = ignored
        self._watermarked = watermarked
        self._known: Mapping[str, Preset] = {}

    def load(self) -> None:
        """Read the file; raises BadPresets, and what was known stays."""
        if self._path is not None:
            self._known = read(_text(self._path), self._ignored, self._watermarked)
            log.info("presets.loaded", count=len(self._known))

    def reload(self) -> bool:
        """Read the file again; False, and a line in the log, if it is not usable: what was known stays."""
        try:
            self.load()
        except BadPresets as error:
            log.error("presets.refused", faults=str(error).splitlines())
            return False
        return True

    def named(self, said: Query) -> Preset | None:
        """The preset that *said* names, whatever revision; None if it names none. Raises BadParameter."""
        name = (said.get("preset") or "").partition("@")[0]
        if not name:
            return None
        preset = self._known.get(name)
        if preset is None:
            raise BadParameter("no preset has this name", param="preset")
        return preset

    @property
    def warm(self) -> tuple[Preset, ...]:
        """Those that are made at every upload."""
        return tuple(preset for preset in self._known.values() if preset.warm)


def read(
    text: str, ignored: frozenset[str] = frozenset(), watermarked: Callable[[Query], Query] = lambda query: query
) -> dict[str, Preset]:
    """The presets of a file's *text* (TOML: name = "query", or a table); raises BadPresets with every fault."""
    try:
        entries = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadPresets(f"It is no TOML: {error}.") from None
    faults = [] if len(entries) <= MAX_PRESETS else [f"It has {len(entries)} presets; there may be {MAX_PRESETS}."]
    presets = {}
    for name, entry in entries.items():
        given = {"query": entry} if isinstance(entry, str) else entry
        if not isinstance(given, dict):
            faults.append(f"{name} is neither a query nor a table with one.")
            continue
        found = [f"{name}: {fault}." for fault in _faults(name, given, ignored, watermarked)]
        faults += found
        if not found:
            allow = frozenset(given.get("allow", CHANGEABLE))
            query = grammar.read(given["query"], ignored)
            presets[name] = Preset(
                name, query, _revision(watermarked(query)), allow, given.get("warm", False), given.get("store", False)
            )
    if faults:
        raise BadPresets("\n".join(faults))
    return presets


def _revision(query: Query) -> str:
    return hashlib.sha256(query.text.encode()).hexdigest()[:REVISION_CHARS]


def _faults(name: str, given: Mapping[str, Any], ignored: frozenset[str], watermarked: Callable[[Query], Query]) -> list[str]:
    faults = []
    try:
        if "@" in name or grammar.read(f"preset={name}").get("preset") != name:
            raise BadParameter
    except BadParameter:
        faults.append("a preset's name has letters from a to z, digits, - and _")
    faults += [f"{other} is not known here, only query, allow, warm and store are" for other in given.keys() - _MEMBERS]
    faults += [f"{member} is {_MEMBERS[member][1]}" for member in _MEMBERS & given.keys() if not _MEMBERS[member][0](given[member])]
    if "query" not in given:
        faults.append("it has no query")
    elif isinstance(given["query"], str):
        faults += _faults_of(given["query"], ignored, watermarked)
    return faults


def _faults_of(text: str, ignored: frozenset[str], watermarked: Callable[[Query], Query]) -> list[str]:
    try:
        query = grammar.read(text, ignored)
        if aside := query.names & ASIDE:
            return [f"{', '.join(sorted(aside))} cannot be in a preset"]
        if Transform.of(watermarked(query)).is_identity:
            return ["its query asks for nothing"]
    except BadParameter as error:
        given = error.members.get("param")
        return [error.detail if given is None or str(given) in error.detail else f"{given}: {error.detail}"]
    return []


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and name in NAMES - ASIDE for name in value)


_MEMBERS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "query": (lambda value: isinstance(value, str), 'a text, such as "w=400&h=300&fit=cover"'),
    "allow": (_is_names, 'a list of parameters in their short spelling, such as ["dpr", "format"]'),
    "warm": (lambda value: isinstance(value, bool), "true or false"),
    "store": (lambda value: isinstance(value, bool), "true or false"),
}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise BadPresets(f"It cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'}).") from None

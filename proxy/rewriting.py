"""Addresses of an old store in texts of a database become ours, by the rules that its objects were brought by. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import quote, unquote

from proxy import keys
from proxy.errors import BadKey
from proxy.mapping import Mapping

REST = r"[^\s\"'<>()\\?#]*"
"""What of an address comes after a prefix, up to its query, which was for the old store."""
QUERY = r"(?:\?[^\s\"'<>()\\#]*)?"
SAFE = "/!$&'()*+,;=:@~"


@dataclass(frozen=True, slots=True)
class Rewriting:
    """Addresses that begin with one of *prefixes* get *to* in its place, and the key that *rules* give for the rest."""

    prefixes: tuple[str, ...]
    to: str
    rules: Mapping
    _pattern: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        longest_first = sorted(self.prefixes, key=len, reverse=True)
        pattern = f"(?:{'|'.join(map(re.escape, longest_first))})({REST}){QUERY}"
        object.__setattr__(self, "_pattern", re.compile(pattern))

    @classmethod
    def of(cls, prefixes: list[str], to: str, rules: Mapping) -> Self:
        """Raises ValueError with a sentence."""
        if not all(prefixes):
            raise ValueError("a prefix is what all old addresses begin with, such as https://bucket.s3.amazonaws.com/")
        if any(prefix in to for prefix in prefixes):
            raise ValueError(f"{to} has an old prefix in it: what is done could not be told from what is not")
        return cls(tuple(prefixes), to, rules)

    def rewritten(self, text: str) -> tuple[str, list[str]]:
        """*text* with our addresses, and the old ones that stay since no rule makes a key of them."""
        kept: list[str] = []

        def ours(found: re.Match[str]) -> str:
            said = self.rules.key(unquote(found[1]))
            try:
                key = None if said is None else keys.parse(said)
            except BadKey:
                key = None
            if key is None:
                kept.append(found[0])
                return found[0]
            return self.to + quote(key, safe=SAFE)

        return self._pattern.sub(ours, text), kept

    def holds(self, text: str) -> bool:
        """Whether an old address is in *text*."""
        return any(prefix in text for prefix in self.prefixes)


@dataclass(slots=True)
class Rewritten:
    """What became of the rows that have old addresses; *kept* are the first of those that no rule makes a key of."""

    rows: int = 0
    changed: int = 0
    overtaken: int = 0
    """somebody else changed the row meanwhile: running it again sees to it"""
    kept_addresses: int = 0
    kept: list[str] = field(default_factory=list)

    def keep(self, addresses: Iterator[str] | list[str], most: int = 100) -> None:
        """Count *addresses*, and remember the first."""
        for address in addresses:
            self.kept_addresses += 1
            if len(self.kept) < most:
                self.kept.append(address)

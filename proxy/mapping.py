"""Which key an object gets that comes from elsewhere: rules as a person writes them, the first that fits counts. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

MOST_RULES = 1_000
MOST_CHARS = 2_000


@dataclass(frozen=True, slots=True)
class Rule:
    """*pattern* is searched for in a name, and what it finds becomes *replacement* (``\\1``, ``\\g<name>``); None leaves it out."""

    pattern: re.Pattern[str]
    replacement: str | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """``REGEX -> REPLACEMENT``, or ``skip REGEX``; raises ValueError with a sentence."""
        if text.startswith("skip "):
            return cls(_compiled(text.removeprefix("skip ").strip()), None)
        pattern, arrow, replacement = text.partition("->")
        if not arrow:
            raise ValueError(f"{text!r} is no rule: write REGEX -> REPLACEMENT, or skip REGEX")
        compiled = _compiled(pattern.strip())
        try:
            compiled.sub(replacement.strip(), "")  # which reads the template, whatever it finds
        except (re.error, IndexError) as error:
            raise ValueError(f"{replacement.strip()!r} is no replacement for {pattern.strip()!r}: {error}") from None
        return cls(compiled, replacement.strip())


@dataclass(frozen=True, slots=True)
class Mapping:
    """*rules* in their order, then *owner* before what they give, as its first segment. A name that no rule fits stays as it is."""

    rules: tuple[Rule, ...] = ()
    owner: str | None = None

    @classmethod
    def parse(cls, lines: Sequence[str], owner: str | None = None) -> Self:
        """The rules of *lines*, of which empty ones and those with a # first count for nothing; raises ValueError."""
        said = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
        if len(said) > MOST_RULES:
            raise ValueError(f"there may be {MOST_RULES} rules")
        return cls(tuple(Rule.parse(line) for line in said), owner)

    def key(self, name: str) -> str | None:
        """What *name* becomes; None if a rule leaves it out."""
        for rule in self.rules:
            if rule.pattern.search(name):
                if rule.replacement is None:
                    return None
                name = rule.pattern.sub(rule.replacement, name, count=1)
                break
        return name if self.owner is None else f"{self.owner}/{name}"


def _compiled(pattern: str) -> re.Pattern[str]:
    if len(pattern) > MOST_CHARS:
        raise ValueError(f"a pattern has at most {MOST_CHARS} characters")
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from None

"""How much may be asked for in which time, and how that is told. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from typing import Protocol

UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
LONGEST_S = 31 * 86_400
_RATE = re.compile(r"(\d{1,15})\s*([KMGT]?)(?:iB|B)?\s*(?:/|per)\s*(\d{1,6})?\s*(second|minute|hour|day)s?", re.IGNORECASE)


class Limit(StrEnum):
    """What is counted. The name is told in headers, metrics and settings."""

    UPLOADS = "uploads"
    UPLOAD_BYTES = "upload-bytes"
    RENDERS = "renders"
    FAILED_LOGINS = "failed-logins"


@dataclass(frozen=True, slots=True)
class Rate:
    """*amount* in any *seconds*."""

    amount: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How somebody stands with a rate: whether it was *granted*, what is *left* of it, and in how many seconds it is renewed."""

    limit: Limit
    rate: Rate
    granted: bool
    left: int
    reset_s: float


class Tally(Protocol):
    """Counts. Never raises, and takes no longer than 50 ms."""

    async def take(self, limit: Limit, rate: Rate, who: str, cost: int) -> Standing:
        """Count *cost* for *who*, if there is so much left; else nothing."""
        ...


def parse(text: str) -> tuple[Rate, ...]:
    """``600/hour; 20/second`` or ``20G/day``; raises ValueError."""
    rates = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        match = _RATE.fullmatch(part)
        if match is None:
            raise ValueError("is a number per second, minute, hour or day, such as 600/hour, several of them with ; between")
        amount, seconds = int(match[1]) * SIZES[match[2].upper()], int(match[3] or 1) * UNITS[match[4].lower()]
        if not amount or not 0 < seconds <= LONGEST_S:
            raise ValueError("has a number above 0 and a time of at most 31 days")
        rates.append(Rate(amount, seconds))
    return tuple(rates)


def told(standings: Sequence[Standing]) -> dict[str, str]:
    """RateLimit-Policy and RateLimit (draft-ietf-httpbis-ratelimit-headers-10): structured lists, one item for each rate."""
    if not standings:
        return {}
    policies, states = [], []
    for number, standing in enumerate(standings):
        name = f'"{standing.limit}"' if number == 0 else f'"{standing.limit}-{standing.rate.seconds}"'
        unit = ';qu="content-bytes"' if standing.limit is Limit.UPLOAD_BYTES else ""
        policies.append(f"{name};q={standing.rate.amount};w={standing.rate.seconds}{unit}")
        states.append(f"{name};r={standing.left};t={ceil(standing.reset_s)}")
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(states)}


def joined(*headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of several limits as those of one answer."""
    names = dict.fromkeys(name for some in headers for name in some)
    return {name: ", ".join(some[name] for some in headers if name in some) for name in names}

"""Which fingerprints are near each other, and how an index comes to them: values, and the port of that index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

from proxy.keys import Key
from proxy.ports import Asset

BANDS = 4
BAND_BITS = 16
MOST_DISTANCE = 11
"""Beyond that a band may differ in three bits, of which there are 697 ways; and pictures so far apart rarely look alike."""
MOST_CANDIDATES = 20_000
"""What is compared for one question."""


@dataclass(frozen=True, slots=True)
class Match:
    """An asset, and in how many of 64 bits its fingerprint differs."""

    asset: Asset
    distance: int


@dataclass(frozen=True, slots=True)
class Matches:
    """The nearest first. Not *complete*: there were more candidates than are compared for one question."""

    found: list[Match]
    complete: bool


class FingerprintIndex(Protocol):
    """Finds READY assets by their fingerprints, which come and go in the transactions of their records."""

    async def near(self, owner: str, fingerprint: str, distance: int, limit: int, but: Key) -> Matches:
        """Up to *limit* of the owner's within *distance* (`MOST_DISTANCE` at most), without *but*. Raises Unavailable."""
        ...


def bands(fingerprint: str) -> tuple[int, ...]:
    """Its parts of 16 bits, each of which is indexed."""
    digits = BAND_BITS // 4
    return tuple(int(fingerprint[at : at + digits], 16) for at in range(0, BANDS * digits, digits))


def probes(band: int, distance: int) -> Iterator[int]:
    """All that a band may be where *distance* bits differ in all: of four bands, one differs in a quarter of them at most."""
    for flips in range(distance // BANDS + 1):
        for places in combinations(range(BAND_BITS), flips):
            yield band ^ sum(1 << place for place in places)


def apart(one: str, other: str) -> int:
    """In how many bits they differ."""
    return (int(one, 16) ^ int(other, 16)).bit_count()

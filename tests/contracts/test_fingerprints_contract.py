"""What the index of fingerprints promises (`fingerprints.FingerprintIndex`), on every database."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from proxy import keys
from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.resemblance import SqlFingerprints
from proxy.adapters.tables import assets
from proxy.fingerprints import MOST_DISTANCE
from proxy.ports import Asset, State
from tests.kit.databases import Open

NOW = datetime(2026, 11, 24, 3, 0, 0, 0, UTC)
MIDDLE = 0x1234_5678_9ABC_DEF0
ASKED = keys.parse("u7/asked.jpg")


@pytest.fixture
async def catalogue(database: Open) -> AsyncIterator[SqlCatalogue]:
    async with SqlCatalogue(database()) as opened:
        yield opened


def asset(name: str, fingerprint: int | None, owner: str = "u7", state: State = State.READY, etag: str = "one") -> Asset:
    details = {"thumbhash": "x", "fingerprint": None if fingerprint is None else f"{fingerprint:016x}"}
    key = keys.parse(f"{owner}/{name}.jpg")
    return Asset(key, owner, None, "image/jpeg", 10, "ab" * 32, etag, NOW, "local", 4, 3, None, state, details=details)


async def near(catalogue: SqlCatalogue, distance: int, limit: int = 100, most: int = 20_000) -> list[tuple[str, int]]:
    matches = await SqlFingerprints(catalogue, most).near("u7", f"{MIDDLE:016x}", distance, limit, ASKED)
    return [(one.asset.key, one.distance) for one in matches.found]


async def test_every_fingerprint_within_the_distance_is_found_and_none_beyond(catalogue: SqlCatalogue) -> None:
    """Wherever the bits lie: spread over all bands as evenly as they can be, in one band, and at random."""
    chance = random.Random(7)
    expected: dict[int, set[str]] = {distance: set() for distance in range(MOST_DISTANCE + 3)}
    for bits, names in expected.items():
        spread = [16 * (bit % 4) + bit // 4 for bit in range(bits)]
        for number, places in enumerate([spread, list(range(bits)), *(chance.sample(range(64), bits) for _ in range(6))]):
            one = asset(f"{bits}-{number}", MIDDLE ^ sum(1 << place for place in places))
            await catalogue.add(one)
            names.add(one.key)
    for distance in (0, 1, 3, 4, 7, 8, MOST_DISTANCE):
        found = await SqlFingerprints(catalogue).near("u7", f"{MIDDLE:016x}", distance, 200, ASKED)
        assert {match.asset.key for match in found.found} == set().union(*(expected[bits] for bits in range(distance + 1)))
        assert [match.distance for match in found.found] == sorted(match.distance for match in found.found)
        assert found.complete


async def test_nobody_elses_nothing_hidden_and_not_the_one_that_is_asked_about(catalogue: SqlCatalogue) -> None:
    for one in (
        asset("asked", MIDDLE),
        asset("other", MIDDLE, "u8"),
        asset("pending", MIDDLE, state=State.PENDING),
        asset("quarantined", MIDDLE),
        asset("deleted", MIDDLE),
        asset("flat", None),
        asset("shown", MIDDLE ^ 1),
    ):
        await catalogue.add(one)
    await catalogue.mark(keys.parse("u7/quarantined.jpg"), State.QUARANTINED)
    await catalogue.mark(keys.parse("u7/deleted.jpg"), State.DELETED)
    assert await near(catalogue, 3) == [("u7/shown.jpg", 1)]
    await catalogue.mark(keys.parse("u7/pending.jpg"), State.READY)
    assert await near(catalogue, 3) == [("u7/pending.jpg", 0), ("u7/shown.jpg", 1)]


async def test_a_fingerprint_follows_the_version_and_goes_with_the_record(catalogue: SqlCatalogue) -> None:
    first = asset("a", MIDDLE)
    await catalogue.add(first)
    await catalogue.replace(asset("a", MIDDLE ^ 3, etag="two"), first)
    assert await near(catalogue, 3) == [("u7/a.jpg", 2)]
    await catalogue.replace(replace(asset("a", None, etag="three"), details=None), asset("a", MIDDLE ^ 3, etag="two"))
    assert await near(catalogue, 3) == []
    await catalogue.describe(first.key, "three", {"fingerprint": f"{MIDDLE ^ 1:016x}"}, {})
    assert await near(catalogue, 3) == [("u7/a.jpg", 1)]
    await catalogue.describe(first.key, "one", {"fingerprint": f"{MIDDLE:016x}"}, {})
    assert await near(catalogue, 3) == [("u7/a.jpg", 1)], "what was seen of an earlier version is none of this one's"
    await catalogue.remove(first.key)
    await catalogue.add(replace(asset("a", None, etag="three"), details=None))
    assert await near(catalogue, 3) == []


async def test_a_fingerprint_of_an_earlier_version_counts_for_nothing(catalogue: SqlCatalogue) -> None:
    """As a process of the release before leaves it, which overwrites the record and knows no fingerprints."""
    await catalogue.add(asset("a", MIDDLE))
    async with catalogue.begun() as connection:
        await connection.execute(assets.update().values(etag="two"))
    assert await near(catalogue, 3) == []


async def test_answers_are_bounded_and_say_so(catalogue: SqlCatalogue) -> None:
    for number in range(12):
        await catalogue.add(asset(f"{number:02}", MIDDLE))
    assert await near(catalogue, 0, limit=5) == [(f"u7/{number:02}.jpg", 0) for number in range(5)]
    for most, complete in ((12, True), (11, False)):
        assert (await SqlFingerprints(catalogue, most).near("u7", f"{MIDDLE:016x}", 0, 5, ASKED)).complete is complete

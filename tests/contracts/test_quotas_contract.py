"""What the counting of owners promises (`quotas.Quotas`), on every database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from proxy import keys
from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.quotas import SqlQuotas
from proxy.adapters.sessions import SqlSessions
from proxy.errors import Conflict, QuotaExceeded
from proxy.ports import Asset, State
from proxy.quotas import Quota, Usage
from proxy.sessions import Form, Session
from tests.kit.databases import Open, made_at

NOW = datetime(2026, 11, 23, 12, 0, 0, 0, UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
async def catalogue(database: Open) -> AsyncIterator[SqlCatalogue]:
    async with SqlCatalogue(database(), Quota(100, 10)) as opened:
        yield opened


@pytest.fixture
def quotas(catalogue: SqlCatalogue) -> SqlQuotas:
    return SqlQuotas(catalogue)


def asset(name: str = "a", size: int = 10, owner: str = "u7", state: State = State.PENDING) -> Asset:
    """A small record."""
    key = keys.parse(f"{owner}/{name}.pdf")
    return Asset(key, owner, None, "application/pdf", size, "ab" * 32, "etag", NOW, "local", state=state)


async def test_what_there_is_counts_from_its_record_to_its_removal(catalogue: SqlCatalogue, quotas: SqlQuotas) -> None:
    assert await quotas.usage("u7", NOW) == Usage()
    await catalogue.add(asset("a", 10))
    await catalogue.add(asset("b", 20))
    await catalogue.add(asset("c", 5, "u8"))
    for state in (State.READY, State.READY):
        await catalogue.mark(asset("a").key, state)
        assert await quotas.usage("u7", NOW) == Usage(30, 2)
    for _ in range(2):  # what is deleted is so once, and its record goes later
        await catalogue.mark(asset("a").key, State.DELETED)
        assert await quotas.usage("u7", NOW) == Usage(20, 1)
    await catalogue.mark(asset("a").key, State.READY)
    assert await quotas.usage("u7", NOW) == Usage(20, 1)
    for name in "abb":
        await catalogue.remove(asset(name).key)
    assert await quotas.usage("u7", NOW) == Usage()
    assert await quotas.usage("u8", NOW) == Usage(5, 1)


async def test_a_record_that_is_refused_counts_nothing(catalogue: SqlCatalogue, quotas: SqlQuotas) -> None:
    await catalogue.add(asset("a", 60))
    with pytest.raises(Conflict):
        await catalogue.add(asset("a", 10))
    with pytest.raises(QuotaExceeded) as failure:
        await catalogue.add(asset("b", 41))
    assert failure.value.members == {
        "quota_bytes": 100, "quota_objects": 10, "used_bytes": 60, "used_objects": 1, "reserved_bytes": 0, "reserved_objects": 0,
    }  # fmt: skip
    assert await catalogue.get(asset("b").key) is None
    await catalogue.add(asset("b", 40))
    assert await quotas.usage("u7", NOW) == Usage(100, 2)


async def test_of_many_uploads_at_once_as_many_get_room_as_there_is(catalogue: SqlCatalogue, quotas: SqlQuotas) -> None:
    tries = await asyncio.gather(
        *(quotas.reserve(f"n{number}", "u7", 15, NOW, NOW + HOUR) for number in range(20)), return_exceptions=True
    )
    assert sum(failed is None for failed in tries) == 6
    added = await asyncio.gather(*(catalogue.add(asset(str(number), 5)) for number in range(6)), return_exceptions=True)
    assert sum(failed is None for failed in added) == 2
    assert await quotas.usage("u7", NOW) == Usage(10, 2, 90, 6)
    await quotas.reserve("of another", "u8", 100, NOW, NOW + HOUR)


async def test_objects_are_bounded_too(catalogue: SqlCatalogue, quotas: SqlQuotas) -> None:
    for number in range(9):
        await catalogue.add(asset(str(number), 0))
    await quotas.reserve("n", "u7", 0, NOW, NOW + HOUR)
    await quotas.reserve("part", "u7", 10, NOW, NOW + HOUR, objects=0)
    for failing in (quotas.reserve("m", "u7", 0, NOW, NOW + HOUR), catalogue.add(asset("x", 0))):
        with pytest.raises(QuotaExceeded):
            await failing


async def test_what_was_set_aside_becomes_the_asset_and_is_counted_once(catalogue: SqlCatalogue, quotas: SqlQuotas) -> None:
    await quotas.reserve("n", "u7", 80, NOW, NOW + HOUR)
    await catalogue.add(asset("a", 80), ["n"])
    assert await quotas.usage("u7", NOW) == Usage(80, 1)
    await quotas.reserve("m", "u7", 20, NOW, NOW + HOUR)
    with pytest.raises(QuotaExceeded):  # it has become larger than it was said to be
        await catalogue.add(asset("b", 21), ["m"])
    assert await quotas.usage("u7", NOW) == Usage(80, 1, 20, 1)


async def test_what_is_set_aside_can_grow_as_far_as_there_is_room_and_be_given_back(quotas: SqlQuotas) -> None:
    await quotas.reserve("n", "u7", 10, NOW, NOW + HOUR)
    await quotas.reserve("n", "u7", 100, NOW, NOW + HOUR)
    with pytest.raises(QuotaExceeded):
        await quotas.reserve("n", "u7", 101, NOW, NOW + HOUR)
    assert await quotas.usage("u7", NOW) == Usage(0, 0, 100, 1)
    for _ in range(2):
        await quotas.release(["n", "none"])
    assert await quotas.usage("u7", NOW) == Usage()


async def test_what_a_crash_leaves_ends_by_itself(quotas: SqlQuotas) -> None:
    await quotas.reserve("n", "u7", 100, NOW, NOW + HOUR)
    later = NOW + HOUR
    assert await quotas.usage("u7", later) == Usage()
    await quotas.reserve("m", "u7", 100, later, later + HOUR)
    assert await quotas.sweep(later) == 1
    assert await quotas.sweep(later) == 0


async def test_the_room_of_a_resumable_upload_lives_as_long_as_that(catalogue: SqlCatalogue, quotas: SqlQuotas) -> None:
    book = SqlSessions(catalogue)
    session = Session("ab" * 16, "u7", Form.WHOLE, 50, NOW + HOUR, "home")
    await book.add(session)
    await quotas.reserve(session.id, "u7", 50, NOW, session.expires)
    await book.change(session, replace(session, expires=NOW + 9 * HOUR))
    assert (await quotas.usage("u7", NOW + 8 * HOUR)).reserved_bytes == 50
    assert await quotas.sweep(NOW + 8 * HOUR) == 0
    assert (await quotas.usage("u7", NOW + 9 * HOUR)).reserved_bytes == 0


async def test_without_a_quota_nothing_is_set_aside_and_all_is_counted(database: Open) -> None:
    async with SqlCatalogue(database()) as catalogue:
        quotas = SqlQuotas(catalogue)
        await quotas.reserve("n", "u7", 1 << 60, NOW, NOW + HOUR)
        await catalogue.add(asset("a", 1 << 50), ["n"])
        assert await quotas.usage("u7", NOW) == Usage(1 << 50, 1)


async def test_what_there_was_before_quotas_is_counted_by_the_migration(database: Open) -> None:
    columns = "key, owner, content_type, size, sha256, etag, created, store, state"
    states = enumerate(["ready", "ready", "pending", "deleted"])
    rows = [f"('u7/{n}', 'u7', 'a/b', {10**n}, '', '', 0, '', '{state}')" for n, state in states]
    await made_at(database, "0005", f"INSERT INTO assets ({columns}) VALUES {', '.join(rows)}")
    async with SqlCatalogue(database()) as catalogue:
        assert await SqlQuotas(catalogue).usage("u7", NOW) == Usage(111, 3)

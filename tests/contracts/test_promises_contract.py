"""What the list of promised uploads promises (`proxy.promises.PromiseBook`), on every database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from proxy import keys
from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.promises import SqlPromises
from proxy.errors import Conflict
from proxy.promises import Promise, PromiseBook, Refusal, Stage, Way
from tests.kit.databases import Open

NOW = datetime(2026, 11, 23, 12, 0, 0, 123_456, UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
async def book(database: Open) -> AsyncIterator[PromiseBook]:
    async with SqlCatalogue(database()) as catalogue:
        yield SqlPromises(catalogue)


def promise(name: str = "a", owner: str = "u7", **fields: object) -> Promise:
    """An hour's worth of it."""
    full = Promise(keys.parse(f"{owner}/{name}.jpg"), owner, "image/jpeg", 5 << 30, 6 << 30, Way.OURS, NOW + HOUR, NOW, "a b.jpg")
    return replace(full, **fields)  # type: ignore[arg-type]


async def test_a_promise_is_given_back_as_it_was_made_and_made_once(book: PromiseBook) -> None:
    for one in (promise(), promise("b", size=None, filename=None, way=Way.TOKEN)):
        await book.add(one)
        assert await book.get(one.key) == one
        with pytest.raises(Conflict):
            await book.add(one)
    assert await book.get(keys.parse("u7/c.jpg")) is None


async def test_of_many_who_claim_it_at_once_one_has_it_until_the_end_of_its_lease(book: PromiseBook) -> None:
    await book.add(promise())
    key = promise().key
    got = await asyncio.gather(*(book.claim(key, f"h{n}", NOW, NOW + HOUR) for n in range(12)))
    assert sum(got) == 1
    holder = f"h{got.index(True)}"
    assert await book.claim(key, holder, NOW, NOW + 2 * HOUR)
    assert not await book.claim(key, "late", NOW + HOUR, NOW + 3 * HOUR)
    await book.release(key, "late")
    assert not await book.claim(key, "late", NOW + HOUR, NOW + 3 * HOUR)
    assert await book.claim(key, "late", NOW + 2 * HOUR, NOW + 3 * HOUR)
    await book.release(key, "late")
    assert await book.claim(key, "next", NOW, NOW + HOUR)
    assert not await book.claim(keys.parse("u7/none.jpg"), "h", NOW, NOW + HOUR)


async def test_what_is_set_aside_at_once_never_exceeds_the_bound(book: PromiseBook) -> None:
    promises = [promise(str(number)) for number in range(16)]
    for one in promises:
        await book.add(one)
        assert await book.claim(one.key, "h", NOW, NOW + HOUR)
    got = await asyncio.gather(*(book.reserve(one.key, 10, 100, NOW) for one in promises))
    assert sum(got) == 10
    # What is taken back leaves its room to others.
    await book.move(promises[got.index(True)].key, [Stage.OPEN], Stage.WITHDRAWN, NOW)
    assert await book.reserve(promises[got.index(False)].key, 10, 100, NOW)


async def test_of_two_moves_from_one_stage_one_is_made(book: PromiseBook) -> None:
    await book.add(promise())
    key = promise().key
    stages = [Stage.KEPT, Stage.WITHDRAWN] * 5
    moved = await asyncio.gather(*(book.move(key, [Stage.OPEN], stage, NOW + HOUR) for stage in stages))
    assert sum(moved) == 1
    found = await book.get(key)
    assert found is not None
    assert (found.stage, found.since) == (stages[moved.index(True)], NOW + HOUR)


async def test_a_refusal_is_remembered_with_all_that_it_says(book: PromiseBook) -> None:
    await book.add(promise())
    refusal = Refusal("too-large", "a body of this type may have 5 bytes", {"max_bytes": 5, "text": "\u00e9"})
    assert await book.move(promise().key, [Stage.OPEN, Stage.ARRIVED], Stage.REFUSED, NOW, refusal)
    found = await book.get(promise().key)
    assert found is not None
    assert found.refusal == refusal


async def test_only_what_may_still_become_something_is_open(book: PromiseBook) -> None:
    for one in (promise("a"), promise("b", expires=NOW), promise("c", expires=NOW), promise("d"), promise("e", "u8")):
        await book.add(one)
    await book.move(keys.parse("u7/c.jpg"), [Stage.OPEN], Stage.ARRIVED, NOW)
    await book.move(keys.parse("u7/d.jpg"), [Stage.OPEN], Stage.KEPT, NOW)
    assert await book.open_count("u7", NOW) == 2


async def test_what_is_long_over_comes_in_its_order_and_can_be_forgotten(book: PromiseBook) -> None:
    old = [promise(str(n), expires=NOW - HOUR, since=NOW - (10 - n) * HOUR) for n in range(5)]
    for one in (*reversed(old), promise("held", expires=NOW - HOUR, since=NOW - HOUR), promise("new")):
        await book.add(one)
    await book.claim(keys.parse("u7/held.jpg"), "h", NOW, NOW + HOUR)
    assert [one.key for one in await book.ended(NOW, NOW - HOUR, 3)] == [one.key for one in old[:3]]
    for one in old:
        await book.remove(one.key)
        await book.remove(one.key)
    assert await book.ended(NOW, NOW - HOUR, 3) == []

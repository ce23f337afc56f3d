"""What is kept in the process: bounded, and never older than a change."""

from __future__ import annotations

import asyncio

from proxy.cache import ENTRY_BYTES, ByteCache, FreshCache


def test_the_bytes_kept_stay_within_their_bound() -> None:
    cache: ByteCache[int, bytes] = ByteCache(100_000)
    for number in range(1000):
        cache.set(number, b"x" * 1000, 1000)
        assert cache.bytes <= 100_000
    assert cache.get(999) is not None
    assert cache.get(0) is None
    assert cache.bytes == len(cache) * (1000 + ENTRY_BYTES)


def test_what_was_used_last_stays() -> None:
    cache: ByteCache[str, int] = ByteCache(10 * (ENTRY_BYTES + 10))
    cache.set("used", 1, 10)
    for number in range(50):
        assert cache.get("used") == 1
        cache.set(str(number), number, 10)


def test_one_large_value_does_not_push_all_others_out() -> None:
    cache: ByteCache[str, int] = ByteCache(100_000)
    cache.set("small", 1, 10)
    cache.set("large", 2, 50_000)
    assert cache.get("small") == 1
    assert cache.get("large") is None


def test_an_entry_replaced_or_deleted_gives_its_bytes_back() -> None:
    cache: ByteCache[str, int] = ByteCache(100_000)
    cache.set("a", 1, 5000)
    cache.set("a", 2, 10)
    assert cache.bytes == 10 + ENTRY_BYTES
    cache.delete("a")
    cache.delete("a")
    assert cache.bytes == 0


async def test_a_value_is_kept_for_its_time() -> None:
    now = [0.0]
    cache: FreshCache[str, int] = FreshCache(10, 5.0, clock=lambda: now[0])
    cache.set("a", 1)
    now[0] = 5.0
    assert cache.get("a") == 1
    now[0] = 5.1
    assert cache.get("a") is None


async def test_a_slow_load_does_not_bring_an_old_version_back() -> None:
    cache: FreshCache[str, int] = FreshCache(10, 5.0)
    gate = asyncio.Event()

    async def old() -> int:
        await gate.wait()
        return 1

    loading = asyncio.create_task(cache.load("a", old))
    await asyncio.sleep(0)
    cache.delete("a")
    gate.set()
    assert await loading == 1
    assert cache.get("a") is None

    async def new() -> int:
        return 2

    assert await cache.load("a", new) == 2
    assert cache.get("a") == 2


def test_there_are_never_more_entries_than_the_bound() -> None:
    cache: FreshCache[int, int] = FreshCache(3, 5.0)
    for number in range(10):
        cache.set(number, number)
    assert [cache.get(number) for number in range(10)] == [None] * 7 + [7, 8, 9]

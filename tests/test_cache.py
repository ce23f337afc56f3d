"""What is kept in the process: bounded, and never older than a change."""

from __future__ import annotations

import asyncio

from proxy.cache import ENTRY_BYTES, ByteCache, FreshCache


def kept(max_bytes: int) -> ByteCache[str, bytes, str]:
    return ByteCache(max_bytes, len, lambda name: name.partition("/")[0])


def test_the_bytes_kept_stay_within_their_bound() -> None:
    cache = kept(100_000)
    for number in range(1000):
        cache.set(f"a/{number}", b"x" * 1000)
        assert cache.bytes <= 100_000
    assert cache.bytes == len(cache) * (1000 + ENTRY_BYTES) > 90_000


def test_a_scan_of_what_is_wanted_once_does_not_push_out_what_is_wanted_again_and_again() -> None:
    """With what was used last in a memory of the same size, 26 of 100 hits would be lost."""
    cache = kept(200 * (ENTRY_BYTES + 1000))
    found = 0
    for number in range(10_000):
        scanned, wanted = f"scan/{number}", f"hot/{number * 7919 % 100}"
        for name in (scanned, wanted):
            if cache.get(name) is None:
                cache.set(name, b"x" * 1000)
            elif name is wanted:
                found += 1
    assert found > 9_700


def test_one_large_value_does_not_push_all_others_out() -> None:
    cache = kept(100_000)
    cache.set("small", b"x")
    cache.set("large", b"x" * 50_000)
    assert cache.get("small") == b"x"
    assert cache.get("large") is None


def test_an_entry_that_is_replaced_gives_its_bytes_back() -> None:
    cache = kept(100_000)
    cache.set("a/1", b"x" * 5000)
    cache.set("a/1", b"x" * 10)
    assert cache.bytes == 10 + ENTRY_BYTES
    cache.set("a/1", b"x" * 50_000)
    assert cache.bytes == 0


def test_a_group_is_dropped_whole_and_no_other() -> None:
    cache = kept(1_000_000)
    for name in ("a/1", "a/2", "b/1"):
        cache.set(name, b"x")
    cache.drop("a")
    cache.drop("a")
    assert [cache.get(name) for name in ("a/1", "a/2", "b/1")] == [None, None, b"x"]
    assert cache.bytes == 1 + ENTRY_BYTES


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
    begun, gate = asyncio.Event(), asyncio.Event()

    async def old() -> int:
        begun.set()
        await gate.wait()
        return 1

    loading = asyncio.create_task(cache.load("a", old))
    await begun.wait()
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


async def test_all_who_ask_while_it_is_loaded_get_one_value() -> None:
    cache: FreshCache[str, int] = FreshCache(10, 5.0)
    loads = 0

    async def load() -> int:
        nonlocal loads
        loads += 1
        await asyncio.sleep(0)
        return loads

    assert await asyncio.gather(*(cache.load("a", load) for _ in range(20))) == [1] * 20


async def test_clearing_takes_what_is_being_loaded_too() -> None:
    cache: FreshCache[str, int] = FreshCache(10, 5.0)
    begun, gate = asyncio.Event(), asyncio.Event()

    async def old() -> int:
        begun.set()
        await gate.wait()
        return 1

    cache.set("b", 2)
    loading = asyncio.create_task(cache.load("a", old))
    await begun.wait()
    cache.clear()
    gate.set()
    assert await loading == 1
    assert (cache.get("a"), cache.get("b")) == (None, None)


async def test_the_time_is_asked_anew_at_each_look() -> None:
    now, ttl_s = [0.0], [5.0]
    cache: FreshCache[str, int] = FreshCache(10, lambda value: ttl_s[0], clock=lambda: now[0])
    cache.set("a", 1)
    now[0] = 2.0
    assert cache.get("a") == 1
    ttl_s[0] = 1.0
    assert cache.get("a") is None

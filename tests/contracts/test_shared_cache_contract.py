"""What every `SharedCache` keeps to, whoever holds the values."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy import redis_address
from proxy.adapters.redis import RedisCache, RedisLink
from proxy.ports import SharedCache
from tests.kit.redis import provided
from tests.kit.sharing import Memory, MemoryShared

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture(params=["memory", "redis"])
async def two(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[SharedCache, SharedCache]]:
    """The same values, as two processes see them."""
    if request.param == "memory":
        memory = Memory()
        yield MemoryShared(memory), MemoryShared(memory)
        return
    with provided(tmp_path / "redis") as server:
        address = redis_address.parse(server.url)
        async with RedisLink(address) as one, RedisLink(address) as other:
            yield RedisCache(one, "test1:"), RedisCache(other, "test1:")


Two = tuple[SharedCache, SharedCache]


async def test_what_one_keeps_the_other_gets(two: Two) -> None:
    one, other = two
    for name in ("r:a", "m:a"):
        assert await other.get(name) is None
        await one.set(name, b"\0 any \xff bytes", 60.0)
        assert await other.get(name) == b"\0 any \xff bytes"
        await other.delete(name, "r:never was")
        assert await one.get(name) is None


async def test_what_is_added_stands_only_where_nothing_is(two: Two) -> None:
    one, other = two
    await one.add("m:a", b"first", 60.0)
    await other.add("m:a", b"second", 60.0)
    assert await one.get("m:a") == b"first"
    await other.set("m:a", b"third", 60.0)
    assert await one.get("m:a") == b"third"


async def test_a_value_ends(two: Two) -> None:
    one, _ = two
    await one.set("r:a", b"for a moment", 0.001)
    if isinstance(one, MemoryShared):
        one._memory.now = 1.0
    async with asyncio.timeout(30):
        while await one.get("r:a") is not None:  # noqa: ASYNC110 - the server gives no signal
            await asyncio.sleep(0.001)


async def test_a_lease_has_one_holder_until_it_is_given_up(two: Two) -> None:
    one, other = two
    assert await one.take("l:a", "one", 60.0) == 0.0
    assert 0.0 < await other.take("l:a", "other", 60.0) <= 60.0
    await other.release("l:a", "other")
    await other.renew("l:a", "other", 0.001)
    assert await other.take("l:a", "other", 60.0) > 0.0
    await one.release("l:a", "one")
    assert await other.take("l:a", "other", 60.0) == 0.0
    await one.release("l:a", "one")
    assert await one.take("l:a", "one", 60.0) > 0.0


async def test_a_lease_that_is_renewed_goes_on(two: Two) -> None:
    one, other = two
    await one.take("l:a", "one", 1.0)
    await one.renew("l:a", "one", 60.0)
    assert await other.take("l:a", "other", 1.0) > 1.0


async def test_many_at_once_each_get_their_own(two: Two) -> None:
    one, other = two
    for number in range(100):
        await one.set(f"r:{number}", str(number).encode(), 60.0)
    values = await asyncio.gather(*(other.get(f"r:{number}") for number in range(100)))
    assert all(value is None or int(value) == number for number, value in enumerate(values))
    assert any(value is not None for value in values)

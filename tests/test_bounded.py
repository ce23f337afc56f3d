"""The local store of what can be made again: bounded in bytes, in the order of use, also after a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy import keys
from proxy.adapters.bounded import BLOCK_BYTES, BoundedBackend
from proxy.errors import NotFound, StorageFull
from proxy.keys import Key
from tests.contracts.bodies import body, read
from tests.kit.waiting import eventually

ROOM = 10 * BLOCK_BYTES
"""five objects of one block, each with its record"""


def name(number: int) -> Key:
    """What a variant is called."""
    return keys.variant(keys.parse("u7/a.jpg"), "1", f"w={number}", 1)


@asynccontextmanager
async def store(folder: Path) -> AsyncIterator[BoundedBackend]:
    async with BoundedBackend(folder / "variants", ROOM) as opened:
        await eventually(lambda: opened.is_counted)
        yield opened


async def put(backend: BoundedBackend, number: int, size: int = BLOCK_BYTES) -> None:
    await backend.put(name(number), body(bytes(size)), "image/jpeg", size=size)


async def kept(backend: BoundedBackend) -> set[int]:
    names = {listed.key async for listed in backend.list()}
    return {number for number in range(50) if name(number) in names}


async def test_what_was_not_used_for_longest_makes_room(tmp_path: Path) -> None:
    async with store(tmp_path) as backend:
        for number in range(5):
            await put(backend, number)
        assert await read(await backend.open(name(0))) == bytes(BLOCK_BYTES)
        await put(backend, 5)
        assert await kept(backend) == {0, 2, 3, 4, 5}
        assert backend.bytes <= ROOM


async def test_the_order_of_use_survives_a_restart(tmp_path: Path) -> None:
    async with store(tmp_path) as backend:
        for number in range(5):
            await put(backend, number)
        await read(await backend.open(name(0)))
    async with store(tmp_path) as backend:
        assert backend.bytes == ROOM
        await put(backend, 5)
        await put(backend, 6)
        assert await kept(backend) == {0, 3, 4, 5, 6}


async def test_a_smaller_bound_holds_from_the_next_start(tmp_path: Path) -> None:
    async with store(tmp_path) as backend:
        for number in range(5):
            await put(backend, number)
    async with BoundedBackend(tmp_path / "variants", ROOM // 2) as backend:
        await eventually(lambda: backend.is_counted)
        assert backend.bytes <= ROOM // 2
        assert await kept(backend) == {3, 4}


async def test_what_is_larger_than_all_that_is_kept_is_refused(tmp_path: Path) -> None:
    async with store(tmp_path) as backend:
        await put(backend, 1)
        with pytest.raises(StorageFull):
            await put(backend, 2, size=ROOM)
        assert await kept(backend) == {1}


async def test_an_overwrite_and_a_removal_give_their_room_back(tmp_path: Path) -> None:
    async with store(tmp_path) as backend:
        await put(backend, 1, size=3 * BLOCK_BYTES)
        await put(backend, 1)
        assert backend.bytes == 2 * BLOCK_BYTES
        await backend.delete(name(1))
        assert (backend.bytes, len(backend)) == (0, 0)
        with pytest.raises(NotFound):
            await backend.head(name(1))


async def test_no_more_objects_are_kept_than_the_memory_allows(tmp_path: Path) -> None:
    async with BoundedBackend(tmp_path / "variants", 1 << 30, max_entries=3) as backend:
        await eventually(lambda: backend.is_counted)
        for number in range(6):
            await put(backend, number, size=10)
        assert len(backend) <= 3

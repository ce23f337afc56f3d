"""The local store of what can be made again: bounded in bytes, in the order of use, also after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy import keys
from proxy.adapters.bounded import BLOCK_BYTES, BoundedBackend, UsedBackend
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


async def put(backend: BoundedBackend | UsedBackend, number: int, size: int = BLOCK_BYTES) -> None:
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


class Heard:
    """What a keeper hears of another process."""

    def __init__(self, keeper: BoundedBackend) -> None:
        self._keeper = keeper
        self._notes: list[asyncio.Task[None]] = []

    def changed(self, key: Key, size: int | None) -> None:
        """As that process says it."""
        if size is None:
            self._keeper.forget(key)
        else:
            self._notes.append(asyncio.create_task(self._keeper.note(key, size)))

    async def all_noted(self) -> None:
        """Return when the keeper has acted upon all of it."""
        await asyncio.gather(*self._notes)


@asynccontextmanager
async def shared_store(folder: Path) -> AsyncIterator[tuple[BoundedBackend, UsedBackend, Heard]]:
    """The store, how another process uses it, and what is heard of that."""
    async with store(folder):
        pass
    async with BoundedBackend(folder / "variants", ROOM, shared=True) as keeper:
        await eventually(lambda: keeper.is_counted)
        heard = Heard(keeper)
        async with UsedBackend(folder / "variants", ROOM, heard.changed) as other:
            yield keeper, other, heard
            await heard.all_noted()


async def test_what_another_process_has_read_lately_stays(tmp_path: Path) -> None:
    async with shared_store(tmp_path) as (keeper, other, heard):
        for number in range(5):
            await put(other, number)
        await heard.all_noted()
        assert await read(await other.open(name(0))) == bytes(BLOCK_BYTES)
        await put(other, 5)
        await heard.all_noted()
        assert await kept(keeper) == {0, 2, 3, 4, 5}
        assert keeper.bytes == ROOM


async def test_what_another_process_has_removed_takes_no_room(tmp_path: Path) -> None:
    async with shared_store(tmp_path) as (keeper, other, heard):
        for number in range(5):
            await put(other, number)
        await heard.all_noted()
        await other.delete(name(3))
        assert keeper.bytes < ROOM
        await put(other, 5)
        await heard.all_noted()
        assert await kept(keeper) == {0, 1, 2, 4, 5}


async def test_what_was_never_heard_of_is_found_when_it_counts_again(tmp_path: Path) -> None:
    async with shared_store(tmp_path) as (keeper, other, heard):
        await put(other, 0)
        await heard.all_noted()
        async with UsedBackend(tmp_path / "variants", ROOM, lambda key, size: None) as silent:
            await silent.delete(name(0))
            await put(silent, 1)
            await put(silent, 2)
        before = keeper.bytes
        keeper.recount()
        await eventually(lambda: keeper.is_counted)
        assert keeper.bytes == 2 * before
        for number in range(3, 7):
            await put(other, number)
        await heard.all_noted()
        assert 1 not in await kept(keeper), "what was found is the oldest, and made room"


async def test_no_more_objects_are_kept_than_the_memory_allows(tmp_path: Path) -> None:
    async with BoundedBackend(tmp_path / "variants", 1 << 30, max_entries=3) as backend:
        await eventually(lambda: backend.is_counted)
        for number in range(6):
            await put(backend, number, size=10)
        assert len(backend) <= 3

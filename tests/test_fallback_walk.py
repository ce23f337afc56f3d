"""Random walks over stores that fail, and a process that is killed: what was acknowledged is what is there in the end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from proxy import keys
from proxy.errors import NotFound, StorageFull, Unavailable
from proxy.keys import Key
from tests.contracts.bodies import read
from tests.kit.faulty import Killed
from tests.kit.several import Several, several

KEYS = [keys.parse(f"u/{number}") for number in range(6)]
STEPS = 120
FAULTS = ("down", "down", "down", "full", "loses_answers")
NOTHING = None


class Walk:
    """What clients know: for each key the *bodies* it may have now (NOTHING: that it is not there).

    After an acknowledged write or delete that is one. After one that failed it may have come to pass or not.
    """

    def __init__(self, stores: Several, seed: int) -> None:
        self.stores = stores
        self.chance = random.Random(seed)
        self.bodies: dict[Key, set[bytes | None]] = {key: {NOTHING} for key in KEYS}
        self.counted = 0

    async def step(self) -> None:
        """Do something at random; raises Killed if that was the end of the process."""
        move = self.chance.random()
        key = self.chance.choice(KEYS)
        if move < 0.30:
            await self.put(key)
        elif move < 0.42:
            await self.delete(key)
        elif move < 0.70:
            await self.look(key)
        elif move < 0.75:
            await self.leave(key)
        elif move < 0.95:
            await self.change(self.chance.choice(list(self.stores.stores)))
        elif move < 0.98:
            self.stores.fuse.left = self.chance.randrange(25)
        else:
            await self.listed()
        if self.chance.random() < 0.5:  # let the background work
            for _ in range(self.chance.randrange(60)):
                await asyncio.sleep(0)

    async def put(self, key: Key) -> None:
        data = self.body()
        before = self.bodies[key]
        self.bodies[key] = before | {data}
        with suppress(Unavailable, StorageFull):
            meta = await self.stores.backend.put(key, self.chunks(data), "image/jpeg")
            self.stores.records[key] = meta.store if self.chance.random() < 0.8 else "s3"
            self.bodies[key] = {data}

    async def delete(self, key: Key) -> None:
        self.bodies[key] = self.bodies[key] | {NOTHING}
        with suppress(Unavailable):
            await self.stores.backend.delete(key)
            self.bodies[key] = {NOTHING}

    async def look(self, key: Key) -> None:
        with suppress(Unavailable):
            assert await self.found(key) in self.bodies[key]

    async def found(self, key: Key) -> bytes | None:
        try:
            return await read(await self.stores.backend.open(key))
        except NotFound:
            return NOTHING

    async def leave(self, key: Key) -> None:
        """A client that leaves in the middle of a write, or of a delete."""
        working = asyncio.create_task(self.put(key) if self.chance.random() < 0.7 else self.delete(key))
        for _ in range(self.chance.randrange(40)):
            await asyncio.sleep(0)
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working

    async def change(self, name: str) -> None:
        """Let *name* fail, or be well again."""
        store = self.stores[name]
        store.down = store.full = store.loses_answers = False
        if self.chance.random() < 0.5:
            setattr(store, self.chance.choice(FAULTS), True)

    async def listed(self) -> None:
        """A list that comes to its end has every key that must be there, and none that must not."""
        with suppress(Unavailable):
            there = [found.key async for found in self.stores.backend.list()]
            assert len(there) == len(set(there))
            for key, bodies in self.bodies.items():
                assert key in there or NOTHING in bodies
                assert key not in there or bodies != {NOTHING}

    def body(self) -> bytes:
        self.counted += 1
        return f"{self.counted} ".encode() * self.chance.choice([1, 1000, 100_000])

    async def chunks(self, data: bytes) -> AsyncIterator[bytes]:
        for at in range(0, len(data), 100_000):
            yield data[at : at + 100_000]


@pytest.mark.parametrize("seed", [*range(5), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(5, 60))])
async def test_what_was_acknowledged_is_what_is_there_in_the_end(tmp_path: Path, seed: int) -> None:
    async with several(tmp_path) as stores:
        walk = Walk(stores, seed)
        left = STEPS
        while left:
            with suppress(Killed):
                async with stores.running(most_debts=walk.chance.choice([2, 1000]), remembered=3):
                    for _ in range(min(left, walk.chance.randrange(1, 60))):
                        left -= 1
                        await walk.step()
            stores.fuse.left = None
        for store in stores.stores.values():
            store.down = store.full = store.loses_answers = False
        async with stores.running() as backend:
            await stores.settled()
            names = {found.key async for found in backend.list()}
            for key in KEYS:
                found = await walk.found(key)
                assert found in walk.bodies[key], f"{key} is {found and found[:12]!r}"
                assert (key in names) == (found is not NOTHING)
                assert len(await stores.holders(key)) == len(names & {key})
                assert [debt for debt in await stores.ledger.debts_of(key) if not debt.settled] == []
            assert not any(backend.backlog.values())

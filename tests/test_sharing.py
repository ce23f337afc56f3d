"""Several processes that deliver from one store behave as one; and each does without the others when it must."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from processors.batch import Batch
from processors.errors import Corrupt
from processors.transform import Transform
from processors.values import Inspected, Rendered
from proxy import keys
from proxy.adapters.memory import MemoryBackend
from proxy.conditions import Wanted
from proxy.delivery import Opened
from proxy.errors import NotFound, RateLimited
from proxy.keys import Key
from proxy.ports import ByteRange, ObjectMeta, ObjectReader
from tests.contracts.bodies import body
from tests.kit.sharing import Hub, Memory, MemoryBus, MemoryShared, Process
from tests.kit.waiting import eventually

KEY = keys.parse("u7/cat.jpg")
SMALL = Transform.parse("w=400")


class Atelier:
    """A renderer whose work takes until *gate* is open."""

    is_idle = True
    places = 40

    def __init__(self) -> None:
        self.made: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.bytes = 1_000
        self.refuses = False

    async def inspect(self, source: ObjectReader) -> Inspected:
        return Inspected("jpeg", 4000, 3000)

    async def render(self, source: ObjectReader, batch: Batch) -> None:
        original = b"".join([chunk async for chunk in source])
        for text in batch.take():
            self.made.append(text)
            await self.gate.wait()
            if self.refuses:
                batch.refuse(text, Corrupt("it is broken"))
            batch.give(text, Rendered(original * (self.bytes // len(original)), "image/jpeg", 40, 30))


class Shelf(MemoryBackend):
    """A store that counts how often it is asked, and answers questions for metas when *gate* is open."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def head(self, key: Key) -> ObjectMeta:
        self.heads += 1
        try:
            return await super().head(key)
        finally:
            await self.gate.wait()

    async def open(self, key: Key, span: ByteRange | None = None) -> ObjectReader:
        return await super().open(key, span)


class Town:
    """Two processes over one store."""

    def __init__(self) -> None:
        self.shelf, self.stored, self.atelier = Shelf(), MemoryBackend(), Atelier()
        self.memory, self.hub = Memory(), Hub()
        self.processes = [self.process() for _ in range(2)]

    def process(self) -> Process:
        """One more."""
        return Process(self.shelf, self.stored, self.atelier, MemoryShared(self.memory), MemoryBus(self.hub))

    async def store(self, data: bytes) -> None:
        """Put *data* under KEY by way of the first process."""
        await self.shelf.put(KEY, body(data), "image/jpeg")
        await self.processes[0].delivery.forget(KEY)


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    town = Town()
    await town.store(b"a picture.")
    yield town
    town.atelier.gate.set()
    town.shelf.gate.set()
    for process in town.processes:
        await process.renditions.finish(1.0)


async def asked(process: Process, pay: Callable[[], Awaitable[None]] | None = None, transform: Transform = SMALL) -> Opened:
    return await process.delivery.rendition(KEY, transform, "", Wanted.of("GET", {}), lasting=True, pay=pay)


async def test_however_many_ask_however_many_processes_it_is_made_once(town: Town) -> None:
    town.atelier.gate.clear()
    waiting = [asyncio.create_task(asked(process)) for _ in range(100) for process in town.processes]
    await eventually(lambda: bool(town.atelier.made))
    town.atelier.gate.set()
    answers = await asyncio.gather(*waiting)
    assert {answer.reader.data for answer in answers} == {b"a picture." * 100}
    assert len(town.atelier.made) == 1
    assert sum(not answer.collapsed for answer in answers) == 1


async def test_what_is_too_large_to_be_shared_is_found_in_the_store(town: Town) -> None:
    town.atelier.bytes = 1 << 19
    town.atelier.gate.clear()
    waiting = [asyncio.create_task(asked(process)) for process in town.processes]
    await eventually(lambda: bool(town.atelier.made))
    town.atelier.gate.set()
    assert {answer.found for answer in await asyncio.gather(*waiting)} == {"miss", "stored"}
    assert len(town.atelier.made) == 1


async def test_what_one_has_made_is_a_hit_for_the_others(town: Town) -> None:
    first, second = town.processes
    assert (await asked(first)).found == "miss"
    await eventually(lambda: not first.renditions.storing)
    await town.stored.delete(next(iter([listed.key async for listed in town.stored.list()])))
    assert (await asked(second)).found == "shared"
    assert (await asked(second)).found == "memory"
    assert len(town.atelier.made) == 1


async def test_what_one_cannot_make_the_others_do_not_try(town: Town) -> None:
    town.atelier.refuses = True
    for process in town.processes:
        with pytest.raises(Corrupt, match="it is broken"):
            await asked(process)
        await eventually(lambda: not process.renditions.storing)  # noqa: B023
    assert len(town.atelier.made) == 1


async def test_a_removal_is_seen_by_all_at_once(town: Town) -> None:
    first, second = town.processes
    for process in town.processes:
        assert (await process.delivery.meta(KEY)).size == 10
        await asked(process)
    await town.shelf.delete(KEY)
    await first.delivery.forget(KEY)
    with pytest.raises(NotFound):
        await asked(second)
    with pytest.raises(NotFound):
        await town.process().delivery.meta(KEY)
    assert second.renditions.cached_bytes == 0


async def test_an_overwrite_is_seen_by_all_at_once(town: Town) -> None:
    for process in town.processes:
        assert (await asked(process)).reader.data == b"a picture." * 100
    await town.store(b"another...")
    for process in town.processes:
        assert (await asked(process)).reader.data == b"another..." * 100


async def test_what_was_asked_before_a_change_is_told_to_nobody(town: Town) -> None:
    """A process that is slow to hear from the store must not bring the old version back for all others."""
    _, slow = town.processes
    town.memory.values.clear()
    town.shelf.gate.clear()
    asking = asyncio.create_task(slow.delivery.meta(KEY))
    await eventually(lambda: town.shelf.heads > 0)
    old = (await MemoryBackend.head(town.shelf, KEY)).etag
    town.shelf.gate.set()
    town.hub.cut()
    await town.store(b"another...")
    assert (await asking).etag == old
    assert (await town.process().delivery.meta(KEY)).etag != old


async def test_an_absence_is_known_to_all_for_a_moment_and_ends_with_an_upload(town: Town) -> None:
    await town.shelf.delete(KEY)
    await town.processes[0].delivery.forget(KEY)
    town.memory.values.clear()
    before = town.shelf.heads
    for _ in range(20):
        for process in town.processes:
            with pytest.raises(NotFound):
                await process.delivery.original(KEY, Wanted.of("GET", {}))
    assert town.shelf.heads - before == 1
    await town.store(b"here again")
    for process in town.processes:
        assert (await process.delivery.original(KEY, Wanted.of("GET", {}))).reader.meta.size == 10


async def test_who_may_have_missed_a_word_forgets_what_it_knew(town: Town) -> None:
    _, deaf = town.processes
    await asked(deaf)
    town.hub.cut()
    town.memory.is_there = False
    await town.store(b"another...")
    town.hub.mend()
    assert (await asked(deaf)).reader.data == b"another..." * 100


@pytest.mark.parametrize(
    "damage",
    [
        lambda value, other: b"",
        lambda value, other: value[:-1],
        lambda value, other: value + b"x",
        lambda value, other: value[:20] + bytes([value[20] ^ 1]) + value[21:],
        lambda value, other: b"2" + value[1:],
        lambda value, other: other,
        lambda value, other: b"not ours at all, and longer than any head of ours would be",
    ],
    ids=["empty", "short", "long", "flipped", "newer", "another's", "foreign"],
)
async def test_a_damaged_value_is_a_miss(town: Town, damage: Callable[[bytes, bytes], bytes]) -> None:
    first, _ = town.processes
    wide = Transform.parse("w=800")
    await asked(first)
    await asked(first, transform=wide)
    await eventually(lambda: not first.renditions.storing)
    before = {name: value for name, (value, _) in town.memory.values.items()}
    pictures = [name for name in before if name.startswith("r:")]
    for name, other in zip(pictures, reversed(pictures), strict=True):
        town.memory.values[name] = (damage(before[name], before[other]), 1e9)
    for name in set(before) - set(pictures):
        town.memory.values[name] = (damage(before[name], before[pictures[0]]), 1e9)
    assert (await asked(town.process())).found == "stored"
    assert (await asked(town.process(), transform=wide)).reader.data == b"a picture." * 100


async def test_without_anything_shared_each_finds_out_by_itself(town: Town) -> None:
    town.memory.is_there = False
    town.hub.cut()
    for process in town.processes:
        assert (await asked(process)).reader.data == b"a picture." * 100
        await eventually(lambda: not process.renditions.storing)  # noqa: B023
    assert len(town.atelier.made) == 1, "the second one found it in the store"


async def test_who_has_asked_for_too_much_does_not_spoil_it_for_those_who_wait_with_him(town: Town) -> None:
    async def refuse() -> None:
        await asyncio.sleep(0)
        raise RateLimited

    paid: list[str] = []

    async def pay() -> None:
        paid.append("once")

    first, _ = town.processes
    limited = asyncio.create_task(asked(first, refuse))
    await asyncio.sleep(0)
    others = [asyncio.create_task(asked(first, pay)) for _ in range(10)]
    with pytest.raises(RateLimited):
        await limited
    assert {answer.reader.data for answer in await asyncio.gather(*others)} == {b"a picture." * 100}
    assert paid == ["once"]
    await asked(first, pay)
    assert paid == ["once"], "a hit is free"


async def test_a_holder_that_dies_is_followed_by_one_who_waits(town: Town) -> None:
    first, second = town.processes
    lease = "turn of somebody who is no more"
    name = (await first.delivery.plan(KEY, SMALL, "", lasting=True)).name
    assert await MemoryShared(town.memory).take(f"l:{name}", lease, 0.05) == 0.0
    waiting = asyncio.create_task(asked(second))
    await asyncio.sleep(0)
    town.memory.now = 0.06
    assert (await waiting).found == "miss"

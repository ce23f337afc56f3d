"""What is made better later: a stand-in at once, the better one when nobody waits, and never the one for the other."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from processors.batch import Batch
from processors.errors import Busy, MediaError, TooCostly
from processors.transform import Transform
from processors.values import Inspected, Rendered
from proxy import keys
from proxy.adapters.alone import NoBus, NoSharedCache
from proxy.adapters.memory import MemoryBackend
from proxy.conditions import NotModified, Wanted
from proxy.delivery import Opened
from proxy.ports import ObjectReader
from tests.contracts.bodies import body
from tests.kit.sharing import Process
from tests.kit.waiting import eventually

KEY = keys.parse("u7/large.jpg")
ACCEPT = "image/avif,image/webp"
AUTO = Transform.parse("format=auto")


class Atelier:
    """A renderer that is as busy as it is told to be, and gives a stand-in for what would take long."""

    def __init__(self) -> None:
        self.is_idle = False
        self.places = 4
        self.made: list[str] = []
        self.refusal: MediaError | None = None

    async def inspect(self, source: ObjectReader) -> Inspected:
        return Inspected("jpeg", 4000, 3000)

    async def render(self, source: ObjectReader, batch: Batch) -> None:
        if self.refusal is not None:
            raise self.refusal
        for text in batch.take():
            self.made.append(text)
            if "format=avif" in text:
                batch.give(text, Rendered(b"an avif", "image/avif", 4000, 3000))
            elif "format=small" in text:
                batch.give(text, Rendered(b"a webp", "image/webp", 4000, 3000, ("format-pending",)))
            else:
                batch.give(text, Rendered(text.encode(), "image/jpeg", 40, 30))


@pytest.fixture
def atelier() -> Atelier:
    return Atelier()


@pytest.fixture
async def process(atelier: Atelier) -> AsyncIterator[Process]:
    """A process that shares nothing, over one picture."""
    backend = MemoryBackend()
    await backend.put(KEY, body(b"a picture"), "image/jpeg")
    process = Process(backend, MemoryBackend(), atelier, NoSharedCache(), NoBus())
    yield process
    await process.renditions.finish(1.0)


async def asked(process: Process, etag: str | None = None) -> Opened:
    headers = {} if etag is None else {"If-None-Match": etag}
    return await process.delivery.rendition(KEY, AUTO, ACCEPT, Wanted.of("GET", headers))


async def test_the_stand_in_gives_way_to_the_better_one_when_nobody_waits(process: Process, atelier: Atelier) -> None:
    first = await asked(process)
    assert (first.reader.data, first.degraded, first.version.is_pending) == (b"a webp", ("format-pending",), True)
    assert process.renditions.later == 1
    atelier.is_idle = True
    await eventually(lambda: process.renditions.later == 0)
    second = await asked(process, str(first.version.etag))
    assert (second.reader.data, second.reader.meta.content_type, second.degraded) == (b"an avif", "image/avif", ())
    assert not second.version.is_pending
    assert len(atelier.made) == 2


async def test_for_want_of_room_it_is_tried_again_and_for_a_refusal_it_is_not(process: Process, atelier: Atelier) -> None:
    await asked(process)
    atelier.is_idle, atelier.refusal = True, Busy()
    await eventually(lambda: process.renditions.later == 0)
    atelier.refusal = TooCostly()
    assert (await asked(process)).version.is_pending
    assert process.renditions.later == 1
    await eventually(lambda: process.renditions.later == 0)
    assert (await asked(process)).version.is_pending
    assert process.renditions.later == 0


async def test_who_holds_the_stand_in_hears_that_it_is_one(process: Process) -> None:
    first = await asked(process)
    with pytest.raises(NotModified) as same:
        await asked(process, str(first.version.etag))
    assert same.value.version.is_pending


async def test_the_better_one_outlives_the_memory_of_the_process(process: Process, atelier: Atelier) -> None:
    await asked(process)
    atelier.is_idle = True
    await eventually(lambda: process.renditions.later == 0)
    process.renditions.drop(KEY)
    assert (await asked(process)).reader.data == b"an avif"
    assert len(atelier.made) == 2

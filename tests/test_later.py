"""What is made better later: a stand-in at once, the better one when nobody waits, and never the one for the other."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from processors.batch import Batch
from processors.errors import Busy, MediaError, TooCostly
from processors.formats import Kind
from processors.transform import Transform
from processors.values import Inspected, Rendered
from proxy import keys
from proxy.adapters.memory import MemoryBackend
from proxy.conditions import NotModified, Wanted
from proxy.delivery import Delivery, Opened
from proxy.descriptions import Descriptions
from proxy.keys import Key
from proxy.observe import Metrics
from proxy.ports import ObjectReader
from proxy.sources import Sources
from proxy.variants import Variants
from tests.contracts.bodies import body
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


class Blank:
    """A catalogue without records."""

    async def get(self, key: Key) -> None:
        return None


@pytest.fixture
def atelier() -> Atelier:
    return Atelier()


@pytest.fixture
async def delivery(atelier: Atelier) -> AsyncIterator[Delivery]:
    """A delivery over one picture."""
    backend = MemoryBackend()
    await backend.put(KEY, body(b"a picture"), "image/jpeg")
    sources, variants = Sources(backend, dict.fromkeys(Kind, 1 << 20)), Variants(MemoryBackend(), MemoryBackend())
    delivery = Delivery(backend, variants, atelier, sources, Descriptions(Blank(), sources, atelier), 1 << 20, Metrics())
    yield delivery
    await delivery.finish(1.0)


async def asked(delivery: Delivery, etag: str | None = None) -> Opened:
    headers = {} if etag is None else {"If-None-Match": etag}
    return await delivery.rendition(KEY, AUTO, ACCEPT, Wanted.of("GET", headers))


async def test_the_stand_in_gives_way_to_the_better_one_when_nobody_waits(delivery: Delivery, atelier: Atelier) -> None:
    first = await asked(delivery)
    assert (first.reader.data, first.degraded, first.version.is_pending) == (b"a webp", ("format-pending",), True)
    assert delivery.later == 1
    atelier.is_idle = True
    await eventually(lambda: delivery.later == 0)
    second = await asked(delivery, str(first.version.etag))
    assert (second.reader.data, second.reader.meta.content_type, second.degraded) == (b"an avif", "image/avif", ())
    assert not second.version.is_pending
    assert len(atelier.made) == 2


async def test_for_want_of_room_it_is_tried_again_and_for_a_refusal_it_is_not(delivery: Delivery, atelier: Atelier) -> None:
    await asked(delivery)
    atelier.is_idle, atelier.refusal = True, Busy()
    await eventually(lambda: delivery.later == 0)
    atelier.refusal = TooCostly()
    assert (await asked(delivery)).version.is_pending
    assert delivery.later == 1
    await eventually(lambda: delivery.later == 0)
    assert (await asked(delivery)).version.is_pending
    assert delivery.later == 0


async def test_who_holds_the_stand_in_hears_that_it_is_one(delivery: Delivery) -> None:
    first = await asked(delivery)
    with pytest.raises(NotModified) as same:
        await asked(delivery, str(first.version.etag))
    assert same.value.version.is_pending


async def test_the_better_one_outlives_the_memory_of_the_process(delivery: Delivery, atelier: Atelier) -> None:
    first = await asked(delivery)
    atelier.is_idle = True
    await eventually(lambda: delivery.later == 0)
    assert first.name is not None
    delivery._cache.delete(first.name)
    assert (await asked(delivery)).reader.data == b"an avif"
    assert len(atelier.made) == 2

"""A film stays in its store: what a worker needs of it is fetched part by part, and nothing else."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import pytest

from processors.batch import Batch
from processors.errors import MediaError
from processors.formats import Kind
from processors.pool import Pool
from processors.transform import Transform
from processors.values import Rendered
from proxy.adapters.memory import MemoryBackend
from proxy.adapters.renderer import PoolRenderer
from proxy.errors import Unavailable
from proxy.keys import Key
from proxy.ports import ByteRange, ObjectMeta, ObjectReader
from proxy.sources import Overwritten, Sources
from tests import pictures
from tests.contracts.bodies import body
from tests.kit import renderers

STILL = Transform(width=64, format="png")
PAD = 40 << 20


def long(film: bytes) -> bytes:
    """The film with much that nobody looks at before its index."""
    at = film.index(b"moov") - 4
    return film[:at] + struct.pack(">I4s", PAD, b"free") + bytes(PAD - 8) + film[at:]


class CountingStore(MemoryBackend):
    """Knows the parts that were asked of it; *before* is called before each but the first."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[ByteRange] = []
        self.before: Callable[[], Awaitable[None]] | None = None

    async def open(self, key: Key, span: ByteRange | None = None) -> ObjectReader:
        if self.before is not None and self.asked:
            await self.before()
        reader = await super().open(key, span)
        self.asked.append(reader.span or ByteRange(0, reader.meta.size))
        reader.data = None
        return reader

    async def stored(self, data: bytes) -> ObjectMeta:
        return await self.put(Key("u7/film.mp4"), body(data), "video/mp4")


class Bench:
    """A store, and workers that look at what is in it."""

    def __init__(self, store: CountingStore, pool: Pool, renderer: PoolRenderer, spool: Path) -> None:
        self.store = store
        self.pool = pool
        self.spool = spool
        self._sources = Sources(store, dict.fromkeys(Kind, 1 << 40))
        self._renderer = renderer

    async def still(self, meta: ObjectMeta, transform: Transform = STILL) -> Rendered:
        batch = Batch(lambda: None)
        waiting = asyncio.ensure_future(batch.join(transform))
        await asyncio.sleep(0)
        try:
            async with self._sources.sought(meta) as source:
                await self._renderer.render(source, batch)
        except MediaError as error:
            batch.fail(error)
        return await waiting

    async def width(self, meta: ObjectMeta) -> int | None:
        async with self._sources.sought(meta) as source:
            return (await self._renderer.inspect(source)).width


@pytest.fixture(params=renderers.EVERY)
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    async with renderers.renderer(request.param, tmp_path) as (renderer, pool):
        yield Bench(CountingStore(), pool, renderer, tmp_path)


async def test_a_still_and_a_look_need_a_small_part_of_a_long_film(bench: Bench) -> None:
    meta = await bench.store.stored(long(pictures.dawn("mp4")))
    still = await bench.still(meta, Transform(width=64, format="png", time="1.5"))
    assert await bench.width(meta) == 64
    assert sum(span.length() for span in bench.store.asked) < 2 << 20
    whole = await bench.store.stored(pictures.dawn("mp4"))
    assert (await bench.still(whole, Transform(width=64, format="png", time="1.5"))).data == still.data
    assert [*bench.spool.iterdir()] == []


async def test_no_part_is_asked_for_twice_and_a_film_that_is_read_on_comes_in_larger_parts(bench: Bench) -> None:
    meta = await bench.store.stored(pictures.noisy())
    await bench.still(meta)
    spans = sorted((span.start, span.stop or 0) for span in bench.store.asked)
    assert all(before[1] <= after[0] for before, after in pairwise(spans)), spans


async def test_an_overwrite_in_the_middle_is_told_and_the_worker_goes_on(bench: Bench) -> None:
    film = long(pictures.dawn("mp4"))
    meta = await bench.store.stored(film)

    async def overwrite() -> None:
        bench.store.before = None
        await bench.store.stored(film)

    bench.store.before = overwrite
    with pytest.raises(Overwritten):
        await bench.still(meta)
    assert (await bench.still(await bench.store.head(meta.key))).width == 64


async def test_a_store_that_fails_in_the_middle_is_told_and_the_worker_goes_on(bench: Bench) -> None:
    meta = await bench.store.stored(long(pictures.dawn("mp4")))

    async def fail() -> None:
        bench.store.before = None
        raise Unavailable("the store does not answer")

    bench.store.before = fail
    with pytest.raises(Unavailable):
        await bench.still(meta)
    assert await bench.width(meta) == 64
    assert bench.pool.workers == 1


async def test_who_leaves_while_a_part_is_on_its_way_costs_no_worker(bench: Bench) -> None:
    meta = await bench.store.stored(long(pictures.dawn("mp4")))
    is_asked, goes_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        is_asked.set()
        await goes_on.wait()

    bench.store.before = wait
    asking = asyncio.ensure_future(bench.width(meta))
    await is_asked.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    bench.store.before = None
    assert (await bench.still(meta)).width == 64


async def test_what_is_no_film_is_fetched_as_one(bench: Bench) -> None:
    meta = await bench.store.put(Key("u7/a.jpg"), body(pictures.jpeg(640, 480)), "image/jpeg")
    assert (await bench.still(meta)).width == 64
    assert [(span.start, span.stop) for span in bench.store.asked] == [(0, meta.size)]

"""The pool of workers, as processes use it that do not have it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from processors.batch import Batch
from processors.errors import Busy, Corrupt, Crashed, MediaError, TooCostly
from processors.pool_socket import PoolClient, PoolListener
from processors.transform import Transform
from processors.values import Inspected, Rendered
from tests.kit.waiting import eventually

FILE = Path("a.jpg")
SMALL, LARGE = Transform(width=100), Transform(width=200)


class OneJobPool:
    """Answers renditions with their own text, or fails with *failure*; while it *waits*, nothing is made."""

    def __init__(self) -> None:
        self.is_idle = True
        self.failure: Exception | None = None
        self.waits = asyncio.Event()
        self.waits.set()
        self.jobs = 0
        self.called_off = 0
        self.batch: Batch | None = None
        self.made: list[str] = []

    async def capabilities(self) -> dict[str, Any]:
        return {"libvips": "8.18.7"}

    async def inspect(self, path: Path, whole: bool = False, *, wait_s: float | None = None) -> Inspected:
        if self.failure is not None:
            raise self.failure
        return Inspected(format="jpeg", width=3, height=2)

    async def render(self, path: Path, batch: Batch) -> None:
        self.jobs += 1
        try:
            if self.failure is not None:
                raise self.failure
            await batch.gathered()
            texts = batch.take()
            self.batch = batch
            for text in texts:
                await self.waits.wait()
                if batch.wants(text):
                    self.made.append(text)
                    batch.give(text, Rendered(text.encode() * 100_000, "image/jpeg", 3, 2))
        except asyncio.CancelledError:
            self.called_off += 1
            raise


@asynccontextmanager
async def listening(pool: OneJobPool, path: Path) -> AsyncIterator[None]:
    """Within, *pool* is behind *path*."""
    async with PoolListener(pool, path):  # type: ignore[arg-type]
        yield


@pytest.fixture
def pool() -> OneJobPool:
    """It makes whatever it is asked for."""
    return OneJobPool()


@pytest.fixture
def path() -> Iterator[Path]:
    """A name that is short enough for a socket."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "pool"


async def made(client: PoolClient, *transforms: Transform) -> list[Rendered]:
    """The renditions, from one batch."""
    batch = Batch(lambda: None, expected=len(transforms))
    waiting = [asyncio.ensure_future(batch.join(transform)) for transform in transforms]
    await asyncio.sleep(0)
    try:
        await client.render(FILE, batch)
    except Exception as error:
        batch.fail(error)
    return await asyncio.gather(*waiting)


async def test_what_is_asked_together_is_one_job_there_too(pool: OneJobPool, path: Path) -> None:
    async with listening(pool, path), PoolClient(path, 4) as client:
        small, large = await made(client, SMALL, LARGE)
        assert (small.data[:5], large.data[:5]) == (SMALL.canonical.encode()[:5], LARGE.canonical.encode()[:5])
        assert len(large.data) == len(LARGE.canonical) * 100_000
        assert pool.jobs == 1


@pytest.mark.parametrize(
    "failure", [Busy("too many wait already"), Corrupt("broken"), Crashed("it fails"), TooCostly("x", limit="pixels")]
)
async def test_a_refusal_is_the_same_there_and_here(pool: OneJobPool, path: Path, failure: MediaError) -> None:
    pool.failure = failure
    async with listening(pool, path), PoolClient(path, 4) as client:
        for asked in (made(client, SMALL), client.inspect(FILE)):
            with pytest.raises(type(failure)) as refused:
                await asked
            assert type(refused.value) is type(failure)
            assert (refused.value.detail, refused.value.members) == (failure.detail, failure.members)
            assert refused.value.headers == failure.headers


async def test_a_fault_of_ours_is_not_told_as_a_busy_pool(pool: OneJobPool, path: Path) -> None:
    pool.failure = RuntimeError("a worker raised\nTraceback")
    async with listening(pool, path), PoolClient(path, 4) as client:
        for asked in (made(client, SMALL), client.inspect(FILE)):
            with pytest.raises(RuntimeError, match="a worker raised"):
                await asked
        pool.failure = None
        assert (await client.inspect(FILE)).width == 3


async def test_a_file_that_has_gone_is_told_as_such(pool: OneJobPool, path: Path) -> None:
    pool.failure = FileNotFoundError()
    async with listening(pool, path), PoolClient(path, 4) as client:
        with pytest.raises(FileNotFoundError):
            await client.inspect(FILE)


async def test_a_job_that_nobody_waits_for_is_called_off(pool: OneJobPool, path: Path) -> None:
    pool.waits.clear()
    async with listening(pool, path), PoolClient(path, 4) as client:
        asked = asyncio.ensure_future(made(client, SMALL))
        await eventually(lambda: pool.jobs == 1 and client.running == 1)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await eventually(lambda: pool.called_off == 1)
        assert client.running == 0


async def test_a_rendition_that_nobody_waits_for_is_not_made(pool: OneJobPool, path: Path) -> None:
    pool.waits.clear()
    async with listening(pool, path), PoolClient(path, 4) as client:
        batch = Batch(lambda: None, expected=2)
        leaving, staying = (asyncio.ensure_future(batch.join(transform)) for transform in (LARGE, SMALL))
        await asyncio.sleep(0)
        job = asyncio.ensure_future(client.render(FILE, batch))
        await eventually(lambda: pool.batch is not None)
        leaving.cancel()
        await eventually(lambda: pool.batch is not None and not pool.batch.wants(LARGE.canonical))
        pool.waits.set()
        assert (await staying).content_type == "image/jpeg"
        await job
        assert pool.made == [SMALL.canonical]


async def test_who_asks_while_nobody_is_there_is_told_to_come_again(pool: OneJobPool, path: Path) -> None:
    async with PoolClient(path, 4) as client:
        assert not client.is_idle
        with pytest.raises(Busy) as refused:
            await client.inspect(FILE)
        assert refused.value.headers == {"Retry-After": "1"}
        for _ in range(2):
            async with listening(pool, path):
                assert (await client.capabilities())["libvips"] == "8.18.7"
                await eventually(lambda: client.is_idle)
                assert (await client.inspect(FILE)).height == 2
            await eventually(lambda: not client.is_idle)
            with pytest.raises(Busy):
                await made(client, SMALL)

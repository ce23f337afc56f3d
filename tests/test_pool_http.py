"""Pools of workers on other machines: what goes on between a media proxy and its processors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from processors import framing, pool_http, service
from processors.batch import Batch
from processors.errors import Busy, MediaError
from processors.framing import Words
from processors.pool_http import FarPool
from processors.sparse import Sparse
from processors.transform import PIPELINE_REVISION
from processors.values import Inspected, Rendered
from tests.kit import renderers
from tests.kit.ports import free_port
from tests.kit.waiting import eventually
from tests.test_pool_socket import LARGE, SMALL, OneJobPool


class FarJobPool(OneJobPool):
    """As a processor has it: reads a part of what it looks at, and says how it is."""

    def __init__(self) -> None:
        super().__init__()
        self.places = 4
        self.running = self.waiting = 0
        self.oldest_wait_s = 0.0

    async def inspect(self, path: Path | Sparse, whole: bool = False, *, wait_s: float | None = None) -> Inspected:
        if isinstance(path, Sparse):
            await path.fill(1 << 16, 1 << 17)
        await self.waits.wait()
        return Inspected(format="mp4", width=3, height=2)


@pytest.fixture
async def pools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[list[FarJobPool], list[str]]]:
    """Two processors and their addresses."""
    monkeypatch.setattr(pool_http, "LOOK_S", 0.1)
    monkeypatch.setattr(pool_http, "ANSWER_S", 30.0)
    async with AsyncExitStack() as stack:
        pools, urls = [FarJobPool(), FarJobPool()], []
        for number, pool in enumerate(pools):
            folder = tmp_path / str(number)
            folder.mkdir()
            urls.append(await stack.enter_async_context(renderers.served(pool, folder)))  # type: ignore[arg-type]
        yield pools, urls


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Something to send."""
    path = tmp_path / "a.jpg"
    path.write_bytes(bytes(1000))
    return path


@asynccontextmanager
async def pretending(work: Callable[[web.WebSocketResponse], Awaitable[None]]) -> AsyncIterator[str]:
    """The address of one that says it is well, and does *work* in its own way."""

    async def health(request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "pipeline": PIPELINE_REVISION, "places": 4, "capabilities": {}})

    async def job(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        await work(socket)
        return socket

    app = web.Application()
    app.router.add_get("/health", health)
    app.router.add_get("/work", job)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def made(client: FarPool, file: Path) -> list[Rendered | BaseException]:
    batch = Batch(lambda: None, expected=2)
    waiting = [asyncio.ensure_future(batch.join(transform)) for transform in (SMALL, LARGE)]
    await asyncio.sleep(0)
    try:
        await client.render(file, batch)
    except MediaError as error:
        batch.fail(error)
    return await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_proxy_whose_store_is_slow_is_not_taken_for_dead(tmp_path: Path) -> None:
    """Pings are answered while it waits for a part of a film."""
    is_alive = asyncio.Event()

    async def work(socket: web.WebSocketResponse) -> None:
        words: Words = {}
        while "here" not in words:
            words, _ = framing.unpacked((await socket.receive()).data)
        await socket.send_bytes(framing.packed({"need": [1 << 16, 1 << 17]}))
        await socket.ping()
        assert (await socket.receive()).type is aiohttp.WSMsgType.PONG
        is_alive.set()
        await socket.send_bytes(framing.packed({"inspected": {"format": "mp4", "width": 3}}))
        await socket.receive()

    async def fill(start: int, stop: int) -> None:
        await is_alive.wait()

    path = tmp_path / "film"
    path.write_bytes(bytes(1 << 18))
    async with pretending(work) as url, renderers.asked(url) as client, asyncio.timeout(30.0):
        assert (await client.inspect(Sparse(path, 1 << 18, 1 << 16, fill))).width == 3


async def test_work_goes_where_least_is_under_way_and_to_one_that_is_busy_last(
    pools: tuple[list[FarJobPool], list[str]], file: Path
) -> None:
    (one, two), urls = pools
    one.waits.clear()
    two.waits.clear()
    async with renderers.asked(*urls) as client:
        jobs = [asyncio.ensure_future(made(client, file)) for _ in range(2)]
        await eventually(lambda: one.jobs == two.jobs == 1)
        one.waits.set()
        two.waits.set()
        await asyncio.gather(*jobs)
        one.oldest_wait_s = 100.0
        await eventually(lambda: any(place.is_busy for place in client._places.values()))
        for count in range(2, 5):
            await made(client, file)
            assert (one.jobs, two.jobs) == (1, count)
        two.oldest_wait_s = 100.0
        await eventually(lambda: all(place.is_busy for place in client._places.values()))
        assert isinstance((await made(client, file))[0], Rendered)


async def test_one_of_another_version_is_not_asked(
    pools: tuple[list[FarJobPool], list[str]], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it makes would be kept under the name of what this version makes."""
    ended: list[str] = []
    with monkeypatch.context() as other:
        other.setattr(service, "PIPELINE_REVISION", 1)
        async with renderers.asked(*pools[1], ended=ended) as client:
            assert isinstance((await made(client, file))[0], Busy)
            assert (client.up, ended) == (0, ["nobody"])
            other.undo()
            await eventually(lambda: client.up == 2)
            assert isinstance((await made(client, file))[0], Rendered)


async def test_what_is_not_taken_does_not_pile_up(
    pools: tuple[list[FarJobPool], list[str]], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "UNSENT_BYTES", 1)
    async with renderers.asked(pools[1][0]) as client:
        for _ in range(3):
            first, second = await made(client, file)
            assert isinstance(first, Rendered)
            assert isinstance(second, Busy)


async def test_what_a_name_does_not_lead_to_any_more_ends_its_work(
    pools: tuple[list[FarJobPool], list[str]], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name loses the address of a processor that is being stopped, which has work."""
    (one, _), (url, _) = pools
    found = ["127.0.0.1"]

    async def addresses(asked: str) -> list[str]:
        return found

    monkeypatch.setattr(pool_http, "_addresses", addresses)
    monkeypatch.setattr(pool_http, "RESOLVE_S", 0.0)
    one.waits.clear()
    async with renderers.asked(url.replace("127.0.0.1", "processors.example")) as client:
        job = asyncio.ensure_future(made(client, file))
        await eventually(lambda: one.jobs == 1)
        found = ["::1"]  # where nobody listens at this port
        await eventually(lambda: client.up == 0)
        one.waits.set()
        assert isinstance((await job)[0], Rendered)
        await eventually(lambda: not client._leaving)


async def test_one_that_stands_still_is_not_waited_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a machine that has frozen, or gone without a word: the connection stays."""
    monkeypatch.setattr(pool_http, "HEARTBEAT_S", 0.1)
    goes_on = asyncio.Event()

    async def work(socket: web.WebSocketResponse) -> None:
        await goes_on.wait()

    ended: list[str] = []
    async with pretending(work) as url, renderers.asked(url, ended=ended) as client:
        assert isinstance((await made(client, file))[0], Busy)
        assert ended == ["lost", "nobody"]
        goes_on.set()


async def test_who_comes_and_goes_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_http, "LOOK_S", 0.1)
    monkeypatch.setattr(pool_http, "ANSWER_S", 30.0)
    noted: list[str | None] = []
    pool = FarJobPool()
    async with AsyncExitStack() as stack:
        served = AsyncExitStack()
        url = await served.enter_async_context(renderers.served(pool, tmp_path))  # type: ignore[arg-type]
        await stack.enter_async_context(renderers.asked(url, noted=noted))
        await eventually(lambda: noted == [None])
        await served.aclose()
        await eventually(lambda: len(noted) == 2)
        assert noted[1]
        other = await stack.enter_async_context(renderers.served(pool, tmp_path, token="a token that nobody has"))  # type: ignore[arg-type]
        wrong: list[str | None] = []
        await stack.enter_async_context(renderers.asked(other, noted=wrong))
        await eventually(lambda: wrong == ["it answers 401"])


async def test_a_name_that_is_none_or_something_else_that_answers_is_away(file: Path) -> None:
    async with renderers.asked("http://a..example:1", f"http://127.0.0.1:{free_port()}") as client:
        assert isinstance((await made(client, file))[0], Busy)
        with pytest.raises(Busy):
            await client.capabilities()


async def test_pages_in_browsers_get_in_with_the_token_alone(pools: tuple[list[FarJobPool], list[str]]) -> None:
    """They may connect to what listens on the loopback of whoever looks at them."""
    page = {"Origin": "https://evil.example"}
    async with aiohttp.ClientSession() as session:
        for headers, status in ((page, 401), ({}, 200)):
            async with session.get(f"{pools[1][0]}/health", headers=headers) as answer:
                assert answer.status == status
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(f"{pools[1][0]}/work", headers=page)

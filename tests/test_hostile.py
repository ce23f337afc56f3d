"""Files made to hurt: what each costs before it is refused, and what is left of it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from proxy import keys
from proxy.adapters.local import LocalBackend
from tests import bombs
from tests.kit.client import Client, media
from tests.kit.refusals import refusal, shared_bombs
from tests.kit.server import RunningServer

MAX_CPU_MS = 100
MAX_MIB = 50
TAKEN = {"styles.svg", "frames.apng", "size.mp4", "gif_65535x65535.gif"}
"""what is no bomb for us: it is seen as something small, or is only large"""
REFUSED = sorted(bombs.BOMBS.keys() - TAKEN)


@pytest.mark.parametrize("name", REFUSED)
def test_a_bomb_is_refused_and_the_service_stays_small(server: RunningServer, client: Client, name: str) -> None:
    answer = client.upload(bombs.BOMBS[name]())
    assert answer.status in {415, 422}, answer
    assert client.assets() == []
    assert server.rss() < 110 << 20


async def test_what_others_put_into_a_store_is_refused_when_it_is_to_be_shown(serve: Callable[..., RunningServer]) -> None:
    server = serve()
    server.stop()
    names = ["pages.tif", "frames.webp", "texts.png", "frames.gif", "scans.jpg"]
    async with LocalBackend(server.data / "media") as store:
        for name in names:
            await store.put(keys.parse(f"u/{name}"), body(bombs.BOMBS[name]()), "application/octet-stream")
    client = server.start().client()
    answers = [client.get(media(f"u/{name}", "w=7")) for name in names]
    assert [(answer.status, answer.code) for answer in answers] == [(422, "too-costly")] * len(names)


async def body(data: bytes) -> AsyncIterator[bytes]:
    """*data* as a body."""
    yield data


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a process' memory is read from /proc")
@pytest.mark.parametrize("name", [*REFUSED, *map(str, shared_bombs())], ids=lambda name: Path(name).name)
def test_refusing_a_bomb_costs_less_than_100_ms_and_50_mib(tmp_path: Path, name: str) -> None:
    """CPU time of the worker, the least of three."""
    path = Path(name)
    if name in bombs.BOMBS:
        path = tmp_path / name
        path.write_bytes(bombs.BOMBS[name]())
    costs = [refusal(path) for _ in range(3)]
    assert path.name in TAKEN or "taken" not in {cost.outcome for cost in costs}
    assert min(cost.cpu_ms for cost in costs) < MAX_CPU_MS
    assert max(cost.mib for cost in costs) < MAX_MIB

"""Files made to hurt: what each costs before it is refused, and what is left of it."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests import bombs
from tests.kit.client import Client, media
from tests.kit.refusals import refusal, shared_bombs
from tests.kit.server import RunningServer
from tests.kit.waiting import until

MAX_CPU_MS = 100
MAX_MIB = 50
TAKEN = {"styles.svg", "size.mp4", "gif_65535x65535.gif"}
"""what is no bomb for us: it is seen as something small, or is only large"""
REFUSED = sorted(bombs.BOMBS.keys() - TAKEN)


@pytest.fixture(scope="module")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that has done nothing else before, whose memory is all that bombs have taken."""
    with RunningServer(tmp_path_factory.mktemp("besieged")) as running:
        yield running


@pytest.mark.parametrize("name", REFUSED)
def test_a_bomb_is_refused_and_the_service_stays_small(besieged: RunningServer, owner: str, name: str) -> None:
    client = besieged.client(owner)
    answer = client.upload(bombs.BOMBS[name]())
    assert answer.status in {415, 422}, answer
    assert client.assets() == []
    assert besieged.rss() < 110 << 20


@pytest.mark.parametrize("name", ["pages.tif", "frames.webp", "texts.png", "frames.gif", "scans.jpg"])
def test_what_others_put_into_a_store_is_refused_when_it_is_to_be_shown(server: RunningServer, stranger: Client, name: str) -> None:
    server.place(f"others/{name}", bombs.BOMBS[name](), "application/octet-stream")
    answer = stranger.get(media(f"others/{name}", "w=7"))
    assert (answer.status, answer.code) == (422, "too-costly")


def test_a_decoder_that_crashes_costs_one_answer_and_the_third_time_the_source_is_left_alone(
    serve: Callable[..., RunningServer],
) -> None:
    """SIGSEGV to the worker while it encodes, as a decoder's own fault would be."""
    server = serve(MEDIA_RENDER_WORKERS="1")
    client = server.client("u")
    key = client.stored(noise(1600, 1200))["key"]
    other = client.stored(bombs.pictures.jpeg(40, 30))["key"]
    with ThreadPoolExecutor() as threads:
        for attempt in range(3):
            worker = idle_worker(server)
            spent = worker.cpu_times().user
            asked = threads.submit(client.get, media(key, f"w={1500 + attempt}&format=avif&q=95"))
            assert until(lambda worker=worker, spent=spent: worker.cpu_times().user > spent + 0.15)  # type: ignore[misc]
            worker.send_signal(signal.SIGSEGV)
            assert (asked.result().status, asked.result().code) == (422, "undecodable")
            assert client.get(media(other, f"w={20 + attempt}")).status == 200
    worker = idle_worker(server)
    spent = worker.cpu_times().user
    refused = client.get(media(key, "w=30"))
    assert (refused.status, refused.code) == (422, "undecodable")
    assert worker.cpu_times().user == spent
    assert client.get(media(key)).status == 200
    client.stored(noise(30, 30))


def idle_worker(server: RunningServer) -> psutil.Process:
    """The one worker of *server*, once it is up."""
    assert until(lambda: len(server.children()) == 1)
    server.warm()
    return server.children()[0]


def noise(width: int, height: int) -> bytes:
    """A JPEG that takes long to encode again."""
    buffer = io.BytesIO()
    Image.effect_noise((width, height), 90).convert("RGB").save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


CUT = {make.__name__: make for make in (bombs.pictures.jpeg, bombs.pictures.png, bombs.pictures.gif)}


@pytest.mark.parametrize("name", CUT)
def test_a_picture_without_its_end_is_refused(client: Client, name: str) -> None:
    answer = client.upload(cut(name))
    assert (answer.status, answer.code) == (422, "undecodable")


@pytest.fixture(scope="module")
def lenient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that shows what is cut short."""
    with RunningServer(tmp_path_factory.mktemp("lenient"), {"MEDIA_TRUNCATED": "show"}) as running:
        yield running


@pytest.mark.parametrize("name", CUT)
def test_what_is_there_of_a_cut_picture_is_shown_on_demand_and_not_kept(lenient: RunningServer, name: str) -> None:
    client = lenient.client("u")
    record = client.stored(cut(name))
    before = lenient.files()
    path = media(record["key"], f"w=100&format=png&v={record['etag']}")
    for _ in range(2):  # from a worker, then from memory
        answer = client.get(path)
        assert answer.status == 200
        assert answer.headers["X-Media-Degraded"] == "truncated"
        assert answer.headers["Cache-Control"] == "public, max-age=60"
    with Image.open(io.BytesIO(answer.body)) as image:
        assert image.convert("RGB").getpixel((5, 5)) == pytest.approx((255, 0, 0), abs=40)
    same = client.get(path, {"If-None-Match": answer.headers["ETag"]})
    assert (same.status, same.headers["Cache-Control"]) == (304, "public, max-age=60")
    assert lenient.files() == before
    whole = client.stored(CUT[name](200, 160))
    assert "X-Media-Degraded" not in client.get(media(whole["key"], "w=100")).headers


def test_what_is_damaged_but_not_cut_is_refused_all_the_same(lenient: RunningServer) -> None:
    data = bytearray(bombs.pictures.png(200, 160, mode="RGB"))
    data[len(data) // 2] ^= 0x55
    assert lenient.client("u").upload(bytes(data)).status == 422


def cut(name: str) -> bytes:
    """Most of a picture."""
    data = CUT[name](200, 160)
    return data[: len(data) * 3 // 4].rstrip(b";")


def test_nothing_is_made_of_a_source_that_is_larger_than_an_upload_may_be(server: RunningServer, stranger: Client) -> None:
    for name, size in (("large", 4 << 20), ("small", 1 << 10)):
        server.place(f"others/{name}.svg", bombs.SVG % (b"<!--" + b" " * size + b"-->"), "image/svg+xml")
    refused = stranger.get(media("others/large.svg", "w=10"))
    assert (refused.status, refused.code) == (413, "too-large")
    assert stranger.get(media("others/large.svg")).status == 200
    assert stranger.get(media("others/small.svg", "w=10")).status == 200


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

"""The streaming trap: a body that turns out shorter than promised ends in a broken connection, and nobody stalls for ever."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import pictures
from tests.kit.aftereffects import harmless
from tests.kit.client import media
from tests.kit.files import padded
from tests.kit.raw import Cut, Wire, upload_head
from tests.kit.server import RunningServer
from tests.kit.waiting import until

GIB = 1 << 30
MAX_GROWTH_BYTES = 30 << 20


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that waits a second for those who neither send nor take."""
    with RunningServer(tmp_path_factory.mktemp("short"), {"MEDIA_IDLE_TIMEOUT": "1"}) as running:
        yield running


def file_of(server: RunningServer, data: bytes) -> Path:
    """Where *data* lies in the data folder."""
    found = [server.data / name for name in server.files() if (server.data / name).stat().st_size == len(data)]
    assert len(found) == 1, found
    return found[0]


def is_refused_or_cut(wire: Wire) -> bool:
    """Whether the answer is an error that says so, or breaks off and ends the connection."""
    try:
        return wire.answer().status >= 500
    except Cut:
        return wire.ended()


@pytest.mark.parametrize("size", [100_000, 3_000_000])
def test_an_object_whose_file_has_lost_its_end_is_never_a_short_answer_that_looks_whole(short: RunningServer, size: int) -> None:
    data = padded(pictures.jpeg(8, 8), size)
    client = short.client("cut")
    path = media(client.stored(data)["key"])
    file = file_of(short, data)
    with file.open("r+b") as opened:
        opened.truncate(size // 2)
    for headers in ({}, {"Range": f"bytes={size // 4}-"}, {"Range": "bytes=-10"}):
        with short.wire() as wire:
            assert is_refused_or_cut(wire.request("GET", path, headers)), headers
    client.delete(path)
    assert short.running


def test_an_object_whose_file_is_gone_is_no_empty_answer(short: RunningServer) -> None:
    data = padded(pictures.jpeg(8, 8), 50_000)
    path = media(short.client("gone").stored(data)["key"])
    file_of(short, data).unlink()
    with harmless(short, 503, "unavailable", lines=2) as bad:  # the request, and what is wrong with the store
        bad.answer = short.client().get(path)


def test_a_reader_that_stalls_is_cut_and_frees_what_it_held(short: RunningServer) -> None:
    data = padded(pictures.jpeg(8, 8), 20 << 20)
    path = media(short.client("stall").stored(data)["key"])
    with harmless(short, None, lines=8):
        wires = [short.wire(receive_buffer=4096) for _ in range(8)]
        for wire in wires:
            wire.request("GET", path).read_slowly(1000, 5)
        assert until(lambda: short.connections() <= 1, 20), "stalled readers are still there"
        for wire in wires:
            wire.close()


def test_stalled_readers_and_senders_cost_little_memory(server: RunningServer) -> None:
    data = padded(pictures.jpeg(8, 8), 20 << 20)
    client = server.client("many")
    path = media(client.stored(data)["key"])
    head = upload_head(server.token("many"), f"Content-Length: {len(data)}")
    before = server.rss()
    readers = [server.wire(receive_buffer=4096).request("GET", path) for _ in range(20)]
    senders = [server.wire().send(head + data[: 1 << 20]) for _ in range(20)]
    for wire in readers:
        wire.read_slowly(1000, 5)
    grown = server.rss() - before
    for wire in (*readers, *senders):
        wire.reset()
    assert grown < 40 * 512 * 1024, f"{grown / 40 / 1024:.0f} KiB for each"
    assert until(lambda: server.connections() == 0)
    assert client.delete(path).status == 204


def test_an_object_that_is_removed_while_it_is_read_comes_whole(server: RunningServer) -> None:
    data = padded(pictures.jpeg(8, 8), 20 << 20)
    client = server.client("remover")
    path = media(client.stored(data)["key"])
    with server.wire(receive_buffer=65_536) as wire:
        wire.request("GET", path)
        wire.interim()
        assert client.delete(path).status == 204
        assert client.get(path).status == 404
        assert wire.answer().body == data


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_gibibyte_goes_in_and_out_in_little_memory(serve: Callable[..., RunningServer]) -> None:
    server = serve()
    start = pictures.ogg(seconds=1)
    block = bytes(1 << 20)
    digest = hashlib.sha256(start)
    size = len(start)

    def body() -> Iterator[bytes]:
        nonlocal size
        yield start
        while size < GIB - len(block):
            yield block
            digest.update(block)
            size += len(block)

    token = server.token("big", scope="media:admin")
    before = server.rss()
    peak = 0
    with server.wire(timeout_s=120) as wire:
        wire.request("POST", "/api/upload", {"Authorization": f"Bearer {token}", "Transfer-Encoding": "chunked"})
        for piece in body():
            wire.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            peak = max(peak, server.rss())
        answer = wire.send(b"0\r\n\r\n").answer()
    assert answer.status == 201, answer
    record = json.loads(answer.body)
    assert record["sha256"] == digest.hexdigest()
    back = hashlib.sha256()
    with server.wire(timeout_s=120) as wire:
        wire.request("GET", media(record["key"]))
        wire.interim()
        head = wire.read_slowly(1 << 16, 5)
        start_of_body = head.index(b"\r\n\r\n") + 4
        back.update(head[start_of_body:])
        left = size - len(head) + start_of_body
        while left:
            piece = wire.read_slowly(min(left, 1 << 20), 30)
            assert piece
            back.update(piece)
            left -= len(piece)
            peak = max(peak, server.rss())
    assert back.hexdigest() == digest.hexdigest()
    print(f"grown by {(peak - before) / (1 << 20):.1f} MiB")
    assert peak - before < MAX_GROWTH_BYTES

"""What it costs to have pictures made by a processor, beside this machine's own workers: ``make bench-processor``.

The same photos at two media proxies, one of which asks a processor on loopback, each asked for once and in turn. Half a minute.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests import pictures
from tests.kit.client import Client, media
from tests.kit.processor import TOKEN, RunningProcessor
from tests.kit.server import RunningServer
from tests.kit.waiting import until

COPIES = 30
PHOTOS = {"640 × 480": pictures.jpeg(640, 480), "4000 × 3000": pictures.jpeg(4000, 3000)}


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ExitStack() as stack:
            processor = stack.enter_context(RunningProcessor(folder / "processor"))
            near = stack.enter_context(RunningServer(folder / "near"))
            env = {"PROCESSOR_URL": processor.url, "PROCESSOR_TOKEN": TOKEN}
            far = stack.enter_context(RunningServer(folder / "far", env))
            assert until(lambda: far.client("me").upload(pictures.png(4, 4)).status == 201)
            print("| photo | here, median ms | processor, median ms | ratio |\n|---|---|---|---|")
            for size, photo in PHOTOS.items():
                paths = [(server.client(), _stored(server, photo)) for server in (near, far)]
                taken = [[_seconds(client, path) for client, path in paths] for paths in _turns(paths)]
                here, there = (statistics.median(column) * 1000 for column in zip(*taken, strict=True))
                print(f"| {size}, {len(photo) >> 10} KiB | {here:.1f} | {there:.1f} | {there / here:.2f} |")


def _stored(server: RunningServer, photo: bytes) -> list[str]:
    return [media(server.client("me").stored(photo)["key"]) for _ in range(COPIES)]


def _turns(paths: list[tuple[Client, list[str]]]) -> list[list[tuple[Client, str]]]:
    return [[(client, each[number]) for client, each in paths] for number in range(COPIES)]


def _seconds(client: Client, path: str) -> float:
    began = time.perf_counter()
    assert client.get(f"{path}?w=400").status == 200
    return time.perf_counter() - began


if __name__ == "__main__":
    main()

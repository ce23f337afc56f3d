"""What is left of the service under 16 times the misses that it can make: ``make bench-overload``.

First it is measured how many cold renditions a second the service makes; then 16 times as many are asked for, for ten seconds,
whether or not answers come. Meanwhile another process asks for what is rendered already, and notes how long each takes.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from benchmarks.images import sources
from tests.kit.client import media
from tests.kit.server import RunningServer

TIMES = 16
PHOTOS = 12
CALIBRATION_S = 5.0
OVERLOAD_S = 10.0
MOST = 8_000
"""requests at most, however fast the machine is"""
ALLOWED_S = 12.0
ALLOWED_HIT_MS = 20.0
HITS_A_SECOND = 50
NICE = 10
"""of the storm: elsewhere its clients have cores of their own"""


def main() -> None:
    """Print the figures; exit with 1 where one is not reached."""
    if sys.argv[1:2] == ["--hits"]:
        hits(sys.argv[2], float(sys.argv[3]))
        return
    with tempfile.TemporaryDirectory() as folder:
        photo = sources(Path(folder))[0].read_bytes()
        with RunningServer(Path(folder) / "server") as server:
            server.warm()
            client = server.client("me")
            paths = [media(client.stored(photo)["key"]) for _ in range(PHOTOS)]
            sys.exit(asyncio.run(overloaded(server, paths)))


async def overloaded(server: RunningServer, paths: list[str]) -> int:
    """Calibrate, overload, print; 1 if a figure is not reached."""
    queries = distinct(paths)
    async with aiohttp.ClientSession(server.url, connector=aiohttp.TCPConnector(limit=0)) as session:
        rate = await calibrated(session, queries)
        hot = f"{paths[0]}?w=200"
        async with session.get(hot) as answer:
            assert answer.status == 200
        quiet = await hit_times(server.url + hot, 3.0)
        offered = min(rate * TIMES, MOST / OVERLOAD_S)
        print(f"{rate:.1f} cold renditions a second; now {offered:.0f} are asked for, every second for {OVERLOAD_S:g} s")
        highest = [0, 0]
        counting = asyncio.create_task(peak(server, highest))
        hitting = asyncio.create_task(hit_times(server.url + hot, OVERLOAD_S))
        await asyncio.sleep(0.5)  # the process that asks for hits must not inherit the priority of the storm
        statuses, slowest = await stormed(session, queries, offered)
        busy = await hitting
        counting.cancel()
        one, all_of_them = highest
        print(f"misses: {dict(statuses)}; the slowest took {slowest:.1f} s ({ALLOWED_S:g} allowed)")
        for name, waited in (("alone", quiet), ("under the load", busy)):
            print(
                f"hits {name}: {len(waited)}, p50 {waited[len(waited) // 2]:.1f} ms, p99 {waited[len(waited) * 99 // 100]:.1f} ms"
            )
        print(f"memory: {one / 2**20:.0f} MiB the process, {all_of_them / 2**20:.0f} MiB with its workers")
        good = set(statuses) <= {"200", "503 with Retry-After"} and slowest <= ALLOWED_S
        return 0 if good and busy[len(busy) * 99 // 100] <= ALLOWED_HIT_MS else 1


def distinct(paths: list[str]) -> Iterator[str]:
    """Addresses of renditions that nobody has asked for, of one photo after the other."""
    for quality, width in itertools.product(range(60, 90), range(300, 500)):
        for path in paths:
            yield f"{path}?w={width}&q={quality}"


async def calibrated(session: aiohttp.ClientSession, queries: Iterator[str]) -> float:
    """How many cold renditions a second there are with four askers who wait for their answers."""
    until, made = time.perf_counter() + CALIBRATION_S, 0

    async def ask() -> None:
        nonlocal made
        while time.perf_counter() < until:
            async with session.get(next(queries)) as answer:
                await answer.read()
                made += answer.status == 200

    await asyncio.gather(*(ask() for _ in range(4)))
    return made / CALIBRATION_S


async def stormed(session: aiohttp.ClientSession, queries: Iterator[str], rate: float) -> tuple[Counter[str], float]:
    """Ask *rate* times a second; how often which answer came, and the seconds of the slowest."""
    os.nice(NICE)
    statuses: Counter[str] = Counter()
    slowest = 0.0

    async def ask(query: str) -> None:
        nonlocal slowest
        begun = time.perf_counter()
        try:
            async with session.get(query, timeout=aiohttp.ClientTimeout(total=60)) as answer:
                await answer.read()
                statuses[f"{answer.status}" + (" with Retry-After" if "Retry-After" in answer.headers else "")] += 1
        except (aiohttp.ClientError, TimeoutError) as error:
            statuses[type(error).__name__] += 1
        slowest = max(slowest, time.perf_counter() - begun)

    begun, asked = time.perf_counter(), []
    while (passed := time.perf_counter() - begun) < OVERLOAD_S:
        while len(asked) < passed * rate:
            asked.append(asyncio.create_task(ask(next(queries))))
        await asyncio.sleep(0.005)
    await asyncio.gather(*asked)
    return statuses, slowest


async def peak(server: RunningServer, highest: list[int]) -> None:
    """Keep the *highest* resident size of the process, and of it and its workers, until cancelled."""
    while True:
        highest[:] = max(highest[0], server.rss()), max(highest[1], server.rss_of_all())
        await asyncio.sleep(0.25)


async def hit_times(address: str, seconds: float) -> list[float]:
    """The milliseconds of each hit, sorted; from another process, which does nothing else."""
    command = [sys.executable, "-m", "benchmarks.overload", "--hits", address, str(seconds)]
    child = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    printed, _ = await child.communicate()
    return sorted(float(line) for line in printed.split())


def hits(address: str, seconds: float) -> None:
    """Ask again and again over one connection, and print the milliseconds of each answer."""
    parts = urlsplit(address)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        begun = time.perf_counter()
        connection.request("GET", f"{parts.path}?{parts.query}")
        answer = connection.getresponse()
        answer.read()
        print((time.perf_counter() - begun) * 1000, flush=True)
        time.sleep(1 / HITS_A_SECOND)


if __name__ == "__main__":
    main()

"""What renditions cost, beside vipsthumbnail and beside a process that calls libvips in a loop: ``make bench-images``.

All on the same files, in the same run, on this machine. Every rendition of the service is a cold one: the files are uploaded
under several keys, each is asked for once, and nothing is kept. Takes about two minutes.
"""

from __future__ import annotations

import asyncio
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil

from tests import pictures
from tests.kit import shared
from tests.kit.client import media
from tests.kit.server import RunningServer

COPIES = 12
ROUNDS = 3
AT_ONCE = 2
SRCSET = (160, 320, 480, 640, 960, 1280)
CELLS = [(format, width) for format in ("jpg", "webp", "avif") for width in (400, 1280)]
NAMED = ("jpeg/dog_12mp_orient6_exif_xmp_icc.jpg", "jpeg/hato_6mp.jpg")
# What the service does with a photo, as short as it can be said: the same options of the encoders.
LOOP = """
import sys, time, pyvips
from processors import decoders, encoders
decoders.prepare()
format, width, rounds, *paths = sys.argv[1:]
def render(path):
    image = pyvips.Image.thumbnail(path, int(width), height=100_000, size="down", export_profile="srgb", fail_on="error")
    output = encoders.output(format, None, animated=False, alpha=False, pixels=image.width * image.height)
    bare = image.copy()
    for name in ("exif-data", "orientation"):
        bare.remove(name)
    return output.encode(bare)
pyvips.operation_block_set("VipsForeignLoad", False)
for path in paths:
    data = render(path)
begun, made = time.process_time(), 0
for _ in range(int(rounds)):
    for path in paths:
        made += len(render(path)) > 0
print((time.process_time() - begun) / made * 1000)
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of the table."""

    rate: float
    cpu_ms: float
    size: float
    p50_ms: float
    p99_ms: float
    peak_mib: float


def main() -> None:
    """Print the tables."""
    with tempfile.TemporaryDirectory() as folder:
        files = sources(Path(folder))
        print(f"{len(files)} photos: {', '.join(file.name for file in files)}; {psutil.cpu_count()} cores\n")
        env = {"MEDIA_CACHE_BYTES": "0", "MEDIA_VARIANTS_BYTES": "1M", "MEDIA_RENDER_WAIT": "30", "MEDIA_RENDER_QUEUE": "64"}
        with RunningServer(Path(folder) / "server", env) as server:
            server.warm()
            asyncio.run(tables(server, files))


def sources(folder: Path) -> list[Path]:
    """The photos: real ones where the shared set is beside this checkout, else one made by script."""
    if shared.present():
        return [shared.FOLDER / name for name in NAMED]
    made = folder / "made.jpg"
    made.write_bytes(pictures.jpeg(4000, 3000))
    return [made]


async def tables(server: RunningServer, files: list[Path]) -> None:
    """Measure and print, one row after the other."""
    client = server.client("me")
    paths = [media(client.stored(file.read_bytes())["key"]) for _ in range(COPIES) for file in files]
    columns = ("requests/s", "CPU ms", "bytes", "p50 ms", "p99 ms", "peak MiB of a worker", "vipsthumbnail CPU ms", "loop CPU ms")
    print(f"| | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    async with aiohttp.ClientSession(server.url, connector=aiohttp.TCPConnector(limit=32)) as session:
        for format, width in CELLS:
            await asked(session, paths[:2], f"w={width + 1}&format={format}")
            cell = await measured(server, session, paths, f"w={width}&format={format}")
            ours = (cell.rate, 1), (cell.cpu_ms, 1), (cell.size, 0), (cell.p50_ms, 0), (cell.p99_ms, 0), (cell.peak_mib, 0)
            figures = [f"{figure:.{places}f}" for figure, places in (*ours, (loop(files, format, width), 1))]
            figures.insert(-1, tool(files, format, width))
            print(f"| {format} {width} | {' | '.join(figures)} |", flush=True)
        print()
        await srcsets(server, session, paths)


async def measured(server: RunningServer, session: aiohttp.ClientSession, paths: Sequence[str], query: str) -> Cell:
    """Each of *paths* once, AT_ONCE at a time."""
    forget_peaks(server)
    cpu, begun = cpu_s(server), time.perf_counter()
    waited, sizes = await asked(session, paths, query)
    wall = time.perf_counter() - begun
    used = cpu_s(server) - cpu
    waited.sort()
    p99 = waited[min(len(waited) - 1, len(waited) * 99 // 100)]
    count = len(paths)
    return Cell(
        count / wall, used / count * 1000, statistics.mean(sizes), waited[count // 2] * 1000, p99 * 1000, peak_bytes(server) / 2**20
    )


async def asked(session: aiohttp.ClientSession, paths: Iterable[str], query: str) -> tuple[list[float], list[int]]:
    """The seconds and bytes of each answer."""
    waited, sizes, gate = [], [], asyncio.Semaphore(AT_ONCE)

    async def one(path: str) -> None:
        async with gate:
            begun = time.perf_counter()
            async with session.get(f"{path}?{query}") as answer:
                assert answer.status == 200, await answer.text()
                sizes.append(len(await answer.read()))
            waited.append(time.perf_counter() - begun)

    await asyncio.gather(*(one(path) for path in paths))
    return waited, sizes


async def srcsets(server: RunningServer, session: aiohttp.ClientSession, paths: Sequence[str]) -> None:
    """Six widths of one photo: one after the other, and at once."""
    half = len(paths) // 2
    separate, together = [], []
    walls: tuple[list[float], list[float]] = ([], [])
    for one, other in zip(paths[:half], paths[half:], strict=True):
        cpu, begun = cpu_s(server), time.perf_counter()
        for width in SRCSET:
            await fetched(session, one, width)
        walls[0].append(time.perf_counter() - begun)
        separate.append(cpu_s(server) - cpu)
        cpu, begun = cpu_s(server), time.perf_counter()
        await asyncio.gather(*(fetched(session, other, width) for width in SRCSET))
        walls[1].append(time.perf_counter() - begun)
        together.append(cpu_s(server) - cpu)
    ratio = sum(together) / sum(separate)
    print("| six widths, JPEG, 160 to 1280 px | CPU ms | seconds |")
    print("|---|---|---|")
    for name, cpu_seconds, wall in (("one after the other", separate, walls[0]), ("at once", together, walls[1])):
        print(f"| {name} | {statistics.mean(cpu_seconds) * 1000:.0f} | {statistics.mean(wall):.2f} |")
    print(f"\nat once: {ratio:.2f} of the CPU")


async def fetched(session: aiohttp.ClientSession, path: str, width: int) -> None:
    """One rendition of the six."""
    async with session.get(f"{path}?w={width}&format=jpg") as answer:
        assert answer.status == 200, await answer.text()
        await answer.read()


def tool(files: Sequence[Path], format: str, width: int) -> str:
    """The CPU ms of a vipsthumbnail for each file; a word where it is not here or cannot."""
    program = shutil.which("vipsthumbnail")
    if program is None:
        return "not here (Debian: libvips-tools)"
    with tempfile.TemporaryDirectory() as folder:
        options = {"jpg": "[Q=80,strip,optimize-coding]", "webp": "[Q=79,strip]", "avif": "[Q=63,strip,effort=1]"}[format]
        command = [program, "--size", f"{width}x100000>", "--eprofile", "srgb", "-o", f"{folder}/%s.{format}{options}"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        for _ in range(ROUNDS):
            for file in files:
                ended = subprocess.run([*command, str(file)], env={"VIPS_CONCURRENCY": "1"}, check=False, capture_output=True)
                if ended.returncode:
                    return "cannot"
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"{used / ROUNDS / len(files) * 1000:.1f}"


def loop(files: Sequence[Path], format: str, width: int) -> float:
    """The CPU ms of a rendition in one process that does nothing else, on one thread."""
    command = [sys.executable, "-c", LOOP, format, str(width), str(ROUNDS * 2), *map(str, files)]
    ended = subprocess.run(command, env={"VIPS_CONCURRENCY": "1"}, check=True, capture_output=True, text=True)
    return float(ended.stdout)


def cpu_s(server: RunningServer) -> float:
    """The CPU seconds of all workers so far."""
    return sum(times.user + times.system for times in (child.cpu_times() for child in server.children()))


def forget_peaks(server: RunningServer) -> None:
    """Let the peak of the workers' memory begin anew (Linux)."""
    for child in server.children():
        Path(f"/proc/{child.pid}/clear_refs").write_text("5")


def peak_bytes(server: RunningServer) -> int:
    """The highest resident size of a worker since then."""
    peaks = [0]
    for child in server.children():
        for line in Path(f"/proc/{child.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                peaks.append(int(line.split()[1]) * 1024)
    return max(peaks)


if __name__ == "__main__":
    main()

"""`python -m tests.kit.s3_load JSON`: puts and reads through an S3 backend in a process of its own; prints what they took as JSON.

The argument has the backend's settings under *store*, and *size*, *count*, *known*: so many bodies of so many bytes at once, of a
size that is told beforehand or not. With *bare*, the same bytes first go up and down without us: a bare stream of aiohttp.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import resource
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from proxy import keys
from proxy.adapters.s3 import S3Backend
from proxy.ports import ObjectReader

CHUNK = 1 << 16
BLOCK = bytes(range(256)) * (CHUNK // 256)


def memory() -> tuple[int, int]:
    """The resident memory of this process, and its peak, in bytes. Linux only."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) * 1024, int(status["VmHWM"].split()[0]) * 1024


async def pieces(size: int) -> AsyncIterator[bytes]:
    for at in range(0, size, CHUNK):
        yield BLOCK[: min(CHUNK, size - at)]


async def digest(chunks: AsyncIterator[bytes]) -> str:
    """SHA-256 of all, in a thread, as a service would."""
    found = hashlib.sha256()
    async for chunk in chunks:
        await asyncio.to_thread(found.update, chunk)
    return found.hexdigest()


async def bare(backend: S3Backend, size: int) -> dict[str, float]:
    """Seconds of one body up and down by aiohttp alone."""
    address = {"Bucket": backend._bucket, "Key": "u7/bare"}
    up = await backend._public.generate_presigned_url("put_object", Params=address)
    down = await backend._public.generate_presigned_url("get_object", Params=address)
    async with aiohttp.ClientSession(skip_auto_headers={"Content-Type"}) as session:
        begun = time.monotonic()
        async with session.put(up, data=pieces(size), headers={"Content-Length": str(size)}) as answer:
            assert answer.status == 200, await answer.text()
        put = time.monotonic()
        async with session.get(down) as answer:
            async for _ in answer.content.iter_chunked(CHUNK):
                pass
    return {"bare_up_s": put - begun, "bare_down_s": time.monotonic() - put}


async def main(store: dict[str, Any], size: int, count: int, known: bool, with_bare: bool, admitted: bool) -> dict[str, float]:
    """What it took: seconds, bytes of memory, seconds of this process's time on the CPUs."""

    async def admit(staged: ObjectReader) -> None:
        assert staged.meta.size == size

    async with S3Backend("minio", **{**store, "spool": Path(store["spool"])}) as backend:
        small = keys.parse("u7/small")
        await backend.put(small, pieces(20 << 20), "image/jpeg", size=20 << 20 if known else None)
        await digest((await backend.open(small)).chunks)
        took = await bare(backend, size) if with_bare else {}
        Path("/proc/self/clear_refs").write_text("5")
        before, _ = memory()
        spent = resource.getrusage(resource.RUSAGE_SELF)
        begun = time.monotonic()
        names = [keys.parse(f"u7/{number}") for number in range(count)]
        await asyncio.gather(
            *(
                backend.put(name, pieces(size), "image/jpeg", admit if admitted else None, size=size if known else None)
                for name in names
            )
        )
        put = time.monotonic()
        after = resource.getrusage(resource.RUSAGE_SELF)
        async with await backend.open(names[0]) as reader:
            found = await digest(reader.chunks)
        expected = await digest(pieces(size))
        assert found == expected
        read = time.monotonic()
        now, peak = memory()
    cpu = after.ru_utime + after.ru_stime - spent.ru_utime - spent.ru_stime
    return {
        **took,
        "up_s": put - begun,
        "up_cpu_s": cpu,
        "down_s": read - put,
        "grown": now - before,
        "peak": peak - before,
        "all": peak,
    }


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps(asyncio.run(main(**given))))

"""Stages for bodies."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest

from proxy import streams
from proxy.errors import TooLarge, TooSlow


async def body(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def read(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def test_a_body_at_its_limit_passes_and_one_byte_more_does_not() -> None:
    assert await read(streams.limited(body(b"ab", b"cd"), lambda: 4)) == b"abcd"
    with pytest.raises(TooLarge):
        await read(streams.limited(body(b"ab", b"cde"), lambda: 4))


async def test_a_limit_that_falls_behind_the_last_chunk_still_holds() -> None:
    limits = [100]
    stream = streams.limited(body(b"abcde"), lambda: limits[0])
    assert await anext(stream) == b"abcde"
    limits[0] = 4
    with pytest.raises(TooLarge):
        await anext(stream)


@pytest.mark.parametrize("chunks", [(b"",), (b"a",), (b"a", b"b", b"cdefg", b"h"), (b"abcdefgh",)])
async def test_peeking_takes_nothing_away(chunks: tuple[bytes, ...]) -> None:
    head, rest = await streams.peek(body(*chunks), 4)
    assert head == b"".join(chunks)[:4]
    assert await read(rest) == b"".join(chunks)


async def test_a_digest_is_of_all_that_flowed() -> None:
    digest = streams.Digest()
    assert await read(digest.through(body(b"ab", b"c"))) == b"abc"
    assert digest.size == 3
    assert digest.hex == hashlib.sha256(b"abc").hexdigest()


async def test_a_body_that_stops_coming_is_given_up() -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.Event().wait()

    with pytest.raises(TooSlow):
        await read(streams.paced(stalled(), idle_s=0.01, min_rate=0))


async def test_a_body_that_drips_is_given_up_after_the_grace() -> None:
    seconds = iter(range(0, 1000, 5))
    with pytest.raises(TooSlow):
        await read(streams.paced(body(*[b"x"] * 20), idle_s=5, min_rate=100, clock=lambda: float(next(seconds))))


async def test_a_body_that_comes_fast_enough_passes() -> None:
    seconds = iter(range(0, 1000, 5))
    flowed = await read(streams.paced(body(*[b"x" * 1000] * 20), idle_s=5, min_rate=100, clock=lambda: float(next(seconds))))
    assert len(flowed) == 20_000

"""Bodies for the contract suites: whole ones, ones that fail, ones that stand still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from proxy.ports import ObjectReader


async def body(*chunks: bytes) -> AsyncIterator[bytes]:
    """*chunks*, one after the other."""
    for chunk in chunks:
        yield chunk


async def failing_after(chunk: bytes, failure: BaseException) -> AsyncIterator[bytes]:
    """*chunk*, then *failure*."""
    yield chunk
    raise failure


async def standing_after(chunk: bytes, reached: asyncio.Event) -> AsyncIterator[bytes]:
    """*chunk*, then nothing for ever; *reached* is set when it begins."""
    yield chunk
    reached.set()
    await asyncio.Event().wait()


async def read(reader: ObjectReader) -> bytes:
    """All that *reader* gives; closes it."""
    async with reader:
        return b"".join([chunk async for chunk in reader])

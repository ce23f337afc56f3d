"""Stages for bodies on their way: each takes a body, gives a body, and raises when it must. Pure async generators."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable

from proxy.errors import BadRequest, TooLarge, TooSlow
from proxy.ports import Body

RATE_GRACE_S = 30.0


async def limited(body: Body, max_bytes: Callable[[], int]) -> AsyncIterator[bytes]:
    """Pass *body* on unchanged; raise TooLarge at the first byte beyond *max_bytes()*, which may be known only once it flows."""
    seen = 0

    def check() -> None:
        if seen > max_bytes():
            raise TooLarge(f"a body of this type may have {max_bytes()} bytes", max_bytes=max_bytes())

    async for chunk in body:
        seen += len(chunk)
        check()
        yield chunk
    check()  # the limit may have become known, and lower, behind the last chunk


async def sized(body: Body, size: int | None) -> AsyncIterator[bytes]:
    """Pass *body* on unchanged; raise BadRequest when it has more or fewer than *size* bytes. None: it may have any number."""
    seen = 0
    async for chunk in body:
        seen += len(chunk)
        if size is not None and seen > size:
            raise BadRequest("the body is longer than was declared")
        yield chunk
    if size is not None and seen < size:
        raise BadRequest("the body is shorter than was declared")


async def paced(body: Body, idle_s: float, min_rate: int, clock: Callable[[], float] = time.monotonic) -> AsyncIterator[bytes]:
    """Pass *body* on; raise TooSlow when nothing comes for *idle_s* s, or less than *min_rate* bytes/s after 30 s."""
    begun = clock()
    seen = 0
    chunks = aiter(body)
    while True:
        try:
            async with asyncio.timeout(idle_s):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise TooSlow(f"nothing came for {idle_s:g} seconds") from None
        seen += len(chunk)
        spent = clock() - begun
        if spent > RATE_GRACE_S and seen < min_rate * spent:
            raise TooSlow(f"a body must come at {min_rate} bytes a second or more")
        yield chunk


async def peek(body: Body, size: int) -> tuple[bytes, Body]:
    """The first *size* bytes (fewer if the body ends before), and the body with them put back."""
    taken: list[bytes] = []
    length = 0
    chunks = aiter(body)
    async for chunk in chunks:
        taken.append(chunk)
        length += len(chunk)
        if length >= size:
            break
    return b"".join(taken)[:size], _chained(taken, chunks)


async def _chained(taken: list[bytes], rest: Body) -> AsyncIterator[bytes]:
    while taken:
        yield taken.pop(0)
    async for chunk in rest:
        yield chunk


class Digest:
    """Counts and hashes (SHA-256) the bytes that flow through it."""

    def __init__(self) -> None:
        self.size = 0
        self._hash = hashlib.sha256()

    async def through(self, body: Body) -> AsyncIterator[bytes]:
        """Pass *body* on unchanged."""
        async for chunk in body:
            self.size += len(chunk)
            self._hash.update(chunk)
            yield chunk

    @property
    def hex(self) -> str:
        """The digest of what has flowed so far, lower-case hex."""
        return self._hash.hexdigest()


async def drained(body: Body) -> None:
    """Read *body* to its end and keep nothing."""
    async for _ in body:
        pass

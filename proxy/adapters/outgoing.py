"""A body handed to a client library block by block, so that each wait has its deadline and each failure its owner.

A library reads bodies in a task of its own, where what the body raises is wrapped, a wait for ``100 Continue`` has no end, and
a cancellation is not waited for. Here the body is read by who called, and the library gets one block after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from proxy.errors import Unavailable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds. *connect* for a connection, *continue_* from then to the first byte of a body that the store asks for, *answer* to
    the head of an answer, *progress* between two pieces of a body either way, *commit* from the end of a body to its answer.
    *pauses* come before the second and further attempts at what can be tried again, *queue* is for a place among the connections.
    """

    connect: float = 2.0
    continue_: float = 3.0
    answer: float = 10.0
    progress: float = 30.0
    commit: float = 60.0
    pauses: tuple[float, ...] = (0.2, 0.8, 2.0)
    queue: float = 10.0


class Outgoing:
    """What the library takes for a file: it has read(), which nobody calls, and is iterated once.

    While it writes one block, the next may wait here.
    """

    def __init__(self) -> None:
        self.ended = False
        """Whether all blocks were given: from then on the store may have the object, whatever its answer."""
        self._asked = asyncio.Event()
        self._free = asyncio.Event()
        self._given = asyncio.Event()
        self._finished = asyncio.Event()
        self._block: bytes | bytearray | None = None
        self._free.set()

    def read(self, size: int = -1) -> bytes:
        """For the SDK's check of its parameters only."""
        raise NotImplementedError("the body is iterated")

    async def __aiter__(self) -> AsyncIterator[bytes | bytearray]:
        if self._asked.is_set():
            raise RuntimeError("the body goes out once")
        self._asked.set()
        while True:
            await self._given.wait()
            self._given.clear()
            block, self._block = self._block, None
            self._free.set()
            if block is None:
                self._finished.set()
                return
            yield block
            del block

    @property
    def was_asked(self) -> bool:
        """Whether the other side has wanted any of the body."""
        return self._asked.is_set()

    async def asked(self) -> None:
        """Return when the other side wants the body."""
        await self._asked.wait()

    async def hand(self, block: bytes | bytearray) -> None:
        """Give one block, when the one before it has been taken."""
        await self._free.wait()
        self._free.clear()
        self._block = block
        self._given.set()

    async def end(self) -> None:
        """Say that there is no further block, and wait until all are written."""
        await self._free.wait()
        self.ended = True
        self._given.set()
        await self._finished.wait()


async def send(
    request: Callable[[Outgoing], Awaitable[T]],
    blocks: AsyncIterator[bytes | bytearray],
    deadlines: Deadlines,
    outgoing: Outgoing | None = None,
    *,
    asked_s: float | None = None,
) -> T:
    """What *request* gives, to which the body of *blocks* is handed; it is read only once the other side has asked for it.

    What *blocks* raises comes through unchanged, after the request was broken off. Raises Unavailable for a deadline, and
    when the request ends well before the body has. On leaving nothing runs any more. *asked_s* is how long the other side may
    take to ask for the body, where that is not a matter of leaving it soon.
    """
    outgoing = outgoing or Outgoing()
    soon = deadlines.connect + deadlines.continue_

    async def requested() -> T:
        return await request(outgoing)

    task = asyncio.create_task(requested())
    try:
        await _beside(task, outgoing.asked(), asked_s or soon, "the store does not ask for the body")
        async for block in blocks:
            if task.done():
                raise Unavailable("the store answered before it had the whole body")
            await _beside(task, outgoing.hand(block), deadlines.progress, "the store takes nothing more of the body")
        await _beside(task, outgoing.end(), deadlines.progress, "the store takes nothing more of the body")
        try:
            async with asyncio.timeout(deadlines.commit):
                return await asyncio.shield(task)
        except TimeoutError:
            raise Unavailable("the store does not say whether it has the object") from None
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # it has been answered for


async def _beside(task: asyncio.Task[T], step: Awaitable[None], seconds: float, too_late: str) -> None:
    """Wait for *step*, or for a good end of *task*, whose answer may be as soon there; raises what *task* raises."""
    stepping = asyncio.ensure_future(step)
    try:
        await asyncio.wait([task, stepping], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        elif not stepping.done():
            raise Unavailable(too_late)
    finally:
        stepping.cancel()

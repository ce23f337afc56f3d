"""Renditions of one source that are asked for at about the same time, and so made in one job. Standard library only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from processors.transform import Transform
from processors.values import Rendered

MOST = 16
"""renditions in one batch; more begin another"""
GATHER_S = 0.002
GATHERINGS = 4
"""A page asks for its widths within a millisecond or two: as long as somebody came in the last GATHER_S, the job waits for more."""
EXPECTED_S = 0.5
"""for which those are waited for who are announced"""


class Batch:
    """Who waits for which rendition of one source. It takes more until the job begins (`take`), and *when_left* is called when
    everybody has left before the end. One *in background* is made while all others go first.
    """

    def __init__(self, when_left: Callable[[], None], *, in_background: bool = False, expected: int = 1) -> None:
        self.in_background = in_background
        self._expected = min(expected, MOST)
        self._all_are_here = asyncio.Event()
        self._when_left = when_left
        self._waiting: dict[str, asyncio.Future[Rendered]] = {}
        self._is_open = True
        self._seconds: dict[str, float] = {}
        self.left: Callable[[str], None] = lambda text: None
        """called with what nobody waits for any more"""

    def has_room(self, transform: Transform) -> bool:
        """Whether *transform* may still come in."""
        return self._is_open and len(self._waiting) < MOST and transform.canonical not in self._waiting

    async def join(self, transform: Transform) -> Rendered:
        """The rendition, when it is made; raises what it was refused with. There must be room."""
        future: asyncio.Future[Rendered] = asyncio.get_running_loop().create_future()
        self._waiting[transform.canonical] = future
        if len(self._waiting) >= self._expected:
            self._all_are_here.set()
        try:
            return await future
        finally:
            if future.cancelled():
                self.left(transform.canonical)
                if self.is_over:
                    self._is_open = False
                    self._when_left()

    @property
    def is_over(self) -> bool:
        """Whether nobody waits any more."""
        return all(future.done() for future in self._waiting.values())

    def spent(self, phase: str, seconds: float) -> None:
        """Note what all of them waited for: the fetch of the source, the queue."""
        self._seconds[phase] = self._seconds.get(phase, 0.0) + seconds

    async def gathered(self) -> None:
        """Wait a moment for those who come along: 2 ms where nobody does, 8 at most, and longer for those who are *expected*."""
        with suppress(TimeoutError):
            async with asyncio.timeout(EXPECTED_S):
                await self._all_are_here.wait()
        for _ in range(GATHERINGS):
            there = len(self._waiting)
            await asyncio.sleep(GATHER_S)
            if len(self._waiting) == there or there == MOST:
                return

    def take(self) -> list[str]:
        """The canonical texts of what somebody waits for; from now on nothing comes in."""
        self._is_open = False
        return [text for text, future in self._waiting.items() if not future.done()]

    def wants(self, text: str) -> bool:
        """Whether somebody waits for *text*."""
        return not self._waiting[text].done()

    def give(self, text: str, rendered: Rendered) -> None:
        """Answer those who wait for *text*."""
        if self.wants(text):
            self._waiting[text].set_result(replace(rendered, seconds=self._seconds | dict(rendered.seconds)))

    def refuse(self, text: str, error: Exception) -> None:
        """Tell those who wait for *text* that it cannot be made."""
        if self.wants(text):
            self._waiting[text].set_exception(error)

    def fail(self, error: Exception) -> None:
        """Tell all who still wait."""
        for text in self.take():
            self.refuse(text, error)

"""How far a long command is: a bar on a terminal, with rate and time left, and now and then a plain line elsewhere."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SHOWN_S = 0.25
PLAIN_S = 10.0


class Count(Protocol):
    """What is shown. *total* 0: not known yet."""

    total: int
    done: int
    copied: int
    copied_bytes: int


class Shown:
    """*count* on standard error for as long as the context lasts, under the name *what*; nothing if *quiet*."""

    def __init__(self, what: str, count: Count, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._count = count
        self._quiet = quiet
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if not self._quiet:
            show = self._bar if sys.stderr.isatty() else self._lines
            self._task = asyncio.create_task(show())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _bar(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
        shown = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
        began = self._clock()
        with shown as bar:
            task = bar.add_task(self._what, total=None, rate="")
            try:
                while True:
                    bar.update(task, completed=self._count.done, total=self._count.total or None, rate=self._rate(began))
                    await asyncio.sleep(SHOWN_S)
            finally:
                bar.update(task, completed=self._count.done, total=self._count.total or None, rate=self._rate(began))

    async def _lines(self) -> None:
        while True:
            await asyncio.sleep(PLAIN_S)
            print(self._line(), file=sys.stderr, flush=True)

    def _line(self) -> str:
        count = self._count
        return f"{self._what}: {count.done} of {count.total}, {count.copied} copied, {sized(count.copied_bytes)}"

    def _rate(self, began: float) -> str:
        return f"{sized(self._count.copied_bytes)}, {sized(self._count.copied_bytes / max(0.1, self._clock() - began))}/s"


def sized(count: float) -> str:
    """*count* bytes as people read them."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"

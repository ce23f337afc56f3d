"""What a pool and those who use it from afar say to each other, over whatever line: a socket of the machine, or HTTP.

Each job has a line of its own, whose end calls it off. The one who asks has the file, or fills it where it has holes; the one who
works says when a batch is to be closed (``gather``), what it has made (``give``) or will not make (``refuse``), and ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from processors.batch import Batch
from processors.errors import BadParameter, Busy, Corrupt, Crashed, MediaError, TooCostly, Unsupported
from processors.framing import Broken, Words
from processors.pool import File, Pool
from processors.values import Rendered

FAILURES: dict[str, type[MediaError]] = {
    kind.__name__: kind for kind in (BadParameter, Busy, Corrupt, Crashed, TooCostly, Unsupported, MediaError)
}
MOST_CHARS = 10_000
"""of what is told of a fault of ours"""

Fill = Callable[[int, int], Awaitable[None]]


class Line(Protocol):
    """One end of a conversation."""

    def say(self, words: Words, data: bytes = b"") -> None:
        """Send *words*, and *data* behind them; what the other side does not take yet stays in memory."""
        ...

    async def hear(self) -> tuple[Words, bytes]:
        """The next words and the bytes behind them; raises Broken."""
        ...


async def render(line: Line, batch: Batch, fill: Fill, *, is_gathered: bool = False) -> None:
    """Have *batch* answered by who is at the other end and was told what to do; raises what keeps all of it from being made.

    *fill* is for what the other end needs of the file. Raises Broken when it goes.
    """
    while True:
        words, data = await answer(line, fill)
        if "gather" in words:
            if not is_gathered:
                await batch.gathered()
            line.say({"texts": batch.take()})
            batch.left = lambda text: line.say({"left": text})
        elif "spent" in words:
            batch.spent(*words["spent"])
        elif "give" in words:
            content_type, width, height, degraded, seconds = words["rendered"]
            batch.give(words["give"], Rendered(data, content_type, width, height, tuple(degraded), seconds))
        elif "refuse" in words:
            batch.refuse(words["refuse"], revived(words))
        elif "end" in words:
            return
        else:
            raise revived(words)


async def answer(line: Line, fill: Fill) -> tuple[Words, bytes]:
    """The next words that are no wish for more of the file; raises Broken."""
    while True:
        words, data = await line.hear()
        if "need" not in words:
            return words, data
        await fill(*words["need"])
        line.say({"here": True})


async def serve(pool: Pool, words: Words, file: File, batch: FarBatch, line: Line, listening: Awaitable[None]) -> str:
    """Do what *words* say and tell it on *line*; ends when it is done, or when *listening* ends: nobody is there any more.

    Gives how it ended: ``ok``, ``gone``, or the slug of what went wrong.
    """
    work = asyncio.ensure_future(_done(pool, words, file, batch, line))
    tasks = (work, asyncio.ensure_future(listening))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return work.result() if work.done() else "gone"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _done(pool: Pool, words: Words, file: File, batch: FarBatch, line: Line) -> str:
    data, outcome = b"", "ok"
    try:
        if words["do"] == "render":
            await pool.render(file, batch)  # type: ignore[arg-type]
            told: Words = {"end": True}
        elif words["do"] == "clean":
            assert isinstance(file, Path)
            data = (await pool.clean(file, wait_s=words["wait_s"])).data or b""
            told = {"cleaned": bool(data)}
        else:
            told = {"inspected": asdict(await pool.inspect(file, words["whole"], wait_s=words["wait_s"]))}
    except Exception as error:  # the root of a task: who has asked hears of it, and writes it down
        told, outcome = failure(error), error.slug if isinstance(error, MediaError) else "crashed"
    line.say(told, data)
    return outcome


class FarBatch:
    """A `Batch` whose people are at the other end of *line*, as the pool sees it.

    A rendition of so many bytes that it *has_room* for no more is refused: the other side does not take what was made before.
    """

    def __init__(self, line: Line, *, in_background: bool, has_room: Callable[[int], bool] = lambda size: True) -> None:
        self.in_background = in_background
        self._has_room = has_room
        self._line = line
        self._texts: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self._open: dict[str, bool] = {}
        self._is_over = False
        self._is_here = asyncio.Event()

    async def fill(self, start: int, stop: int) -> None:
        """Have the other side bring the bytes of the file from one to another."""
        self._is_here.clear()
        self._line.say({"need": [start, stop]})
        await self._is_here.wait()

    async def listen(self, taken: Callable[[Words, bytes], Awaitable[None]] | None = None) -> None:
        """Take in what the other side says, until it goes; *taken* hears what is not of batches."""
        with suppress(Broken):
            while True:
                words, data = await self._line.hear()
                if "texts" in words and not self._texts.done():
                    self._texts.set_result(words["texts"])
                elif "here" in words:
                    self._is_here.set()
                elif "left" in words:
                    self._answered(words["left"])
                elif taken is not None:
                    await taken(words, data)

    @property
    def is_over(self) -> bool:
        return self._is_over

    async def gathered(self) -> None:
        self._line.say({"gather": True})
        self._open = dict.fromkeys(await self._texts, True)
        self._is_over = not self._open

    def take(self) -> list[str]:
        return [text for text, is_open in self._open.items() if is_open]

    def wants(self, text: str) -> bool:
        return self._open[text]

    def spent(self, phase: str, seconds: float) -> None:
        self._line.say({"spent": [phase, seconds]})

    def give(self, text: str, rendered: Rendered) -> None:
        if not self._has_room(len(rendered.data)):
            self.refuse(text, Busy("what was made before is not taken yet"))
            return
        head = [rendered.content_type, rendered.width, rendered.height, rendered.degraded, dict(rendered.seconds)]
        self._line.say({"give": text, "rendered": head}, rendered.data)
        self._answered(text)

    def refuse(self, text: str, error: Exception) -> None:
        self._line.say({"refuse": text, **failure(error)})
        self._answered(text)

    def fail(self, error: Exception) -> None:
        for text in self.take():
            self.refuse(text, error)

    def _answered(self, text: str) -> None:
        self._open[text] = False
        self._is_over = not any(self._open.values())


def failure(error: Exception) -> Words:
    """*error* in words, to be `revived`."""
    if isinstance(error, FileNotFoundError):
        return {"failed": "gone"}
    if not isinstance(error, MediaError):
        return {"failed": "crashed", "detail": f"{type(error).__name__}: {error}"[:MOST_CHARS]}
    kind = type(error).__name__ if type(error).__name__ in FAILURES else "MediaError"
    return {"failed": kind, "detail": error.detail, "members": error.members}


def revived(words: Words) -> Exception:
    """The error that *words* tell of."""
    if words["failed"] == "gone":
        return FileNotFoundError()
    if words["failed"] == "crashed":
        return RuntimeError(words["detail"])
    return FAILURES[words["failed"]](words["detail"], **words["members"])

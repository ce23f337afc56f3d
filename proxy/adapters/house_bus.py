"""What the processes of one machine tell each other: one of them, the keeper of the house, passes the words on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from processors import framing
from processors.framing import Broken

MOST_WAITING_BYTES = 1 << 20
"""for one who reads slowly; then it is cut, and told that it has missed something"""
FIRST_PAUSE_S, LAST_PAUSE_S = 0.05, 1.0
START_S = 2.0
BEAT_S = 0.5
SILENT_S = 2.0
"""After which a keeper that says nothing counts as away: it may stand still, and what is said is not passed on."""


class _Listeners:
    """Who listens to what; nobody hears what is said here."""

    def __init__(self) -> None:
        self._listeners: dict[str, tuple[Callable[[str], None], Callable[[], None]]] = {}

    def listen(self, topic: str, heard: Callable[[str], None], missed: Callable[[], None]) -> None:
        """One listener for each topic."""
        assert topic not in self._listeners, "each topic has one listener"
        self._listeners[topic] = (heard, missed)

    def _heard(self, topic: str, word: str) -> None:
        if topic in self._listeners:
            self._listeners[topic][0](word)

    def _missed(self) -> None:
        for _, missed in self._listeners.values():
            missed()


class KeeperBus(_Listeners):
    """The `Bus` of the keeper, to which all others come by the socket *path*."""

    is_whole = True

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._others: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._beating: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._connected, self._path, limit=framing.LIMIT_BYTES)
        self._beating = asyncio.create_task(self._beat())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        assert self._beating is not None
        self._beating.cancel()
        await asyncio.gather(self._beating, return_exceptions=True)
        self._server.close()
        for other in tuple(self._others):
            other.transport.abort()
        await self._server.wait_closed()

    async def say(self, topic: str, word: str) -> None:
        """Tell all others."""
        self._pass_on({"topic": topic, "word": word}, None)

    async def _beat(self) -> None:
        while True:
            self._pass_on({}, None)
            await asyncio.sleep(BEAT_S)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._others.add(writer)
        framing.put(writer, {"welcome": True})
        try:
            while True:
                words, _ = await framing.heard(reader)
                self._heard(words["topic"], words["word"])
                self._pass_on(words, writer)
        except (Broken, asyncio.CancelledError):
            pass  # it has gone, or we go; nobody waits for this task
        finally:
            self._others.discard(writer)
            writer.close()

    def _pass_on(self, words: dict[str, str], sender: asyncio.StreamWriter | None) -> None:
        for other in tuple(self._others):
            if other is sender:
                continue
            if other.transport.get_write_buffer_size() > MOST_WAITING_BYTES:
                self._others.discard(other)
                other.transport.abort()
                continue
            framing.put(other, words)


class HouseBus(_Listeners):
    """The `Bus` of all other processes of the machine. Enter it: it goes to the keeper's *path*, again and again."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._writer: asyncio.StreamWriter | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._first = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._hearing = asyncio.create_task(self._hear_for_ever())
        with suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                await self._first.wait()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._hearing is not None
        self._hearing.cancel()
        await asyncio.gather(self._hearing, return_exceptions=True)

    @property
    def is_whole(self) -> bool:
        """Whether the keeper is there, and was heard of a moment ago."""
        return self._writer is not None

    async def say(self, topic: str, word: str) -> None:
        """Tell all others, if the keeper is there."""
        if self._writer is not None and self._writer.transport.get_write_buffer_size() <= MOST_WAITING_BYTES:
            framing.put(self._writer, {"topic": topic, "word": word})

    async def _hear_for_ever(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            with suppress(Broken, OSError):  # a timeout is one
                reader, writer = await asyncio.open_unix_connection(self._path, limit=framing.LIMIT_BYTES)
                try:
                    await self._next(reader)
                    self._writer, pause_s = writer, FIRST_PAUSE_S
                    self._missed()
                    self._first.set()
                    while True:
                        words = await self._next(reader)
                        if words:
                            self._heard(words["topic"], words["word"])
                finally:
                    writer.close()
                    was_whole, self._writer = self._writer is not None, None
                    if was_whole:
                        self._missed()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LAST_PAUSE_S)

    async def _next(self, reader: asyncio.StreamReader) -> dict[str, str]:
        async with asyncio.timeout(SILENT_S):
            return (await framing.heard(reader))[0]

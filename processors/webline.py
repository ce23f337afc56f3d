"""A conversation over a WebSocket (RFC 6455): each message is words and the bytes behind them, as `framing` has them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from aiohttp import ClientError, WSMessage, WSMsgType

from processors import framing
from processors.conversation import failure
from processors.errors import MediaError
from processors.framing import Broken, Words

MAX_PART_BYTES = 4 << 20
"""of a message that brings a part of a source"""
MOST_UNHEARD = 4
"""messages that have come and nobody has heard yet; the other side waits with more"""


class Socket(Protocol):
    """Either end of a WebSocket, as aiohttp has them."""

    async def receive(self) -> WSMessage: ...

    async def send_bytes(self, data: bytes) -> None: ...


class WebLine:
    """One end of a conversation, over *socket*, for as long as it is entered. *unsent* hears how many bytes more, or less, wait
    to be taken by the other side.

    It reads by itself: aiohttp (3.14) answers pings only while it is asked for messages, and who is busy with something else,
    such as a slow store, would be taken for dead.
    """

    def __init__(self, socket: Socket, unsent: Callable[[int], None] = lambda size: None) -> None:
        self._socket = socket
        self._unsent = unsent
        self._out: asyncio.Queue[bytes] = asyncio.Queue()
        self._in: asyncio.Queue[bytes | None] = asyncio.Queue(MOST_UNHEARD)
        self._is_broken = False
        self._pumps: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._pumps = [asyncio.create_task(self._send_for_ever()), asyncio.create_task(self._receive_for_ever())]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        while not self._out.empty():
            self._unsent(-len(self._out.get_nowait()))

    def say(self, words: Words, data: bytes = b"") -> None:
        """Send *words*, and *data* behind them, as soon as the other side takes them."""
        message = framing.packed(words, data)
        self._unsent(len(message))
        self._out.put_nowait(message)

    async def send(self, words: Words, data: bytes = b"") -> None:
        """The same, and wait until they are on their way; raises Broken."""
        self.say(words, data)
        await self.flush()
        if self._is_broken:
            raise Broken

    async def flush(self) -> None:
        """Wait until all that was said is on its way, or cannot be."""
        await self._out.join()

    def refuse(self, error: MediaError) -> None:
        """Say why it will not be."""
        self.say(failure(error))

    async def hear(self) -> tuple[Words, bytes]:
        """The next words and the bytes behind them; raises Broken."""
        message = await self._in.get()
        if message is None:
            self._in.put_nowait(None)
            raise Broken
        return framing.unpacked(message)

    async def _receive_for_ever(self) -> None:
        data: bytes | None = b""
        while data is not None:
            try:
                message = await self._socket.receive()
                data = message.data if message.type is WSMsgType.BINARY else None
            except (ClientError, RuntimeError):
                data = None
            await self._in.put(data)

    async def _send_for_ever(self) -> None:
        while True:
            message = await self._out.get()
            try:
                if not self._is_broken:
                    await self._socket.send_bytes(message)
            except (ClientError, ConnectionError, RuntimeError):
                self._is_broken = True  # which who listens hears, too
            finally:
                self._unsent(-len(message))
                self._out.task_done()

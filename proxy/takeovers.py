"""Whose turn it is at an upload: the newest request's, over all processes of the machine. The one before it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.errors import Locked, Unavailable
from proxy.ports import Bus
from proxy.sessions import Tails

TOPIC = "uploads"
"""Under it the names are said that a newer request wants to go on with."""


class Turn:
    """A request's turn at an upload, and how a newer one ends it."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._is_receiving = False
        self.is_over = False

    def end(self) -> None:
        """Stop receiving, now or never."""
        if not self.is_over:
            self.is_over = True
            if self._is_receiving and self._task is not None:
                self._task.cancel()

    @asynccontextmanager
    async def receiving(self) -> AsyncIterator[None]:
        """Within, `end` breaks off what the request waits for; raises Locked then."""
        if self.is_over:
            raise Locked
        self._is_receiving = True
        try:
            yield
        except asyncio.CancelledError:
            if self.is_over and self._task is not None and not self._task.uncancel():
                raise Locked from None
            raise
        finally:
            self._is_receiving = False


class Takeovers:
    """Gives turns: kernel locks decide, words on *bus* only make it quick."""

    def __init__(self, tails: Tails, bus: Bus) -> None:
        self._tails = tails
        self._bus = bus
        self._turns: dict[str, Turn] = {}
        bus.listen(TOPIC, self._heard, lambda: None)

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[Turn]:
        """Be the one request at work on *name*: who was is told to stop. Raises Locked if it does not within some seconds."""
        turn = Turn()
        self._heard(name)
        self._turns[name] = turn
        try:
            await self._bus.say(TOPIC, name)
            async with self.alone(name):
                if turn.is_over:
                    raise Locked
                yield turn
        finally:
            if self._turns.get(name) is turn:
                del self._turns[name]

    @asynccontextmanager
    async def alone(self, name: str) -> AsyncIterator[None]:
        """As `turn`, but who is at work is let finish, and this is not to be stopped."""
        lock = self._tails.alone(name)
        try:
            await lock.__aenter__()
        except Unavailable:
            raise Locked from None
        try:
            yield
        finally:
            await lock.__aexit__(None, None, None)

    def _heard(self, name: str) -> None:
        turn = self._turns.get(name)
        if turn is not None:
            turn.end()

"""What the processes of one service tell each other through Redis: one channel, heard by all."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import structlog
from redis.exceptions import RedisError

from proxy.adapters.redis import FAILURES, RedisLink

HEARTBEAT_S = 0.25
"""Of silence, after which the server is asked whether it is there; after as much again it is not."""
FIRST_PAUSE_S, LAST_PAUSE_S = 0.1, 2.0

log = structlog.get_logger(__name__)


class RedisBus:
    """A `Bus` by pub/sub over *link*. Enter it: it subscribes when it can, and goes on trying for ever."""

    def __init__(self, link: RedisLink, prefix: str) -> None:
        self._link = link
        self._channel = f"{prefix}words"
        self._id = secrets.token_hex(8)
        self._listeners: dict[str, tuple[Callable[[str], None], Callable[[], None]]] = {}
        self._hearing: asyncio.Task[None] | None = None
        self._first = asyncio.Event()
        self.is_whole = False
        """Whether we are subscribed, and the server has been heard of a moment ago."""

    async def __aenter__(self) -> Self:
        self._hearing = asyncio.create_task(self._hear_for_ever())
        try:
            async with asyncio.timeout(LAST_PAUSE_S):
                await self._first.wait()
        except TimeoutError:
            log.warning("bus.silent")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._hearing is not None
        self._hearing.cancel()
        await asyncio.gather(self._hearing, return_exceptions=True)

    def listen(self, topic: str, heard: Callable[[str], None], missed: Callable[[], None]) -> None:
        """One listener for each topic."""
        assert topic not in self._listeners, "each topic has one listener"
        self._listeners[topic] = (heard, missed)

    async def say(self, topic: str, word: str) -> None:
        """Tell all others."""
        await self._link.ask(lambda client: client.publish(self._channel, f"{self._id}\n{topic}\n{word}"), 0)

    async def _hear_for_ever(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await self._hear()
            except FAILURES:
                pause_s = FIRST_PAUSE_S if self.is_whole else min(2 * pause_s, LAST_PAUSE_S)
            except Exception:  # the root of a background task: the next try may do better
                log.exception("bus.crashed")
            if self.is_whole:
                self.is_whole = False
                log.warning("bus.silent")
                self._tell_missed()
            self._first.set()
            await asyncio.sleep(pause_s)

    async def _hear(self) -> None:
        await self._link.renew()
        pubsub: Any = self._link.client.pubsub()
        try:
            await pubsub.subscribe(self._channel)
            is_asked = False
            while True:
                message = await pubsub.get_message(timeout=HEARTBEAT_S)
                if message is None and is_asked:
                    message = await pubsub.get_message(timeout=0)  # it may have come while we were busy
                    if message is None:
                        raise RedisError("the server is silent")
                is_asked = message is None
                if message is None:
                    await pubsub.ping()
                elif message["type"] == "subscribe":
                    self.is_whole = True
                    log.info("bus.whole")
                    self._tell_missed()
                    self._first.set()
                elif message["type"] == "message":
                    self._heard(message["data"])
        finally:
            await pubsub.aclose()

    def _heard(self, data: bytes) -> None:
        sender, _, rest = data.decode(errors="replace").partition("\n")
        topic, _, word = rest.partition("\n")
        if sender != self._id and topic in self._listeners:
            self._listeners[topic][0](word)

    def _tell_missed(self) -> None:
        for _, missed in self._listeners.values():
            missed()

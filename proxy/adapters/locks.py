"""Locks by key, for what changes an object."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.errors import Unavailable
from proxy.keys import Key


class KeyLocks:
    """One change of a key at a time; who waits for more than *seconds* is told so. Only keys that are being changed take memory."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._locks: dict[Key, tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def alone(self, key: Key) -> AsyncIterator[None]:
        """Hold the lock of *key*; raises Unavailable if others hold it for too long."""
        lock, users = self._locks.get(key) or (asyncio.Lock(), 0)
        self._locks[key] = (lock, users + 1)
        try:
            try:
                async with asyncio.timeout(self._seconds):
                    await lock.acquire()
            except TimeoutError:
                raise Unavailable("the object is being changed by others") from None
            try:
                yield
            finally:
                lock.release()
        finally:
            users = self._locks[key][1] - 1
            if users:
                self._locks[key] = (lock, users)
            else:
                del self._locks[key]

"""Locks by key, for what changes an object; between the processes of one machine where there are several."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from proxy.errors import Unavailable
from proxy.keys import Key

TRY_AGAIN_S = 0.005
STILL = 1 << 62
"""A place behind those of all keys: who has it wants nothing to move from one store to another."""
MOVING = STILL + 1
"""Another: something is being moved."""


class LockFile:
    """Locks between processes: places in a file, which the kernel gives back when their process ends.

    Within a process a place has one holder, by the caller's care: the kernel does not tell our tasks apart.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1

    def open(self) -> None:
        """Make the file if it is not there."""
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        """Give everything back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def take(self, place: int, *, shared: bool = False) -> bool:
        """Take *place* if no other process has it; *shared* by those who take it so."""
        try:
            fcntl.lockf(self._file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB, 1, place)
        except OSError as error:
            if error.errno in {errno.EACCES, errno.EAGAIN}:
                return False
            raise
        return True

    def give_back(self, place: int) -> None:
        """Let others have it."""
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, place)

    def is_free(self, place: int) -> bool:
        """Whether no other process has *place*, which this one does not hold."""
        if not self.take(place):
            return False
        self.give_back(place)
        return True

    async def waited_for(self, place: int, *, shared: bool = False) -> None:
        """Take *place* as soon as it is free; others give no signal, so it is asked for again every 5 ms."""
        while not self.take(place, shared=shared):  # noqa: ASYNC110 - see above
            await asyncio.sleep(TRY_AGAIN_S)


def place_of(digest: str) -> int:
    """Where the lock of the key with this SHA-256 is."""
    return int(digest[:14], 16)


class KeyLocks:
    """One change of a key at a time; who waits for more than *seconds* is told so. Only keys that are being changed take memory.

    With a *file* that holds for all processes that use it.
    """

    def __init__(self, seconds: float, file: LockFile | None = None) -> None:
        self._seconds = seconds
        self._file = file
        self._locks: dict[int, tuple[asyncio.Lock, int]] = {}

    def alone(self, key: Key) -> AbstractAsyncContextManager[None]:
        """Hold the lock of *key*; raises Unavailable if others hold it for too long."""
        return self.alone_at(place_of(hashlib.sha256(key.encode()).hexdigest()))

    @asynccontextmanager
    async def alone_at(self, place: int) -> AsyncIterator[None]:
        """The same, for the key whose *place* this is."""
        lock, users = self._locks.get(place) or (asyncio.Lock(), 0)
        self._locks[place] = (lock, users + 1)
        try:
            try:
                async with asyncio.timeout(self._seconds):
                    await self._taken(lock, place)
            except TimeoutError:
                raise Unavailable("the object is being changed by others") from None
            try:
                yield
            finally:
                if self._file is not None:
                    self._file.give_back(place)
                lock.release()
        finally:
            users = self._locks[place][1] - 1
            if users:
                self._locks[place] = (lock, users)
            else:
                del self._locks[place]

    async def _taken(self, lock: asyncio.Lock, place: int) -> None:
        await lock.acquire()
        if self._file is not None:
            try:
                await self._file.waited_for(place)
            except BaseException:
                lock.release()
                raise

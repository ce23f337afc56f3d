"""Nothing moves from one store to another while a list of all stores is read, whichever process of the machine reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.adapters.locks import MOVING, STILL, LockFile
from proxy.errors import Unavailable


class NotNow(Exception):
    """A list is being read: what was to be moved is to be moved later."""


class Stillness:
    """Kept by those who list, for which they wait up to *seconds*, and heeded by who moves; through *between* by all processes.

    Who lists says so first, and then waits for what is being moved; who moves says so first, and then looks whether somebody lists.
    So they never miss each other, and what is moved without a pause does not keep a list waiting.
    """

    def __init__(self, seconds: float, between: LockFile | None) -> None:
        self._seconds = seconds
        self._between = between
        self._changed = asyncio.Condition()
        self._lists = 0
        self._moving = 0

    @property
    def is_kept(self) -> bool:
        """Whether somebody lists now."""
        return self._lists > 0 or (self._between is not None and not self._between.is_free(STILL))

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Within, nothing moves; raises Unavailable if what is being moved takes too long."""
        self._lists += 1
        try:
            try:
                async with asyncio.timeout(self._seconds):
                    await self._moved()
            except TimeoutError:
                raise Unavailable("an object is being moved from one store to another") from None
            yield
        finally:
            self._lists -= 1
            if self._between is not None and not self._lists:
                self._between.give_back(STILL)

    async def _moved(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._moving)
        if self._between is not None:
            await self._between.waited_for(STILL, shared=True)
            await self._between.waited_for(MOVING, shared=True)
            self._between.give_back(MOVING)

    @asynccontextmanager
    async def moving(self) -> AsyncIterator[None]:
        """Within, something is moved; raises NotNow."""
        if self._between is not None and not self._moving and not self._between.take(MOVING):
            raise NotNow
        self._moving += 1
        try:
            if self.is_kept:
                raise NotNow
            yield
        finally:
            self._moving -= 1
            if self._between is not None and not self._moving:
                self._between.give_back(MOVING)
            async with self._changed:
                self._changed.notify_all()

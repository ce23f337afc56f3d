"""One at a time among all processes: who has the turn makes what the others wait for."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from proxy.ports import Bus, SharedCache

V = TypeVar("V")

TOPIC = "made"
PREFIX = "l:"
LEASE_S = 1.5
"""What a process that is killed keeps the others waiting."""
RENEWALS = 3
PATIENCE_S = 30.0


class Turn:
    """The right to make something, from when it was given until `end`."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end: Callable[[], None] | None = end

    def end(self) -> None:
        """Let others have a look, or their own turn; further calls do nothing."""
        end, self._end = self._end, None
        if end is not None:
            end()


class Turns:
    """Turns by name, as leases in *shared*; their ends are said on *bus*, so that nobody asks again and again.

    A turn is for saving work, not for correctness: where nobody can be asked, everybody has it.
    """

    def __init__(self, shared: SharedCache, bus: Bus) -> None:
        self._shared = shared
        self._bus = bus
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        bus.listen(TOPIC, self._over, self._missed)

    async def take(self, name: str, look: Callable[[], Awaitable[V | None]]) -> Turn | V:
        """The turn for *name*, or what *look* finds when another's turn was over; raises what *look* raises.

        Who gets a turn must end it. After half a minute of waiting everybody gets one.
        """
        holder = secrets.token_hex(8)
        until = asyncio.get_running_loop().time() + PATIENCE_S
        while asyncio.get_running_loop().time() < until:
            with self._told(name) as word:
                left_s = await self._shared.take(PREFIX + name, holder, LEASE_S)
                if not left_s:
                    return await self._given(name, holder, look)
                with suppress(TimeoutError):
                    async with asyncio.timeout(left_s):
                        await word.wait()
            if (found := await look()) is not None:
                return found
        return Turn(lambda: None)

    async def finish(self) -> None:
        """Wait until all turns that have ended are given back."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextmanager
    def _told(self, name: str) -> Iterator[asyncio.Event]:
        # Set when somebody's turn for *name* ends from now on.
        word = asyncio.Event()
        self._waiting.setdefault(name, set()).add(word)
        try:
            yield word
        finally:
            waiting = self._waiting[name]
            waiting.discard(word)
            if not waiting:
                del self._waiting[name]

    async def _given(self, name: str, holder: str, look: Callable[[], Awaitable[V | None]]) -> Turn | V:
        if not self._shared.is_there:
            return Turn(lambda: None)
        renewing = asyncio.create_task(self._renew(name, holder))
        turn = Turn(lambda: self._give_back(name, holder, renewing))
        try:
            found = await look()  # another may have ended a turn since the caller looked
        except BaseException:
            turn.end()
            raise
        if found is None:
            return turn
        turn.end()
        return found

    async def _renew(self, name: str, holder: str) -> None:
        while True:
            await asyncio.sleep(LEASE_S / RENEWALS)
            await self._shared.renew(PREFIX + name, holder, LEASE_S)

    def _give_back(self, name: str, holder: str, renewing: asyncio.Task[None]) -> None:
        async def give_back() -> None:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            await self._shared.release(PREFIX + name, holder)
            self._over(name)
            await self._bus.say(TOPIC, name)

        task = asyncio.create_task(give_back())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _over(self, name: str) -> None:
        for word in self._waiting.get(name, ()):
            word.set()

    def _missed(self) -> None:
        for name in self._waiting:
            self._over(name)

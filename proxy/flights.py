"""Work that several requests share: it flies once however many ask, and nobody's leaving stops it but the last one's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

V = TypeVar("V")


class Flights(Generic[V]):
    """One task for each name in the air."""

    def __init__(self) -> None:
        self._aloft: dict[Hashable, asyncio.Task[V]] = {}
        self._passengers: dict[asyncio.Task[V], int] = {}

    async def join(self, name: Hashable, work: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The outcome of *work* under *name*: joined if it is in the air, begun if not, cancelled when all who wait have left."""
        task = self._aloft.get(name)
        if task is None:
            task = self._aloft[name] = asyncio.create_task(work(), name=f"flight {name}")
            self._passengers[task] = 0
            task.add_done_callback(lambda landed: self._forget(name, landed))
        self._passengers[task] += 1
        try:
            return await asyncio.shield(task)
        finally:
            self._passengers[task] -= 1
            if not self._passengers[task]:
                del self._passengers[task]
                if not task.done():
                    self._forget(name, task)  # a newcomer must not join what is being cancelled
                    task.cancel()

    async def join_or(self, name: Hashable, work: Callable[[], Coroutine[Any, Any, V]], refusal: type[Exception]) -> tuple[V, bool]:
        """As `join`, with whether it was begun for this caller; somebody else's *refusal* is none of this one's, who then tries."""
        is_mine = False

        def begin() -> Coroutine[Any, Any, V]:
            nonlocal is_mine
            is_mine = True
            return work()

        while True:
            try:
                return await self.join(name, begin), is_mine
            except refusal:
                if is_mine:
                    raise

    def part(self, name: Hashable) -> None:
        """Let newcomers begin anew; those who wait for what is in the air still get it."""
        self._aloft.pop(name, None)

    def _forget(self, name: Hashable, task: asyncio.Task[V]) -> None:
        if self._aloft.get(name) is task:
            del self._aloft[name]


class Errands:
    """Background tasks that outlive the request that began them: bounded in number, awaited at the end."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def begin(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Run *work* behind the answer; False (and nothing happens) when *limit* errands are already under way."""
        if len(self._tasks) >= self._limit:
            return False

        async def run() -> None:
            await work()

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def finish(self, deadline_s: float) -> None:
        """Wait for what is under way, *deadline_s* seconds at most, then cancel the rest."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=deadline_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

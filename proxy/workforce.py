"""Some workers on a stream of items, as many as there may be at one time: nothing waits in memory but what they hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


async def worked(items: AsyncGenerator[T, None], work: Callable[[T], Awaitable[None]], at_once: int) -> None:
    """Do *work* on each of *items*, *at_once* at most. The first failure, or being cancelled, ends all of it."""
    places = asyncio.Semaphore(at_once)

    async def one(item: T) -> None:
        try:
            await work(item)
        finally:
            places.release()

    try:
        async with aclosing(items), asyncio.TaskGroup() as group:
            async for item in items:
                await places.acquire()
                group.create_task(one(item))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None

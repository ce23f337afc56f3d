"""The one place where a test waits for another process: always for something, never for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

STEP_S = 0.01
PATIENCE_S = 30.0
"""Not how long it may take, which no test can say of a machine that others use: how long until it is sure not to come."""


def until(true: Callable[[], bool], seconds: float = PATIENCE_S) -> bool:
    """Whether *true* came to hold within *seconds*; asked every 10 ms, because another process gives no signal to wait on."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(STEP_S)
    return True


async def eventually(true: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    """Return once *true* holds, which a task of this loop must bring about; raises TimeoutError after *seconds*."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what it waits for sets no event
            await asyncio.sleep(STEP_S / 10)

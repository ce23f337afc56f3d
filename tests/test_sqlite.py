"""The catalogue's file under the one who leaves: nothing of a connection outlives the event loop."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import sqlalchemy as sql

from proxy.adapters.sqlite import SqliteDatabase


async def test_who_leaves_twice_within_a_query_leaves_nothing_that_cannot_be_ended(tmp_path: Path) -> None:
    """As at a stop: the request is cancelled, and then all that runs still."""
    loop, running, ended = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def hold() -> int:
        loop.call_soon_threadsafe(running.set)
        return ended.wait(60)

    async def asks() -> None:
        async with database.begun() as connection:
            own = (await connection.get_raw_connection()).driver_connection
            assert own is not None
            await own.create_function("hold", 0, hold)
            await connection.execute(sql.text("SELECT hold()"))

    async with SqliteDatabase(tmp_path / "catalogue.sqlite") as database:
        others = asyncio.all_tasks()
        task = asyncio.create_task(asks())
        await running.wait()
        task.cancel()
        while not (closing := asyncio.all_tasks() - others - {task}):  # noqa: ASYNC110  # no event tells of it
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=30)
        for one in closing:
            one.cancel()
        ended.set()
        _, unended = await asyncio.wait(closing, timeout=30)
    assert unended == set()

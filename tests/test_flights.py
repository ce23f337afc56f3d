"""Work shared by all who ask at once."""

from __future__ import annotations

import asyncio

import pytest

from proxy.flights import Errands, Flights


class Work:
    """Counts how often it begins, and ends when it is told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = False
        self.gate = asyncio.Event()

    async def __call__(self) -> int:
        self.begun += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return self.begun


async def test_all_who_ask_at_once_get_one_piece_of_work() -> None:
    flights: Flights[int] = Flights()
    work = Work()
    waiting = [asyncio.create_task(flights.join("a", work)) for _ in range(20)]
    await asyncio.sleep(0)
    work.gate.set()
    assert await asyncio.gather(*waiting) == [1] * 20
    assert await flights.join("a", work) == 2


async def test_who_leaves_does_not_stop_it_for_the_others() -> None:
    flights: Flights[int] = Flights()
    work = Work()
    first, second = (asyncio.create_task(flights.join("a", work)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    work.gate.set()
    assert await second == 1


async def test_when_the_last_one_leaves_it_is_stopped_and_a_newcomer_begins_anew() -> None:
    flights: Flights[int] = Flights()
    work = Work()
    only = asyncio.create_task(flights.join("a", work))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    newcomer = asyncio.create_task(flights.join("a", work))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    work.gate.set()
    assert await newcomer == 2
    assert work.cancelled


async def test_a_failure_reaches_everybody_and_is_not_kept() -> None:
    flights: Flights[int] = Flights()

    async def fails() -> int:
        raise ValueError("no")

    outcomes = await asyncio.gather(*(flights.join("a", fails) for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ValueError] * 3
    work = Work()
    work.gate.set()
    assert await flights.join("a", work) == 1


async def test_errands_are_bounded_and_waited_for() -> None:
    errands = Errands(limit=2)
    done: list[int] = []
    gate = asyncio.Event()

    async def errand() -> None:
        await gate.wait()
        done.append(1)

    assert [errands.begin(errand) for _ in range(3)] == [True, True, False]
    gate.set()
    await errands.finish(5)
    assert done == [1, 1]


async def test_an_errand_that_does_not_end_is_cancelled_at_the_end() -> None:
    errands = Errands(limit=1)
    work = Work()

    async def errand() -> None:
        await work()

    errands.begin(errand)
    await errands.finish(0.01)
    assert work.cancelled

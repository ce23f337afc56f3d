"""Sums over the catalogue are looked up when somebody asks, seldom where that is dear, and keep nobody waiting."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from proxy import holdings
from proxy.errors import Unavailable
from proxy.holdings import PAUSE_S, SHARE, Survey
from proxy.quotas import Holdings


class Database:
    """Counts the looks at it: each takes *seconds* by a clock of its own, or ends when *go* is set; it may be *away*."""

    def __init__(self) -> None:
        self.now = 0.0
        self.looks = 0
        self.seconds = 0.0
        self.away = False
        self.go = asyncio.Event()
        self.go.set()

    async def holdings(self, owners: int) -> Holdings:
        self.looks += 1
        await self.go.wait()
        self.now += self.seconds
        if self.away:
            raise Unavailable
        return Holdings({"local": float(self.looks)})

    async def oldest(self, now: datetime) -> timedelta:
        return timedelta(seconds=7)


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def survey(database: Database) -> Survey:
    return Survey(database, database, now=lambda: database.now)


async def test_nobody_asks_and_nobody_looks(database: Database, survey: Survey) -> None:
    assert (database.looks, survey.last) == (0, Holdings())
    await asyncio.gather(survey.fresh(), survey.fresh())
    assert (database.looks, survey.last.store_bytes, survey.oldest_event_s) == (1, {"local": 1.0}, 7.0)


@pytest.mark.parametrize(("seconds", "pause"), [(0.0, PAUSE_S), (1.0, SHARE)])
async def test_a_dear_look_is_not_repeated_soon(database: Database, survey: Survey, seconds: float, pause: float) -> None:
    database.seconds = seconds
    await survey.fresh()
    database.now += pause - 0.1
    await survey.fresh()
    assert database.looks == 1
    database.now += 0.2
    await survey.fresh()
    assert database.looks == 2


async def test_what_was_known_is_shown_while_the_database_is_away(database: Database, survey: Survey) -> None:
    await survey.fresh()
    database.away, database.seconds, database.now = True, 2.5, 100.0
    await survey.fresh()
    assert survey.last.store_bytes == {"local": 1.0}
    database.away = False
    database.now += PAUSE_S + 0.1
    await survey.fresh()
    assert survey.last.store_bytes == {"local": 3.0}


async def test_a_look_that_takes_long_keeps_nobody(database: Database, survey: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holdings, "PATIENCE_S", 0.01)
    database.go.clear()
    await survey.fresh()
    await survey.fresh()
    assert (database.looks, survey.last) == (1, Holdings())
    database.go.set()
    monkeypatch.setattr(holdings, "PATIENCE_S", 10.0)
    await survey.fresh()
    assert survey.last.store_bytes == {"local": 1.0}
    database.go.clear()
    database.now = 1000.0
    monkeypatch.setattr(holdings, "PATIENCE_S", 0.01)
    await survey.fresh()
    await survey.finish()
    assert database.looks == 2

"""What every list of debts promises (`ports.Ledger`)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sql

from processors.errors import MediaError
from proxy import generations, keys
from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.ledger import SqlLedger
from proxy.adapters.sqlite import SqliteDatabase
from proxy.debts import Debt, DebtKind, Ledger
from proxy.errors import Unavailable
from tests.kit.databases import Open

KEY = keys.parse("u7/a.jpg")
STORES = ("minio", "s3")


@pytest.fixture
async def ledger(database: Open) -> AsyncIterator[Ledger]:
    async with SqlCatalogue(database()) as catalogue:
        yield SqlLedger(catalogue)


def copy(key: str = KEY, store: str = "minio") -> Debt:
    """A copy that *store* must still get, newer than every debt before."""
    return Debt(keys.parse(key), store, DebtKind.COPY, generations.mint(), "local", "ab" * 32)


def removal(key: str = KEY, store: str = "minio") -> Debt:
    """What *store* must still lose, newer than every debt before."""
    return Debt(keys.parse(key), store, DebtKind.DELETE, generations.mint())


async def test_what_is_owed_is_written_down_as_it_is(ledger: Ledger) -> None:
    debts = [copy(store="minio"), removal(store="s3")]
    await ledger.owe(debts)
    assert await ledger.debts_of(KEY) == debts
    assert await ledger.debts_of(keys.parse("u7/b.jpg")) == []
    await ledger.owe([])


async def test_what_is_paid_is_struck_out_and_paid_again_is_nothing(ledger: Ledger) -> None:
    first, other = copy(), removal(store="s3")
    await ledger.owe([first, other])
    for _ in range(2):
        await ledger.pay(first)
        assert await ledger.debts_of(KEY) == [other]


async def test_a_newer_debt_takes_the_place_of_an_older_one_and_is_not_paid_with_it(ledger: Ledger) -> None:
    older, newer = copy(), removal()
    await ledger.owe([older])
    await ledger.owe([newer])
    await ledger.pay(older)
    assert await ledger.debts_of(KEY) == [newer]


async def test_an_older_debt_never_takes_the_place_of_a_newer_one(ledger: Ledger) -> None:
    older, newer = removal(), copy()
    await ledger.owe([newer])
    await ledger.owe([older])
    assert await ledger.debts_of(KEY) == [newer]


async def test_a_settled_debt_is_known_and_neither_due_nor_backlog(ledger: Ledger) -> None:
    debt = copy()
    await ledger.owe([debt])
    settled = replace(debt, settled=True)
    await ledger.owe([settled])
    assert await ledger.debts_of(KEY) == [settled]
    assert await ledger.due(STORES, 10) == []
    assert await ledger.backlog() == {}
    await ledger.pay(settled)
    assert await ledger.debts_of(KEY) == []


async def test_what_is_due_comes_in_pages_by_key_and_of_the_stores_that_are_asked_for(ledger: Ledger) -> None:
    minio = [copy(f"u/{number:03}") for number in range(25)]
    await ledger.owe([*reversed(minio), *(removal(f"u/{number:03}", "s3") for number in range(3))])
    pages, after = [], None
    while page := await ledger.due(["minio"], 10, after):
        pages.append(page)
        after = page[-1].key
    assert [len(page) for page in pages] == [10, 10, 5]
    assert [debt for page in pages for debt in page] == minio
    assert {debt.store for debt in await ledger.due(["s3"], 10)} == {"s3"}
    assert len(await ledger.due(STORES, 100)) == 28
    assert await ledger.due([], 10) == []


async def test_the_backlog_says_how_much_each_store_owes(ledger: Ledger) -> None:
    await ledger.owe([copy("u/a"), copy("u/b"), removal("u/a", "s3")])
    assert await ledger.backlog() == {"minio": 2, "s3": 1}


async def test_debts_of_many_writers_are_all_there(ledger: Ledger) -> None:
    await asyncio.gather(*(ledger.owe([copy(f"u/{number}")]) for number in range(50)))
    assert await ledger.backlog() == {"minio": 50}


# -- in SQL -----------------------------------------------------------------------------------------------------------


async def test_debts_are_there_after_a_restart(database: Open) -> None:
    debt = copy()
    async with SqlCatalogue(database()) as catalogue:
        await SqlLedger(catalogue).owe([debt])
    async with SqlCatalogue(database()) as catalogue:
        assert await SqlLedger(catalogue).debts_of(KEY) == [debt]


async def test_of_several_debts_all_are_written_or_none(database: Open) -> None:
    async with SqlCatalogue(database()) as catalogue:
        with pytest.raises(MediaError):
            await SqlLedger(catalogue).owe([copy(), replace(copy(store="s3"), etag=None)])  # type: ignore[arg-type]
        assert await SqlLedger(catalogue).debts_of(KEY) == []


async def test_a_database_without_the_table_is_unavailable(database: Open) -> None:
    async with SqlCatalogue(database()) as catalogue:
        async with catalogue.begun() as connection:
            await connection.execute(sql.text("DROP TABLE debts"))
        ledger = SqlLedger(catalogue)
        for failing in (ledger.owe([copy()]), ledger.debts_of(KEY), ledger.due(STORES, 1), ledger.backlog()):
            with pytest.raises(Unavailable):
                await failing


async def test_two_who_owe_the_same_in_another_order_do_not_wait_for_each_other(ledger: Ledger) -> None:
    await asyncio.gather(*(ledger.owe([copy(store=store) for store in (STORES if n % 2 else STORES[::-1])]) for n in range(40)))
    assert await ledger.backlog() == {"minio": 1, "s3": 1}


async def test_what_is_due_is_found_by_its_index_however_much_is_settled(tmp_path: Path) -> None:
    async with SqlCatalogue(SqliteDatabase(tmp_path / "catalogue.sqlite")):
        with closing(sqlite3.connect(tmp_path / "catalogue.sqlite")) as database:
            query = "SELECT * FROM debts WHERE settled = 0 AND store IN ('minio') AND key > 'u' ORDER BY key, store LIMIT 5"
            plan = " ".join(row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {query}"))
    assert "ix_debts_unsettled" in plan
    assert "TEMP B-TREE" not in plan

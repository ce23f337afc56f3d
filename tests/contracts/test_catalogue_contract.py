"""What the records promise (`ports.Catalogue`), on every database."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

from proxy import keys
from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.sqlite import SqliteDatabase
from proxy.errors import BadRequest, Conflict, NotFound
from proxy.ports import Asset, Catalogue, State
from proxy.selection import Selection, Sort
from tests.kit.databases import Open

NOW = datetime(2026, 11, 23, 12, 0, 0, 123_456, UTC)


@pytest.fixture
async def catalogue(database: Open) -> AsyncIterator[Catalogue]:
    async with SqlCatalogue(database()) as opened:
        yield opened


def asset(name: str = "a", owner: str = "u7", *, state: State = State.READY, **fields: object) -> Asset:
    """A record of *owner*'s, with nothing left out."""
    full = Asset(
        keys.parse(f"{owner}/{name}.jpg"), owner,
        "Ferien \N{SUN BEHIND CLOUD}.jpg", "image/jpeg", 1 << 40, "ab" * 32, "0123-etag", NOW,
        "minio", 4000, 3000, 1.5, state, None, {"colour": "ff0000", "exif": {"Make": "\x00 and \ud800"}}, "0.1x0.25",
    )  # fmt: skip
    return replace(full, **fields)  # type: ignore[arg-type]


async def test_a_record_is_given_back_as_it_was_given(catalogue: Catalogue) -> None:
    full, bare = asset(), asset("b", filename=None, width=None, height=None, duration_s=None, details=None, focal=None)
    for one in (full, bare):
        await catalogue.add(one)
        assert await catalogue.get(one.key) == one
    assert await catalogue.get(keys.parse("u7/c.jpg")) is None


async def test_a_key_and_an_idempotency_key_are_taken_once(catalogue: Catalogue) -> None:
    await catalogue.add(asset(idempotency_key="k"))
    for taken in (asset(), asset("b", idempotency_key="k")):
        with pytest.raises(Conflict):
            await catalogue.add(taken)
    await catalogue.add(asset("a", "u8", idempotency_key="k"))
    assert await catalogue.find("u7", "k") == asset(idempotency_key="k")
    assert await catalogue.find("u9", "k") is None


async def test_of_many_who_take_one_key_at_once_one_gets_it(catalogue: Catalogue) -> None:
    tries = await asyncio.gather(*(catalogue.add(asset(size=size)) for size in range(20)), return_exceptions=True)
    assert [type(failed) for failed in tries if failed is not None] == [Conflict] * 19
    kept = await catalogue.get(asset().key)
    assert kept is not None
    assert tries[kept.size] is None


async def test_a_deleted_one_gives_its_idempotency_key_back(catalogue: Catalogue) -> None:
    await catalogue.add(asset(idempotency_key="k"))
    await catalogue.mark(asset().key, State.DELETED)
    assert await catalogue.find("u7", "k") is None
    await catalogue.add(asset("b", idempotency_key="k"))
    await catalogue.mark(keys.parse("u7/nothing.jpg"), State.READY)


async def test_removing_is_idempotent(catalogue: Catalogue) -> None:
    await catalogue.add(asset())
    for _ in range(2):
        await catalogue.remove(asset().key)
        assert await catalogue.get(asset().key) is None


async def test_what_is_removed_of_one_write_stays_where_it_is_of_another_or_somebody_is_at_work_on_it(catalogue: Catalogue) -> None:
    await catalogue.add(asset(state=State.PENDING))
    await catalogue.remove(asset().key, asset().etag)
    await catalogue.mark(asset().key, State.READY)
    await catalogue.remove(asset().key, "another")
    assert await catalogue.get(asset().key) is not None
    await catalogue.remove(asset().key, asset().etag)
    assert await catalogue.get(asset().key) is None


async def test_pages_have_every_ready_asset_of_the_owner_once_and_the_newest_first(catalogue: Catalogue) -> None:
    ready = [asset(f"{n:02}", created=NOW + timedelta(seconds=n // 3)) for n in range(23)]
    hidden = [asset(f"x{state}", state=state) for state in State if state is not State.READY]
    for one in (*ready, *hidden, asset("other", "u8")):
        await catalogue.add(one)
    pages, cursor = [], None
    while True:
        page = await catalogue.page("u7", 5, cursor)
        pages.append(page.assets)
        cursor = page.cursor
        if cursor is None:
            break
    assert [len(page) for page in pages] == [5, 5, 5, 5, 3]
    assert [one for page in pages for one in page] == sorted(ready, key=lambda one: (one.created, one.key), reverse=True)
    assert (await catalogue.page("u7", 23)).cursor is None


@pytest.mark.parametrize(
    "cursor", ["", "?", "bm8", "W10", "WzEsMl0", "WzEuNSwidTcvYSJd", "W251bGwsIngiXQ", "Wzk5OTk5OTk5OTk5OTk5OTk5OTk5LCJ4Il0"]
)
async def test_a_cursor_of_somebody_elses_is_refused(catalogue: Catalogue, cursor: str) -> None:
    with pytest.raises(BadRequest):
        await catalogue.page("u7", 5, cursor)


async def test_keys_sort_by_their_bytes_whatever_the_database_thinks_of_letters(catalogue: Catalogue) -> None:
    names = ["a", "B", "Z", "b", "_", "-", "0", "a-", "a_", "aa", "aB"]
    for name in names:
        await catalogue.add(asset(name))
    shown = [one.key for one in (await catalogue.page("u7", 50)).assets]
    assert shown == sorted(shown, reverse=True)


async def test_many_gives_the_ready_ones_among_what_was_asked_for(catalogue: Catalogue) -> None:
    for one in (asset("a"), asset("b", state=State.PENDING), asset("c")):
        await catalogue.add(one)
    wanted = [keys.parse(f"u7/{name}.jpg") for name in "abcd"]
    assert await catalogue.many(wanted) == {asset(name).key: asset(name) for name in "ac"}
    assert await catalogue.many([]) == {}


async def test_a_description_is_kept_with_the_write_that_it_is_of(catalogue: Catalogue) -> None:
    await catalogue.add(asset(details=None))
    await catalogue.describe(asset().key, "another-etag", {"a": 1}, {"public": {}})
    before = await catalogue.get(asset().key)
    assert before is not None
    assert (before.details, before.embedded) == (None, None)
    await catalogue.describe(asset().key, asset().etag, {"a": [1, None, "\u00e9"]}, {"public": {"title": "\u00e9 \N{CAMERA}"}})
    after = await catalogue.get(asset().key)
    assert after is not None
    assert (after.details, after.embedded) == ({"a": [1, None, "\u00e9"]}, {"public": {"title": "\u00e9 \N{CAMERA}"}})


async def test_lists_go_without_what_is_embedded(catalogue: Catalogue) -> None:
    one = asset(embedded={"public": {"title": "long"}, "private": {}})
    await catalogue.add(one)
    assert await catalogue.get(one.key) == one
    brief = replace(one, embedded=None)
    assert (await catalogue.page("u7", 10)).assets == [brief]
    assert await catalogue.many([one.key]) == {one.key: brief}
    assert await catalogue.kept(10) == [brief]
    families = Selection.read({"type": "image/*"})
    assert (await catalogue.page("u7", 10, None, families)).assets == [brief]


async def test_what_owners_say_is_kept_of_ready_ones_only_and_in_the_order_in_which_it_is_said(catalogue: Catalogue) -> None:
    ready, pending = asset("a", focal=None), asset("b", focal=None, state=State.PENDING)
    for one in (ready, pending):
        await catalogue.add(one)
    said = {"album": "été", "rating": 4.5, "public": True}
    assert await catalogue.amend(replace(ready, focal="0.5x0.5", metadata=said))
    assert not await catalogue.amend(replace(ready, metadata={"late": True})), "of the revision before"
    assert not await catalogue.amend(replace(pending, focal="0.5x0.5"))
    assert await catalogue.get(ready.key) == replace(ready, focal="0.5x0.5", metadata=said, revision=1)
    assert await catalogue.get(pending.key) == pending


LISTED = [
    asset(
        f"{'ab'[n % 2]}/{n:02}",
        created=NOW + timedelta(seconds=n // 3),
        size=n % 5,
        content_type=("image/jpeg", "image/png")[n % 3 == 0],
    )
    for n in range(40)
]
SELECTIONS: list[tuple[Selection, Callable[[Asset], bool]]] = [
    (Selection(), lambda one: True),
    (Selection(types=("image/png",)), lambda one: one.content_type == "image/png"),
    (Selection(types=("image/jpeg", "image/png", "image/webp")), lambda one: one.content_type != "video/mp4"),
    (Selection(prefix="u7/a/"), lambda one: one.key.startswith("u7/a/")),
    (Selection(prefix="u7/b/1", types=("image/png",)), lambda one: "/b/1" in one.key and one.content_type == "image/png"),
    (Selection(since=NOW + timedelta(seconds=7)), lambda one: one.created >= NOW + timedelta(seconds=7)),
    (Selection(types=("video/mp4",)), lambda one: one.content_type == "video/mp4"),
]


@pytest.mark.parametrize("sort", list(Sort))
@pytest.mark.parametrize("descends", [True, False])
async def test_a_selection_comes_whole_in_its_order_page_by_page(catalogue: Catalogue, sort: Sort, descends: bool) -> None:
    film = asset("film", content_type="video/mp4")
    for one in (*LISTED, film, asset("a/other", "u8"), asset("a/x", state=State.QUARANTINED)):
        await catalogue.add(one)
    place: dict[Sort, Callable[[Asset], Any]] = {
        Sort.CREATED: lambda one: (one.created, one.key),
        Sort.SIZE: lambda one: (one.size, one.key),
        Sort.KEY: lambda one: one.key,
    }
    for selection, is_in in SELECTIONS:
        wanted = sorted(filter(is_in, [*LISTED, film]), key=place[sort], reverse=descends)
        selected = replace(selection, sort=sort, descends=descends)
        found: list[Asset] = []
        cursor = None
        while True:
            page = await catalogue.page("u7", 7, cursor, selected)
            found += page.assets
            cursor = page.cursor
            if cursor is None:
                break
        assert [one.key for one in found] == [one.key for one in wanted], selected


async def test_other_states_are_listed_on_demand_and_a_cursor_is_of_one_query(catalogue: Catalogue) -> None:
    for one in (asset("a"), asset("b"), asset("c", state=State.QUARANTINED)):
        await catalogue.add(one)
    quarantined = await catalogue.page("u7", 5, None, Selection(state=State.QUARANTINED))
    assert [one.key for one in quarantined.assets] == ["u7/c.jpg"]
    cursor = (await catalogue.page("u7", 1)).cursor
    for other in (Selection(sort=Sort.SIZE), Selection(sort=Sort.KEY), Selection(descends=False), Selection(prefix="u7/a")):
        with pytest.raises(BadRequest, match="another query"):
            await catalogue.page("u7", 1, cursor, other)


async def test_what_is_pending_or_deleted_is_unfinished(catalogue: Catalogue) -> None:
    for state in State:
        await catalogue.add(asset(str(state), state=state))
    assert {one.state for one in await catalogue.unfinished()} == {State.PENDING, State.DELETED}
    await catalogue.mark(asset("pending").key, State.READY)
    assert State.PENDING not in {one.state for one in await catalogue.unfinished()}


async def test_what_is_quarantined_comes_in_pages_by_key(catalogue: Catalogue) -> None:
    for number in range(7):
        await catalogue.add(asset(f"q{number}", state=State.QUARANTINED))
        await catalogue.add(asset(f"r{number}"))
    await catalogue.mark(asset("r3").key, State.QUARANTINED)
    await catalogue.mark(asset("q2").key, State.READY)
    pages, after = [], None
    while page := await catalogue.quarantined(3, after):
        pages.append(page)
        after = page[-1]
    assert [key for page in pages for key in page] == [asset(name).key for name in ("q0", "q1", "q3", "q4", "q5", "q6", "r3")]
    assert [len(page) for page in pages] == [3, 3, 1]


async def test_the_few_that_are_not_shown_are_found_by_their_index(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.sqlite"
    async with SqlCatalogue(SqliteDatabase(path)) as catalogue:
        asked: list[tuple[str, Any]] = []
        async with catalogue.begun() as connection:
            engine = connection.engine.sync_engine
        sql.event.listen(engine, "before_cursor_execute", lambda *given: asked.append((given[2], given[3])))
        await catalogue.unfinished()
        await catalogue.quarantined(10)
        with closing(sqlite3.connect(path)) as database:
            plans = [
                " ".join(row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {text}", values))
                for text, values in asked
                if text.startswith("SELECT")
            ]
    assert len(plans) == 2
    assert all("ix_assets_unfinished" in plan for plan in plans), plans


async def test_the_store_that_has_it_can_change(catalogue: Catalogue) -> None:
    await catalogue.add(asset())
    await catalogue.place(asset().key, "local")  # type: ignore[attr-defined]
    assert (await catalogue.many([asset().key]))[asset().key].store == "local"


@pytest.mark.parametrize("text", ["a\ud800b", "a\0b"])
async def test_a_text_that_no_database_keeps_is_the_senders_fault_and_changes_nothing(catalogue: Catalogue, text: str) -> None:
    try:
        await catalogue.add(asset(filename=text))
    except BadRequest:
        assert await catalogue.get(asset().key) is None
    else:  # SQLite keeps a NUL
        assert await catalogue.get(asset().key) == asset(filename=text)
    await catalogue.ping()


async def test_a_hundred_at_once_are_all_answered(catalogue: Catalogue) -> None:
    async def one(number: int) -> None:
        await catalogue.add(asset(str(number), state=State.PENDING))
        await catalogue.mark(asset(str(number)).key, State.READY)

    await asyncio.gather(*map(one, range(100)))
    assert len((await catalogue.page("u7", 200)).assets) == 100


async def test_whoever_is_cancelled_in_the_middle_leaves_a_catalogue_that_works(catalogue: Catalogue) -> None:
    for number in range(30):
        task = asyncio.create_task(catalogue.add(asset(str(number))))
        for _ in range(number % 7):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert {one.key for one in (await catalogue.page("u7", 50)).assets} <= {asset(str(number)).key for number in range(30)}
    await asyncio.gather(*(catalogue.ping() for _ in range(20)))


async def test_a_failure_within_a_transaction_undoes_all_of_it(database: Open) -> None:
    async with SqlCatalogue(database()) as catalogue:

        async def half_done() -> None:
            async with catalogue.begun() as connection:
                await connection.exec_driver_sql("INSERT INTO chunks (upload, number, sha256) VALUES ('u', 1, 'x')")
                raise NotFound("what is behind it fails")

        with pytest.raises(NotFound):
            await half_done()
        async with catalogue.begun() as connection:
            assert (await connection.exec_driver_sql("SELECT count(*) FROM chunks")).scalar_one() == 0

"""What the book of jobs promises (`jobs.JobBook`), on every database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from processors.profiles import Profile
from proxy import keys
from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.events import Notes, SqlEvents
from proxy.adapters.jobs import SqlJobs
from proxy.errors import RateLimited
from proxy.jobs import ASKED_FOR, AUTOMATIC, CLASSIFY, Job, Stage
from proxy.keys import Key
from proxy.orders import automatic
from proxy.ports import Asset, State
from tests.kit.databases import Open

NOW = datetime.now(UTC)
SOON, LATER = NOW + timedelta(seconds=30), NOW + timedelta(hours=1)
SOURCE = keys.parse("u7/film.mp4")


def asset(key: Key, source: Key | None = None) -> Asset:
    return Asset(key, "u7", "a.mp4", "video/mp4", 10, "ab" * 32, "etag", NOW, "local", 4, 3, 1.0, source=source)


def job(number: int, owner: str = "u7", *, work: str | None = None, priority: int = ASKED_FOR, name: str | None = None) -> Job:
    id = f"job_{number:030x}"
    return Job(id, owner, SOURCE, "etag", "720p", work or id, NOW, priority=priority, idempotency_key=name)


@pytest.fixture
async def catalogue(database: Open) -> AsyncIterator[SqlCatalogue]:
    async with SqlCatalogue(database(), notes=Notes(None, sends=True)) as opened:
        await opened.add(asset(SOURCE))
        await opened.mark(SOURCE, State.READY)
        yield opened


@pytest.fixture
def book(catalogue: SqlCatalogue) -> SqlJobs:
    return SqlJobs(catalogue)


async def result(catalogue: SqlCatalogue, name: str) -> Key:
    key = keys.parse(f"{SOURCE}/{name}.mp4")
    await catalogue.add(asset(key, SOURCE))
    return key


async def test_a_job_comes_back_as_it_was_ordered(book: SqlJobs) -> None:
    ordered = job(1, name="mine")
    assert await book.order(ordered, 10) == ordered == await book.get(ordered.id)
    assert await book.get(job(2).id) is None


async def test_the_same_work_and_the_same_idempotency_key_are_one_job(book: SqlJobs) -> None:
    first, named = await book.order(job(1, work="this"), 10), await book.order(job(2, name="n"), 10)
    assert await book.order(job(3, work="this"), 10) == first
    assert await book.order(job(4, name="n"), 10) == named
    assert await book.order(job(5, work="this", name="n"), 10) == named
    assert (await book.order(job(6, "u8", name="n"), 10)).id == job(6).id


async def test_many_who_order_the_same_at_once_order_one(book: SqlJobs) -> None:
    found = await asyncio.gather(*(book.order(job(number, work="this"), 10) for number in range(8)))
    assert len({one.id for one in found}) == 1


async def test_an_owner_may_have_so_many_open_ones_and_no_more(book: SqlJobs) -> None:
    for number in range(3):
        await book.order(job(number), 3)
    with pytest.raises(RateLimited):
        await book.order(job(3), 3)
    assert await book.get(job(3).id) is None
    await book.cancel(job(0).id, NOW)
    await book.order(job(3), 3)


async def test_each_job_is_claimed_once_what_was_asked_for_first(book: SqlJobs) -> None:
    for number, priority in enumerate((AUTOMATIC, ASKED_FOR, ASKED_FOR)):
        await book.order(job(number, priority=priority), 10)
    assert (first := await book.claim("a", NOW, SOON)) is not None
    assert (first.id, first.stage, first.attempts) == (job(1).id, Stage.RUNNING, 1)
    rest = await asyncio.gather(*(book.claim(str(holder), NOW, SOON) for holder in range(6)))
    assert sorted(one.id for one in rest if one) == [job(0).id, job(2).id]


async def test_a_holder_that_is_silent_loses_its_job_and_cannot_end_it_any_more(catalogue: SqlCatalogue, book: SqlJobs) -> None:
    await book.order(job(1), 10)
    await book.claim("a", NOW, SOON)
    assert await book.claim("b", NOW, SOON) is None
    assert await book.beat(job(1).id, "a", LATER, 40.0)
    assert await book.claim("b", SOON, LATER) is None
    assert (taken := await book.claim("b", LATER, LATER + timedelta(hours=1))) is not None
    assert (taken.attempts, taken.percent) == (2, 0.0)
    assert not await book.is_held(job(1).id, "a")
    assert not await book.beat(job(1).id, "a", LATER, 50.0)
    late = await result(catalogue, "late")
    assert not await book.finish(job(1).id, "a", [late], LATER)
    await book.fail(job(1).id, "a", {"code": "x", "detail": "y"}, LATER)
    await book.give_back(job(1).id, "a", LATER, counts=True)
    assert await book.is_held(job(1).id, "b")
    found = await catalogue.get(late)
    assert found is not None
    assert found.state is State.PENDING


async def test_what_is_given_back_waits_until_it_is_due(book: SqlJobs) -> None:
    await book.order(job(1), 10)
    await book.claim("a", NOW, SOON)
    await book.give_back(job(1).id, "a", SOON, counts=True)
    assert await book.claim("b", NOW, LATER) is None
    assert (again := await book.claim("b", SOON, LATER)) is not None
    assert again.attempts == 2
    await book.give_back(job(1).id, "b", SOON, counts=False)
    assert (again := await book.claim("c", SOON, LATER)) is not None
    assert again.attempts == 2


async def test_results_are_shown_with_the_end_of_their_job_and_told_of(catalogue: SqlCatalogue, book: SqlJobs) -> None:
    await book.order(job(1), 10)
    await book.claim("a", NOW, SOON)
    made = [await result(catalogue, name) for name in ("one", "two")]
    assert await catalogue.many(made) == {}
    assert await book.finish(job(1).id, "a", made, NOW)
    assert set(await catalogue.many(made)) == set(made)
    ended = await book.get(job(1).id)
    assert ended is not None
    assert (ended.stage, ended.results, ended.percent, ended.ended) == (Stage.DONE, tuple(made), 100.0, NOW)
    told = await SqlEvents(catalogue).of_owner("u7", 0, 100)
    assert [(event.kind, event.key) for event in told][1:] == [
        ("asset.processed", SOURCE), ("asset.stored", made[0]), ("asset.stored", made[1]),
    ]  # fmt: skip
    assert json.loads(told[1].body)["data"]["results"] == made
    assert json.loads(told[2].body)["data"]["source"] == SOURCE
    assert not await book.cancel(job(1).id, NOW)


async def test_nothing_is_shown_where_a_result_or_the_source_is_gone(catalogue: SqlCatalogue, book: SqlJobs) -> None:
    for number in (1, 2):
        await book.order(job(number), 10)
        await book.claim("a", NOW, SOON)
    made = [await result(catalogue, name) for name in ("one", "two")]
    await catalogue.remove(made[1])
    assert not await book.finish(job(1).id, "a", made, NOW)
    assert await book.is_held(job(1).id, "a")
    await catalogue.remove(SOURCE)
    assert not await book.finish(job(2).id, "a", made[:1], NOW)
    assert await catalogue.many(made) == {}
    assert not await book.is_held(job(2).id, "a")


async def test_the_removal_of_an_asset_cancels_what_is_open_and_finds_what_was_made(catalogue: SqlCatalogue, book: SqlJobs) -> None:
    await book.order(job(1), 10)
    await book.order(job(2), 10)
    await book.claim("a", NOW, SOON)
    made = await result(catalogue, "one")
    await catalogue.mark(SOURCE, State.DELETED)
    assert not await book.is_held(job(1).id, "a")
    assert not await book.finish(job(1).id, "a", [made], NOW)
    assert await book.claim("b", LATER, LATER) is None
    assert [one.stage for one in (await book.page("u7", 10)).jobs] == [Stage.CANCELED, Stage.CANCELED]
    assert [one.key for one in await catalogue.derived(SOURCE)] == [made]


async def test_work_that_failed_or_was_cancelled_can_be_ordered_again(book: SqlJobs) -> None:
    await book.order(job(1, work="this"), 10)
    await book.claim("a", NOW, SOON)
    await book.fail(job(1).id, "a", {"code": "undecodable", "detail": "broken"}, NOW)
    failed = await book.get(job(1).id)
    assert failed is not None
    assert (failed.stage, failed.problem) == (Stage.FAILED, {"code": "undecodable", "detail": "broken"})
    assert (await book.order(job(2, work="this"), 10)).id == job(2).id
    assert await book.cancel(job(2).id, NOW)
    assert (await book.order(job(3, work="this"), 10)).id == job(3).id


async def test_done_work_is_ordered_again_once_it_is_retired(catalogue: SqlCatalogue, book: SqlJobs) -> None:
    await book.order(job(1, work="this"), 10)
    await book.claim("a", NOW, SOON)
    await book.retire(job(1).id)
    assert await book.finish(job(1).id, "a", [await result(catalogue, "one")], NOW)
    assert (await book.order(job(2, work="this"), 10)).id == job(1).id
    await book.retire(job(1).id)
    assert (await book.order(job(2, work="this"), 10)).id == job(2).id


async def test_pages_go_from_the_newest_to_the_oldest_of_one_owner(book: SqlJobs) -> None:
    for number in range(5):
        await book.order(job(number), 10)
    await book.order(replace(job(9, "u8"), key=keys.parse("u8/x.mp4")), 10)
    page = await book.page("u7", 3)
    assert ([one.id for one in page.jobs], page.after) == ([job(number).id for number in (4, 3, 2)], job(2).id)
    last = await book.page("u7", 3, page.after)
    assert ([one.id for one in last.jobs], last.after) == ([job(1).id, job(0).id], None)
    assert len((await book.page("u7", 10, key=SOURCE)).jobs) == 5
    assert (await book.page("u7", 10, key=keys.parse("u7/other"))).jobs == []


async def test_the_backlog_counts_open_ones_and_old_ended_ones_are_forgotten(book: SqlJobs) -> None:
    for number in range(3):
        await book.order(job(number), 10)
    await book.claim("a", NOW, SOON)
    await book.cancel(job(2).id, NOW)
    assert await book.backlog() == {Stage.WAITING: 1, Stage.RUNNING: 1}
    assert await book.tidy(NOW, 10) == 0
    assert await book.tidy(SOON, 10) == 1
    assert await book.get(job(2).id) is None


async def test_what_is_made_of_each_upload_is_ordered_with_its_record_or_not_at_all(database: Open) -> None:
    profiles = {name: Profile(name, "mp4", "h264", "aac", automatic=name != "asked") for name in ("one", "two", "asked")}
    async with SqlCatalogue(database(), orders=automatic(profiles)) as catalogue:
        book = SqlJobs(catalogue)
        await catalogue.add(asset(SOURCE))
        assert (await book.page("u7", 10)).jobs == []
        await catalogue.mark(SOURCE, State.READY)
        await catalogue.mark(SOURCE, State.READY)
        found = (await book.page("u7", 10)).jobs
        assert {(one.profile, one.key, one.etag, one.priority) for one in found} == {
            (name, SOURCE, "etag", AUTOMATIC) for name in ("one", "two")
        }
        derived = keys.parse(f"{SOURCE}/one.mp4")
        await catalogue.add(replace(asset(derived, SOURCE), state=State.READY))
        picture = keys.parse("u7/a.jpg")
        await catalogue.add(replace(asset(picture), content_type="image/jpeg", state=State.READY))
        assert len((await book.page("u7", 10)).jobs) == 2


async def test_failed_ones_of_all_owners_are_found_and_the_oldest_wait_is_known(book: SqlJobs) -> None:
    assert await book.oldest(NOW) == timedelta()
    for number, owner in ((1, "u7"), (2, "u8"), (3, "u8")):
        await book.order(job(number, owner), 10)
    assert await book.oldest(NOW + timedelta(seconds=9)) == timedelta(seconds=9)
    for _ in range(2):
        claimed = await book.claim("me", NOW, NOW + timedelta(seconds=15))
        assert claimed is not None
        await book.fail(claimed.id, "me", {"code": "undecodable", "detail": "so"}, NOW)
    assert [one.id for one in (await book.page(None, 10, stage=Stage.FAILED)).jobs] == [job(2).id, job(1).id]
    assert [one.id for one in (await book.page("u8", 10, stage=Stage.WAITING)).jobs] == [job(3).id]


def classifying(number: int) -> Job:
    return replace(job(number), profile=CLASSIFY)


async def test_what_classifies_and_what_makes_are_claimed_by_different_workers(book: SqlJobs) -> None:
    await book.order(classifying(1), 10)
    await book.order(job(2), 10)
    assert (made := await book.claim("a", NOW, SOON)) is not None
    assert (looked := await book.claim("b", NOW, SOON, classifies=True)) is not None
    assert (made.id, looked.id) == (job(2).id, job(1).id)
    assert await book.claim("c", NOW, SOON) is None
    assert await book.claim("c", NOW, SOON, classifies=True) is None


async def test_what_classifies_an_owners_uploads_takes_no_place_from_their_orders(book: SqlJobs) -> None:
    for number in range(3):
        await book.order(classifying(number), 100)
    assert (await book.order(job(3), 1)).id == job(3).id


@pytest.mark.parametrize("withheld", [False, True])
async def test_labels_the_end_of_their_job_and_what_is_told_are_one(catalogue: SqlCatalogue, book: SqlJobs, withheld: bool) -> None:
    await book.order(classifying(1), 10)
    await book.claim("a", NOW, SOON, classifies=True)
    assert await book.conclude(job(1).id, "a", {"cat": 0.75}, "model-1", NOW, withheld=withheld)
    assert (found := await catalogue.get(SOURCE)) is not None
    assert (found.labels, found.classified) == ({"cat": 0.75}, "model-1")
    assert found.state is (State.QUARANTINED if withheld else State.READY)
    assert (ended := await book.get(job(1).id)) is not None
    assert ended.stage is Stage.DONE
    told = [json.loads(event.body) for event in await SqlEvents(catalogue).of_owner("u7", 0, 10)][1:]
    assert [said["type"] for said in told] == ["asset.processed", "asset.quarantined"][: 1 + withheld]
    assert told[0]["data"]["labels"] == {"cat": 0.75}


async def test_labels_of_another_version_or_of_a_lost_job_change_nothing(catalogue: SqlCatalogue, book: SqlJobs) -> None:
    await book.order(replace(classifying(1), etag="other"), 10)
    await book.claim("a", NOW, SOON, classifies=True)
    assert not await book.conclude(job(1).id, "a", {"cat": 0.75}, "model-1", NOW, withheld=True)
    await book.order(classifying(2), 10)
    await book.claim("b", NOW, SOON, classifies=True)
    assert not await book.conclude(job(2).id, "somebody", {"cat": 0.75}, "model-1", NOW, withheld=True)
    assert (found := await catalogue.get(SOURCE)) is not None
    assert (found.labels, found.state) == (None, State.READY)
    assert [event.kind for event in await SqlEvents(catalogue).of_owner("u7", 0, 10)] == ["asset.stored"]

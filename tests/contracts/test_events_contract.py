"""What the list of events promises (`events.EventLog`), on every database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from proxy import keys
from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.events import Notes, SqlEvents
from proxy.adapters.quotas import SqlQuotas
from proxy.errors import Conflict
from proxy.events import Delivery, Event, Kind
from proxy.keys import Key
from proxy.ports import Asset, State
from proxy.quotas import Usage
from tests.kit.databases import Open

HOUR = timedelta(hours=1)


def asset(name: str, owner: str = "u7") -> Asset:
    made = datetime.now(UTC)
    return Asset(keys.parse(f"{owner}/{name}.jpg"), owner, "a.jpg", "image/jpeg", 10, "ab" * 32, "etag", made, "local", 4, 3)


@pytest.fixture
async def catalogue(database: Open) -> AsyncIterator[SqlCatalogue]:
    async with SqlCatalogue(database(), notes=Notes("https://media.example", sends=True)) as opened:
        yield opened


async def stored(catalogue: SqlCatalogue, *names: str) -> list[Key]:
    made = [asset(name) for name in names]
    for one in made:
        await catalogue.add(one)
        await catalogue.mark(one.key, State.READY)
    return [one.key for one in made]


async def due(events: SqlEvents, limit: int = 100) -> list[Event]:
    now = datetime.now(UTC)
    return await events.due(now, now + HOUR, limit)


async def test_each_change_that_others_see_is_one_event(catalogue: SqlCatalogue) -> None:
    events = SqlEvents(catalogue)
    undone = asset("undone")
    await catalogue.add(undone)
    await catalogue.mark(undone.key, State.DELETED)
    await catalogue.remove(undone.key)
    (key,) = await stored(catalogue, "a")
    await catalogue.mark(key, State.READY)
    await catalogue.mark(key, State.DELETED)
    await catalogue.mark(key, State.DELETED)
    await catalogue.remove(key)
    told = await events.of_owner("u7", 0, 100)
    assert [(event.kind, event.key) for event in told] == [("asset.stored", key), ("asset.removed", key)]
    body = json.loads(told[0].body)
    assert (body["type"], body["data"]["url"]) == ("asset.stored", "https://media.example/api/media/u7/a.jpg")
    assert len({event.id for event in told}) == 2


async def test_what_is_found_bad_and_what_was_made_of_an_asset_are_events_and_of_one_that_is_gone_none(
    catalogue: SqlCatalogue,
) -> None:
    (key,) = await stored(catalogue, "a")
    await catalogue.note(key, Kind.PROCESSED, {"presets": {"card": "ready"}})
    await catalogue.mark(key, State.QUARANTINED)
    await catalogue.note(key, Kind.PROCESSED, {})
    await catalogue.mark(key, State.READY)
    await catalogue.mark(key, State.QUARANTINED)
    await catalogue.mark(key, State.DELETED)
    await catalogue.note(key, Kind.PROCESSED, {})
    told = await SqlEvents(catalogue).of_owner("u7", 0, 100)
    assert [event.kind.removeprefix("asset.") for event in told] == [
        "stored", "processed", "quarantined", "stored", "quarantined", "removed",
    ]  # fmt: skip
    assert json.loads(told[1].body)["data"]["presets"] == {"card": "ready"}


async def test_other_bytes_under_a_key_change_the_record_that_was_looked_at_and_are_an_event(catalogue: SqlCatalogue) -> None:
    (key,) = await stored(catalogue, "a")
    before = await catalogue.get(key)
    assert before is not None
    now = replace(before, size=25, etag="new", filename=None, state=State.READY)
    await catalogue.replace(now, before)
    with pytest.raises(Conflict):
        await catalogue.replace(replace(now, etag="newest"), before)
    after = await catalogue.get(key)
    assert after is not None
    assert (after.size, after.etag, after.filename) == (25, "new", "a.jpg")
    assert await SqlQuotas(catalogue).usage("u7", datetime.now(UTC)) == Usage(25, 1, 0, 0)
    told = await SqlEvents(catalogue).of_owner("u7", 0, 100)
    assert [(event.kind, json.loads(event.body)["data"]["size"]) for event in told] == [("asset.stored", 10), ("asset.stored", 25)]


async def test_an_asset_that_is_recorded_as_one_that_stands_is_an_event(catalogue: SqlCatalogue) -> None:
    await catalogue.add(replace(asset("a"), state=State.READY))
    assert [event.kind for event in await SqlEvents(catalogue).of_owner("u7", 0, 100)] == ["asset.stored"]


async def test_a_record_that_is_dropped_while_everybody_sees_it_is_an_event(catalogue: SqlCatalogue) -> None:
    (key,) = await stored(catalogue, "a")
    await catalogue.remove(key)
    assert [event.kind for event in await SqlEvents(catalogue).of_owner("u7", 0, 100)] == ["asset.stored", "asset.removed"]


async def test_of_each_key_the_first_is_due_and_nobody_else_is_given_it(catalogue: SqlCatalogue) -> None:
    events = SqlEvents(catalogue)
    one, other = await stored(catalogue, "one", "other")
    await catalogue.mark(one, State.DELETED)
    both = await asyncio.gather(due(events), due(events))
    assert sorted(event.key for events_of in both for event in events_of) == [one, other]
    first = next(event for events_of in both for event in events_of if event.key == one)
    assert await due(events) == []
    await events.delivered(first)
    assert [(event.kind, event.key) for event in await due(events)] == [("asset.removed", one)]


async def test_what_failed_is_due_again_when_it_is_said_or_dead_until_it_is_replayed(catalogue: SqlCatalogue) -> None:
    events = SqlEvents(catalogue)
    await stored(catalogue, "a", "b")
    one, other = await due(events)
    await events.failed(one, "x" * 1000, datetime.now(UTC) - HOUR)
    await events.failed(other, "it answered 500", None)
    (again,) = await due(events)
    assert (again.id, again.attempts, len(again.reason or "")) == (one.id, 1, 200)
    assert await events.backlog() == {Delivery.PENDING: 1, Delivery.DEAD: 1}
    assert [(event.id, event.reason) for event in await events.dead(10)] == [(other.id, "it answered 500")]
    assert await events.replay(["evt_nobody", one.id], datetime.now(UTC)) == 0
    assert await events.replay([other.id], datetime.now(UTC)) == 1
    (replayed,) = await due(events)
    assert (replayed.id, replayed.attempts) == (other.id, 0)


async def test_a_dead_event_does_not_keep_later_ones_of_its_key(catalogue: SqlCatalogue) -> None:
    events = SqlEvents(catalogue)
    (key,) = await stored(catalogue, "a")
    await catalogue.mark(key, State.DELETED)
    (first,) = await due(events)
    await events.failed(first, "no", None)
    assert [event.kind for event in await due(events)] == ["asset.removed"]


async def test_an_owner_goes_on_from_an_event(catalogue: SqlCatalogue) -> None:
    events = SqlEvents(catalogue)
    await stored(catalogue, "a", "b", "c")
    await catalogue.add(other := replace(asset("x", "u8")))
    await catalogue.mark(other.key, State.READY)
    told = await events.of_owner("u7", 0, 2)
    assert [event.key for event in told] == ["u7/a.jpg", "u7/b.jpg"]
    after = await events.position(told[-1].id)
    assert [event.key for event in await events.of_owner("u7", after, 10)] == ["u7/c.jpg"]
    newest = await events.position(None)
    assert (await events.position("evt_nobody"), await events.of_owner("u7", newest, 10)) == (newest, [])


async def test_what_is_on_its_way_to_nobody_is_forgotten(catalogue: SqlCatalogue) -> None:
    events = SqlEvents(catalogue)
    await stored(catalogue, "a", "b", "c")
    delivered, dead, _ = await due(events)
    await events.delivered(delivered)
    await events.failed(dead, "no", None)
    assert await events.tidy(datetime.now(UTC) - HOUR, 10) == 0
    assert await events.tidy(datetime.now(UTC) + HOUR, 10) == 1
    assert [event.id for event in await events.of_owner("u7", 0, 10)] != []
    assert await events.backlog() == {Delivery.PENDING: 1, Delivery.DEAD: 1}

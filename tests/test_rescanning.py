"""What nobody could scan when it came is withheld until somebody has; also what others put into the bucket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from processors.formats import Kind
from proxy import keys, withheld
from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.events import Notes, SqlEvents
from proxy.adapters.local import LocalBackend
from proxy.adoption import Adoption, Outcome
from proxy.assets import Assets
from proxy.delivery import Delivery
from proxy.errors import Infected, NotFound, Unavailable
from proxy.ingest import Incoming, Ingest
from proxy.keys import Key
from proxy.observe import Metrics
from proxy.ports import Asset, Renderer, State
from proxy.rescanning import Patrol, Rescanning, Round
from proxy.scanning import Scanning
from proxy.withheld import Withheld
from tests.contracts.bodies import body, read
from tests.kit.clamd import BAD_WORD
from tests.kit.databases import Open
from tests.kit.scanners import WordScanner

LIMITS = dict.fromkeys(Kind, 1 << 21)
CLEAN, INFECTED = b"%PDF-1.7 of nothing bad", b"%PDF-1.7 with " + BAD_WORD
LARGE = b"%PDF-1.7" + bytes(1 << 20)


class Words:
    """A bus on which everybody hears everybody."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[str], None]] = []

    async def say(self, topic: str, word: str) -> None:
        for heard in self._listeners:
            heard(word)

    def listen(self, topic: str, heard: Callable[[str], None], missed: Callable[[], None]) -> None:
        self._listeners.append(heard)


class Ward:
    """A store and its records, with two processes that withhold, one scanner, and a patrol whose clock a test moves."""

    def __init__(self, store: LocalBackend, catalogue: SqlCatalogue, each: list[Withheld]) -> None:
        self.store = store
        self.catalogue = catalogue
        self.each = each
        self.scanner = WordScanner()
        self.now = 0.0
        self.shown: list[Key] = []
        metrics = Metrics()
        self.rescanning = Rescanning(
            Scanning(self.scanner, metrics, lenient=False), store, catalogue, each[0].held, self._changed, self._stored
        )
        self.patrol = Patrol(self.rescanning, catalogue, lambda: self.scanner.is_there, lambda: self.now)
        self.ingest = Ingest(
            store, catalogue, cast(Renderer, None), LIMITS, metrics, self._changed, self._stored,
            scanning=Scanning(self.scanner, metrics, lenient=True), withhold=each[0].held,
        )  # fmt: skip
        self.adoption = Adoption(
            store, catalogue, Assets(store, catalogue, cast(Delivery, self), shared=True), cast(Renderer, None), LIMITS,
            self._changed, self._changed, self._stored, self.rescanning,
        )  # fmt: skip

    async def _changed(self, key: Key) -> None:
        """Nothing is remembered here."""

    def _stored(self, key: Key, content_type: str) -> None:
        self.shown.append(key)

    async def uploaded(self, data: bytes, *, pieces: int = 1) -> Asset:
        size = -(-len(data) // pieces)
        return await self.ingest.store("u7", Incoming(body(*(data[at : at + size] for at in range(0, len(data), size)))))

    async def state(self, key: Key) -> tuple[State, bool]:
        asset = await self.catalogue.get(key)
        assert asset is not None
        return asset.state, asset.unscanned

    async def told(self) -> list[tuple[str, str | None]]:
        events = await SqlEvents(self.catalogue).of_owner("u7", 0, 100)
        return [(str(event.kind), json.loads(event.body)["data"].get("reason")) for event in events]

    def withheld(self, key: Key) -> list[bool]:
        return [key in one for one in self.each]


@pytest.fixture
async def ward(tmp_path: Path, database: Open, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ward]:
    monkeypatch.setattr(withheld, "LOOK_S", 3600.0)
    monkeypatch.setattr(withheld, "SEEN_S", 0.0)
    bus = Words()
    async with (
        SqlCatalogue(database(), notes=Notes(None, sends=False)) as catalogue,
        LocalBackend(tmp_path / "media", durable=False) as store,
        Withheld(catalogue, bus, shared=True) as one,
        Withheld(catalogue, bus, shared=True) as two,
    ):
        yield Ward(store, catalogue, [one, two])


@pytest.mark.parametrize("lasts", [0, 5000, 40_000, None])
async def test_what_a_scanner_leaves_in_the_middle_is_stored_whole_and_withheld(ward: Ward, lasts: int | None) -> None:
    data = CLEAN + bytes(range(256)) * 200
    ward.scanner.lasts, ward.scanner.is_there = lasts, lasts is not None
    asset = await ward.uploaded(data, pieces=50)
    assert await ward.state(asset.key) == (State.QUARANTINED, True)
    assert await read(await ward.store.open(asset.key)) == data
    assert ward.withheld(asset.key) == [True, True]
    assert ward.shown == []
    assert await ward.told() == [("asset.quarantined", "unscanned")]


async def test_a_patrol_shows_what_is_clean_and_keeps_what_is_infected(ward: Ward) -> None:
    ward.scanner.is_there = False
    clean, infected = await ward.uploaded(CLEAN), await ward.uploaded(INFECTED)
    await ward.patrol.once()
    assert ward.patrol.waiting == 2
    ward.scanner.is_there = True
    await ward.patrol.once()
    assert (await ward.state(clean.key), await ward.state(infected.key)) == ((State.READY, False), (State.QUARANTINED, False))
    assert ward.shown == [clean.key]
    assert sorted(await ward.told(), key=str)[2:] == [("asset.quarantined", "unscanned"), ("asset.stored", None)]
    assert ("asset.quarantined", "infected") in await ward.told()
    await ward.patrol.once()
    assert ward.patrol.waiting == 0
    assert len(await ward.told()) == 4
    assert ward.scanner.busy == 0


async def test_what_cannot_be_scanned_is_tried_again_with_longer_and_longer_pauses(ward: Ward) -> None:
    asset = await ward.uploaded(LARGE)
    tries = []
    for second in range(0, 200, 5):
        ward.now = second
        before = ward.scanner.asked
        await ward.patrol.once()
        if ward.scanner.asked > before:
            tries.append(second)
    assert tries == [0, 15, 45, 105]
    assert await ward.state(asset.key) == (State.QUARANTINED, True)


async def test_what_is_replaced_or_gone_meanwhile_is_left_to_its_next_look(ward: Ward) -> None:
    ward.scanner.is_there = False
    replaced, gone = await ward.uploaded(CLEAN), await ward.uploaded(CLEAN)
    ward.scanner.is_there = True
    await ward.store.put(replaced.key, body(INFECTED), "application/pdf")
    await ward.store.delete(gone.key)
    await ward.patrol.once()
    assert await ward.state(replaced.key) == await ward.state(gone.key) == (State.QUARANTINED, True)
    assert ward.shown == []


async def test_an_infected_body_leaves_nothing(ward: Ward) -> None:
    with pytest.raises(Infected):
        await ward.uploaded(INFECTED, pieces=3)
    assert (await ward.catalogue.page("u7", 10)).assets == []
    assert [listed async for listed in ward.store.list("")] == []


@pytest.mark.parametrize(("data", "outcome"), [(CLEAN, Outcome.RECORDED), (INFECTED, Outcome.QUARANTINED)])
async def test_what_others_put_there_is_withheld_until_it_is_scanned(ward: Ward, data: bytes, outcome: Outcome) -> None:
    key = keys.parse("u7/theirs.pdf")
    await ward.store.put(key, body(data), "application/pdf")
    ward.scanner.is_there = False
    assert await ward.adoption.follow(key) is Outcome.QUARANTINED
    assert await ward.state(key) == (State.QUARANTINED, True)
    assert ward.withheld(key) == [True, True]
    ward.scanner.is_there = True
    await ward.patrol.once()
    assert (await ward.state(key))[0] is (State.READY if outcome is Outcome.RECORDED else State.QUARANTINED)

    again = keys.parse("u7/later.pdf")
    await ward.store.put(again, body(data), "application/pdf")
    assert await ward.adoption.follow(again) is outcome
    assert (await ward.state(again))[1] is False


async def test_a_round_goes_on_where_one_was_broken_off(ward: Ward) -> None:
    for number in range(10):
        key = keys.parse(f"u7/{number}.pdf")
        await ward.store.put(key, body(INFECTED if number == 7 else CLEAN), "application/pdf")
        meta = await ward.store.head(key)
        assert meta.sha256 is not None
        await ward.catalogue.add(
            Asset(
                key, "u7", None, "application/pdf", meta.size, meta.sha256, meta.etag, datetime.now(UTC), "local", state=State.READY
            )
        )
    seen: dict[str, str] = {}
    first = Round(ward.rescanning, ward.catalogue, ward.scanner.ping)

    async def look() -> None:
        async for one in first.run():
            seen[one.key] = str(one.finding)
            ward.scanner.is_there = len(seen) < 5

    with pytest.raises(Unavailable):
        await look()
    ward.scanner.is_there = True
    second = Round(ward.rescanning, ward.catalogue, ward.scanner.ping)
    found = {one.key: str(one.finding) async for one in second.run(first.cursor)}
    assert len(found) < 10
    assert (seen | found).keys() == {f"u7/{number}.pdf" for number in range(10)}
    assert [key for key, finding in (seen | found).items() if finding == "infected"] == ["u7/7.pdf"]
    assert ward.withheld(Key("u7/7.pdf")) == [True, True]


async def test_what_is_held_stays_so_through_a_look_that_began_before(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    one, key = ward.each[0], keys.parse("u7/late.pdf")
    looking, may_go = asyncio.Event(), asyncio.Event()
    ask = ward.catalogue.quarantined

    async def slow(limit: int, after: Key | None = None) -> list[Key]:
        found = await ask(limit, after)
        looking.set()
        await may_go.wait()
        return found

    monkeypatch.setattr(ward.catalogue, "quarantined", slow)
    task = asyncio.create_task(one._look())
    await looking.wait()
    await one.held(key)
    may_go.set()
    await task
    assert key in one
    with pytest.raises(NotFound):
        await ward.store.head(key)

"""The bus between the processes of one machine, when its keeper goes and comes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.adapters import house_bus
from proxy.adapters.house_bus import HouseBus, KeeperBus
from tests.kit.waiting import eventually


@pytest.fixture
def path() -> Iterator[Path]:
    """Where the keeper is, by a name that is short enough for a socket."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "bus"


async def test_who_may_have_missed_words_is_told(path: Path) -> None:
    missed: list[str] = []
    async with HouseBus(path) as one:
        one.listen("changed", lambda word: None, lambda: missed.append("something"))
        for _ in range(2):
            missed.clear()
            async with KeeperBus(path):
                await eventually(lambda: one.is_whole)
                assert missed, "what was said before was not heard"
                missed.clear()
            await eventually(lambda: not one.is_whole)
            assert missed, "what is remembered may be old from now on"
        await one.say("changed", "nobody hears it")


async def test_a_keeper_that_stands_still_counts_as_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house_bus, "BEAT_S", 0.01)
    monkeypatch.setattr(house_bus, "SILENT_S", 0.5)
    missed: list[str] = []
    async with KeeperBus(path), HouseBus(path) as one:
        one.listen("changed", lambda word: None, lambda: missed.append("something"))
        assert one.is_whole
        monkeypatch.setattr(house_bus, "BEAT_S", 3600)
        await eventually(lambda: not one.is_whole)
        assert missed, "what it would have passed on is not heard"
        await eventually(lambda: one.is_whole)


async def test_who_does_not_read_is_cut_and_not_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house_bus, "MOST_WAITING_BYTES", 1 << 12)
    heard: list[str] = []
    async with KeeperBus(path) as keeper, HouseBus(path) as deaf, HouseBus(path) as other:
        await eventually(lambda: deaf.is_whole and other.is_whole)
        other.listen("changed", heard.append, lambda: None)
        missed: list[str] = []
        deaf.listen("changed", lambda word: None, lambda: missed.append("something"))
        assert deaf._writer is not None
        deaf._writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(1000):
            await keeper.say("changed", "x" * 4000)
            await eventually(lambda: len(heard) > 0)
            heard.clear()
            if len(keeper._others) == 1:
                break
        assert len(keeper._others) == 1
        deaf._writer.transport.resume_reading()  # type: ignore[attr-defined]
        await eventually(lambda: bool(missed) and deaf.is_whole)

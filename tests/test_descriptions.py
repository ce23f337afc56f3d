"""What is known of a picture while the catalogue does not answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from proxy import keys
from proxy.adapters.alone import NoBus, NoSharedCache
from proxy.adapters.memory import MemoryBackend
from proxy.commons import Commons
from proxy.descriptions import Descriptions
from proxy.errors import Unavailable
from proxy.keys import Key
from proxy.ports import Asset, State
from proxy.sources import Sources

KEY = keys.parse("u7/a.jpg")
NOW = datetime.now(UTC)
RECORD = Asset(KEY, "u7", None, "image/jpeg", 9, "0" * 64, "e", NOW, "local", state=State.READY, focal="0.1x0.2")


class Shelf:
    """A catalogue of one record, which can fall silent."""

    def __init__(self, asset: Asset) -> None:
        self.asset = asset
        self.is_silent = False
        self.asked = 0

    async def get(self, key: Key) -> Asset:
        self.asked += 1
        if self.is_silent:
            raise Unavailable("it does not answer")
        return self.asset


def over(shelf: Shelf) -> Descriptions:
    """Descriptions that ask *shelf*."""
    return Descriptions(shelf, Sources(MemoryBackend(), {}), None, Commons(NoSharedCache(), NoBus(), 0))  # type: ignore[arg-type]


async def test_a_record_is_asked_for_once_and_anew_when_it_has_changed() -> None:
    shelf = Shelf(RECORD)
    descriptions = over(shelf)
    assert [(await descriptions.known(KEY)).focal for _ in range(3)] == ["0.1x0.2"] * 3
    assert shelf.asked == 1
    shelf.asset = replace(RECORD, focal=None)
    descriptions.forget(KEY)
    assert descriptions.fresh(KEY) is None
    assert (await descriptions.known(KEY)).focal is None


async def test_a_record_that_is_not_ready_is_none() -> None:
    assert not (await over(Shelf(replace(RECORD, state=State.DELETED))).known(KEY)).is_recorded


async def test_a_silent_catalogue_fails_no_read_and_is_not_asked_by_everybody() -> None:
    shelf = Shelf(RECORD)
    shelf.is_silent = True
    descriptions = over(shelf)
    assert (await descriptions.known(KEY)).focal is None
    for number in range(20):
        assert not (await descriptions.known(keys.parse(f"u7/{number}.jpg"))).is_recorded
    assert shelf.asked == 1

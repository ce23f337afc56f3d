"""What others do to a bucket is followed by the records, also when several processes follow it and it goes on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from processors.formats import Kind
from proxy import keys
from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.events import Notes, SqlEvents
from proxy.adapters.local import LocalBackend
from proxy.adoption import LOOKS, Adoption, Outcome
from proxy.assets import STALE_S, Assets
from proxy.delivery import Delivery
from proxy.errors import NotFound, Unavailable
from proxy.keys import Key
from proxy.ports import ObjectMeta, Renderer, State
from tests.contracts.bodies import body
from tests.kit.databases import Open

KEY = keys.parse("u7/a.pdf")
OTHER = b"%PDF-1.7 of somebody else"
LIMITS = dict.fromkeys(Kind, 1 << 20)


class Renditions:
    """What was made of objects, to be cleared away: somewhere that may be *down*, or where something happens *meanwhile*."""

    def __init__(self) -> None:
        self.down = False
        self.meanwhile: list[Callable[[], Awaitable[Any]]] = []

    async def changed(self, key: Key) -> None:
        assert not self.down

    async def forget(self, key: Key) -> None:
        if self.down:
            raise Unavailable
        if self.meanwhile:
            await self.meanwhile.pop()()


class Shop:
    """A store, its records, and *each* of some processes that follow them."""

    def __init__(self, store: LocalBackend, catalogue: SqlCatalogue) -> None:
        self.store = store
        self.catalogue = catalogue
        self.renditions = Renditions()
        self.assets = Assets(store, catalogue, cast(Delivery, self.renditions), shared=True)
        self.each = [
            Adoption(
                store,
                catalogue,
                self.assets,
                cast(Renderer, None),
                LIMITS,
                self.renditions.changed,
                self.renditions.forget,
                lambda key, content_type: None,
            )
            for _ in range(2)
        ]

    async def put(self, data: bytes = b"%PDF-1.7\n", etag: str | None = None) -> ObjectMeta:
        return await self.store.put(KEY, body(data), "application/pdf", etag=etag)

    async def follow(self) -> Outcome:
        return await self.each[0].follow(KEY)

    async def recorded(self) -> str | None:
        """The write that the record is of."""
        asset = await self.catalogue.get(KEY)
        return None if asset is None else asset.etag

    async def told(self) -> list[str]:
        return [str(event.kind) for event in await SqlEvents(self.catalogue).of_owner("u7", 0, 100)]


@pytest.fixture
async def shop(tmp_path: Path, database: Open) -> AsyncIterator[Shop]:
    async with (
        SqlCatalogue(database(), notes=Notes(None, sends=False)) as catalogue,
        LocalBackend(tmp_path / "media", durable=False) as store,
    ):
        yield Shop(store, catalogue)


async def test_what_is_put_again_while_its_removal_is_followed_has_a_record(shop: Shop) -> None:
    """Another process looks between our question and our removal, finds all in order, and will not come again."""
    there = await shop.put()
    assert await shop.follow() is Outcome.RECORDED
    await shop.store.delete(KEY)

    async def put_again() -> None:
        await shop.put(etag=there.etag)
        assert await shop.each[1].follow(KEY) is Outcome.UNCHANGED

    shop.renditions.meanwhile = [put_again]
    assert await shop.follow() is Outcome.RECORDED
    assert await shop.recorded() == there.etag
    assert await shop.told() == ["asset.stored", "asset.removed", "asset.stored"]


async def test_a_removal_that_is_followed_late_does_not_take_the_record_of_what_came_after(shop: Shop) -> None:
    await shop.put()
    assert await shop.follow() is Outcome.RECORDED
    await shop.store.delete(KEY)

    async def put_another() -> None:
        await shop.put(OTHER)
        assert await shop.each[1].follow(KEY) is Outcome.REPLACED

    shop.renditions.meanwhile = [put_another]
    await shop.follow()
    assert await shop.recorded() == (await shop.store.head(KEY)).etag
    assert await shop.told() == ["asset.stored", "asset.stored"]


async def test_nobody_removes_what_was_put_again_where_renditions_could_not_be_cleared(shop: Shop) -> None:
    await shop.put()
    assert await shop.follow() is Outcome.RECORDED
    await shop.store.delete(KEY)
    shop.renditions.down = True
    with pytest.raises(Unavailable):
        await shop.follow()
    there = await shop.put(OTHER)
    shop.renditions.down = False
    for moment in (0.0, STALE_S):
        await shop.assets.finish_stale(moment)
    assert await shop.store.head(KEY) == there
    assert await shop.follow() is Outcome.REPLACED
    assert await shop.recorded() == there.etag


async def test_many_who_hear_of_one_object_at_once_record_it_once(shop: Shop) -> None:
    there = await shop.put()
    outcomes = await asyncio.gather(*(one.follow(KEY) for one in shop.each * 10))
    assert outcomes.count(Outcome.RECORDED) == 1
    assert set(outcomes) == {Outcome.RECORDED, Outcome.UNCHANGED}
    assert await shop.recorded() == there.etag
    assert await shop.told() == ["asset.stored"]


async def test_what_is_there_while_its_record_is_being_removed_is_to_be_told_again(shop: Shop) -> None:
    await shop.put()
    assert await shop.follow() is Outcome.RECORDED
    await shop.catalogue.mark(KEY, State.DELETED)
    there = await shop.put(OTHER)
    with pytest.raises(Unavailable):
        await shop.follow()
    await shop.catalogue.remove(KEY)
    assert await shop.follow() is Outcome.RECORDED
    assert await shop.recorded() == there.etag


async def test_what_never_holds_still_is_to_be_told_again(shop: Shop) -> None:
    await shop.put()

    async def put_another() -> None:
        await shop.put(OTHER)

    shop.renditions.meanwhile = [put_another] * LOOKS
    with pytest.raises(Unavailable):
        await shop.follow()
    assert await shop.follow() is Outcome.REPLACED
    assert await shop.recorded() == (await shop.store.head(KEY)).etag


async def test_what_goes_while_it_is_looked_at_leaves_nothing(shop: Shop) -> None:
    await shop.put()
    shop.renditions.meanwhile = [lambda: shop.store.delete(KEY)]
    assert await shop.follow() is Outcome.REMOVED
    with pytest.raises(NotFound):
        await shop.store.head(KEY)
    assert await shop.recorded() is None
    assert await shop.told() == ["asset.stored", "asset.removed"]


@pytest.mark.parametrize("is_overwritten", [True, False])
async def test_what_was_made_of_an_object_goes_with_its_bytes(shop: Shop, is_overwritten: bool) -> None:
    there = await shop.put()
    assert await shop.follow() is Outcome.RECORDED
    asset = await shop.catalogue.get(KEY)
    assert asset is not None
    derived = keys.parse(f"{KEY}/preview.pdf")
    made = await shop.store.put(derived, body(OTHER), "application/pdf")
    await shop.catalogue.add(replace(asset, key=derived, etag=made.etag, source=KEY))
    if is_overwritten:
        assert (await shop.put(OTHER)).etag != there.etag
        assert await shop.follow() is Outcome.REPLACED
    else:
        await shop.store.delete(KEY)
        assert await shop.follow() is Outcome.REMOVED
    assert await shop.catalogue.get(derived) is None
    with pytest.raises(NotFound):
        await shop.store.head(derived)

"""What becomes of uploads that nobody confirms, with a clock that is moved by hand, a real catalogue and a real disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from processors.formats import Kind
from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.local import LocalBackend
from proxy.adapters.promises import SqlPromises
from proxy.adapters.quotas import SqlQuotas
from proxy.claims import LEASE, Claims
from proxy.confirmation import SETTLED, Confirmation
from proxy.errors import AlreadyUploaded, Conflict, ExpiredAddress, NotFound, NotUploaded, RateLimited, TooLarge, Unavailable
from proxy.ingest import Ingest
from proxy.keys import Key
from proxy.observe import Metrics
from proxy.ports import Asset, Body, Listed, State
from proxy.presigned import MOST_OPEN, Presigned, Promising, Wish, staged_key
from proxy.promises import Promise, Stage
from proxy.tickets import Ticket, Tickets
from tests.kit.databases import Open
from tests.kit.faulty import Faulty, Fuse, Killed

PDF = b"%PDF-1.7\n1 0 obj <<>> endobj\ntrailer <<>>\n%%EOF\n"
KEEP = timedelta(hours=1)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


async def once(data: bytes) -> Body:
    yield data


async def _told(key: Key) -> None:
    return None


@dataclass
class Desk:
    """All that takes promised uploads, without a server before it."""

    catalogue: SqlCatalogue
    book: SqlPromises
    media: Faulty
    staged: Faulty
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        limits = dict.fromkeys(Kind, 1000)
        self.claims = Claims(self.book, self.clock)
        self.ingest = Ingest(self.media, self.catalogue, None, limits, Metrics(), _told)  # type: ignore[arg-type]  # documents need none
        self.fuse = Fuse()
        self.media.fuse = self.staged.fuse = self.fuse
        self.tickets = Tickets([b"secret"])
        self.quotas = SqlQuotas(self.catalogue)
        self.promising = Promising(self.book, self.ingest.max_bytes_of, self.quotas, KEEP, self.clock)
        self.presigned = Presigned(
            self.promising, self.book, self.claims, self.staged, self.media, self.tickets, 10_000, clock=self.clock
        )
        self.confirmation = Confirmation(
            self.book, self.claims, self.staged, self.catalogue, self.ingest, self.quotas, KEEP, self.clock
        )

    async def promised(self, size: int | None = None, expires_s: int = 600) -> tuple[Promise, Ticket]:
        wish = Wish.read({"contentType": "application/pdf", "size": size, "expiresIn": expires_s}, 86_400)
        promise, address = await self.presigned.offer("me", wish, form=False)
        return promise, self.ticket(promise.key, address.url)

    def ticket(self, key: Key, url: str) -> Ticket:
        return self.tickets.read("PUT", key, url.partition("?")[2], self.clock().timestamp())

    async def send(self, promise: Promise, data: bytes = PDF) -> None:
        await self.presigned.receive(promise, once(data), None, len(data))

    async def staged_keys(self) -> list[Key]:
        return [found.key async for found in self.staged.list("presigned/")]

    async def stage(self, key: Key) -> Stage | None:
        promise = await self.book.get(key)
        return None if promise is None else promise.stage


@pytest.fixture
async def desk(tmp_path: Path, database: Open) -> AsyncIterator[Desk]:
    async with (
        SqlCatalogue(database()) as catalogue,
        LocalBackend(tmp_path / "media") as media,
        LocalBackend(tmp_path / "incoming", name="incoming") as staged,
    ):
        yield Desk(catalogue, SqlPromises(catalogue), Faulty(media), Faulty(staged))


async def test_an_upload_that_its_sender_does_not_confirm_is_confirmed_for_them_after_a_minute(desk: Desk) -> None:
    promise, _ = await desk.promised()
    await desk.send(promise)
    await desk.confirmation.patrol()
    assert await desk.catalogue.get(promise.key) is None
    desk.clock.pass_by(SETTLED.total_seconds() + 5)
    await desk.confirmation.patrol()
    asset = await desk.catalogue.get(promise.key)
    assert asset is not None
    assert asset.state is State.READY
    assert await desk.staged_keys() == []
    assert (await desk.confirmation.confirm(promise.key)).etag == asset.etag


async def test_an_address_ends_and_what_came_before_is_kept_for_a_while_longer(desk: Desk) -> None:
    promise, ticket = await desk.promised(expires_s=600)
    desk.clock.pass_by(599)
    assert await desk.presigned.admit(ticket) == promise
    await desk.send(promise)
    desk.clock.pass_by(1)
    _, address = promise, desk.tickets.address(ticket)
    with pytest.raises(ExpiredAddress):
        desk.ticket(promise.key, address)
    assert (await desk.confirmation.confirm(promise.key)).key == promise.key


async def test_what_cannot_be_confirmed_goes_in_the_end_and_what_was_never_used_is_forgotten(desk: Desk) -> None:
    (unused, _), (stuck, _) = await desk.promised(), await desk.promised()
    await desk.send(stuck)
    desk.media.down = True
    desk.clock.pass_by(SETTLED.total_seconds() + 5)
    await desk.confirmation.patrol()
    assert await desk.stage(stuck.key) is Stage.ARRIVED
    desk.clock.pass_by(KEEP.total_seconds() + 600)
    await desk.confirmation.patrol()
    assert await desk.staged_keys() == []
    assert await desk.stage(stuck.key) is await desk.stage(unused.key) is None
    with pytest.raises(NotFound):
        await desk.confirmation.confirm(stuck.key)


async def test_what_lies_there_without_a_promise_goes_when_it_is_old(desk: Desk) -> None:
    orphan = staged_key(Key("somebody/else.pdf"))
    await desk.staged.put(orphan, once(PDF), "application/pdf")
    desk.clock.pass_by(KEEP.total_seconds() - 60)
    await desk.confirmation.patrol()
    assert await desk.staged_keys() == [orphan]
    desk.clock.pass_by(120)
    await desk.confirmation.patrol()
    assert await desk.staged_keys() == []


async def test_a_confirmed_object_is_remembered_longer_than_its_promise(desk: Desk) -> None:
    promise, ticket = await desk.promised()
    await desk.send(promise)
    asset = await desk.confirmation.confirm(promise.key)
    desk.clock.pass_by(KEEP.total_seconds() + 700)
    await desk.confirmation.patrol()
    assert await desk.stage(promise.key) is None
    assert (await desk.confirmation.confirm(promise.key)).etag == asset.etag
    with pytest.raises(AlreadyUploaded):
        await desk.presigned.admit(ticket)


async def test_a_store_that_is_away_refuses_nothing_for_good(desk: Desk) -> None:
    promise, _ = await desk.promised()
    await desk.send(promise)
    for store in (desk.staged, desk.media):
        store.down = True
        with pytest.raises(Unavailable):
            await desk.confirmation.confirm(promise.key)
        store.down = False
    assert (await desk.confirmation.confirm(promise.key)).key == promise.key


async def test_what_an_attempt_left_in_the_middle_is_finished_or_undone_by_the_next(desk: Desk) -> None:
    for is_whole in (True, False):
        promise, _ = await desk.promised()
        await desk.send(promise)
        etag = "g" + "0" * 32
        if is_whole:
            await desk.media.put(promise.key, once(PDF), "application/pdf", etag=etag)
        left = Asset(
            promise.key, "me", None, "application/pdf", len(PDF), "0" * 64, etag, desk.clock(), "local", state=State.PENDING
        )
        await desk.catalogue.add(left)
        asset = await desk.confirmation.confirm(promise.key)
        assert (asset.etag == etag) is is_whole
        assert asset.state is State.READY
        assert (await desk.media.head(promise.key)).etag == asset.etag


async def test_one_works_on_it_at_a_time_and_who_dies_is_replaced(desk: Desk) -> None:
    promise, _ = await desk.promised()
    await desk.send(promise)
    now = desk.clock()
    assert await desk.book.claim(promise.key, "somebody who dies", now, now + LEASE)
    with pytest.raises(Conflict):
        await desk.confirmation.confirm(promise.key, 0)
    desk.clock.pass_by(LEASE.total_seconds())
    assert (await desk.confirmation.confirm(promise.key, 0)).key == promise.key


async def test_a_process_that_is_killed_at_any_step_of_a_confirmation_leaves_what_the_next_one_finishes(desk: Desk) -> None:
    steps = 0
    for steps in range(100):
        promise, _ = await desk.promised()
        await desk.send(promise)
        desk.fuse.left = steps
        try:
            await desk.confirmation.confirm(promise.key)
            killed = False
        except Killed:
            killed = True
        desk.fuse.left = None
        desk.clock.pass_by(LEASE.total_seconds() + SETTLED.total_seconds())
        await desk.confirmation.patrol()
        asset = await desk.catalogue.get(promise.key)
        assert asset is not None
        assert (asset.state, asset.size) == (State.READY, len(PDF))
        assert (await desk.media.head(promise.key)).etag == asset.etag
        assert await desk.staged_keys() == []
        if not killed:
            break
    assert 5 < steps < 99


async def test_what_lies_on_this_machine_does_not_wait_for_a_store_that_is_away(desk: Desk) -> None:
    here, _ = await desk.promised()
    await desk.send(here)
    away = Faulty(desk.staged.store, down=True)

    class Both(Faulty):
        async def list(self, prefix: str = "") -> AsyncIterator[Listed]:
            async for found in desk.staged.list(prefix):
                yield found
            await away.ping()

    desk.confirmation = Confirmation(
        desk.book, desk.claims, Both(desk.staged.store), desk.catalogue, desk.ingest, desk.quotas, KEEP, desk.clock
    )
    desk.clock.pass_by(SETTLED.total_seconds() + 5)
    await desk.confirmation.patrol()
    assert await desk.stage(here.key) is Stage.KEPT


async def test_who_waits_for_a_confirmation_gets_what_it_gave(desk: Desk) -> None:
    promise, _ = await desk.promised()
    await desk.send(promise)
    assets = await asyncio.gather(*(desk.confirmation.confirm(promise.key) for _ in range(5)))
    assert len({asset.etag for asset in assets}) == 1


async def test_a_body_that_breaks_off_may_be_sent_again(desk: Desk) -> None:
    async def broken() -> Body:
        yield PDF[:10]
        raise ConnectionResetError

    promise, _ = await desk.promised()
    with pytest.raises(ConnectionResetError):
        await desk.presigned.receive(promise, broken(), None, None)
    with pytest.raises(NotUploaded):
        await desk.confirmation.confirm(promise.key)
    await desk.send(promise)
    assert (await desk.confirmation.confirm(promise.key)).size == len(PDF)


async def test_what_a_store_let_through_is_refused_by_its_size(desk: Desk) -> None:
    promise, _ = await desk.promised()
    await desk.staged.put(staged_key(promise.key), once(PDF + b" " * 1000), "application/pdf")
    for _ in range(2):
        with pytest.raises(TooLarge):
            await desk.confirmation.confirm(promise.key)
    assert await desk.staged_keys() == []


async def test_an_owner_is_promised_so_many_uploads_at_a_time(desk: Desk) -> None:
    first, _ = await desk.promised(expires_s=60)
    for number in range(MOST_OPEN - 1):
        await desk.book.add(replace(first, key=Key(f"me/{number}.pdf")))
    with pytest.raises(RateLimited):
        await desk.promised()
    desk.clock.pass_by(60)
    await desk.promised()

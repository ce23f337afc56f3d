"""Many stores seen as one: nothing acknowledged is lost, nothing deleted comes back, and no 404 without proof."""

from __future__ import annotations

import asyncio
import hashlib
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

import pytest

from proxy import generations, keys
from proxy.adapters.fallback import FallbackBackend
from proxy.adapters.locks import MOVING, STILL
from proxy.adapters.memory import MemoryBackend
from proxy.adapters.spool import IN_HAND_BYTES, Spool
from proxy.debts import Debt, DebtKind
from proxy.errors import BadRequest, Conflict, NotFound, RangeNotSatisfiable, StorageFull, StoreRefused, TooLarge, Unavailable
from proxy.keys import Key
from proxy.ports import ByteRange, Listed, ObjectReader
from proxy.streams import drained
from tests.contracts.bodies import body, failing_after, read, standing_after
from tests.kit.faulty import Killed
from tests.kit.holding import held_elsewhere
from tests.kit.several import Several, several
from tests.kit.waiting import eventually

T = TypeVar("T")

JPEG = "image/jpeg"
KEY = keys.parse("u7/a.jpg")
OTHER = keys.parse("u7/b.jpg")
DATA = random.Random(4).randbytes(300_000)
BLOCK = 1 << 16


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[Several]:
    """minio, s3 and local, in memory, not yet running."""
    async with several(tmp_path) as stores:
        yield stores


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Several]:
    """minio and local, in memory, not yet running."""
    async with several(tmp_path, ("minio", "local")) as stores:
        yield stores


async def chunked(data: bytes) -> AsyncIterator[bytes]:
    """*data* in blocks."""
    for at in range(0, len(data), BLOCK):
        yield data[at : at + BLOCK]


def is_free_to_others(file: Path, place: int) -> bool:
    """Whether another process could have the lock at once."""
    try:
        with held_elsewhere(file, place):
            return True
    except AssertionError:
        return False


async def until_it_fails(items: AsyncIterator[T]) -> list[T]:
    """What comes before the Unavailable in which *items* must end."""
    found = []
    try:
        async for item in items:
            found.append(item)
    except Unavailable:
        return found
    raise AssertionError("it came to its end")


async def listed(backend: FallbackBackend) -> list[Listed]:
    return [found async for found in backend.list()]


async def got(backend: FallbackBackend, key: Key = KEY) -> bytes:
    return await read(await backend.open(key))


# -- where reads go ---------------------------------------------------------------------------------------------------


async def test_a_healthy_read_asks_one_store_and_no_database(three: Several) -> None:
    async with three.running() as backend:
        await backend.put(KEY, body(DATA), JPEG)
        before = three.ledger.asked
        for store in three.stores.values():
            store.asked = 0
        for _ in range(5):
            await backend.head(KEY)
        assert [store.asked for store in three.stores.values()] == [5, 0, 0]
        assert three.ledger.asked == before


async def test_the_record_says_which_store_is_asked_first(three: Several) -> None:
    await three["local"].store.put(KEY, body(DATA), JPEG)
    three.records[KEY] = "local"
    async with three.running() as backend:
        assert await got(backend) == DATA
        assert three["minio"].asked == three["s3"].asked == 0


async def test_a_record_that_is_wrong_or_cannot_be_read_costs_time_and_no_object(three: Several) -> None:
    await three["s3"].store.put(KEY, body(DATA), JPEG)
    for record in ("local", "tape", "minio"):
        three.records[KEY] = record
        async with three.running() as backend:
            assert await got(backend) == DATA


async def test_an_object_is_found_wherever_it_is_and_its_store_remembered(three: Several) -> None:
    meta = await three["local"].store.put(KEY, body(DATA), JPEG)
    async with three.running() as backend:
        assert await backend.head(KEY) == meta
        three["minio"].asked = three["s3"].asked = 0
        assert await backend.head(KEY) == meta
        assert three["minio"].asked == three["s3"].asked == 0


@pytest.mark.parametrize("fault", ["down", "silent"])
async def test_a_read_goes_on_to_a_store_that_has_it_while_another_is_away(three: Several, fault: str) -> None:
    await three["s3"].store.put(KEY, body(DATA), JPEG)
    async with three.running() as backend:
        setattr(three["minio"], fault, True)
        assert await got(backend) == DATA
        await three.left_alone("minio")
        asked = three["minio"].asked
        assert (await backend.open(KEY, ByteRange(5, 9))).span == ByteRange(5, 9)
        assert three["minio"].asked - asked <= 1, "a probe at most"


@pytest.mark.parametrize("away", ["minio", "s3", "local"])
async def test_there_is_no_404_while_a_store_that_could_have_it_is_away(three: Several, away: str) -> None:
    async with three.running() as backend:
        three[away].down = True
        for _ in range(5):
            with pytest.raises(Unavailable) as raised:
                await backend.head(KEY)
            assert "Retry-After" in raised.value.headers
        three[away].down = False
        await three.settled()
        with pytest.raises(NotFound):
            await backend.head(KEY)


async def test_404_and_416_are_answers_and_no_failures(three: Several) -> None:
    async with three.running() as backend:
        await backend.put(KEY, body(DATA), JPEG)
        for _ in range(10):
            with pytest.raises(NotFound):
                await backend.head(OTHER)
            with pytest.raises(RangeNotSatisfiable):
                await backend.open(KEY, ByteRange(len(DATA)))
        assert set(backend.states.values()) == {"closed"}


async def test_a_store_that_does_not_let_us_in_is_no_reason_to_ask_another(three: Several) -> None:
    await three["s3"].store.put(KEY, body(DATA), JPEG)
    async with three.running() as backend:
        three["minio"].refusing = True
        for _ in range(5):
            with pytest.raises(StoreRefused):
                await backend.open(KEY)
            with pytest.raises(StoreRefused):
                await backend.put(OTHER, body(DATA), JPEG)
        assert backend.states["minio"] == "closed"
        assert await three.holders(OTHER) == []


async def test_a_store_is_used_again_when_it_is_back(three: Several) -> None:
    async with three.running() as backend:
        three["minio"].down = True
        await three.left_alone("minio")
        await backend.put(KEY, body(DATA), JPEG)
        three["minio"].down = False
        await three.settled()
        assert (await backend.put(OTHER, body(DATA), JPEG)).store == "minio"


# -- a body that breaks off -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("breaks_at", [0, 1, 70_000, len(DATA) - 1])
@pytest.mark.parametrize("span", [None, ByteRange(10, len(DATA) - 10)])
async def test_a_body_that_breaks_off_goes_on_from_another_store(two: Several, breaks_at: int, span: ByteRange | None) -> None:
    for name in ("minio", "local"):
        await two[name].store.put(KEY, body(DATA), JPEG, etag="g" + "1" * 32)
    async with two.running() as backend:
        two["minio"].breaks_at = min(breaks_at, len(DATA) - 21) if span else breaks_at
        reader = await backend.open(KEY, span)
        assert reader.meta.store == "minio"
        assert await read(reader) == (DATA if span is None else DATA[10:-10])
        assert two.events["resumed", "local"] == 1


async def test_versions_are_never_spliced(two: Several) -> None:
    await two["minio"].store.put(KEY, body(DATA), JPEG)
    await two["local"].store.put(KEY, body(DATA[::-1]), JPEG)
    async with two.running() as backend:
        two["minio"].breaks_at = 1000
        reader = await backend.open(KEY)
        given = await until_it_fails(reader.chunks)
        assert DATA.startswith(b"".join(given))


async def test_a_body_that_is_short_without_a_failure_goes_on_too_or_fails(two: Several) -> None:
    for name in ("minio", "local"):
        await two[name].store.put(KEY, body(DATA), JPEG, etag="g" + "1" * 32)

    async def short(reader: ObjectReader) -> AsyncIterator[bytes]:
        yield DATA[:1000]

    two["minio"]._given = short  # type: ignore[method-assign]
    async with two.running() as backend:
        assert await got(backend) == DATA
        two["local"]._given = short  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            await got(backend)


# -- where writes go --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["down", "silent", "full"])
async def test_a_short_body_goes_to_the_next_store_and_comes_home(three: Several, fault: str) -> None:
    async with three.running() as backend:
        setattr(three["minio"], fault, True)
        meta = await backend.put(KEY, chunked(DATA), JPEG)
        assert (meta.store, meta.size) == ("s3", len(DATA))
        assert backend.backlog["minio"] == 1
        assert await backend.head(KEY) == meta
        setattr(three["minio"], fault, False)
        three.backend._homecoming.store_is_back()
        await three.settled()
        assert await three.holders(KEY) == ["minio"]
        assert await got(backend) == DATA
        home = await backend.head(KEY)
        assert (home.etag, home.sha256, home.store) == (meta.etag, meta.sha256, "minio")
        assert three.records[KEY] == "minio"


@pytest.mark.parametrize("takes", [0, 1, BLOCK, len(DATA) - 1])
@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_in_hand_is_given_again_from_its_beginning(two: Several, takes: int, declared: bool) -> None:
    async with two.running() as backend:
        two["minio"].takes = takes
        meta = await backend.put(KEY, chunked(DATA), JPEG, size=len(DATA) if declared else None)
        assert meta.store == "local"
        assert await got(backend) == DATA


async def test_a_body_as_long_as_may_be_in_hand_is_replayed_from_the_spool(two: Several) -> None:
    data = random.Random(1).randbytes(IN_HAND_BYTES - 1)
    async with two.running() as backend:
        two["minio"].takes = IN_HAND_BYTES - BLOCK
        assert (await backend.put(KEY, chunked(data), JPEG)).store == "local"
        assert hashlib.sha256(await got(backend)).digest() == hashlib.sha256(data).digest()
        assert list((two.folder / "spool").iterdir()) == []


@pytest.mark.parametrize("declared", [True, False])
async def test_a_long_body_goes_to_the_next_store_only_before_it_flows(two: Several, declared: bool) -> None:
    data = random.Random(1).randbytes(IN_HAND_BYTES + 10 * BLOCK)
    size = len(data) if declared else None
    async with two.running() as backend:
        two["minio"].down = True
        assert (await backend.put(KEY, chunked(data), JPEG, size=size)).store == "local"
        two["minio"].down = False
        await two.settled()
        two["minio"].takes = IN_HAND_BYTES + 5 * BLOCK
        with pytest.raises(Unavailable) as raised:
            await backend.put(OTHER, chunked(data), JPEG, size=size)
        assert "Retry-After" in raised.value.headers
        assert await two.holders(OTHER) == []
        assert len(await listed(backend)) == 1


async def test_a_long_body_is_not_begun_at_a_store_that_takes_bytes_before_it_is_reached(two: Several) -> None:
    data = random.Random(1).randbytes(IN_HAND_BYTES + BLOCK)
    async with two.running() as backend:
        two["minio"].gathers = two["minio"].down = True
        with pytest.raises(Unavailable):  # it was well a moment ago
            await backend.put(KEY, chunked(data), JPEG, size=len(data))
        assert backend.states["minio"] == "closed"
        assert (await backend.put(KEY, chunked(data), JPEG, size=len(data))).store == "local"


async def test_507_only_when_every_store_is_full(two: Several) -> None:
    async with two.running() as backend:
        two["minio"].full = two["local"].full = True
        with pytest.raises(StorageFull):
            await backend.put(KEY, body(DATA), JPEG)
        two["local"].full, two["local"].down = False, True
        with pytest.raises(Unavailable):
            await backend.put(KEY, body(DATA), JPEG)
        two["local"].down = False
        await two.settled()
        assert (await backend.put(KEY, body(DATA), JPEG)).store == "local"
        assert backend.states["minio"] == "closed"


async def test_a_long_body_that_meets_a_full_store_is_told_to_come_again_and_then_goes_elsewhere(two: Several) -> None:
    data = random.Random(1).randbytes(IN_HAND_BYTES + BLOCK)
    async with two.running() as backend:
        two["minio"].full = True
        with pytest.raises(Unavailable):
            await backend.put(KEY, chunked(data), JPEG, size=len(data))
        assert (await backend.put(KEY, chunked(data), JPEG, size=len(data))).store == "local"


async def test_what_the_client_does_is_never_a_store_s_failure(two: Several) -> None:
    long = b"x" * (IN_HAND_BYTES + 1)
    async with two.running() as backend:
        for held in (b"short", long):
            for failure in (TooLarge("no", max_bytes=1), OSError(5, "the line broke"), Unavailable("the catalogue is away")):
                with pytest.raises(type(failure)) as raised:
                    await backend.put(KEY, failing_after(held, failure), JPEG)
                assert raised.value is failure
            with pytest.raises(BadRequest):
                await backend.put(KEY, body(held), JPEG, size=len(held) + 1)
            reached = asyncio.Event()
            leaving = asyncio.create_task(backend.put(KEY, standing_after(held, reached), JPEG))
            await asyncio.wait_for(reached.wait(), 20)
            leaving.cancel()
            with suppress(asyncio.CancelledError):
                await leaving
        assert set(backend.states.values()) == {"closed"}
        assert await listed(backend) == []
        assert not any(backend.backlog.values())


async def test_a_slow_client_is_not_a_slow_store(two: Several) -> None:
    """Its store may take half a second for each step here, and the client takes its time before every chunk."""
    data = b"x" * (IN_HAND_BYTES + 1)
    release = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield data
        asyncio.get_running_loop().call_later(1.2, release.set)
        await release.wait()
        yield b"y"

    async with two.running() as backend:
        assert (await backend.put(KEY, slow(), JPEG)).store == "minio"


@pytest.mark.parametrize(
    "failure", [Unavailable("the catalogue is away"), StorageFull("no"), Conflict("taken"), TooLarge("", max_bytes=1)]
)
async def test_what_admission_raises_goes_to_the_client_and_no_other_store_is_tried(two: Several, failure: Exception) -> None:
    async def admit(staged: ObjectReader) -> None:
        raise failure

    async with two.running() as backend:
        for _ in range(5):
            with pytest.raises(type(failure)) as raised:
                await backend.put(KEY, body(DATA), JPEG, admit)
            assert raised.value is failure
        assert two["local"].asked == 0
        assert set(backend.states.values()) == {"closed"}


async def test_admission_happens_once_however_many_stores_fail_behind_it(three: Several) -> None:
    admitted: list[tuple[str, str]] = []

    async def admit(staged: ObjectReader) -> None:
        admitted.append((staged.meta.store, staged.meta.etag))
        three.records[KEY] = staged.meta.store
        three["minio"].down = three["s3"].down = True

    async with three.running() as backend:
        meta = await backend.put(KEY, body(DATA), JPEG, admit)
        assert (meta.store, admitted) == ("local", [("minio", meta.etag)])
        assert three.records[KEY] == "local", "the record was made for another store"
        assert await got(backend) == DATA
        three["minio"].down = three["s3"].down = False
        await three.settled()
        assert await three.holders(KEY) == ["minio"]


async def test_stores_that_have_different_bytes_of_one_body_make_no_object(two: Several) -> None:
    put = MemoryBackend.put

    async def lying(key: Key, chunks: AsyncIterator[bytes], *rest: object, **given: object) -> object:
        await drained(chunks)
        return await put(two["local"].store, key, chunked(DATA[::-1]), *rest, **given)  # type: ignore[arg-type]

    async def admit(staged: ObjectReader) -> None:
        two["minio"].down = True

    async with two.running() as backend:
        two["local"].store.put = lying  # type: ignore[method-assign,assignment]
        with pytest.raises(Unavailable):
            await backend.put(KEY, chunked(DATA), JPEG, admit)
        assert await two.holders(KEY) == []


async def test_an_answer_that_is_lost_leaves_one_object(three: Several) -> None:
    async with three.running() as backend:
        three["minio"].loses_answers = True
        meta = await backend.put(KEY, body(DATA), JPEG)
        assert meta.store == "s3"
        assert await three.holders(KEY) == ["minio", "s3"]
        three["minio"].loses_answers = False
        await three.settled()
        await eventually(lambda: not any(backend.backlog.values()))
        assert await three.holders(KEY) == ["minio"]
        assert await got(backend) == DATA


async def test_no_store_at_all_is_503(two: Several) -> None:
    async with two.running() as backend:
        two["minio"].down = two["local"].down = True
        for _ in range(5):
            with pytest.raises(Unavailable):
                await backend.put(KEY, body(DATA), JPEG)
        with pytest.raises(Unavailable):
            await backend.ping()
        two["local"].down = False
        await eventually(lambda: backend.states["local"] == "closed")
        await backend.ping()


# -- what must be on record -------------------------------------------------------------------------------------------


async def test_a_write_away_from_home_is_on_record_before_it_can_be_seen(two: Several) -> None:
    on_record: list[list[Debt]] = []
    commit = MemoryBackend.put

    async with two.running() as backend:
        two["minio"].down = True

        async def put(key: Key, chunks: AsyncIterator[bytes], content_type: str, admit: object = None, **given: object) -> object:
            async def admitted(staged: ObjectReader) -> None:
                await admit(staged)  # type: ignore[operator]
                on_record.append(await two.ledger.debts_of(key))

            return await commit(two["local"].store, key, chunks, content_type, admitted, **given)  # type: ignore[arg-type]

        two["local"].store.put = put  # type: ignore[method-assign,assignment]
        meta = await backend.put(KEY, body(DATA), JPEG)
        digest = hashlib.sha256(DATA).hexdigest()
        assert on_record == [[Debt(KEY, "minio", DebtKind.COPY, meta.etag, "local", digest)]]


async def test_without_the_ledger_nothing_is_written_away_from_home_and_nothing_removed(two: Several) -> None:
    async with two.running() as backend:
        await backend.put(KEY, body(DATA), JPEG)
        two.ledger.down = two["minio"].down = True
        await two.left_alone("minio")
        with pytest.raises(Unavailable):
            await backend.put(OTHER, body(DATA), JPEG)
        with pytest.raises(Unavailable):
            await backend.delete(KEY)
        assert backend.states["local"] == "closed"
        two["minio"].down = False
        await eventually(lambda: backend.states["minio"] == "closed")
        assert await got(backend) == DATA
        assert await two.holders(OTHER) == []


@pytest.mark.parametrize("fault", ["down", "loses_answers"])
async def test_a_write_that_fails_in_its_commit_is_found_out_and_leaves_no_debt(two: Several, fault: str) -> None:
    async def admit(staged: ObjectReader) -> None:
        setattr(two["local"], fault, True)

    async with two.running() as backend:
        two["minio"].down = True
        with pytest.raises(Unavailable):
            await backend.put(KEY, body(DATA), JPEG, admit)
        two["minio"].down = two["local"].down = two["local"].loses_answers = False
        await two.settled()
        assert await two.holders(KEY) == ([] if fault == "down" else ["minio"])
        assert await two.ledger.debts_of(KEY) == []


async def test_a_write_that_is_not_admitted_leaves_no_debt(two: Several) -> None:
    async def admit(staged: ObjectReader) -> None:
        raise TooLarge("not this one", max_bytes=1)

    async with two.running() as backend:
        two["minio"].down = True
        with pytest.raises(TooLarge):
            await backend.put(KEY, body(DATA), JPEG, admit)
        assert await two.ledger.debts_of(KEY) == []


async def test_debts_outlive_a_restart(two: Several) -> None:
    async with two.running() as backend:
        await backend.put(OTHER, body(b"old"), JPEG)
        two["minio"].down = True
        meta = await backend.put(KEY, body(DATA), JPEG)
        await backend.delete(OTHER)
    async with two.running() as backend:
        assert backend.backlog == {"minio": 2, "local": 0}
        assert await backend.head(KEY) == meta
        with pytest.raises(NotFound):
            await backend.head(OTHER)
        two["minio"].down = False
        await two.settled()
        assert (await two.holders(KEY), await two.holders(OTHER)) == (["minio"], [])


async def test_more_debts_than_memory_holds_are_looked_up_in_the_ledger(two: Several) -> None:
    names = [keys.parse(f"u/{number}") for number in range(30)]
    for most in (4, 1000):
        async with two.running(most_debts=most, remembered=2) as backend:
            two["minio"].down = True
            for name in names:
                await backend.put(name, body(name.encode()), JPEG)
            await backend.delete(names[0])
            for name in names[1:]:
                assert await got(backend, name) == name.encode()
            with pytest.raises(NotFound):
                await backend.head(names[0])
    async with two.running(most_debts=4, remembered=2) as backend:
        two["minio"].down = False
        await two.settled()
        assert {found.key for found in await listed(backend)} == set(names[1:])
        asked = two.ledger.asked
        await backend.head(names[1])
        assert two.ledger.asked == asked, "all is in memory again"


# -- which version is the newest --------------------------------------------------------------------------------------


async def test_the_newest_version_wins_whichever_store_has_it(two: Several) -> None:
    async with two.running() as backend:
        await backend.put(KEY, body(b"first"), JPEG)
        two["minio"].down = True
        await backend.put(KEY, body(b"second"), JPEG)
        assert await got(backend) == b"second"
        two["local"].down = True
        with pytest.raises(Unavailable):
            await backend.head(KEY)
        two["minio"].down = False
        await eventually(lambda: backend.states["minio"] == "closed")
        with pytest.raises(Unavailable):  # the first is there, and is not the newest
            await backend.head(KEY)
        two["local"].down = False
        await two.settled()
        assert await got(backend) == b"second"
        assert await two.holders(KEY) == ["minio"]


async def test_an_overwrite_at_home_takes_the_older_copy_away(two: Several) -> None:
    async with two.running() as backend:
        two["minio"].down = True
        await backend.put(KEY, body(b"first"), JPEG)
        two["local"].down, two["minio"].down = True, False
        await eventually(lambda: backend.states["minio"] == "closed")
        await backend.put(KEY, body(b"second"), JPEG)
        assert await got(backend) == b"second"
        two["minio"].down, two["local"].down = True, False
        await eventually(lambda: backend.states["local"] == "closed")
        await two.left_alone("minio")
        with pytest.raises(Unavailable):  # not the first, which is there
            await got(backend)
        two["minio"].down = False
        await two.settled()
        assert await got(backend) == b"second"
        assert await two.holders(KEY) == ["minio"]


async def test_a_store_that_became_the_home_takes_over_what_another_has(two: Several) -> None:
    await two["local"].store.put(KEY, body(b"first"), JPEG)
    two.records[KEY] = "local"
    async with two.running() as backend:
        await backend.put(KEY, body(b"second"), JPEG)
        await two.settled()
        assert await two.holders(KEY) == ["minio"]


async def test_a_write_that_began_before_a_newer_one_away_from_home_is_overwritten_by_it(two: Several) -> None:
    async with two.running() as backend:
        older = generations.mint()
        two["minio"].down = True
        newer = await backend.put(KEY, body(b"newer"), JPEG)
        assert (await backend.put(KEY, body(b"older"), JPEG, etag=older)).etag == older
        assert await backend.head(KEY) == newer


# -- deletes ----------------------------------------------------------------------------------------------------------


async def test_a_delete_with_every_store_there_leaves_nothing(three: Several) -> None:
    async with three.running() as backend:
        await backend.put(KEY, body(DATA), JPEG)
        await backend.delete(KEY)
        assert await three.holders(KEY) == []
        assert await three.ledger.debts_of(KEY) == []


@pytest.mark.parametrize("fault", ["down", "silent"])
async def test_what_was_deleted_while_a_store_was_away_never_comes_back(two: Several, fault: str) -> None:
    async with two.running() as backend:
        await backend.put(KEY, body(DATA), JPEG)
        await backend.put(OTHER, body(DATA), JPEG)
        setattr(two["minio"], fault, True)
        await backend.delete(KEY)
        with pytest.raises(NotFound):  # a proof: what the store that is away may have does not count
            await backend.head(KEY)
        with pytest.raises(Unavailable):
            await backend.head(OTHER)
    async with two.running() as backend:
        setattr(two["minio"], fault, False)
        with pytest.raises(NotFound):
            await backend.head(KEY)
        await two.settled()
        assert await two.holders(KEY) == []
        assert [found.key for found in await listed(backend)] == [OTHER]


async def test_an_old_removal_does_not_take_a_later_write(two: Several) -> None:
    async with two.running() as backend:
        await backend.put(KEY, body(b"old"), JPEG)
        two["minio"].down = True
        await backend.delete(KEY)
        await backend.put(KEY, body(b"new"), JPEG)
        assert await got(backend) == b"new"
        two["minio"].down = False
        await two.settled()
        assert await got(backend) == b"new"
        assert await two.holders(KEY) == ["minio"]


async def test_a_removal_that_was_not_struck_out_does_not_take_a_later_write(two: Several) -> None:
    """As a kill between the commit of the write and the strike-out leaves it."""
    await two.ledger.owe([Debt(KEY, "minio", DebtKind.DELETE, generations.mint())])
    await two["minio"].store.put(KEY, body(DATA), JPEG)
    async with two.running() as backend:
        assert await got(backend) == DATA
        await two.settled()
        assert await got(backend) == DATA


@pytest.mark.parametrize("steps", range(1, 12))
async def test_a_kill_within_a_write_brings_nothing_back_that_was_deleted(two: Several, steps: int) -> None:
    async with two.running() as backend:
        await backend.put(KEY, body(b"deleted"), JPEG)
        two["minio"].down = True
        await backend.delete(KEY)
        await two.left_alone("minio")
    with suppress(Killed, Unavailable):
        async with two.running() as backend:
            await two.left_alone("minio")
            two.fuse.left = steps
            await backend.put(KEY, body(b"again"), JPEG)
    two.fuse.left, two["minio"].down = None, False
    async with two.running() as backend:
        await two.settled()
        assert await two.holders(KEY) in ([], ["minio"], ["local"])
        with suppress(NotFound):
            assert await got(backend) == b"again"


async def test_a_delete_with_no_store_there_is_done_when_they_are_back(two: Several) -> None:
    async with two.running() as backend:
        await backend.put(KEY, body(DATA), JPEG)
        two["minio"].down = two["local"].down = True
        await backend.delete(KEY)
        with pytest.raises(NotFound):
            await backend.head(KEY)
        two["minio"].down = two["local"].down = False
        await two.settled()
        assert await two.holders(KEY) == []


async def test_a_delete_that_is_left_goes_on(two: Several) -> None:
    async with two.running() as backend:
        await backend.put(KEY, body(DATA), JPEG)
        two["minio"].silent = True
        leaving = asyncio.create_task(backend.delete(KEY))
        await eventually(lambda: backend.backlog["minio"] == 1)
        leaving.cancel()
        with suppress(asyncio.CancelledError):
            await leaving
        two["minio"].silent = False
        await two.settled()
        assert await two.holders(KEY) == []


# -- lists ------------------------------------------------------------------------------------------------------------


async def test_a_list_has_every_key_once_in_its_newest_version(three: Several) -> None:
    both = generations.mint()
    for name in ("minio", "local"):
        await three[name].store.put(keys.parse("u/both"), body(b"both"), JPEG, etag=both)
    await three["s3"].store.put(keys.parse("u/lower"), body(b"lower"), JPEG)
    async with three.running() as backend:
        await backend.put(keys.parse("u/home"), body(b"home"), JPEG)
        await backend.put(KEY, body(b"old"), JPEG)
        await backend.put(OTHER, body(b"gone"), JPEG)
        three["minio"].down = True
        await backend.put(KEY, body(b"newer"), JPEG)
        await backend.delete(OTHER)
        names = [found.key for found in await until_it_fails(backend.list())]
        assert sorted(names) == ["u/both", "u/lower", KEY]
        three["minio"].down = False
        await eventually(lambda: backend.states["minio"] == "closed")
        found_all = await listed(backend)
        assert sorted((found.key, found.size) for found in found_all) == [
            ("u/both", 4), ("u/home", 4), ("u/lower", 5), (KEY, 5),
        ]  # fmt: skip
        await three.settled()
        assert sorted(await listed(backend), key=lambda found: found.key) == sorted(found_all, key=lambda found: found.key)


async def test_a_store_that_breaks_within_its_list_makes_it_incomplete(two: Several) -> None:
    for number in range(100):
        await two["minio"].store.put(keys.parse(f"u/{number}"), body(b"x"), JPEG)
    await two["local"].store.put(KEY, body(b"x"), JPEG)
    async with two.running() as backend:
        found = backend.list()
        names = [(await anext(found)).key]
        two["minio"].down = True
        names += [one.key for one in await until_it_fails(found)]
        assert KEY in names
        assert len(names) == len(set(names)) < 101


async def test_nothing_moves_while_a_list_is_read(two: Several) -> None:
    names = [keys.parse(f"u/{number}") for number in range(60)]
    async with two.running() as backend:
        two["minio"].down = True
        for name in names:
            await backend.put(name, body(b"x"), JPEG)
        two["minio"].down = False
        await eventually(lambda: backend.states["minio"] == "closed")
        listing = backend.list()
        found = [(await anext(listing)).key]
        owed = backend.backlog["minio"]
        with pytest.raises(TimeoutError):
            await eventually(lambda: backend.backlog["minio"] < owed, 0.5)
        found += [one.key async for one in listing]
        assert sorted(found) == sorted(names)
        await two.settled()
        assert sorted(one.key for one in await listed(backend)) == sorted(names)


async def test_nothing_moves_while_another_process_reads_a_list(two: Several, tmp_path: Path) -> None:
    """Also where something is being moved at every moment, so that there is none in which nothing is."""
    between = tmp_path / "stores.lock"
    names = [keys.parse(f"u/{number}") for number in range(60)]
    async with two.running(between=between) as backend:
        two["minio"].down = True
        for name in names:
            await backend.put(name, body(b"x"), JPEG)
        with held_elsewhere(between, STILL, shared=True):
            two["minio"].down = False
            await eventually(lambda: backend.states["minio"] == "closed")
            owed = await two.ledger.backlog()
            with pytest.raises(TimeoutError):
                await eventually(lambda: two.events["copied", "minio"] > 0, 0.5)
            assert await two.ledger.backlog() == owed
        await eventually(lambda: two.events["copied", "minio"] > 5)
        with held_elsewhere(between, STILL, shared=True):
            await eventually(lambda: is_free_to_others(between, MOVING), 5.0)
        await eventually(lambda: two.events["copied", "minio"] == len(names))


async def test_a_list_waits_for_what_another_process_moves(two: Several, tmp_path: Path) -> None:
    between = tmp_path / "stores.lock"
    async with two.running(between=between) as backend:
        await backend.put(KEY, body(DATA), JPEG)
        with held_elsewhere(between, MOVING) as other:
            listing = asyncio.ensure_future(listed(backend))
            with pytest.raises(TimeoutError):
                await eventually(listing.done, 0.2)
            other.kill()
            assert [found.key for found in await listing] == [KEY]


# -- home-coming ------------------------------------------------------------------------------------------------------


async def test_by_the_policy_copy_both_stores_keep_it_until_it_is_overwritten(two: Several) -> None:
    async with two.running(policy="copy") as backend:
        two["minio"].down = True
        await backend.put(KEY, body(DATA), JPEG)
        two["minio"].down = False
        await two.settled()
        assert await two.holders(KEY) == ["minio", "local"]
        two["minio"].down = True
        assert await got(backend) == DATA
        two["minio"].down = False
        await two.settled()
        await backend.put(KEY, body(b"newer"), JPEG)
        await two.settled()
        assert await two.holders(KEY) == ["minio"]
        assert await two.ledger.debts_of(KEY) == []


async def test_by_the_policy_leave_it_stays_and_older_versions_go(two: Several) -> None:
    async with two.running(policy="leave") as backend:
        await backend.put(KEY, body(b"older"), JPEG)
        two["minio"].down = True
        await backend.put(KEY, body(DATA), JPEG)
        two["minio"].down = False
        await two.settled()
        assert await two.holders(KEY) == ["local"]
    async with two.running(policy="leave", remembered=1) as backend:
        assert await got(backend) == DATA
        await backend.delete(KEY)
        assert await two.holders(KEY) == []
        assert await two.ledger.debts_of(KEY) == []


async def test_bytes_that_are_not_those_that_were_acknowledged_do_not_come_home(two: Several) -> None:
    async with two.running() as backend:
        two["minio"].down = True
        meta = await backend.put(KEY, body(DATA), JPEG)
        await two["local"].store.put(KEY, body(DATA[::-1]), JPEG, etag=meta.etag)
        two["minio"].down = False
        await eventually(lambda: two.events["damaged", "minio"] == 1)
        assert await two.holders(KEY) == ["local"]
        assert backend.backlog["minio"] == 1


async def test_what_came_home_before_a_kill_is_not_copied_again(two: Several) -> None:
    """The copy was committed and the holder's not yet removed, nor the debt struck out."""
    async with two.running() as backend:
        two["minio"].down = True
        meta = await backend.put(KEY, body(DATA), JPEG)
    await two["minio"].store.put(KEY, body(DATA), JPEG, etag=meta.etag)
    two["minio"].down = False
    async with two.running() as backend:
        await two.settled()
        await eventually(lambda: two.events["superseded", "minio"] == 1)
        assert await two.holders(KEY) == ["minio"]


async def test_a_copy_that_was_written_down_and_never_made_is_forgotten(two: Several) -> None:
    """As a kill between the record and the commit leaves it: what the home has is the newest."""
    await two["minio"].store.put(KEY, body(b"old"), JPEG)
    await two.ledger.owe([Debt(KEY, "minio", DebtKind.COPY, generations.mint(), "local", "00" * 32)])
    async with two.running() as backend:
        assert await got(backend) == b"old"
        await two.settled()
        assert await got(backend) == b"old"


async def test_a_home_that_is_full_gets_its_copies_when_there_is_room(two: Several) -> None:
    async with two.running() as backend:
        two["minio"].full = True
        await backend.put(KEY, body(DATA), JPEG)
        await eventually(lambda: two.events["failed", "minio"] > 0)
        assert await two.holders(KEY) == ["local"]
        two["minio"].full = False
        await two.settled()
        assert await two.holders(KEY) == ["minio"]


async def test_a_holder_that_breaks_while_its_object_comes_home_is_asked_again(two: Several) -> None:
    async with two.running() as backend:
        two["minio"].down = True
        await backend.put(KEY, body(DATA), JPEG)
        two["local"].breaks_at = 1000
        two["minio"].down = False
        await eventually(lambda: two.events["failed", "minio"] > 0)
        assert backend.states["minio"] == "closed"
        two["local"].breaks_at = None
        await two.settled()
        assert await two.holders(KEY) == ["minio"]
        assert await got(backend) == DATA


# -- the spool --------------------------------------------------------------------------------------------------------


async def test_a_spool_without_room_still_passes_bodies_on(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(3 << 20)
    full, missing = Spool(tmp_path, most_bytes=1 << 20), Spool(tmp_path / "missing")
    for spool in (full, missing):
        async with spool.hold(chunked(data), None) as held:
            assert held.rest is not None
            assert b"".join([chunk async for chunk in held.chunks()]) == data
            assert not held.fresh
    assert full.free == 1 << 20


async def test_a_database_keeps_no_debt_of_a_healthy_day(three: Several) -> None:
    async with three.running() as backend:
        for number in range(20):
            await backend.put(KEY, body(bytes([number])), JPEG)
        await backend.delete(KEY)
    with closing(sqlite3.connect(three.folder / "catalogue.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM debts").fetchone() == (0,)

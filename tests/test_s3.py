"""The S3 store on real servers that are killed, stopped and cut off."""

from __future__ import annotations

import asyncio
import hashlib
import random
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from processors.errors import Busy
from proxy import generations, keys
from proxy.adapters.outgoing import Deadlines
from proxy.adapters.s3 import S3Backend
from proxy.errors import NotFound, TooLarge, Unavailable
from proxy.ports import ByteRange, ObjectReader
from tests.contracts.bodies import body, failing_after, read
from tests.kit import stores
from tests.kit.faults import FaultProxy, Faults
from tests.kit.stores import ObjectStore

KEY = keys.parse("u7/a.jpg")
JPEG = "image/jpeg"
MIB = 1 << 20
CHUNK = 1 << 16
HASTE = Deadlines(connect=1.0, continue_=1.0, answer=2.0, progress=1.0, commit=2.0, pauses=(0.01, 0.05))
IMPATIENT = Deadlines(connect=0.2, continue_=0.2, answer=0.3, progress=0.3, commit=0.3, pauses=(0.01,))
PROFILES = ["versitygw", "minio"]
DEADLINE_S = 60.0


@pytest.fixture(params=PROFILES)
def store(request: pytest.FixtureRequest) -> ObjectStore:
    """Each kind of store, shared by the session."""
    return stores.shared(request.param)


@pytest.fixture
async def backend(store: ObjectStore, tmp_path: Path) -> AsyncIterator[S3Backend]:
    async with store.backend(tmp_path, deadlines=HASTE) as opened:
        yield opened


@pytest.fixture
async def line(store: ObjectStore) -> AsyncIterator[FaultProxy]:
    """What `distant` talks through."""
    async with FaultProxy.before(store.endpoint) as proxy:
        yield proxy


@pytest.fixture
async def distant(store: ObjectStore, line: FaultProxy, tmp_path: Path) -> AsyncIterator[S3Backend]:
    """A backend whose connections go through `line`."""
    async with store.backend(tmp_path, deadlines=HASTE, endpoint_url=line.endpoint) as opened:
        yield opened


@cache
def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


async def pieces(data: bytes, at: int = -1, then: Callable[[], Any] = lambda: None) -> AsyncIterator[bytes]:
    """*data* in chunks; once *at* bytes have gone out, *then* happens."""
    for start in range(0, len(data), CHUNK):
        if 0 <= at <= start:
            at = -1
            then()
        yield data[start : start + CHUNK]


async def left_over(backend: S3Backend) -> list[str]:
    """The uploads in parts that the store still holds."""
    answer = await backend.call("list_multipart_uploads")
    return [upload["Key"] for upload in answer.get("Uploads", [])]


async def all_keys(backend: S3Backend) -> list[str]:
    return [found.key async for found in backend.list()]


# -- a store that dies, refuses, or says nothing ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "percent", "is_known"),
    [
        *(("minio", percent, True) for percent in (10, 50, 99)),
        *(("versitygw", percent, True) for percent in (10, 50, 99)),
        ("minio", 50, False),
    ],
)
async def test_a_store_killed_within_a_put_shows_the_old_object_or_none(
    profile: str, percent: int, is_known: bool, tmp_path: Path
) -> None:
    data, size = noise(12 * MIB), 12 * MIB if is_known else None
    other = keys.parse("u7/other.jpg")
    with stores.provided(profile, tmp_path) as store:
        async with store.backend(tmp_path, deadlines=HASTE) as backend:
            await backend.put(other, body(b"old"), JPEG)
            for key in (KEY, other):
                dying = pieces(data, len(data) * percent // 100, store.kill)
                with pytest.raises(Unavailable):
                    await backend.put(key, dying, JPEG, size=size)
                store.start()
            assert await all_keys(backend) == [other]
            assert await read(await backend.open(other)) == b"old"
            with pytest.raises(NotFound):
                await backend.head(KEY)
            await backend.ping()
            assert await left_over(backend) == []
            await backend.put(KEY, pieces(data), JPEG, size=size)
            assert await read(await backend.open(KEY)) == data


@pytest.mark.parametrize("size", [5, None])
async def test_a_store_that_refuses_connections_costs_the_body_nothing_and_comes_back(size: int | None, tmp_path: Path) -> None:
    with stores.provided("versitygw", tmp_path) as store:
        async with store.backend(tmp_path, profile="minio", deadlines=HASTE) as backend:
            await backend.put(KEY, body(b"there"), JPEG)
            store.kill()
            taken: list[bytes] = []

            async def counted() -> AsyncIterator[bytes]:
                taken.append(b"hello")
                yield b"hello"

            async with asyncio.timeout(DEADLINE_S):
                for asked in (backend.head(KEY), backend.open(KEY), backend.delete(KEY), backend.ping(), all_keys(backend)):
                    with pytest.raises(Unavailable):
                        await asked
                with pytest.raises(Unavailable):
                    await backend.put(KEY, counted(), JPEG, size=size)
            assert taken == ([] if size is not None else [b"hello"])  # of an unknown size something must be read first
            store.start()
            assert await read(await backend.open(KEY)) == b"there"


async def test_a_store_that_is_stopped_is_left_at_the_deadline_with_the_body_unread(tmp_path: Path) -> None:
    with stores.provided("minio", tmp_path) as store:
        async with store.backend(tmp_path, bucket="one") as backend:
            await backend.put(KEY, body(b"there"), JPEG)
            taken: list[int] = []
            async with store.backend(tmp_path, bucket="one", deadlines=IMPATIENT) as impatient, asyncio.timeout(DEADLINE_S):
                store.pause()
                for asked in (impatient.head(KEY), impatient.open(KEY), impatient.ping()):
                    with pytest.raises(Unavailable):
                        await asked
                with pytest.raises(Unavailable):
                    await impatient.put(KEY, pieces(noise(CHUNK), 0, lambda: taken.append(1)), JPEG, size=CHUNK)
            assert taken == []
            store.resume()
            assert await read(await backend.open(KEY)) == b"there"


async def test_a_store_that_is_away_at_the_start_is_used_when_it_comes(tmp_path: Path) -> None:
    store = stores.provided("versitygw", tmp_path)
    async with store.backend(tmp_path, deadlines=HASTE) as backend:
        with pytest.raises(Unavailable):
            await backend.ping()
        with store:
            await backend.ping()
            await backend.put(KEY, body(b"there"), JPEG)
            assert await all_keys(backend) == [KEY]


# -- lines that break -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "size"),
    [
        (Faults(stall_after=MIB), 12 * MIB),
        *((Faults(**{cut: MIB}), n * MIB) for cut in ("reset_after", "end_after") for n in (3, 12)),
    ],
)
async def test_a_line_that_breaks_within_a_put_leaves_nothing(
    distant: S3Backend, backend: S3Backend, line: FaultProxy, fault: Faults, size: int
) -> None:
    """versitygw alone keeps what came of a PUT that was cut, as if it were all: what we send must not let it."""
    line.up = fault
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(Unavailable):
            await distant.put(KEY, pieces(noise(size)), JPEG, size=size)
        line.heal()
        assert await all_keys(distant) == []
        await distant.ping()
        assert await left_over(distant) == []
        await distant.put(KEY, pieces(noise(size)), JPEG, size=size)
        assert await read(await distant.open(KEY)) == noise(size)


async def test_parts_whose_line_breaks_are_sent_again(distant: S3Backend, line: FaultProxy) -> None:
    data = noise(20 * MIB)
    line.up = Faults(reset_after=MIB)

    def heal_later() -> None:
        line.faulty = 2  # the next two connections break, and no others

    line.faulty = 0
    meta = await distant.put(KEY, pieces(data, 9 * MIB, heal_later), JPEG)
    assert meta.size == len(data)
    assert await read(await distant.open(KEY)) == data
    assert await left_over(distant) == []


@pytest.mark.parametrize(
    ("fault", "span"),
    [
        (Faults(reset_after=MIB), None),
        (Faults(end_after=MIB), None),
        (Faults(end_after=MIB), ByteRange(100_001, 4 * MIB - 77)),
        (Faults(stall_after=MIB), ByteRange(-2 * MIB + 77)),
    ],
)
async def test_a_reader_gets_the_whole_right_bytes_over_a_line_that_breaks_every_mebibyte(
    distant: S3Backend, line: FaultProxy, fault: Faults, span: ByteRange | None
) -> None:
    data = noise(4 * MIB)
    await distant.put(KEY, pieces(data), JPEG, size=len(data))
    line.down = fault
    async with asyncio.timeout(DEADLINE_S):
        reader = await distant.open(KEY, span)
        got = await read(reader)
    assert hashlib.sha256(got).digest() == hashlib.sha256(data if span is None else data[span.start : span.stop]).digest()
    assert line.accepted > 2


async def test_a_reader_never_gets_two_versions_in_one(distant: S3Backend, backend: S3Backend, line: FaultProxy) -> None:
    await distant.put(KEY, pieces(noise(8 * MIB)), JPEG, size=8 * MIB)
    line.down = Faults(reset_after=MIB)
    reader = await distant.open(KEY)
    first = await anext(reader.chunks)
    line.down = Faults()
    line.reset_all()
    await distant.put(KEY, pieces(bytes(8 * MIB)), JPEG, size=8 * MIB)
    got = bytearray(first)

    async def go_on() -> None:
        async for chunk in reader:
            got.extend(chunk)

    with pytest.raises(Unavailable):
        await go_on()
    await reader.aclose()
    assert noise(8 * MIB).startswith(bytes(got))


async def test_a_line_that_is_gone_for_good_ends_a_reader_with_unavailable(distant: S3Backend, line: FaultProxy) -> None:
    await distant.put(KEY, pieces(noise(8 * MIB)), JPEG, size=8 * MIB)
    reader = await distant.open(KEY)
    await anext(reader.chunks)
    await line.refuse()
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(Unavailable):
            await read(reader)


async def test_slow_readers_keep_nobody_from_writing_and_asking(store: ObjectStore, tmp_path: Path) -> None:
    impatient = replace(HASTE, queue=0.1)
    async with store.backend(tmp_path, deadlines=impatient, downloads=1) as backend:
        await backend.put(KEY, pieces(noise(8 * MIB)), JPEG, size=8 * MIB)
        async with await backend.open(KEY) as slow:
            await anext(slow.chunks)
            with pytest.raises(Busy):  # which says nothing against the store
                await backend.open(KEY)
            await backend.ping()
            await backend.put(keys.parse("u7/b.jpg"), body(b"b"), JPEG)
            assert (await backend.head(KEY)).size == 8 * MIB
        assert await read(await backend.open(KEY, ByteRange(-3))) == noise(8 * MIB)[-3:]


# -- parts ------------------------------------------------------------------------------------------------------------


async def test_a_body_of_unknown_size_goes_out_in_parts_and_is_one_object(backend: S3Backend, tmp_path: Path) -> None:
    data = noise(27 * MIB + 5)
    digests: list[str | None] = []

    async def admit(staged: ObjectReader) -> None:
        digests.append(staged.meta.sha256)
        assert staged.path is not None
        assert hashlib.sha256(staged.path.read_bytes()).digest() == hashlib.sha256(data).digest()
        assert await all_keys(backend) == []

    meta = await backend.put(KEY, pieces(data), JPEG, admit)
    assert digests == [hashlib.sha256(data).hexdigest()]
    assert await backend.head(KEY) == meta
    assert await read(await backend.open(KEY)) == data
    assert await left_over(backend) == []
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.parametrize("how", ["fails", "is refused", "is cancelled"])
async def test_an_upload_in_parts_that_does_not_end_is_aborted(backend: S3Backend, how: str, tmp_path: Path) -> None:
    data, reached = noise(20 * MIB), asyncio.Event()
    failure = TooLarge("not this one", max_bytes=1)

    async def refuse(staged: ObjectReader) -> None:
        raise failure

    async def standing() -> AsyncIterator[bytes]:
        async for chunk in pieces(data):
            yield chunk
        reached.set()
        await asyncio.Event().wait()

    if how == "is cancelled":
        putting = asyncio.create_task(backend.put(KEY, standing(), JPEG))
        await asyncio.wait_for(reached.wait(), DEADLINE_S)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
    else:
        given = failing_after(data, failure) if how == "fails" else pieces(data)
        with pytest.raises(TooLarge) as raised:
            await backend.put(KEY, given, JPEG, refuse if how == "is refused" else None)
        assert raised.value is failure
    assert await all_keys(backend) == []
    assert await left_over(backend) == []
    assert list((tmp_path / "spool").iterdir()) == []


async def test_what_a_killed_process_left_of_an_upload_in_parts_is_given_up_at_a_later_start(
    store: ObjectStore, tmp_path: Path
) -> None:
    async with store.backend(tmp_path, bucket="left-over") as backend:
        await backend.call("create_multipart_upload", Key=KEY)
        async with store.backend(tmp_path, bucket="left-over"):
            assert await left_over(backend) == [KEY]  # it may be somebody's who is at work
        async with store.backend(tmp_path, bucket="left-over", abandoned_after=timedelta(0)):
            assert await left_over(backend) == []


# -- what others put there, and addresses -----------------------------------------------------------------------------


async def test_what_others_put_into_the_bucket_has_the_stores_etag_and_time(backend: S3Backend) -> None:
    told = await backend.call("put_object", Key=KEY, Body=b"foreign", ContentType="image/png")
    meta = await backend.head(KEY)
    assert f'"{meta.etag}"' == told["ETag"]
    assert not generations.is_generation(meta.etag)
    assert (meta.size, meta.content_type) == (7, "image/png")
    assert abs((datetime.now(UTC) - meta.modified).total_seconds()) < DEADLINE_S
    assert await read(await backend.open(KEY)) == b"foreign"


async def test_a_presigned_address_gives_the_object_to_whoever_has_it_and_to_nobody_else(backend: S3Backend) -> None:
    key = keys.parse("u7/a b+é.jpg")
    await backend.put(key, body(b"for all"), JPEG)
    url = await backend.presign_get(key, 60)

    def fetched(address: str) -> bytes:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return bytes(answer.read())

    assert await asyncio.to_thread(fetched, url) == b"for all"
    for wrong in (url.partition("?")[0], url[:-1] + ("0" if url[-1] != "0" else "1")):
        with pytest.raises(urllib.error.HTTPError) as refused:
            await asyncio.to_thread(fetched, wrong)
        assert refused.value.code == 403
        refused.value.close()


async def test_a_presigned_address_has_the_public_name(store: ObjectStore, tmp_path: Path) -> None:
    async with store.backend(tmp_path, public_endpoint="https://media.example:8443") as backend:
        assert (await backend.presign_get(KEY, 60)).startswith(f"https://media.example:8443/{backend._bucket}/u7/a.jpg?")

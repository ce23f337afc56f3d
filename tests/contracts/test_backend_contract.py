"""What every object store promises (`ports.Backend`). A new adapter begins by joining ADAPTERS."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from proxy import generations, keys
from proxy.adapters.bounded import BoundedBackend
from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.fallback import FallbackBackend
from proxy.adapters.ledger import SqlLedger
from proxy.adapters.local import LocalBackend
from proxy.adapters.memory import MemoryBackend
from proxy.adapters.s3 import S3Backend
from proxy.adapters.sqlite import SqliteDatabase
from proxy.errors import BadRequest, Conflict, NotFound, RangeNotSatisfiable, TooLarge
from proxy.keys import Key
from proxy.ports import Backend, ByteRange, Listed, ObjectReader
from tests.contracts.bodies import body, failing_after, read, standing_after
from tests.kit import peers, stores
from tests.kit.faulty import Faulty

JPEG = "image/jpeg"
KEY = keys.parse("u7/a.jpg")
DEADLINE_S = 60.0
MINIO = "real minio"
BLOCK = 1 << 16
LISTED = 300
"""more than any store reads of its list at a time"""


@asynccontextmanager
async def memory(folder: Path) -> AsyncIterator[Backend]:
    yield MemoryBackend()


@asynccontextmanager
async def local(folder: Path) -> AsyncIterator[Backend]:
    async with LocalBackend(folder / "store") as backend:
        yield backend


@asynccontextmanager
async def local_not_durable(folder: Path) -> AsyncIterator[Backend]:
    async with LocalBackend(folder / "store", durable=False) as backend:
        yield backend


@asynccontextmanager
async def bounded(folder: Path) -> AsyncIterator[Backend]:
    async with BoundedBackend(folder / "store", 1 << 30) as backend:
        yield backend


@asynccontextmanager
async def versitygw(folder: Path) -> AsyncIterator[Backend]:
    async with stores.shared("versitygw").backend(folder) as backend:
        yield backend


@asynccontextmanager
async def minio(folder: Path) -> AsyncIterator[Backend]:
    async with stores.shared("minio").backend(folder, name=MINIO) as backend:
        yield backend


@asynccontextmanager
async def remote(folder: Path) -> AsyncIterator[Backend]:
    async with peers.serving(MemoryBackend()) as peer, peers.remote(peer.url, peer.token(), folder) as backend:
        yield backend


@asynccontextmanager
async def fallback_in_memory(folder: Path) -> AsyncIterator[Backend]:
    stores = [MemoryBackend(name="minio"), MemoryBackend(name="s3")]
    async with (
        SqlCatalogue(SqliteDatabase(folder / "catalogue.sqlite")) as catalogue,
        FallbackBackend(stores, SqlLedger(catalogue), spool=folder / "spool") as backend,
    ):
        yield backend


@asynccontextmanager
async def fallback_to_disk(folder: Path) -> AsyncIterator[Backend]:
    """The objects lie on the disk: there is no room in the first store."""
    async with (
        SqlCatalogue(SqliteDatabase(folder / "catalogue.sqlite")) as catalogue,
        LocalBackend(folder / "store", durable=False) as disk,
    ):
        stores = [Faulty(MemoryBackend(name="minio"), full=True), disk]
        async with FallbackBackend(stores, SqlLedger(catalogue), spool=folder / "spool") as backend:
            yield backend


ADAPTERS: list[Callable[[Path], AbstractAsyncContextManager[Backend]]] = [
    *(memory, local, local_not_durable, bounded, versitygw, minio),
    *(remote, fallback_in_memory, fallback_to_disk),
]


@pytest.fixture(params=ADAPTERS, ids=lambda adapter: adapter.__name__)
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    async with request.param(tmp_path) as opened:
        yield opened


async def stored(backend: Backend, prefix: str = "") -> set[Key]:
    return {meta.key async for meta in backend.list(prefix)}


def version(number: int, size: int) -> bytes:
    """A body that says on every one of its blocks which one it is."""
    line = f"version {number} ".encode()
    return (line * (size // len(line) + 1))[:size]


# -- what is put is there ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 1, 40 * BLOCK + 17])
async def test_what_was_put_comes_back_whole(backend: Backend, size: int) -> None:
    data = random.Random(size).randbytes(size)
    chunks = [data[at : at + 50_001] for at in range(0, size, 50_001)]
    meta = await backend.put(KEY, body(*chunks), JPEG)
    reader = await backend.open(KEY)
    assert (reader.meta, reader.span, reader.length) == (meta, None, size)
    assert await read(reader) == data


async def test_what_is_known_of_an_object_is_of_its_bytes(backend: Backend) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    meta = await backend.put(KEY, body(b"one", b"two"), JPEG)
    assert (meta.key, meta.size, meta.content_type) == (KEY, 6, JPEG)
    assert meta.sha256 in {None, hashlib.sha256(b"onetwo").hexdigest()}
    assert before < meta.modified < datetime.now(UTC) + timedelta(seconds=1)
    assert meta.modified.tzinfo is not None
    assert meta.etag
    assert '"' not in meta.etag
    assert await backend.head(KEY) == meta


async def test_each_write_has_an_etag_of_its_own_and_the_later_one_is_the_higher(backend: Backend) -> None:
    first = await backend.put(KEY, body(b"same"), JPEG)
    second = await backend.put(KEY, body(b"same"), JPEG)
    assert generations.order(second.etag) > generations.order(first.etag)
    assert second.modified == generations.began(second.etag)


async def test_a_copy_keeps_the_etag_and_the_time_of_its_write(backend: Backend) -> None:
    etag = generations.mint()
    seen: list[str] = []

    async def admit(staged: ObjectReader) -> None:
        seen.append(staged.meta.etag)

    meta = await backend.put(KEY, body(b"copied"), JPEG, admit, size=6, etag=etag)
    assert (meta.etag, meta.modified, seen) == (etag, generations.began(etag), [etag])
    assert await backend.head(KEY) == meta


@pytest.mark.parametrize("size", [0, 1, BLOCK, 3 * BLOCK + 1, 40 * BLOCK + 17])
async def test_a_body_of_known_size_comes_back_whole(backend: Backend, size: int) -> None:
    data = version(3, size)
    meta = await backend.put(KEY, body(data[:10], data[10:]), JPEG, size=size)
    assert meta.size == size
    assert await read(await backend.open(KEY)) == data


@pytest.mark.parametrize("declared", [0, BLOCK, 40 * BLOCK - 1, 40 * BLOCK + 1])
async def test_a_body_of_another_size_than_was_declared_leaves_nothing(backend: Backend, declared: int) -> None:
    with pytest.raises(BadRequest):
        await backend.put(KEY, body(*(version(1, BLOCK) for _ in range(40))), JPEG, size=declared)
    assert await stored(backend) == set()


async def test_empty_chunks_are_nothing(backend: Backend) -> None:
    meta = await backend.put(KEY, body(b"", b"a", b"", b"b", b""), JPEG)
    assert meta.size == 2
    assert await read(await backend.open(KEY)) == b"ab"


async def test_another_content_is_another_etag(backend: Backend) -> None:
    first = await backend.put(KEY, body(b"first"), JPEG)
    second = await backend.put(KEY, body(b"other"), "image/png")
    assert first.etag != second.etag
    assert await backend.head(KEY) == second
    assert second.content_type == "image/png"


async def test_what_is_not_there_is_not_found(backend: Backend) -> None:
    with pytest.raises(NotFound):
        await backend.head(KEY)
    with pytest.raises(NotFound):
        await backend.open(KEY)
    with pytest.raises(NotFound):
        await backend.open(KEY, ByteRange(0, 1))


async def test_a_store_that_works_answers_a_ping(backend: Backend) -> None:
    await backend.ping()
    assert backend.name
    assert await stored(backend) == set()


# -- parts of it ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        (ByteRange(0, 1), (0, 1)),
        (ByteRange(3, 7), (3, 7)),
        (ByteRange(5), (5, 10)),
        (ByteRange(-4), (6, 10)),
        (ByteRange(-400), (0, 10)),
        (ByteRange(0, 10), (0, 10)),
        (ByteRange(9, 9_999), (9, 10)),
    ],
)
async def test_a_span_gives_these_bytes_and_no_others(backend: Backend, span: ByteRange, expected: tuple[int, int]) -> None:
    await backend.put(KEY, body(b"0123456789"), JPEG)
    reader = await backend.open(KEY, span)
    assert reader.span == ByteRange(*expected)
    assert reader.meta.size == 10
    assert reader.length == expected[1] - expected[0]
    assert await read(reader) == b"0123456789"[slice(*expected)]


async def test_a_span_may_begin_and_end_anywhere_in_a_large_object(backend: Backend) -> None:
    data = random.Random(7).randbytes(9 * BLOCK + 5)
    await backend.put(KEY, body(data), JPEG)
    for start, stop in [(BLOCK - 1, BLOCK + 1), (1, 9 * BLOCK), (5 * BLOCK, len(data))]:
        assert await read(await backend.open(KEY, ByteRange(start, stop))) == data[start:stop]


@pytest.mark.parametrize("span", [ByteRange(10), ByteRange(10, 12), ByteRange(1 << 60)])
async def test_a_span_beyond_the_end_is_refused_with_the_size(backend: Backend, span: ByteRange) -> None:
    await backend.put(KEY, body(b"0123456789"), JPEG)
    with pytest.raises(RangeNotSatisfiable) as refused:
        await backend.open(KEY, span)
    assert refused.value.members["size"] == 10


@pytest.mark.parametrize("span", [ByteRange(0, 1), ByteRange(0), ByteRange(-1)])
async def test_an_empty_object_is_an_object_without_spans(backend: Backend, span: ByteRange) -> None:
    await backend.put(KEY, body(), JPEG)
    assert await read(await backend.open(KEY)) == b""
    with pytest.raises(RangeNotSatisfiable) as refused:
        await backend.open(KEY, span)
    assert refused.value.members["size"] == 0


# -- whole or not at all ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [b"half", b"half" * BLOCK])
async def test_a_body_that_fails_leaves_no_object(backend: Backend, held: bytes) -> None:
    failure = TooLarge("too much", max_bytes=1)
    with pytest.raises(TooLarge) as raised:
        await backend.put(KEY, failing_after(held, failure), JPEG)
    assert raised.value is failure
    with pytest.raises(NotFound):
        await backend.head(KEY)
    assert await stored(backend) == set()


async def test_a_body_that_fails_leaves_the_old_object(backend: Backend) -> None:
    old = await backend.put(KEY, body(b"old"), JPEG)
    with pytest.raises(OSError, match="the client's line broke"):
        await backend.put(KEY, failing_after(b"new", OSError(5, "the client's line broke")), JPEG)
    assert await backend.head(KEY) == old
    assert await read(await backend.open(KEY)) == b"old"


@pytest.mark.parametrize("is_there", [False, True])
async def test_what_is_not_admitted_is_not_there_and_the_old_is_untouched(backend: Backend, is_there: bool) -> None:
    old = await backend.put(KEY, body(b"old"), JPEG) if is_there else None

    async def refuse(staged: ObjectReader) -> None:
        raise TooLarge("not this one", max_bytes=1)

    with pytest.raises(TooLarge, match="not this one"):
        await backend.put(KEY, body(b"new"), JPEG, refuse)
    assert await stored(backend) == ({KEY} if is_there else set())
    if old is not None:
        assert await backend.head(KEY) == old
        assert await read(await backend.open(KEY)) == b"old"


async def test_admission_sees_all_the_bytes_before_anybody_sees_the_key(backend: Backend) -> None:
    data = version(1, 5 * BLOCK)
    seen: list[bytes] = []

    async def admit(staged: ObjectReader) -> None:
        assert (staged.meta.key, staged.meta.size, staged.meta.content_type) == (KEY, len(data), JPEG)
        assert staged.meta.sha256 == hashlib.sha256(data).hexdigest()
        assert (staged.span, staged.length) == (None, len(data))
        if staged.path is not None:
            seen.append(staged.path.read_bytes())
        seen.append(b"".join([chunk async for chunk in staged]))
        with pytest.raises(NotFound):
            await backend.head(KEY)
        assert await stored(backend) == set()

    meta = await backend.put(KEY, body(data[:BLOCK], data[BLOCK:]), JPEG, admit)
    assert seen
    assert set(seen) == {data}
    assert await backend.head(KEY) == meta


async def test_admission_of_an_overwrite_sees_the_new_bytes_while_readers_see_the_old(backend: Backend) -> None:
    await backend.put(KEY, body(b"old"), JPEG)
    seen: list[bytes] = []

    async def admit(staged: ObjectReader) -> None:
        seen.append(b"".join([chunk async for chunk in staged]))
        seen.append(await read(await backend.open(KEY)))

    await backend.put(KEY, body(b"new"), JPEG, admit)
    assert seen == [b"new", b"old"]
    assert await read(await backend.open(KEY)) == b"new"


@pytest.mark.parametrize("is_there", [False, True])
async def test_a_put_that_is_cancelled_in_mid_body_leaves_nothing(backend: Backend, is_there: bool) -> None:
    if is_there:
        await backend.put(KEY, body(b"old"), JPEG)
    reached = asyncio.Event()
    putting = asyncio.create_task(backend.put(KEY, standing_after(b"new" * BLOCK, reached), JPEG))
    await asyncio.wait_for(reached.wait(), DEADLINE_S)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await stored(backend) == ({KEY} if is_there else set())
    await backend.put(KEY, body(b"afterwards"), JPEG)
    assert await read(await backend.open(KEY)) == b"afterwards"


async def test_a_put_that_is_cancelled_while_it_is_admitted_leaves_nothing(backend: Backend) -> None:
    reached = asyncio.Event()

    async def admit(staged: ObjectReader) -> None:
        reached.set()
        await asyncio.Event().wait()

    putting = asyncio.create_task(backend.put(KEY, body(b"new"), JPEG, admit))
    await asyncio.wait_for(reached.wait(), DEADLINE_S)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await stored(backend) == set()


# -- readers and writers at once --------------------------------------------------------------------------------------


@pytest.mark.parametrize("overwrites", [12, pytest.param(100, marks=pytest.mark.slow)])
async def test_readers_see_the_whole_old_object_or_the_whole_new_one(backend: Backend, overwrites: int) -> None:
    """8 readers while an object of several blocks is overwritten, each time with another size: no partial answer."""
    chance = random.Random(1)
    overwrites = min(overwrites, 25) if isinstance(backend, S3Backend) else overwrites  # each takes ten times as long there
    versions = [version(number, chance.randrange(1, 3 * BLOCK)) for number in range(overwrites)]
    digests = {hashlib.sha256(data).hexdigest() for data in versions}
    await backend.put(KEY, body(versions[0]), JPEG)
    done = asyncio.Event()
    partial: list[str] = []

    async def reading() -> int:
        count = 0
        while not done.is_set() or not count:
            reader = await backend.open(KEY)
            meta, data = reader.meta, await read(reader)
            digest = hashlib.sha256(data).hexdigest()
            if len(data) != meta.size or meta.sha256 not in {None, digest} or digest not in digests:
                partial.append(f"{len(data)} bytes of {meta}")
            count += 1
            await asyncio.sleep(0)  # a store in memory answers without ever letting the others run
        return count

    async def writing() -> None:
        try:
            for data in versions[1:]:
                await backend.put(KEY, body(data[:BLOCK], data[BLOCK:]), JPEG)
                await asyncio.sleep(0)
        finally:
            done.set()

    async with asyncio.timeout(DEADLINE_S):
        _, *counts = await asyncio.gather(writing(), *(reading() for _ in range(8)))
    assert partial == []
    assert min(counts) > 0


async def test_an_open_reader_keeps_its_version_when_the_object_is_overwritten_or_deleted(backend: Backend) -> None:
    old = version(1, 20 * BLOCK)
    await backend.put(KEY, body(old), JPEG)
    beside_overwrite = await backend.open(KEY)
    await backend.put(KEY, body(b"new"), JPEG)
    beside_delete = await backend.open(KEY)
    part_beside_delete = await backend.open(KEY, ByteRange(1))
    await backend.delete(KEY)
    assert await read(beside_overwrite) == old
    assert await read(beside_delete) == b"new"
    assert await read(part_beside_delete) == b"ew"


async def test_parallel_puts_of_one_key_leave_one_whole_object(backend: Backend) -> None:
    versions = [version(number, BLOCK + number) for number in range(20)]
    metas = await asyncio.gather(*(backend.put(KEY, body(data[:100], data[100:]), JPEG) for data in versions))
    meta = await backend.head(KEY)
    assert meta in metas
    assert await read(await backend.open(KEY)) == versions[metas.index(meta)]
    assert [(found.key, found.size) async for found in backend.list()] == [(KEY, meta.size)]


async def test_puts_and_deletes_of_one_key_at_once_leave_a_whole_object_or_none(backend: Backend) -> None:
    data = version(1, BLOCK)
    for _ in range(10):
        await asyncio.gather(*(backend.put(KEY, body(data), JPEG) if turn % 2 else backend.delete(KEY) for turn in range(8)))
        with suppress(NotFound):
            assert await read(await backend.open(KEY)) == data


async def test_closing_a_reader_twice_or_early_is_no_fault(backend: Backend) -> None:
    await backend.put(KEY, body(version(1, 20 * BLOCK)), JPEG)
    async with await backend.open(KEY) as reader:
        await anext(reader.chunks)
        await reader.aclose()
    assert (await backend.head(KEY)).size == 20 * BLOCK


# -- neighbours -------------------------------------------------------------------------------------------------------

NEIGHBOURS = [
    *("u/a", "u/a/b", "u/a/b/c", "u/a.json", "u/a.tmp", "u/A", "U/a", "u", "u2/a", "u/ a", "u/a ", "u/a."),
    *("u/café", "u/cafe\u0301", "u/ﬁ", "u/fi", "u/İ", "u/i̇", "u/ß", "u/ss", "u/\U0001f3d4\ufe0f"),
    *("u/a;b", "u/a+b", "u/a b", "u/a:b", "u/a*b", "u/a?b", "u/a#b", "u/a%b", "u/a%2Fb", "u/~a", "u/-a", "u/.a", "u/a..", "u/..a"),
    *("u/CON", "u/nul", "u/lock", "u/store.json", "u/tmp", "objects/tmp", "u/" + "l" * 255, "u/" + "l" * 256),
    *("u/" + "l" * 1022, "u/" + "l" * 1021 + "m", "u/" + "ä" * 511, "/".join(["d"] * 512)),
]


async def put_where_it_fits(backend: Backend, names: Iterable[Key]) -> set[Key]:
    """Put each of *names*, its name the body; gives those that the store took. One that cannot hold a key must say so: Conflict."""
    taken = set()
    for name in names:
        try:
            await backend.put(name, body(name.encode()), JPEG)
        except Conflict:
            assert isinstance(backend, S3Backend), f"{name} is a key like others"
            with pytest.raises(NotFound):
                await backend.head(name)
            with pytest.raises(NotFound):
                await backend.open(name)
            await backend.delete(name)
        else:
            taken.add(name)
    return taken


def listed(backend: Backend, names: set[Key]) -> set[Key]:
    """Which of the objects *names* a list holds. MinIO leaves out those whose keys go on below another object's."""
    if backend.name != MINIO:
        return names
    return {name for name in names if not any(name.startswith(f"{other}/") for other in names)}


async def test_neighbours_do_not_touch(backend: Backend) -> None:
    names = [keys.parse(name) for name in NEIGHBOURS]
    assert len(set(names)) == len(names)
    left = await put_where_it_fits(backend, names)
    assert await stored(backend) == listed(backend, left)
    for name in random.Random(3).sample(sorted(left), len(left)):
        assert await read(await backend.open(name)) == name.encode()
        try:
            await backend.put(name, body(b"again ", name.encode()), JPEG)
        except Conflict:  # versitygw 1.8.0 cannot overwrite an object whose name has 255 bytes
            assert isinstance(backend, S3Backend)
            assert await read(await backend.open(name)) == name.encode()
        await backend.delete(name)
        left.discard(name)
        assert await stored(backend) == listed(backend, left)


# -- lists and deletes ------------------------------------------------------------------------------------------------


async def test_a_list_holds_the_keys_that_begin_with_the_prefix(backend: Backend) -> None:
    everywhere = ("a/b", "a/bc", "ab/c", "b/a", "ä/a")
    names = await put_where_it_fits(backend, [keys.parse(name) for name in (*everywhere, "a", "a/b/c")])
    assert names >= set(everywhere)
    for prefix in ("", "a", "a/", "a/b", "a/b/", "a/b/c", "a/b/c/", "ab", "b/", "c/", "ä/", "/"):
        assert await stored(backend, prefix) == {name for name in listed(backend, names) if name.startswith(prefix)}, prefix


async def test_a_list_gives_what_head_gives(backend: Backend) -> None:
    meta = await backend.put(KEY, body(b"x"), JPEG)
    [found] = [found async for found in backend.list("u7/")]
    assert (found.key, found.size) == (KEY, 1)
    if isinstance(backend, S3Backend):  # S3 lists no metadata, so the time is when it got the object, in whole seconds
        assert abs(found.modified - meta.modified) < timedelta(seconds=DEADLINE_S)
    else:
        assert found == Listed(KEY, 1, meta.modified)


async def test_what_is_deleted_while_it_is_listed_is_listed_or_not_and_the_rest_is(backend: Backend) -> None:
    names = [keys.parse(f"u/{number}") for number in range(LISTED)]
    for at in range(0, len(names), 50):
        await asyncio.gather(*(backend.put(name, body(b"x"), JPEG) for name in names[at : at + 50]))
    gone, kept = names[::2], set(names[1::2])
    listed = [meta.key async for meta in deleting(backend, gone)]
    assert len(listed) == len(set(listed))
    assert kept <= set(listed) <= set(names)


async def deleting(backend: Backend, names: list[Key]) -> AsyncIterator[Listed]:
    """The list of ``u/``, while one of *names* after the other is deleted."""
    left = iter(names)
    async for meta in backend.list("u/"):
        yield meta
        if (name := next(left, None)) is not None:
            await backend.delete(name)


async def test_a_list_may_be_left_in_its_middle(backend: Backend) -> None:
    for number in range(5):
        await backend.put(keys.parse(f"u/{number}"), body(b"x"), JPEG)
    async for _ in backend.list("u/"):
        break
    assert len(await stored(backend)) == 5


async def test_a_delete_is_idempotent_and_a_deleted_key_can_be_put_again(backend: Backend) -> None:
    await backend.delete(KEY)
    await backend.put(KEY, body(b"old"), JPEG)
    await backend.delete(KEY)
    await backend.delete(KEY)
    with pytest.raises(NotFound):
        await backend.head(KEY)
    with pytest.raises(NotFound):
        await backend.open(KEY)
    await backend.put(KEY, body(b"new"), JPEG)
    assert await read(await backend.open(KEY)) == b"new"


async def test_every_body_is_read_once_and_to_its_end(backend: Backend) -> None:
    ended: list[bool] = []

    async def counted() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"
        ended.append(True)

    await backend.put(KEY, counted(), JPEG)
    assert ended == [True]

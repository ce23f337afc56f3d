"""What is kept of a body on its way to a far store, and how it is handed on."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy import generations, keys
from proxy.adapters.outgoing import Deadlines, Outgoing, send
from proxy.adapters.s3_parts import PARTS_MAX, limit
from proxy.adapters.staging import FRESH_S, PREFIX, Intake, Staging
from proxy.errors import BadRequest, TooLarge, Unavailable
from proxy.ports import Body, ObjectReader
from tests.contracts.bodies import body

KEY = keys.parse("u7/a.mp4")
KIB = 1 << 10
WHOLE, TAIL = 300 * KIB, 200 * KIB
GIB = 1 << 30


@pytest.fixture
async def staging(tmp_path: Path) -> AsyncIterator[Staging]:
    async with Staging(tmp_path / "spool", whole_bytes=WHOLE, tail_bytes=TAIL) as opened:
        yield opened


def intake(staging: Staging, given: Body, size: int | None = None, admit: object = None) -> Intake:
    return staging.intake(
        given, KEY, "video/mp4", store="s3", etag=generations.mint(), size=size, admit=admit, md5=True  # type: ignore[arg-type]
    )  # fmt: skip


def pieces(data: bytes, size: int) -> Body:
    return body(*(data[at : at + size] for at in range(0, len(data), size)))


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("size", [0, 1, WHOLE, WHOLE + 1, WHOLE + TAIL, WHOLE + TAIL + 1, 3 * WHOLE, 1_900_000])
@pytest.mark.parametrize("piece", [70_001, 500_000])
async def test_the_beginning_and_the_end_of_a_body_are_there_for_admission(
    staging: Staging, size: int, is_known: bool, piece: int
) -> None:
    data = random.Random(size).randbytes(size)
    seen: list[Path] = []

    async def admit(staged: ObjectReader) -> None:
        assert staged.path is not None
        seen.append(staged.path)
        kept = staged.path.read_bytes()
        assert (staged.meta.size, staged.meta.sha256, len(kept)) == (size, hashlib.sha256(data).hexdigest(), size)
        assert kept[:WHOLE] == data[:WHOLE]
        assert kept[max(0, size - TAIL) :] == data[max(0, size - TAIL) :]
        if size <= WHOLE + TAIL:
            assert b"".join([chunk async for chunk in staged]) == data
        else:
            assert not any(kept[WHOLE : size - TAIL])
            with pytest.raises(Unavailable):
                await anext(staged.chunks)

    async with intake(staging, pieces(data, piece), size if is_known else None, admit) as taken:
        assert b"".join([bytes(block) async for block in taken.held_back()]) == data
        assert (taken.size, taken.md5) == (size, hashlib.md5(data, usedforsecurity=False).hexdigest())
    assert len(seen) == 1
    assert list(staging.folder.iterdir()) == []


async def test_the_last_block_is_held_back_until_the_body_is_admitted(staging: Staging) -> None:
    data, given = random.Random(5).randbytes(WHOLE), bytearray()

    async def refuse(staged: ObjectReader) -> None:
        raise TooLarge("not this one", max_bytes=1)

    async def all_of(taken: Intake) -> None:
        async for block in taken.held_back():
            given.extend(block)

    async with intake(staging, pieces(data, 50_000), len(data), refuse) as taken:
        with pytest.raises(TooLarge, match="not this one"):
            await all_of(taken)
    assert 0 < len(given) < len(data)
    assert list(staging.folder.iterdir()) == []


async def test_a_body_that_is_too_long_is_refused_before_its_last_declared_byte_is_out(staging: Staging) -> None:
    given = bytearray()

    async def all_of(taken: Intake) -> None:
        async for block in taken.held_back():
            given.extend(block)

    async with intake(staging, pieces(bytes(WHOLE), 50_000), WHOLE - 1) as taken:
        with pytest.raises(BadRequest):
            await all_of(taken)
    assert len(given) < WHOLE - 1


async def test_what_a_dead_process_left_is_cleared_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    dead, living, fresh = (tmp_path / f"{PREFIX}{name}" for name in ("dead", "living", "fresh"))
    for path in (dead, living, fresh):
        path.write_bytes(b"x")
    old = time.time() - 2 * FRESH_S
    os.utime(dead, (old, old))
    os.utime(living, (old, old))
    with living.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        async with Staging(tmp_path):
            assert {path.name for path in tmp_path.iterdir()} == {living.name, fresh.name}


# -- handing on -------------------------------------------------------------------------------------------------------

HASTE = Deadlines(connect=0.1, continue_=0.1, progress=0.2, commit=0.2)


async def counted(taken: list[int]) -> AsyncIterator[bytes]:
    for number in range(3):
        taken.append(number)
        yield b"x"


async def test_a_body_is_not_touched_until_it_is_asked_for() -> None:
    taken: list[int] = []

    async def silent(outgoing: Outgoing) -> None:
        await asyncio.Event().wait()

    with pytest.raises(Unavailable):
        await send(silent, counted(taken), HASTE)
    assert taken == []


@pytest.mark.parametrize("blocks", [0, 1])
async def test_whoever_stops_taking_is_left_at_the_deadline(blocks: int) -> None:
    async def stopping(outgoing: Outgoing) -> None:
        left = blocks
        async for _ in outgoing:
            left -= 1
            if left < 0:
                break
        await asyncio.Event().wait()

    with pytest.raises(Unavailable):
        await send(stopping, counted([]), HASTE)


async def test_an_answer_before_the_body_was_whole_is_no_success() -> None:
    async def hasty(outgoing: Outgoing) -> str:
        await anext(aiter(outgoing))
        return "stored"

    with pytest.raises(Unavailable):
        await send(hasty, counted([]), HASTE)


async def test_what_the_body_raises_comes_through_and_the_request_is_over() -> None:
    failure, ended = OSError(5, "the client's line broke"), asyncio.Event()

    async def taking(outgoing: Outgoing) -> None:
        try:
            async for _ in outgoing:
                pass
        finally:
            ended.set()

    async def failing() -> AsyncIterator[bytes]:
        yield b"x"
        raise failure

    with pytest.raises(OSError, match="line broke") as raised:
        await send(taking, failing(), HASTE)
    assert raised.value is failure
    assert ended.is_set()


# -- parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5 * GIB + 1, 100 * GIB, 5 << 40])
def test_parts_of_a_body_of_known_size_are_few_enough_and_equal(size: int) -> None:
    part = limit(1, size, equal=True)
    assert part == limit(9_000, size, equal=False)
    assert 8 << 20 <= part <= 5 * GIB
    assert -(-size // part) <= PARTS_MAX


def test_parts_of_a_body_of_unknown_size_grow_until_they_hold_the_largest_object() -> None:
    sizes = [limit(number, None, equal=False) for number in range(1, PARTS_MAX + 1)]
    assert sizes[0] == 8 << 20
    assert sizes == sorted(sizes)
    assert max(sizes) <= 5 * GIB
    assert sum(sizes) > 5 << 40
    assert {limit(number, None, equal=True) for number in range(1, PARTS_MAX + 1)} == {8 << 20}

"""What every `Scanner` keeps to, whatever looks at the bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from proxy import clamd_address
from proxy.adapters.clamav import ClamavScanner
from proxy.errors import BadRequest, Infected, Unscannable
from proxy.ports import Body
from proxy.scanning import Scanner
from tests.contracts.bodies import body, failing_after, standing_after
from tests.kit.clamd import BAD_WORD, Clamd, provided
from tests.kit.scanners import WordScanner

MOST = 1 << 20
BLOCK = bytes(range(256)) * 256


@pytest.fixture(scope="module")
def clamd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clamd]:
    with provided(tmp_path_factory.mktemp("clamd")) as running:
        yield running


@pytest.fixture(params=["word", "tcp", "unix"])
async def scanner(request: pytest.FixtureRequest) -> AsyncIterator[Scanner]:
    if request.param == "word":
        yield WordScanner(MOST)
        return
    running: Clamd = request.getfixturevalue("clamd")
    address = clamd_address.parse(running.url if request.param == "tcp" else running.socket_url)
    async with ClamavScanner(address, max_bytes=MOST, deadline_s=60, connections=2) as found:
        yield found


async def through(scanner: Scanner, given: Body, size: int | None = None) -> list[bytes]:
    async with scanner.watch(given, size) as watched:
        return [chunk async for chunk in watched]


@pytest.mark.parametrize(
    "chunks", [(), (b"",), (b"a",), (b"a", b"", b"bc"), (BLOCK,) * 16], ids=["none", "empty", "1", "3", "1 MiB"]
)
async def test_what_is_clean_comes_through_as_it_is(scanner: Scanner, chunks: tuple[bytes, ...]) -> None:
    assert b"".join(await through(scanner, body(*chunks))) == b"".join(chunks)
    assert b"".join(await through(scanner, body(*chunks), len(b"".join(chunks)))) == b"".join(chunks)


async def test_what_is_infected_never_ends(scanner: Scanner) -> None:
    for chunks in ((BAD_WORD,), (BLOCK, BAD_WORD[:7], BAD_WORD[7:], BLOCK)):
        async with scanner.watch(body(*chunks)) as watched:
            with pytest.raises(Infected) as found:
                async for _ in watched:
                    pass
        assert "Bad.Word" in found.value.detail
        assert found.value.members["signature"].startswith("Bad.Word")


async def test_each_chunk_is_given_out_before_the_next_one_is_taken(scanner: Scanner) -> None:
    taken = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(8):
            taken += 1
            yield BLOCK

    async with scanner.watch(counted()) as watched:
        given = 0
        async for _ in watched:
            given += 1
            assert taken == given


async def test_what_is_too_large_for_it_is_not_called_clean(scanner: Scanner) -> None:
    with pytest.raises(Unscannable):
        async with scanner.watch(body(b"x"), MOST + 1):
            raise AssertionError("it is known before a byte is read")
    with pytest.raises(Unscannable):
        await through(scanner, body(*[BLOCK] * 16, b"one more"))


async def test_a_body_that_fails_does_so_unchanged_and_costs_nothing(scanner: Scanner) -> None:
    failure = BadRequest("of the client's")
    for _ in range(3):  # more than it has places for
        with pytest.raises(BadRequest) as found:
            await through(scanner, failing_after(b"half", failure))
        assert found.value is failure
    assert scanner.is_there
    assert await through(scanner, body(b"clean")) == [b"clean"]


async def test_who_leaves_in_the_middle_gives_the_place_back(scanner: Scanner) -> None:
    for _ in range(3):
        reached = asyncio.Event()
        task = asyncio.create_task(through(scanner, standing_after(b"half", reached)))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await through(scanner, body(b"clean")) == [b"clean"]


async def test_many_at_once_are_told_apart(scanner: Scanner) -> None:
    async def one(number: int) -> bool:
        word = BAD_WORD if number % 3 == 0 else b"a good one"
        try:
            await through(scanner, body(BLOCK, word, BLOCK))
        except Infected:
            return False
        return True

    assert await asyncio.gather(*map(one, range(12))) == [number % 3 != 0 for number in range(12)]


async def test_it_answers_when_it_is_asked_whether_it_is_there(scanner: Scanner) -> None:
    await scanner.ping()
    assert scanner.is_there

"""What every `Renderer` keeps to, wherever its workers are: delivery cannot tell one from another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from processors import formats
from processors.batch import Batch
from processors.errors import BadParameter, Busy, Corrupt, Crashed, MediaError, TooCostly, Unsupported
from processors.pool import Pool
from processors.transform import Transform
from processors.values import Limits, Rendered
from proxy.keys import Key
from proxy.ports import ObjectMeta, ObjectReader, Renderer
from tests import pictures
from tests.contracts.bodies import body
from tests.kit import renderers
from tests.kit.waiting import eventually

SMALL, LARGE = Transform(width=30, format="png"), Transform(width=50, format="png")
ENDLESS = Transform.parse("w=8000&up=1&format=webp")
DRAWING = b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'>%s<rect width='9' height='9'/></svg>"
Both = tuple[Renderer, Pool]


@pytest.fixture(params=renderers.EVERY)
async def both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Both]:
    """A renderer and the pool behind it."""
    async with renderers.renderer(request.param, tmp_path, Limits(max_pixels=4_000_000)) as (renderer, pool):
        yield renderer, pool
        assert [*tmp_path.iterdir()] == []


def source(data: bytes) -> ObjectReader:
    """*data* as a far store gives it: a stream, and no file."""
    now = datetime.now(UTC)
    mime = formats.sniff(data[: formats.HEAD_BYTES]).mime
    return ObjectReader(ObjectMeta(Key("u7/a"), len(data), mime, "1", now), body(data))


async def made(renderer: Renderer, data: bytes, *transforms: Transform) -> list[Rendered | BaseException]:
    """What became of each of them, asked for together."""
    batch = Batch(lambda: None, expected=len(transforms))
    waiting = [asyncio.ensure_future(batch.join(transform)) for transform in transforms]
    await asyncio.sleep(0)
    try:
        await renderer.render(source(data), batch)
    except MediaError as error:
        batch.fail(error)
    return await asyncio.gather(*waiting, return_exceptions=True)


async def test_what_is_asked_together_is_made_together(both: Both) -> None:
    small, large = await made(both[0], pictures.jpeg(60, 40), SMALL, LARGE)
    assert isinstance(small, Rendered)
    assert isinstance(large, Rendered)
    assert (small.width, small.height, small.content_type) == (30, 20, "image/png")
    assert (large.width, formats.sniff(large.data[: formats.HEAD_BYTES]).mime) == (50, "image/png")
    assert {"fetch", "queue"} <= small.seconds.keys()


async def test_a_look_says_what_the_file_is(both: Both) -> None:
    seen = await both[0].inspect(source(pictures.jpeg(60, 40, orientation=6)))
    assert (seen.format, seen.width, seen.height, seen.frames) == ("jpeg", 60, 40, 1)
    film = await both[0].inspect(source(pictures.mp4(160, 120)))
    assert (film.format, film.width, film.duration_s) == ("mp4", 160, 1)


@pytest.mark.parametrize(
    ("data", "failure", "members"),
    [
        (pictures.jpeg(64, 64)[:300], Corrupt, {}),
        (pictures.png_bomb(), TooCostly, {"limit"}),
        (pictures.pdf(), Unsupported, set()),
    ],
)
async def test_what_cannot_be_made_is_told_by_its_kind(
    both: Both, data: bytes, failure: type[MediaError], members: set[str]
) -> None:
    (told,) = await made(both[0], data, SMALL)
    assert type(told) is failure
    assert set(members) <= told.members.keys()
    with pytest.raises(failure):
        await both[0].inspect(source(data))
    assert isinstance((await made(both[0], pictures.jpeg(60, 40), SMALL))[0], Rendered)


async def test_one_that_is_refused_leaves_the_others_as_they_are(both: Both) -> None:
    page, small = await made(both[0], pictures.png(60, 40), Transform(page=7, format="png"), SMALL)
    assert isinstance(page, BadParameter)
    assert page.members["param"] == "page"
    assert isinstance(small, Rendered)


async def test_a_watermark_that_the_workers_were_not_given_is_no_crash(both: Both) -> None:
    (told,) = await made(both[0], pictures.png(60, 40), Transform(width=30, watermark="ours-1", format="png"))
    assert type(told) is Busy


async def test_a_drawing_is_cleaned_where_it_must_be(both: Both) -> None:
    for inner, is_changed in ((b"", False), (b"<script>1</script>", True)):
        async with both[0].cleaned(body(DRAWING % inner)) as clean:
            assert clean.is_changed is is_changed
            data = b"".join([chunk async for chunk in clean.body])
            assert len(data) == clean.size
            assert b"<rect" in data
            assert b"script" not in data


async def test_a_worker_that_dies_at_it_is_told_and_the_next_one_goes_on(both: Both) -> None:
    renderer, pool = both
    asked = asyncio.ensure_future(made(renderer, pictures.jpeg(1600, 1200), ENDLESS))
    await eventually(lambda: pool.reserved_bytes > 0)
    for worker in pool._workers:
        worker.kill()
    (told,) = await asked
    assert type(told) is Crashed
    assert isinstance((await made(renderer, pictures.jpeg(60, 40), SMALL))[0], Rendered)


async def test_work_that_everybody_has_left_ends(both: Both) -> None:
    renderer, pool = both
    asked = asyncio.ensure_future(made(renderer, pictures.jpeg(1600, 1200), ENDLESS))
    await eventually(lambda: pool.reserved_bytes > 0)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    await eventually(lambda: pool.running == 0 and pool.reserved_bytes == 0)
    assert isinstance((await made(renderer, pictures.jpeg(60, 40), SMALL))[0], Rendered)


async def test_more_than_there_are_places_for_are_told_to_come_again(both: Both) -> None:
    renderer, pool = both
    assert renderer.places == pool.places == 5
    (blocking,) = [asyncio.ensure_future(made(renderer, pictures.jpeg(1600, 1200), ENDLESS))]
    await eventually(lambda: pool.reserved_bytes > 0)
    others = [asyncio.ensure_future(made(renderer, pictures.jpeg(60, 40), SMALL)) for _ in range(8)]
    done, _ = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
    refused = done.pop().result()[0]
    assert isinstance(refused, Busy)
    assert int(refused.headers["Retry-After"]) > 0
    blocking.cancel()
    ends = [end for (end,) in await asyncio.gather(*others)]
    await asyncio.gather(blocking, return_exceptions=True)
    assert sum(isinstance(end, Rendered) for end in ends) + sum(isinstance(end, Busy) for end in ends) == 8

"""Many widths of one photo, asked for together: one decode, answers one by one, and nobody pays for another one's failure."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from PIL import Image

from tests import pictures
from tests.kit.client import Answer, Client, media
from tests.kit.server import RunningServer
from tests.kit.waiting import until
from tests.kit.workers import held

WIDTHS = (160, 320, 480, 640, 960, 1280)
SLOW = "format=avif&w=3000&up=1"


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with one worker, which can be held, and patience for those who wait meanwhile."""
    env = {"MEDIA_RENDER_WORKERS": "1", "MEDIA_RENDER_WAIT": "20", "MEDIA_CACHE_BYTES": "0"}
    with RunningServer(tmp_path_factory.mktemp("single"), env) as running:
        yield running


@pytest.fixture
def photo(single: RunningServer) -> str:
    """A photo of 2000 × 1500 of which nothing was made yet."""
    return media(single.client("me").stored(pictures.jpeg(2000, 1500))["key"])


def asked(pool: ThreadPoolExecutor, server: RunningServer, path: str, queries: list[str]) -> list[Future[Answer]]:
    """Ask for all *queries* at once and wait until the server has begun to work for each."""
    before = misses(server)
    futures = [pool.submit(Client(server.url).get, f"{path}?{query}") for query in queries]
    assert until(lambda: misses(server) == before + len(queries))
    return futures


def misses(server: RunningServer) -> float:
    """How many renditions were neither in memory nor stored."""
    return server.metric("media_renditions_total", found="miss")


def batches(server: RunningServer) -> float:
    """How many jobs the workers were given for renditions."""
    return server.metric("media_render_batches_total")


def size(answer: Answer) -> tuple[int, int]:
    assert answer.status == 200, answer
    with Image.open(io.BytesIO(answer.body)) as image:
        image.load()
        return image.size


def test_what_waits_together_is_made_in_one_job(single: RunningServer, photo: str) -> None:
    before = batches(single)
    with ThreadPoolExecutor(8) as pool, held(single) as process:
        futures = asked(pool, single, photo, [f"w={width}" for width in WIDTHS])
        process.resume()
        assert [size(future.result()) for future in futures] == [(width, width * 3 // 4) for width in WIDTHS]
    assert batches(single) == before + 1


def test_every_rendition_of_a_batch_is_what_it_is_alone(single: RunningServer) -> None:
    """Crops, turned photos, transparency, other codecs, and what is of no size in common: all in one batch."""
    queries = ["w=40", "w=100&format=png", "w=60&h=60&fit=cover", "w=300&h=100&fit=pad&bg=f00", "crop=0,0,200,150&w=90",
               "h=30&format=webp", "w=55&rot=90", "w=320&blur=3", "format=avif&w=64", "w=64&gray=1", "w=200&format=gif",
               "w=99&format=jpg&bg=00f"]  # fmt: skip
    for source in (pictures.jpeg(400, 300, orientation=6), pictures.png(400, 300, mode="RGBA"), pictures.gif(80, 60, frames=3)):
        first, second = (media(single.client("me").stored(source)["key"]) for _ in range(2))
        alone = [Client(single.url).get(f"{first}?{query}") for query in queries]
        before = batches(single)
        with ThreadPoolExecutor(12) as pool, held(single) as process:
            futures = asked(pool, single, second, queries)
            process.resume()
            together = [future.result() for future in futures]
        assert batches(single) == before + 1
        for query, one, other in zip(queries, alone, together, strict=True):
            assert one.status == other.status, query
            if one.status == 200:
                assert difference(one, other) < 6.0, query


def difference(one: Answer, other: Answer) -> float:
    """The root of the mean square of what differs between two pictures, of 255, in its 64 parts: a wrong turn makes 60."""
    with Image.open(io.BytesIO(one.body)) as left, Image.open(io.BytesIO(other.body)) as right:
        assert (left.format, left.size, left.mode) == (right.format, right.size, right.mode)
        grey = Image.new("RGBA", left.size, "grey")  # what is clear has no colour to compare
        laid = [Image.alpha_composite(grey, image.convert("RGBA")) for image in (left, right)]
        seen = [image.resize((8, 8), Image.Resampling.BOX).tobytes() for image in laid]  # what codecs dither is the same on average
        pairs = zip(*seen, strict=True)
        squares = [(a - b) ** 2 for a, b in pairs]
    return float((sum(squares) / len(squares)) ** 0.5)


def test_the_first_does_not_wait_for_the_last(single: RunningServer, photo: str) -> None:
    with ThreadPoolExecutor(4) as pool, held(single) as process:
        slow, small = asked(pool, single, photo, [f"{SLOW}&q=71", "w=72"])
        process.resume()
        assert size(small.result()) == (72, 54)
        assert not slow.done()
        assert size(slow.result())[0] == 3000


def test_a_failure_of_one_is_nobody_elses(single: RunningServer, photo: str) -> None:
    with ThreadPoolExecutor(4) as pool, held(single) as process:
        good, bad, other = asked(pool, single, photo, ["w=80", "crop=5000,5000,10,10&w=8", "w=81&format=webp"])
        process.resume()
        assert (size(good.result()), size(other.result())) == ((80, 60), (81, 61))
        assert 400 <= bad.result().status < 500


def test_who_leaves_is_left_out_and_the_others_are_served(single: RunningServer, photo: str) -> None:
    with ThreadPoolExecutor(4) as pool, held(single) as process:
        wire = single.wire().request("GET", f"{photo}?{SLOW}&q=72")
        assert until(lambda: single.metric("media_render_running") == 1)
        (small,) = asked(pool, single, photo, ["w=88"])
        wire.reset()
        assert until(lambda: single.metric("media_request_seconds_count", route="media", outcome="gone") > 0)
        process.resume()
        assert size(small.result()) == (88, 66)
    assert until(lambda: single.metric("media_render_running") == 0)


def test_when_all_leave_the_batch_is_stopped(single: RunningServer, photo: str) -> None:
    made = single.metric("media_render_seconds_count", outcome="ok")
    wires = [single.wire().request("GET", f"{photo}?{SLOW}&q={quality}") for quality in (73, 74)]
    assert until(lambda: single.metric("media_render_running") == 1)
    for wire in wires:
        wire.reset()
    assert until(lambda: single.metric("media_render_running") == 0)
    assert single.metric("media_render_seconds_count", outcome="ok") == made
    assert size(Client(single.url).get(f"{photo}?w=91")) == (91, 68)


def test_a_worker_that_is_killed_before_it_has_begun_costs_nothing(single: RunningServer, photo: str) -> None:
    with ThreadPoolExecutor(4) as pool, held(single) as process:
        futures = asked(pool, single, photo, ["w=92", "w=93"])
        assert until(lambda: single.metric("media_render_running") == 1)
        process.kill()
        assert [size(future.result())[0] for future in futures] == [92, 93]


def test_a_worker_that_is_killed_within_a_batch_costs_what_it_was_at(single: RunningServer, photo: str) -> None:
    with ThreadPoolExecutor(4) as pool, held(single) as process:
        small, *slow = asked(pool, single, photo, ["w=94", f"{SLOW}&q=75", f"{SLOW}&q=76"])
        process.resume()
        assert size(small.result())[0] == 94
        process.kill()
        statuses = sorted(future.result().status for future in slow)
    assert statuses == [200, 422]
    assert size(Client(single.url).get(f"{photo}?w=95"))[0] == 95

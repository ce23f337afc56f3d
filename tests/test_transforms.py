"""Renditions through HTTP: what they are, that each is made once, and that picture work never stands in anybody's way."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from PIL import Image

from tests import pictures
from tests.kit.aftereffects import harmless
from tests.kit.client import Answer, Client, media
from tests.kit.server import RunningServer
from tests.kit.waiting import until
from tests.kit.workers import held, workers

FRESH = "public, max-age=86400, stale-while-revalidate=604800, stale-if-error=604800"
BROWSER = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose renditions are these tests' alone, so that they can be counted."""
    with RunningServer(tmp_path_factory.mktemp("studio")) as running:
        yield running


@pytest.fixture(scope="module")
def photo_path(studio: RunningServer) -> str:
    """A photo of 400 × 300."""
    return media(studio.client("me").stored(pictures.jpeg(400, 300))["key"])


@pytest.fixture
def fresh_path(studio: RunningServer) -> str:
    """A photo of which nothing was rendered yet."""
    return media(studio.client("me").stored(pictures.jpeg(400, 300))["key"])


def shape(answer: Answer) -> tuple[str, int, int]:
    """Format and size of the picture in *answer*."""
    assert answer.status == 200, answer
    with Image.open(io.BytesIO(answer.body)) as image:
        assert answer.headers["Content-Type"] == f"image/{(image.format or '').lower()}"
        return (image.format or "", *image.size)


def renders(server: RunningServer) -> int:
    """How many renditions were made."""
    return int(server.metric("media_render_seconds_count", outcome="ok"))


# -- what comes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("query", "expected"), [
    ("w=100", ("JPEG", 100, 75)), ("h=30", ("JPEG", 40, 30)), ("w=100&h=100", ("JPEG", 100, 75)),
    ("w=100&h=100&fit=cover", ("JPEG", 100, 100)),
    ("w=100&h=50&fit=stretch", ("JPEG", 100, 50)), ("w=100&h=100&fit=pad", ("JPEG", 100, 100)),
    ("w=100&h=100&fit=outside", ("JPEG", 133, 100)),
    ("w=50&dpr=2", ("JPEG", 100, 75)), ("w=900", ("JPEG", 400, 300)), ("w=800&up=1", ("JPEG", 800, 600)),
    ("w=100&format=png", ("PNG", 100, 75)),
    ("w=100&format=webp", ("WEBP", 100, 75)), ("w=100&format=avif", ("AVIF", 100, 75)), ("format=gif&w=64", ("GIF", 64, 48)),
    ("format=webp", ("WEBP", 400, 300)), ("width=100&height=60&fit=crop&gravity=smart", ("JPEG", 100, 60)),
    ("w=80&h=80&fit=cover&g=0.1x0.9", ("JPEG", 80, 80)),
    ("w=100&q=30", ("JPEG", 100, 75)), ("w=40&bl=2", None),
])  # fmt: skip
def test_a_rendition_has_the_size_and_format_that_was_asked_for(
    studio: RunningServer, photo_path: str, query: str, expected: tuple[str, int, int] | None
) -> None:
    answer = studio.client().get(f"{photo_path}?{query}")
    if expected is None:
        assert answer.status == 400
        return
    kind, width, height = shape(answer)
    assert (kind, width) == expected[:2]
    assert abs(height - expected[2]) <= 1


def test_a_rendition_carries_the_headers_that_make_it_safe_and_cacheable(studio: RunningServer, photo_path: str) -> None:
    answer = studio.client().get(f"{photo_path}?w=110")
    assert answer.headers["ETag"].startswith('W/"')
    assert answer.headers["Cache-Control"] == FRESH
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert "Vary" not in answer.headers or "Accept" not in answer.headers["Vary"].split(", ")
    head = studio.client().head(f"{photo_path}?w=110")
    assert (head.status, head.body) == (200, b"")
    for name in ("ETag", "Content-Type", "Content-Length", "Cache-Control"):
        assert head.headers[name] == answer.headers[name]


@pytest.mark.parametrize(("accept", "formats"), [
    (BROWSER, {"AVIF", "WEBP"}), ("image/webp,*/*", {"WEBP"}), ("image/*", {"JPEG"}), ("*/*", {"JPEG"}), ("", {"JPEG"}),
    ("image/avif;q=0,image/webp", {"WEBP"}), ("image/webp;q=0", {"JPEG"}), ("text/html", {"JPEG"}), ("x" * 4000, {"JPEG"}),
])  # fmt: skip
def test_auto_gives_what_the_reader_can_show_and_says_that_it_varies(
    studio: RunningServer, photo_path: str, accept: str, formats: set[str]
) -> None:
    answer = studio.client().get(f"{photo_path}?w=90&format=auto", {"Accept": accept})
    assert shape(answer)[0] in formats
    assert answer.headers["Vary"] == "Accept"
    same = studio.client().get(f"{photo_path}?w=90&format=auto", {"Accept": accept, "If-None-Match": answer.headers["ETag"]})
    assert (same.status, same.headers["Vary"], same.headers["ETag"]) == (304, "Accept", answer.headers["ETag"])


@pytest.mark.parametrize("format", ["avif", "webp", "jpg", "png"])
def test_a_rendition_of_a_turned_photo_is_upright_and_says_nothing_of_turning(studio: RunningServer, format: str) -> None:
    path = media(studio.client("me").stored(pictures.jpeg(80, 60, orientation=6))["key"])
    answer = studio.client().get(f"{path}?w=40&format={format}")
    with Image.open(io.BytesIO(answer.body)) as image:
        assert image.size == (40, 30)
        assert image.getexif().get(pictures.ORIENTATION_TAG, 1) == 1


def test_a_large_picture_is_webp_at_once_and_avif_as_soon_as_that_was_made(studio: RunningServer) -> None:
    path = media(studio.client("me").stored(pictures.jpeg(1800, 1200))["key"]) + "?format=auto"
    first = studio.client().get(path, {"Accept": BROWSER})
    assert shape(first) == ("WEBP", 1800, 1200)
    assert (first.headers["X-Media-Degraded"], first.headers["Cache-Control"]) == ("format-pending", "public, max-age=60")
    answers: list[Answer] = []

    def is_avif() -> bool:
        answers.append(studio.client().get(path, {"Accept": BROWSER, "If-None-Match": first.headers["ETag"]}))
        return answers[-1].status == 200

    assert until(is_avif)
    assert shape(answers[-1]) == ("AVIF", 1800, 1200)
    assert ("X-Media-Degraded" in answers[-1].headers, answers[-1].headers["Cache-Control"]) == (False, FRESH)
    assert answers[-1].headers["ETag"] != first.headers["ETag"]
    for waiting in answers[:-1]:
        assert (waiting.status, waiting.headers["Cache-Control"]) == (304, "public, max-age=60")
    studio.settle()
    studio.restart()
    again = studio.client().get(path, {"Accept": BROWSER})
    assert (shape(again)[0], again.headers["ETag"]) == ("AVIF", answers[-1].headers["ETag"])
    assert renders(studio) == 0


def test_an_animation_stays_one(studio: RunningServer) -> None:
    path = media(studio.client("me").stored(pictures.gif(80, 60, frames=4))["key"])
    for query in ("w=40", "w=40&format=webp"):
        answer = studio.client().get(f"{path}?{query}")
        with Image.open(io.BytesIO(answer.body)) as image:
            assert getattr(image, "n_frames", 1) == 4
    with Image.open(io.BytesIO(studio.client().get(f"{path}?w=40&format=jpg").body)) as image:
        assert image.format == "JPEG"


@pytest.mark.parametrize("kind", ["gif", "webp", "apng", "avif"])
def test_who_takes_webp_sees_every_animation_move(studio: RunningServer, kind: str) -> None:
    path = media(studio.client("me").stored(getattr(pictures, kind)(80, 60, frames=4))["key"])
    answer = studio.client().get(f"{path}?w=40&format=auto", {"Accept": BROWSER})
    with Image.open(io.BytesIO(answer.body)) as image:
        assert (image.format, image.size, getattr(image, "n_frames", 1)) == ("WEBP", (40, 30), 4)


def test_position_and_camera_are_not_in_a_rendition(studio: RunningServer) -> None:
    data = pictures.jpeg(private=True)
    path = media(studio.client("me").stored(data)["key"])
    assert studio.client().get(path).body == data
    rendition = studio.client().get(f"{path}?w=50")
    assert pictures.CANARY.encode() not in rendition.body
    with Image.open(io.BytesIO(rendition.body)) as image:
        assert pictures.GPS_TAG not in image.getexif()


# -- what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [
    "w=0", "w=8193", "w=-1", "w=1.5", "w=%2B5", "w=abc", "w=", "w", "w=1e3", "w=%D9%A3", "w=10&w=10", "w=10&width=10",
    "h=99999999999999999999", "q=0",
    "q=101", "q=best%00", "dpr=0", "dpr=4.1", "dpr=1.234", "fit=fill", "fit=nothing", "format=bmp", "format=exe", "format=",
    "g=2x2", "g=north-by-east",
    "g=0.5", "up=2", "up=yes", "bg=zzz", "bg=%23fff", "blur=1000", "blur=-1", "nonsense=1", "W=10", "w%00=10",
    "w=10&format=png&format=webp", "rot=45",
    "flip=x", "w=10;h=10", "%ff=1", "w=%ff", "w=8000&dpr=4", "crop=0,0,0,0", "page=0", "=1",
])  # fmt: skip
def test_a_bad_parameter_is_400_and_nothing_is_decoded(studio: RunningServer, photo_path: str, query: str) -> None:
    with harmless(studio, 400) as bad:
        before = studio.metric("media_render_seconds_count")
        bad.sent = ["north-by-east", "zzz"]
        bad.answer = studio.client().get(f"{photo_path}?{query}")
    assert studio.metric("media_render_seconds_count") == before


def test_a_thousand_parameters_are_400(studio: RunningServer, photo_path: str) -> None:
    with harmless(studio, 400) as bad:
        bad.answer = studio.client().get(f"{photo_path}?" + "&".join(f"a{n}=1" for n in range(1000)))


def test_a_refused_fill_says_what_to_write_instead(studio: RunningServer, photo_path: str) -> None:
    document = studio.client().get(f"{photo_path}?w=10&h=10&fit=fill").json
    assert document["param"] == "fit"
    assert all(word in str(document) for word in ("stretch", "pad", "cover"))


def test_an_unknown_name_is_answered_with_the_nearest_known_one(studio: RunningServer, photo_path: str) -> None:
    document = studio.client().get(f"{photo_path}?widht=10").json
    assert "width" in str(document)


def test_a_rendition_of_what_is_no_picture_is_refused(studio: RunningServer) -> None:
    path = media(studio.client("me").stored(pictures.ogg(seconds=1))["key"])
    with harmless(studio, 415) as bad:
        bad.answer = studio.client().get(f"{path}?w=100")
    with harmless(studio, 404) as bad:
        bad.answer = studio.client().get("/api/media/u/nothing.jpg?w=100")


# -- made once ----------------------------------------------------------------------------------------------------------


def test_twenty_who_ask_at_once_share_one_render(studio: RunningServer) -> None:
    path = media(studio.client("me").stored(pictures.jpeg(3000, 2000))["key"])
    before = renders(studio)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: studio.client().get(f"{path}?w=1500&format=webp"), range(20)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert renders(studio) == before + 1


def test_one_who_leaves_takes_the_picture_from_nobody(studio: RunningServer) -> None:
    path = media(studio.client("me").stored(pictures.jpeg(3000, 2000))["key"]) + "?w=1400&format=webp"
    before = renders(studio)
    first = studio.wire().request("GET", path)
    with ThreadPoolExecutor(4) as pool:
        others = [pool.submit(studio.client().get, path) for _ in range(4)]
        first.reset()
        assert {other.result().status for other in others} == {200}
    assert renders(studio) <= before + 2


def test_different_spellings_of_one_transform_are_one_rendition(studio: RunningServer, fresh_path: str) -> None:
    before = renders(studio)
    spellings = ["w=120&h=80&fit=cover", "h=80&w=120&fit=cover", "width=120&height=80&fit=crop", "w=60&h=40&dpr=2&fit=cover",
        "w=120&h=80&fit=COVER",
                 "w=120&h=80&fit=cover&g=center", "utm_source=x&w=120&h=80&fit=cover&q=80&up=0",
                 "w=%3120&h=80&fit=cover"]  # fmt: skip
    answers = [studio.client().get(f"{fresh_path}?{query}") for query in spellings]
    assert {answer.status for answer in answers} == {200}
    assert len({answer.headers["ETag"] for answer in answers}) == 1
    assert renders(studio) == before + 1


def test_an_equal_tag_is_answered_without_picture_work(studio: RunningServer, fresh_path: str) -> None:
    studio_variants = studio.files()
    answer = studio.client().get(f"{fresh_path}?w=130")
    etag = answer.headers["ETag"]
    assert until(lambda: len(studio.files()) > len(studio_variants))
    studio.restart()
    for name in studio.files() - studio_variants:  # the stored rendition is taken away: only a new render could bring it back
        (studio.data / name).unlink()
    for value in (etag, etag.removeprefix("W/"), f'"x", {etag}', "*"):
        same = studio.client().get(f"{fresh_path}?w=130", {"If-None-Match": value})
        assert (same.status, same.body, same.headers["ETag"]) == (304, b"", etag)
    assert renders(studio) == 0
    assert studio.client().get(f"{fresh_path}?w=130", {"If-None-Match": '"other"'}).status == 200


def test_a_stored_rendition_survives_a_restart(studio: RunningServer, fresh_path: str) -> None:
    before = studio.files()
    first = studio.client().get(f"{fresh_path}?w=140")
    studio.settle()
    assert studio.files() > before, "the rendition was not stored"
    studio.restart()
    again = studio.client().get(f"{fresh_path}?w=140")
    assert (again.body, again.headers["ETag"], again.headers["Content-Type"]) == (
        first.body,
        first.headers["ETag"],
        first.headers["Content-Type"],
    )
    assert renders(studio) == 0
    assert studio.metric("media_renditions_total", found="stored") == 1
    assert studio.client().get(f"{fresh_path}?w=140").body == first.body
    assert studio.metric("media_renditions_total", found="memory") == 1


def test_a_damaged_stored_rendition_is_made_anew(studio: RunningServer, fresh_path: str) -> None:
    before = studio.files()
    first = studio.client().get(f"{fresh_path}?w=150")
    studio.settle()
    for name in studio.files() - before:
        file = studio.data / name
        data = file.read_bytes()
        if data == first.body:
            file.write_bytes(data[:-50] + bytes(50))
    studio.restart()
    again = studio.client().get(f"{fresh_path}?w=150")
    assert (again.status, again.body) == (200, first.body)


def test_a_removal_takes_every_rendition_along(studio: RunningServer) -> None:
    studio.settle()
    before = studio.files()
    client = studio.client("me")
    path = media(client.stored(pictures.jpeg(400, 300))["key"])
    original = studio.files()
    for query in ("w=50", "w=60", "w=70&format=webp"):
        assert client.get(f"{path}?{query}").status == 200
    studio.settle()
    assert studio.files() > original, "no rendition was stored"
    assert client.delete(path).status == 204
    assert client.get(f"{path}?w=50").status == 404
    assert until(lambda: studio.files() <= before), studio.files() - before


def test_a_removal_just_after_a_render_leaves_nothing_either(studio: RunningServer) -> None:
    studio.settle()
    before = studio.files()
    client = studio.client("me")
    for width in range(30, 40):
        path = media(client.stored(pictures.jpeg(400, 300))["key"])
        assert client.get(f"{path}?w={width}").status == 200
        assert client.delete(path).status == 204
    assert until(lambda: studio.files() <= before), studio.files() - before


def test_many_renditions_stay_within_the_bytes_of_the_cache(serve: Callable[..., RunningServer]) -> None:
    server = serve(MEDIA_CACHE_BYTES="262144")
    path = media(server.client("me").stored(pictures.jpeg(400, 300))["key"])
    for width in range(100, 130):
        assert server.client().get(f"{path}?w={width}&format=png").status == 200
    assert server.metric("media_cache_bytes") <= 262_144


# -- busy, late, dead ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with one worker, one place to wait and little patience."""
    env = {"MEDIA_RENDER_WORKERS": "1", "MEDIA_RENDER_QUEUE": "1", "MEDIA_RENDER_WAIT": "0.3", "MEDIA_CACHE_BYTES": "0"}
    with RunningServer(tmp_path_factory.mktemp("one-worker"), env) as running:
        yield running


@pytest.fixture(scope="module")
def heavy_path(one_worker: RunningServer) -> str:
    """A picture whose renditions take a while."""
    return media(one_worker.client("me").stored(pictures.jpeg(4000, 3000))["key"])


def heavy(number: int) -> str:
    """Different heavy transforms."""
    return f"w=6000&up=1&format=webp&q={30 + number}"


def test_beyond_the_queue_it_is_503_with_retry_after_and_originals_go_on(one_worker: RunningServer, heavy_path: str) -> None:
    client = one_worker.client()
    small = media(one_worker.client("me").stored(pictures.jpeg(64, 64))["key"])
    photo = pictures.jpeg(400, 300)
    paths = [media(one_worker.client("me").stored(photo)["key"]) for _ in range(6)]  # of one photo all would be one job
    with ThreadPoolExecutor(6) as pool, held(one_worker) as worker:
        asked = [pool.submit(client.get, f"{path}?w=200") for path in paths]
        assert until(lambda: sum(one.done() for one in asked) == 5)
        assert client.get(small).status == 200
        worker.resume()
    answers = [one.result() for one in asked]
    assert sorted(answer.status for answer in answers) == [200, 503, 503, 503, 503, 503]
    for answer in answers:
        if answer.status == 503:
            assert answer.code == "busy"
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
            assert answer.headers["Cache-Control"] == "no-store"
    assert client.get(f"{heavy_path}?w=50").status == 200


def test_a_worker_that_is_killed_is_replaced(one_worker: RunningServer, heavy_path: str) -> None:
    client = one_worker.client()
    assert client.get(f"{heavy_path}?w=60").status == 200
    killed = workers(one_worker)
    assert killed
    for worker in killed:
        worker.kill()
    assert until(lambda: client.get(f"{heavy_path}?w=61").status == 200), "no rendition after the worker was killed"
    assert until(lambda: len(one_worker.children()) >= len(killed))
    assert not [child for child in one_worker.children() if child.status() == psutil.STATUS_ZOMBIE]


def test_a_worker_that_dies_at_work_costs_that_answer_alone(one_worker: RunningServer, heavy_path: str) -> None:
    client = one_worker.client()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.get, f"{heavy_path}?{heavy(40)}")
        assert until(lambda: one_worker.metric("media_render_running") >= 1)
        for worker in workers(one_worker):
            worker.kill()
        answer = asked.result()
    assert answer.status in {200, 422, 503}, answer
    assert answer.status == 200 or answer.code
    assert until(lambda: client.get(f"{heavy_path}?w=62").status == 200)


def test_work_beyond_the_deadline_is_killed(serve: Callable[..., RunningServer]) -> None:
    server = serve(MEDIA_RENDER_DEADLINE="1.5", MEDIA_RENDER_WORKERS="1")
    path = media(server.client("me").stored(pictures.jpeg(4000, 3000))["key"])
    small = media(server.client("me").stored(pictures.jpeg(64, 64))["key"])
    assert server.client().get(f"{small}?w=20").status == 200
    with harmless(server, [422, 503, 504]) as bad:
        bad.answer = server.client().get(f"{path}?w=8192&up=1&format=webp&q=95")
    assert server.client().get(f"{small}?w=21").status == 200


def test_a_client_that_leaves_stops_the_work_that_was_for_it_alone(one_worker: RunningServer, heavy_path: str) -> None:
    made = one_worker.metric("media_render_seconds_count", outcome="ok")
    wire = one_worker.wire().request("GET", f"{heavy_path}?{heavy(41)}")
    assert until(lambda: one_worker.metric("media_render_running") >= 1)
    wire.reset()
    assert until(lambda: one_worker.metric("media_render_running") == 0)
    assert one_worker.metric("media_render_seconds_count", outcome="ok") == made
    assert until(lambda: one_worker.client().get(f"{heavy_path}?w=63").status == 200), "the next worker is there"


def test_two_pictures_that_do_not_fit_the_budget_together_are_made_one_after_the_other(serve: Callable[..., RunningServer]) -> None:
    server = serve(MEDIA_DECODE_BUDGET="64M", MEDIA_RENDER_WORKERS="2", MEDIA_RENDER_WAIT="20")
    photo = pictures.png(2000, 2000)
    paths = [media(server.client("me").stored(photo)["key"]) for _ in range(3)]

    def get(path: str) -> Answer:
        return Client(server.url).get(f"{path}?w=1000&format=webp")

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(get, paths))
    assert {answer.status for answer in answers} == {200}
    assert server.metric("media_render_reserved_bytes") == 0

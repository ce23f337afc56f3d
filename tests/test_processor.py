"""Picture workers as a service of their own: `media-proxy processor`, and a media proxy that asks it."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from PIL import Image

from tests import bombs, pictures
from tests.kit.client import Answer, Client, media
from tests.kit.ports import free_port
from tests.kit.processor import HEADERS, TOKEN, RunningProcessor
from tests.kit.server import RunningServer
from tests.kit.waiting import until
from tests.kit.workers import held, workers

Serve = Callable[..., RunningServer]
HEAVY = "w=5000&up=1&format=webp"


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProcessor]:
    with RunningProcessor(tmp_path_factory.mktemp("processor")) as running:
        yield running


@pytest.fixture(scope="module")
def far(processor: RunningProcessor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A proxy that makes no picture by itself."""
    env = {"PROCESSOR_URL": processor.url, "PROCESSOR_TOKEN": TOKEN}
    with RunningServer(tmp_path_factory.mktemp("far"), env) as running:
        yield running


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[list[RunningProcessor]]:
    """Two of them, with one worker each."""
    with ExitStack() as stack:
        folders = [tmp_path / "one", tmp_path / "two"]
        yield [stack.enter_context(RunningProcessor(folder, MEDIA_RENDER_WORKERS="1")) for folder in folders]


def asking(serve: Serve, *processors: RunningProcessor, **env: str | None) -> RunningServer:
    """A proxy that asks *processors*, once it knows all of them."""
    server = serve(PROCESSOR_URL=",".join(one.url for one in processors), PROCESSOR_TOKEN=TOKEN, **env)
    assert until(lambda: up(server) == len(processors))
    return server


def up(server: RunningServer) -> int:
    """How many processors it says are there."""
    found = server.client().get("/api/health").json["parts"]["renderer"].get("processors", {})
    return sum(state == "up" for state in found.values())


def alike(one: Answer, other: Answer) -> bool:
    """Whether two answers say the same, but for what is theirs alone."""
    if one.status >= 400:
        return (one.status, one.code, one.json["detail"]) == (other.status, other.code, other.json["detail"])
    return (one.status, one.headers["Content-Type"], one.body) == (other.status, other.headers["Content-Type"], other.body)


@pytest.mark.parametrize(
    ("data", "query"),
    [
        (pictures.jpeg(640, 480, orientation=6), "w=200&h=200&fit=cover&format=webp"),
        (pictures.png(64, 48, mode="RGBA"), "w=32&format=auto"),
        (pictures.gif(), "w=20"),
        (pictures.mp4(160, 120, rotated=90), "w=60&time=0.5"),
        (pictures.dawn("webm"), "sprite=2x2&w=32"),
        (pictures.dawn("mp4"), "dur=1&format=mp4"),
        (pictures.covered(pictures.jpeg(60, 40), "image/jpeg"), "w=30"),
        (pictures.mp3(), "w=30"),
        (pictures.png(8, 8), "page=7"),
        (
            b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><script>1</script><rect width='9' height='9'/></svg>",
            "w=18",
        ),
        (b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><script>1</script><rect width='9' height='9'/></svg>", ""),
        (pictures.webm(), "format=json"),
        (pictures.jpeg(64, 48, orientation=6), "format=json"),
        (pictures.covered(pictures.jpeg(60, 40), "image/jpeg"), "format=json"),
    ],
)
def test_it_answers_as_if_the_workers_were_here(far: RunningServer, server: RunningServer, data: bytes, query: str) -> None:
    there, here = (media(one.client("me").stored(data)["key"]) for one in (far, server))
    if query == "format=json":
        told = [client.get(f"{path}?{query}").json for client, path in ((far.client(), there), (server.client(), here))]
        assert told[0] | {"key": "", "etag": ""} == told[1] | {"key": "", "etag": ""}
    else:
        answers = far.client().get(f"{there}?{query}"), server.client().get(f"{here}?{query}")
        assert alike(*answers), answers


@pytest.mark.parametrize(
    "data",
    [pictures.png_bomb(), bombs.webp_of(), bombs.svg_of_entities(), pictures.jpeg(64, 64)[:300], b"nothing"],
)
def test_bad_input_gets_the_same_answer_and_does_no_harm(far: RunningServer, server: RunningServer, data: bytes) -> None:
    answers = far.client("me").upload(data), server.client("me").upload(data)
    assert answers[0].status >= 400
    assert alike(*answers), answers
    assert far.client("me").stored(pictures.png(4, 4))["width"] == 4


def test_of_a_film_only_the_parts_that_are_needed_are_sent(far: RunningServer, processor: RunningProcessor) -> None:
    film = pictures.noisy()
    path = media(far.client("me").stored(film)["key"])
    sent = processor.metric("media_received_bytes_total", route="work")
    assert far.client().get(f"{path}?w=64&time=0").status == 200
    assert processor.metric("media_received_bytes_total", route="work") - sent < len(film) / 2


def test_what_one_loses_at_work_another_one_makes(serve: Serve, pair: list[RunningProcessor]) -> None:
    server = asking(serve, *pair)
    path = media(server.client("me").stored(pictures.jpeg(300, 200))["key"])
    with ThreadPoolExecutor(1) as pool, held(pair[0]), held(pair[1]):
        asked = pool.submit(server.client().get, f"{path}?w=200")
        assert until(lambda: sum(one.state()["running"] for one in pair) == 1)
        busy, other = sorted(pair, key=lambda one: -one.state()["running"])
        busy.kill()
        assert until(lambda: other.state()["running"] == 1)
        workers(other)[0].resume()
        assert asked.result().status == 200
    assert up(server) == 1
    assert server.metric("media_processors_up") == 1
    assert server.metric("media_processor_attempts_total", outcome="lost") == 1


def test_one_that_is_full_sends_its_proxies_to_another_one(serve: Serve, tmp_path: Path, processor: RunningProcessor) -> None:
    with RunningProcessor(tmp_path / "small", MEDIA_RENDER_WORKERS="1", MEDIA_RENDER_QUEUE="1", MEDIA_RENDER_WAIT="30") as small:
        server = asking(serve, small, processor)
        paths = [media(server.client("me").stored(pictures.jpeg(300, 200))["key"]) for _ in range(8)]
        photo = pictures.jpeg(60, 40)
        with ThreadPoolExecutor(10) as pool, held(small) as worker:
            direct = [pool.submit(Client(small.url).post, f"/render?w={width}", photo, HEADERS) for width in (20, 30)]
            assert until(lambda: small.state()["running"] + small.state()["waiting"] == 2)
            answers = list(pool.map(lambda path: server.client().get(f"{path}?w=100"), paths))
            assert [answer.status for answer in answers] == [200] * 8
            worker.resume()
            assert [one.result().status for one in direct] == [200, 200]


@pytest.mark.parametrize(("is_local", "processes", "status"), [("false", "1", 503), ("true", "1", 200), ("true", "2", 200)])
def test_without_any_pictures_are_made_here_if_that_is_wanted(serve: Serve, is_local: str, processes: str, status: int) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    server = serve(PROCESSOR_URL=url, PROCESSOR_TOKEN=TOKEN, PROCESSOR_LOCAL=is_local, MEDIA_WORKERS=processes)
    document = server.client("me").stored(pictures.pdf())
    answer = server.client("me").upload(pictures.jpeg(60, 40), "image/jpeg")
    assert answer.status == (201 if status == 200 else 503)
    if status == 503:
        assert (answer.code, answer.headers["Retry-After"]) == ("busy", "2")
    assert server.client().get(media(document["key"])).status == 200
    assert server.client().get("/api/health/ready").status == 200


def test_this_machines_workers_are_started_when_no_processor_is_left(serve: Serve, pair: list[RunningProcessor]) -> None:
    server = asking(serve, *pair, PROCESSOR_LOCAL="true", MEDIA_RENDER_WORKERS="1")
    path = media(server.client("me").stored(pictures.jpeg(300, 200))["key"])
    assert server.client().get(f"{path}?w=200").status == 200
    assert workers(server) == []
    for one in pair:
        one.kill()
    assert server.client().get(f"{path}?w=100").status == 200
    assert len(workers(server)) == 1
    assert server.metric("media_processor_attempts_total", outcome="local") == 1
    assert until(lambda: server.metric("media_processors_up") == 0)


def test_one_that_comes_back_is_asked_again(serve: Serve, tmp_path: Path) -> None:
    port = free_port()
    server = serve(PROCESSOR_URL=f"http://localhost:{port}", PROCESSOR_TOKEN=TOKEN)
    assert server.client("me").upload(pictures.jpeg(60, 40), "image/jpeg").status == 503
    with RunningProcessor(tmp_path / "late", port):
        assert until(lambda: server.client("me").upload(pictures.jpeg(60, 40), "image/jpeg").status == 201)


def test_a_head_that_does_not_come_to_its_end_is_cut(tmp_path: Path) -> None:
    with RunningProcessor(tmp_path, MEDIA_HEADER_TIMEOUT="0.2", MEDIA_RENDER_WORKERS="1") as running, running.wire() as wire:
        assert wire.send(b"GET /health HTTP/1.1\r\nHost: a").answer().status == 408


def test_nobody_gets_in_without_the_token(serve: Serve, processor: RunningProcessor) -> None:
    server = serve(PROCESSOR_URL=processor.url, PROCESSOR_TOKEN="another secret that somebody has made up")
    assert server.client("me").upload(pictures.jpeg(60, 40), "image/jpeg").status == 503
    assert server.client().get("/api/health").json["parts"]["renderer"]["status"] == "failing"
    server.settle()
    assert [line["reason"] for line in server.log_lines() if line["event"] == "processor.away"] == ["it answers 401"]
    for path in ("/work", "/health", "/metrics"):
        answer = Client(processor.url).get(path)
        assert (answer.status, answer.code) == (401, "unauthorized")
    assert Client(processor.url).post("/render?w=20", pictures.jpeg(60, 40)).status == 401
    assert Client(processor.url).get("/health/ready").status == 200


def test_without_a_token_it_listens_to_its_own_machine_alone(tmp_path: Path) -> None:
    open_to_all = RunningProcessor(tmp_path, PROCESSOR_TOKEN=None, PROCESSOR_HOST="0.0.0.0")
    open_to_all.launch()
    assert open_to_all.wait() == 2
    assert "PROCESSOR_TOKEN is not set" in open_to_all.output.text


def test_pictures_are_made_and_looked_at_by_hand(processor: RunningProcessor) -> None:
    client = Client(processor.url)
    made = client.post("/render?w=30&format=png", pictures.jpeg(60, 40), HEADERS)
    assert (made.status, made.headers["Content-Type"]) == (200, "image/png")
    with Image.open(io.BytesIO(made.body)) as image:
        assert image.size == (30, 20)
    seen = client.post("/probe", pictures.mp4(160, 120), HEADERS).json
    assert (seen["format"], seen["width"], seen["height"], seen["duration_s"]) == ("mp4", 160, 120, 1)
    for path, body, status, code in (
        ("/render?w=x", pictures.jpeg(60, 40), 400, "bad-parameter"),
        ("/render?format=json", pictures.jpeg(60, 40), 400, "bad-parameter"),
        ("/render?w=20", b"nothing", 415, "unsupported-type"),
        ("/probe", pictures.png_bomb(), 422, "too-costly"),
    ):
        answer = client.post(path, body, HEADERS)
        assert (answer.status, answer.code) == (status, code), answer


def test_it_is_not_ready_while_somebody_waits_for_long(tmp_path: Path) -> None:
    with RunningProcessor(tmp_path, MEDIA_RENDER_WORKERS="1", MEDIA_RENDER_WAIT="1") as running:
        client = Client(running.url)
        with ThreadPoolExecutor(2) as pool, held(running) as worker:
            asked = [pool.submit(client.post, f"/render?w={width}", pictures.jpeg(60, 40), HEADERS) for width in (20, 30)]
            assert until(lambda: client.get("/health/ready").status == 503)
            assert until(lambda: any(one.done() for one in asked))
            worker.resume()
            assert sorted(one.result().status for one in asked) == [200, 503]
        assert client.get("/health/ready").status == 200


def test_a_source_beyond_its_disk_or_its_limits_is_refused(tmp_path: Path) -> None:
    with RunningProcessor(
        tmp_path,
        PROCESSOR_SPOOL_BYTES="4K",
        MEDIA_MAX_BYTES_VIDEO="8K",
        MEDIA_MAX_BYTES_IMAGE="8K",
        MEDIA_MAX_BYTES_AUDIO="8K",
        MEDIA_MAX_BYTES_DOCUMENT="8K",
        MEDIA_MAX_BYTES_SVG="8K",
    ) as running:
        client = Client(running.url)
        for size, status in ((5 << 10, 503), (9 << 10, 422)):
            assert client.post("/probe", bytes(size), HEADERS).status == status
        assert running.metric("media_processor_spool_bytes") == 0


def test_a_client_that_leaves_calls_off_the_work_there(far: RunningServer, processor: RunningProcessor) -> None:
    path = media(far.client("me").stored(pictures.jpeg(4000, 3000))["key"])
    wire = far.wire().request("GET", f"{path}?w=6000&up=1&format=webp")
    assert until(lambda: processor.state()["running"] == 1)
    wire.reset()
    assert until(lambda: processor.state()["running"] == 0)
    assert processor.metric("media_processor_seconds_count", do="render", outcome="gone") >= 1
    assert far.client().get(f"{path}?w=60").status == 200


def test_a_stop_lets_work_finish(serve: Serve, tmp_path: Path) -> None:
    with RunningProcessor(tmp_path, MEDIA_RENDER_WORKERS="1") as running:
        server = asking(serve, running)
        path = media(server.client("me").stored(pictures.jpeg(300, 200))["key"])
        with ThreadPoolExecutor(1) as pool, held(running) as worker:
            asked = pool.submit(server.client().get, f"{path}?w=200")
            assert until(lambda: running.state()["running"] == 1)
            running.terminate()
            assert until(lambda: "drain.begun" in running.output.text)
            worker.resume()
            assert asked.result().status == 200
        assert running.wait() == 0


def test_several_processes_of_a_proxy_ask_it(serve: Serve, processor: RunningProcessor) -> None:
    server = asking(serve, processor, MEDIA_WORKERS="2")
    path = media(server.client("me").stored(pictures.jpeg(300, 200))["key"])
    assert [server.client().get(f"{path}?w={width}").status for width in range(100, 110)] == [200] * 10
    assert workers(server) == []


@pytest.mark.slow
def test_processors_are_stopped_and_killed_in_turn_and_no_answer_is_lost(serve: Serve, tmp_path: Path) -> None:
    two = [RunningProcessor(tmp_path / name, free_port()) for name in ("one", "two")]
    statuses: list[int] = []
    is_over = threading.Event()

    def ask(path: str, first: int) -> None:
        for blur in range(1, 100):
            for width in range(first, 700, 3):
                if is_over.is_set():
                    return
                statuses.append(server.client().get(f"{path}?w={width}&blur={blur}").status)

    def more() -> bool:
        asked = len(statuses) + 20
        return until(lambda: len(statuses) >= asked)

    try:
        for one in two:
            one.start()
        server = asking(serve, *two)
        path = media(server.client("me").stored(pictures.jpeg(300, 200))["key"])
        with ThreadPoolExecutor(3) as pool:
            asking_on = [pool.submit(ask, path, first) for first in (100, 101, 102)]
            try:
                for end in (RunningProcessor.stop, RunningProcessor.kill):
                    for one in two:
                        assert more()
                        end(one)
                        assert more()
                        one.start()
                        assert until(lambda: up(server) == 2)
            finally:
                is_over.set()
            for each in asking_on:
                each.result()
        assert set(statuses) == {200}
    finally:
        for one in two:
            one.kill()

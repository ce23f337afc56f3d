"""`media-proxy worker`: jobs done by processes beside the service, which may die at any moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from tests import pictures
from tests.kit import films
from tests.kit.client import Client
from tests.kit.ports import free_port
from tests.kit.redis import RedisServer
from tests.kit.server import START_S, RunningServer
from tests.kit.sse import Stream
from tests.kit.waiting import until
from tests.test_jobs import begun, ended, left, named, order, programs, state, works

ONE_THREAD = {"MEDIA_JOB_WORKERS": "0", "MEDIA_JOB_THREADS": "1"}
SLOW = '[slow]\ncontainer = "webm"\nheight = 720\nquality = 10\n[quick]\ncontainer = "mp4"\nheight = 120\n'

Work = Callable[..., "RunningWorker"]


class RunningWorker(RunningServer):
    """`python -m proxy worker` on the folder and the settings of *server*."""

    def __init__(self, server: RunningServer, folder: Path, *words: str, **env: str) -> None:
        super().__init__(folder, {**server.env, **env})
        self._words = words

    @property
    def command(self) -> list[str]:
        """What starts it."""
        return [*super().command[:-1], "worker", "--concurrency", "1", *self._words]

    def start(self, seconds: float = START_S) -> Self:
        """Start it and wait until it works."""
        self.launch()
        assert self.output.wait_for(lambda line: "worker.begun" in line, seconds=seconds), self.output.text
        return self


@pytest.fixture(scope="module", autouse=True)
def _ffmpeg() -> None:
    films.provided()


@pytest.fixture
def apart(serve: Callable[..., RunningServer], tmp_path: Path) -> Callable[..., RunningServer]:
    """Starts servers that leave the work to others."""
    (tmp_path / "profiles.toml").write_text(SLOW)
    return lambda **env: serve(MEDIA_PROFILES=str(tmp_path / "profiles.toml"), **ONE_THREAD, **env)


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Work]:
    """Starts workers beside a server."""
    started: list[RunningWorker] = []

    def start(server: RunningServer, **env: str) -> RunningWorker:
        started.append(RunningWorker(server, tmp_path / f"worker{len(started)}", **env))
        return started[-1].start()

    try:
        yield start
    finally:
        for worker in started:
            worker.kill()


def results(client: Client, source: dict[str, Any]) -> list[str]:
    """The keys of the owner's assets but the source's."""
    return [asset["key"] for asset in client.get("/api/assets").json["assets"] if asset["key"] != source["key"]]


def test_a_job_waits_for_a_worker_and_a_stopped_worker_hands_it_back(
    apart: Callable[..., RunningServer], work: Work, tmp_path: Path
) -> None:
    server = apart()
    client = server.client("u7")
    source = client.stored(films.long(tmp_path, 10), "video/mp4")
    job = begun(client, source["key"], "slow")
    assert state(client, job) == "waiting"
    worker = work(server)
    assert until(lambda: works(worker))
    running = programs(worker)
    assert worker.stop() == 0
    assert all(named(one) == "" for one in running)
    found = client.get(f"/api/jobs/{job['id']}").json
    assert (found["state"], found["attempts"]) == ("waiting", 0)
    assert client.delete(f"/api/jobs/{job['id']}").status == 204
    other = begun(client, source["key"], "quick")
    work(server)
    (made,) = ended(client, other)["results"]
    assert results(client, source) == [made["key"]]


@pytest.mark.slow  # the lease of the dead
def test_the_job_of_a_killed_worker_is_done_by_another_and_ends_once(
    apart: Callable[..., RunningServer], work: Work, tmp_path: Path
) -> None:
    server = apart()
    client = server.client("u7")
    source = client.stored(films.long(tmp_path, 4), "video/mp4")
    job = begun(client, source["key"], "slow")
    first = work(server)
    assert until(lambda: works(first))
    running = programs(first)
    first.process.kill()
    first.wait()
    assert until(lambda: all(named(one) == "" for one in running))
    second = work(server)
    found = ended(client, job)
    assert (found["state"], found["attempts"]) == ("done", 2)
    assert results(client, source) == [made["key"] for made in found["results"]]
    film = films.look(client.get(found["results"][0]["url"]).body, tmp_path)
    assert abs(float(film["format"]["duration"]) - 4) < 0.2
    assert left(second) == []


@pytest.mark.slow
def test_a_job_outlives_a_restart_of_redis_and_its_owner_hears_of_it(
    apart: Callable[..., RunningServer], work: Work, redis: RedisServer, tmp_path: Path
) -> None:
    server = apart(REDIS_URL=redis.url)
    client = server.client("u7")
    source = client.stored(films.long(tmp_path, 4), "video/mp4")
    worker = work(server)
    with Stream(server, "u7") as stream:
        job = begun(client, source["key"], "slow")
        assert until(lambda: any(kind == "job.progress" and data["percent"] > 0 for _, kind, data in stream.events))
        redis.kill()
        redis.start()
        assert works(worker)
        found = ended(client, job)
        assert (found["state"], found["attempts"]) == ("done", 1)
        told = [data for _, kind, data in stream.events if kind == "asset.processed"]
        assert until(lambda: [data for _, kind, data in stream.events if kind == "asset.processed"] != []), told


def test_a_worker_without_ffmpeg_says_what_to_install(apart: Callable[..., RunningServer], tmp_path: Path) -> None:
    worker = RunningWorker(apart(), tmp_path / "worker", PATH=str(tmp_path))
    worker.launch()
    assert worker.wait() == 2
    assert "apt-get install ffmpeg" in worker.output.text


@pytest.mark.slow
def test_two_workers_do_each_job_once(apart: Callable[..., RunningServer], work: Work) -> None:
    server = apart()
    client = server.client("u7")
    sources = [client.stored(pictures.mp4(), "video/mp4") for _ in range(6)]
    jobs = [order(client, source["key"], "quick").json for source in sources]
    for _ in range(2):
        work(server)
    found = [ended(client, job) for job in jobs]
    assert [(job["state"], job["attempts"]) for job in found] == [("done", 1)] * 6
    assert len(json.loads(client.get("/api/assets").body)["assets"]) == 12


def test_a_worker_shows_its_figures_and_its_health(apart: Callable[..., RunningServer], tmp_path: Path) -> None:
    server = apart()
    port = free_port()
    worker = RunningWorker(server, tmp_path / "worker", "--metrics-port", str(port))
    with worker:
        client = server.client("u7")
        job = begun(client, client.stored(pictures.mp4(), "video/mp4")["key"], "quick")
        assert ended(client, job)["state"] == "done"
        shown = Client(f"http://127.0.0.1:{port}")
        assert 'media_job_seconds_count{outcome="done"} 1.0' in shown.get("/metrics").text
        assert shown.get("/health").json["status"] == "ok"

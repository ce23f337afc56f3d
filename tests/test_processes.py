"""Two processes as one service: what one does all see, what one has the others need not make, and none is missed when it dies."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests import pictures
from tests.kit.client import media
from tests.kit.doors import doors
from tests.kit.raw import Wire
from tests.kit.redis import RedisServer
from tests.kit.server import RunningServer
from tests.kit.waiting import until

Serve = Callable[..., RunningServer]
JPEG = "image/jpeg"
HEARD_S = 4.0
"""Who hears nothing of a change goes on for five seconds with what it remembers."""


@pytest.fixture(params=["alone", "redis"])
def service(request: pytest.FixtureRequest, serve: Serve) -> RunningServer:
    """Two processes, tied by their keeper alone, or by Redis too."""
    redis = request.getfixturevalue("redis").url if request.param == "redis" else None
    return serve(MEDIA_WORKERS="2", REDIS_URL=redis)


def servers(service: RunningServer) -> list[psutil.Process]:
    """The processes that answer requests, the oldest first; the keeper comes before them."""
    return sorted(service.process.children(), key=lambda child: child.pid)[1:]


def keeper(service: RunningServer) -> psutil.Process:
    """The process that has the picture workers."""
    return min((child for child in service.process.children() if child.children()), key=lambda child: child.create_time())


def next_keeper(service: RunningServer, old: psutil.Process) -> psutil.Process:
    """The one that took the place of *old*, once it makes pictures."""
    found: list[psutil.Process] = []

    def is_there() -> bool:
        with suppress(psutil.NoSuchProcess, ValueError):
            found[:] = [keeper(service)]
        return bool(found) and found[0].pid != old.pid and "renderer" in well(service)

    assert until(is_there)
    return found[0]


def well(service: RunningServer) -> set[str]:
    """The parts that are."""
    parts = service.client().get("/api/health").json["parts"]
    return {name for name, part in parts.items() if part["status"] == "ok"}


def listens(service: RunningServer) -> bool:
    """Whether anybody takes connections."""
    try:
        with service.wire():
            return True
    except ConnectionRefusedError:
        return False


def begun_upload(service: RunningServer, data: bytes) -> Wire:
    """A connection on which half of *data* has been sent, and is in the store's folder for what nobody sees."""
    wire = service.wire()
    head = f"POST /api/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.token('u7')}\r\nContent-Type: image/jpeg\r\n"
    wire.send(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data[: len(data) // 2])
    assert until(lambda: any((service.data / "media" / "tmp").iterdir()))
    return wire


class Load:
    """Requests one after the other from some threads; *failures* are those that were not answered as they should."""

    def __init__(self, ask: Callable[[], int], well: frozenset[int]) -> None:
        self._ask = ask
        self._well = well
        self._stop = threading.Event()
        self.count = 0
        self.failures: list[str] = []

    @contextmanager
    def running(self, threads: int = 4) -> Iterator[None]:
        """Within, requests are made."""
        with ThreadPoolExecutor(threads) as pool:
            for _ in range(threads):
                pool.submit(self._run)
            try:
                yield
            finally:
                self._stop.set()

    def passed(self, more: int = 40) -> bool:
        """Whether *more* requests were answered from now on."""
        before = self.count
        return until(lambda: self.count >= before + more)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                status = self._ask()
            except OSError as error:
                self.failures.append(repr(error))
            else:
                if status not in self._well:
                    self.failures.append(str(status))
            self.count += 1


def test_what_one_process_changes_the_other_sees_at_once(service: RunningServer) -> None:
    with doors(service, "u7") as (one, other):
        for first, second in ((one, other), (other, one)):
            key = first.stored(pictures.jpeg(320, 240), JPEG)
            for door in (first, second):
                assert door.get(media(key)).status == 200
                assert door.get(media(key, "w=100")).status == 200
            assert first.request("DELETE", media(key)).status == 204
            assert until(lambda: second.get(media(key, "w=100")).status == 404, HEARD_S)  # noqa: B023
            assert second.get(media(key)).status == 404
            assert second.get("/api/assets").json["assets"] == []


def test_what_one_process_has_made_the_other_finds(service: RunningServer) -> None:
    with doors(service, "u7") as (one, other):
        key = one.stored(pictures.jpeg(640, 480), JPEG)
        first = one.get(media(key, "w=300"))
        assert until(lambda: service.metric("media_variants_bytes") > 0)
        assert other.get(media(key, "w=300")).body == first.body
        assert service.metric("media_render_batches_total") == 1


def test_two_hundred_ask_two_processes_and_it_is_made_once(serve: Serve, redis: RedisServer) -> None:
    service = serve(MEDIA_WORKERS="2", REDIS_URL=redis.url)
    with doors(service, "u7") as (one, _):
        key = one.stored(pictures.jpeg(1600, 1200), JPEG)
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda _: service.client().get(media(key, "w=500&format=webp")), range(200)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert until(lambda: service.metric("media_request_seconds_count", route="media") == 200), "both processes have told"
    assert service.metric("media_renditions_total", found="miss") == 1
    assert service.metric("media_render_batches_total") == 1


def test_a_process_that_dies_while_it_makes_something_is_followed_by_one_that_waits(serve: Serve, redis: RedisServer) -> None:
    service = serve(MEDIA_WORKERS="2", REDIS_URL=redis.url)
    with doors(service, "u7") as (one, other):
        key = one.stored(pictures.jpeg(3000, 2000), JPEG)
        path = media(key, "w=2900&format=avif")
        with ThreadPoolExecutor(2) as pool:
            broken = pool.submit(one.get, path)
            assert until(lambda: b"media-proxy:1:l:" in redis.command("SCAN", "0", "MATCH", "*:l:*", "COUNT", "1000"))
            waiting = pool.submit(other.get, path)
            os.kill(one.process, signal.SIGKILL)
            with pytest.raises(OSError):
                broken.result(60)
            answer = waiting.result(60)
        assert answer.status == 200
        assert until(lambda: len(servers(service)) == 2)


def test_redis_in_every_state_is_noticed_by_nobody(serve: Serve, redis: RedisServer) -> None:
    service = serve(MEDIA_WORKERS="2", REDIS_URL=redis.url, MEDIA_CACHE_BYTES="100K")
    with doors(service, "u7") as (one, _):
        keys = [one.stored(pictures.jpeg(320 + number, 240), JPEG) for number in range(4)]
    expected = {key: service.client().get(media(key, "w=120")).body for key in keys}
    wrong: list[str] = []
    turn = iter(range(10**9))

    def ask() -> int:
        key = keys[next(turn) % len(keys)]
        answer = service.client().get(media(key, "w=120"))
        if answer.body != expected[key]:
            wrong.append(key)
        return answer.status

    load = Load(ask, frozenset({200}))
    with load.running():
        for away, back in ((redis.kill, redis.start), (redis.pause, redis.resume)):
            away()
            assert load.passed()
            with doors(service, "u7") as (one, other):
                key = one.stored(pictures.jpeg(200, 200), JPEG)
                assert other.get(media(key, "w=90")).status == 200
                assert one.request("DELETE", media(key)).status == 204
                assert until(lambda: other.get(media(key, "w=90")).status == 404, HEARD_S)  # noqa: B023
            back()
            assert load.passed()
        redis.command("CONFIG", "SET", "requirepass", "another one")
        redis.command("CLIENT", "KILL", "TYPE", "normal", password="another one")
        assert load.passed()
        assert until(lambda: service.client().get("/api/health").json["parts"]["redis"]["status"] == "failing")
        redis.command("CONFIG", "SET", "requirepass", redis.password, password="another one")
        assert until(lambda: service.client().get("/api/health").json["parts"]["redis"]["status"] == "ok")
    assert (load.failures, wrong) == ([], [])


def test_a_process_that_dies_is_replaced_and_nothing_acknowledged_is_lost(service: RunningServer) -> None:
    stored: list[str] = []

    def upload() -> int:
        answer = service.client("u7").upload(pictures.jpeg(64, 48), JPEG)
        if answer.status == 201:
            stored.append(answer.json["key"])
        return answer.status

    before = {server.pid for server in servers(service)}
    load = Load(upload, frozenset({201}))
    with load.running():
        assert load.passed(20)
        servers(service)[0].kill()
        assert load.passed(20)
        assert until(lambda: len(servers(service)) == 2 and {server.pid for server in servers(service)} != before)
        assert load.passed(20)
    assert len(load.failures) <= 4, "those that were on their way in the one that died"
    client = service.client("u7")
    assert {client.get(media(key)).status for key in stored} == {200}
    assert set(stored) <= {asset["key"] for asset in client.assets()}


def test_without_its_keeper_hits_go_on_and_pictures_are_made_again_soon(service: RunningServer) -> None:
    with doors(service, "u7") as (one, other):
        key = one.stored(pictures.jpeg(320, 240), JPEG)
        hit = other.get(media(key, "w=100")).body
        old = keeper(service)
        old.kill()
        old.wait(30)
        for _ in range(20):
            assert other.get(media(key, "w=100")).body == hit
        assert until(lambda: one.get(media(key, "w=110")).status == 200)
        assert keeper(service).pid != old.pid
        gone = one.stored(pictures.jpeg(100, 100), JPEG)
        assert other.get(media(gone, "w=50")).status == 200
        one.request("DELETE", media(gone))
        assert until(lambda: other.get(media(gone, "w=50")).status == 404, HEARD_S)


def test_a_reload_loses_no_request_and_reads_the_presets_again(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "presets.toml"
    file.write_text('[thumb]\nquery = "w=100"\n')
    service = serve(MEDIA_WORKERS="2", MEDIA_PRESETS=str(file))
    key = service.client("u7").stored(pictures.jpeg(320, 240), JPEG)["key"]
    load = Load(lambda: service.client().get(media(key, "preset=thumb")).status, frozenset({200}))
    with load.running():
        assert load.passed()
        before = {server.pid for server in servers(service)}
        file.write_text('[thumb]\nquery = "w=100"\n[card]\nquery = "w=200"\n')
        service.process.send_signal(signal.SIGHUP)
        assert until(lambda: len(servers(service)) == 2 and not before & {server.pid for server in servers(service)})
        assert load.passed()
        assert service.client().get(media(key, "preset=card")).status == 200
        file.write_text("this is no TOML")
        after = {server.pid for server in servers(service)}
        service.process.send_signal(signal.SIGHUP)
        assert until(lambda: any(line.get("event") == "presets.refused" for line in service.log_lines()))
        assert load.passed()
        assert {server.pid for server in servers(service)} == after
    assert load.failures == []


def test_a_stop_lets_requests_finish_and_takes_no_further_one(service: RunningServer) -> None:
    """Neither does the keeper hold the door open, also one that took another's place."""
    old = keeper(service)
    old.kill()
    next_keeper(service, old)
    film = random.Random(6).randbytes(24_000_000)
    service.place("u7/film.mp4", film, "video/mp4")
    data = pictures.jpeg(320, 240)
    with begun_upload(service, data) as wire, service.wire(receive_buffer=4096) as slow:
        slow.send(b"GET /api/media/u7/film.mp4 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert until(slow.readable)
        service.terminate()
        assert until(lambda: service.output.text.count("drain.begun") == 2)
        assert until(lambda: not listens(service))
        wire.send(data[len(data) // 2 :])
        assert wire.answer().status == 201
        assert slow.answer().body == film
    assert service.wait() == 0
    assert service.children() == []


def test_a_stop_is_heard_while_processes_start(tmp_path: Path) -> None:
    service = RunningServer(tmp_path, {"MEDIA_WORKERS": "4"})
    for _ in range(3):
        service.launch()
        try:
            assert service.output.wait_for(lambda line: "http://" in line, seconds=20) is not None
            service.terminate()
            assert service.wait(15) == 0
            assert service.children() == []
        finally:
            service.kill()


def test_what_a_process_that_was_killed_had_begun_is_cleared_away(serve: Serve) -> None:
    service = serve(MEDIA_WORKERS="2")
    data = pictures.jpeg(320, 240)
    tmp = service.data / "media" / "tmp"
    with begun_upload(service, data):
        (left,) = tmp.iterdir()
        os.kill(int(left.name.rpartition(".")[2][:8], 16), signal.SIGKILL)
        with begun_upload(service, data) as wire:
            assert until(lambda: not left.exists())
            wire.send(data[len(data) // 2 :])
            assert wire.answer().status == 201, "nothing that another is at work on was touched"
    assert until(lambda: not any(tmp.iterdir()))


def test_one_that_cannot_be_replaced_takes_nobody_with_it(serve: Serve) -> None:
    service = serve(MEDIA_WORKERS="2")
    spool, away = service.data / "spool", service.data / "spool.away"
    with doors(service, "u7") as (one, other):
        key = one.stored(pictures.jpeg(320, 240), JPEG)
        spool.rename(away)
        spool.write_text("no folder, so that nobody can start")
        psutil.Process(one.process).kill()
        assert until(lambda: service.output.text.count("server.cannot_start") > 1)
        assert other.get(media(key)).status == 200
    assert service.client().get(media(key)).status == 200
    spool.unlink()
    away.rename(spool)
    with doors(service) as two:
        assert {door.get(media(key)).status for door in two} == {200}


def test_a_keeper_that_stands_still_is_noticed(serve: Serve) -> None:
    service = serve(MEDIA_WORKERS="2")
    with doors(service, "u7") as (one, other):
        key = one.stored(pictures.jpeg(320, 240), JPEG)
        assert other.get(media(key, "w=100")).status == 200
        standing = keeper(service)
        standing.suspend()
        assert one.request("DELETE", media(key)).status == 204
        assert until(lambda: other.get(media(key, "w=100")).status == 404, 4.0), "others need not be told"
        standing.resume()


def test_when_all_is_killed_nothing_stays_and_the_next_start_finds_everything(service: RunningServer) -> None:
    key = service.client("u7").stored(pictures.jpeg(320, 240), JPEG)["key"]
    below = service.children()
    service.process.kill()
    assert psutil.wait_procs(below, 30)[1] == [], "keeper, servers and workers end with the process that has started them"
    service.wait()
    service.start()
    assert service.client().get(media(key)).status == 200


def test_figures_are_those_of_who_lives(serve: Serve) -> None:
    service = serve(MEDIA_WORKERS="2")
    key = service.client("u7").stored(pictures.jpeg(320, 240), JPEG)["key"]
    assert service.client().get(media(key, "w=100")).status == 200
    assert until(lambda: service.metric("media_variants_bytes") > 0 and service.metric("media_renditions_total", found="miss") == 1)
    old = keeper(service)
    old.kill()
    next_keeper(service, old)
    assert service.client("u7").delete(media(key)).status == 204
    assert until(lambda: service.metric("media_variants_bytes") == 0), "what the old one had, nobody has"
    assert service.metric("media_renditions_total", found="miss") == 1


def test_figures_are_those_of_all_processes(service: RunningServer) -> None:
    with doors(service) as two:
        for door in two:
            for _ in range(3):
                assert door.get("/api/openapi.json").status == 200
        for door in two:
            assert until(lambda: 'outcome="2xx",route="openapi"} 6.0' in door.get("/metrics").body.decode())  # noqa: B023
    assert service.metric("media_render_waiting") == 0


def test_a_second_service_on_the_folder_or_the_port_says_so(service: RunningServer) -> None:
    for further, words in (
        ({"MEDIA_PORT": "0"}, "another media-proxy uses the folder"),
        ({"MEDIA_PORT": str(service.port), "MEDIA_DATA_DIR": str(service.folder / "other")}, "Cannot listen on"),
    ):
        second = subprocess.run(
            service.command, env=service.env | further, cwd=service.folder, capture_output=True, text=True, timeout=30, check=False
        )
        assert second.returncode == 2
        assert words in second.stderr
        assert len(second.stderr.strip().splitlines()) == 1, second.stderr
    assert service.client().get("/api/health/live").status == 200


def test_what_cannot_start_ends_with_a_sentence(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "watermarks.toml"
    file.write_text("this is no TOML")
    with pytest.raises(AssertionError, match=r"exit status 2(.|\n)*MEDIA_WATERMARKS: .* is not usable"):
        serve(MEDIA_WORKERS="2", MEDIA_WATERMARKS=str(file))


def test_our_limits_hold_there_too(service: RunningServer) -> None:
    """gunicorn's way to start an aiohttp application would leave aiohttp's own in force."""
    answer = service.client("u7").upload(b"\x1f\x8b" + bytes(100), JPEG, headers={"Content-Encoding": "gzip"})
    assert answer.status == 415
    with service.wire() as wire:
        wire.send(b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert wire.answer().status == 400
    assert service.client().get("/api/health/live").headers["Server"] == "sav3-media-proxy"
    with doors(service) as two:
        assert {door.process for door in two} == {server.pid for server in servers(service)}

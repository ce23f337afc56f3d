"""What watches the service: a real Prometheus with the shipped rules, its alerts through a real Alertmanager, Grafana's queries."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
import yaml

from scripts import dashboards
from tests import pictures
from tests.kit import films
from tests.kit.clamd import Clamd
from tests.kit.clamd import provided as clamd_provided
from tests.kit.client import Client, media
from tests.kit.ports import free_port
from tests.kit.processor import TOKEN, RunningProcessor
from tests.kit.receiver import Receiver, hooked, listening
from tests.kit.redis import RedisServer
from tests.kit.redis import provided as redis_provided
from tests.kit.server import REPOSITORY, RunningServer
from tests.kit.shared import required
from tests.kit.stores import ObjectStore, provided
from tests.kit.waiting import until

DEPLOY = REPOSITORY / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
QUERIES = [
    (uid, panel.title, dashboards.chosen(expr))
    for uid, (_, panels) in dashboards.DASHBOARDS.items()
    for panel in panels
    for expr, _ in panel.queries
]
ONLY_AFTER_FAULTS = {"Refused for their rate", "Pushed out"}
"""Panels that are empty where all is well and nothing is set up for them."""
HASTE = ((r"for: \d+m", "for: 1s"), (r"\[(5m|30m|1h)\]", "[10s]"), (r"offset 1h", "offset 10s"), (r"> (1800|900)$", "> 3"))
"""What of the rules tests cannot wait for: how long something must hold, over which time is looked, and how old is old."""
UP_S = 60.0


def program(name: str) -> str:
    """Where a program is; skips the test where it is not, and fails it in CI."""
    name = f"prometheus-{name}" if name == "alertmanager" and shutil.which(name) is None else name
    found = shutil.which(name)
    if found is None:
        (pytest.fail if required() else pytest.skip)(f"{name} is not installed: apt-get install prometheus prometheus-alertmanager")
    return str(found)


def test_the_rules_hold_what_their_tests_say() -> None:
    for words in (("check", "rules", RULES), ("test", "rules", DEPLOY / "prometheus" / "rules_test.yml")):
        done = subprocess.run([program("promtool"), *words], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_finds_the_token_of_the_processor_where_the_stack_puts_it() -> None:
    jobs = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    (read,) = [job["authorization"]["credentials_file"] for job in jobs if "authorization" in job]
    written = yaml.safe_load((REPOSITORY / "docker-compose.media.yml").read_text())["services"]["prometheus"]["entrypoint"][-1]
    assert f"> {read}\n" in written


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"] if "alert" in rule]


def test_every_alert_has_a_test_and_a_page_that_says_what_to_do() -> None:
    tests = (DEPLOY / "prometheus" / "rules_test.yml").read_text()
    page = (REPOSITORY / "docs" / "monitoring.md").read_text()
    for rule in alerts():
        assert rule["alert"] in tests, rule["alert"]
        assert f"### {rule['alert']}\n" in page
        assert rule["annotations"]["runbook"] == f"docs/monitoring.md#{rule['alert'].lower()}"


def test_every_metric_that_is_asked_for_is_one_of_ours() -> None:
    known = set(re.findall(r"`(media_\w+)`", (REPOSITORY / "docs" / "operations.md").read_text()))
    asked = "\n".join([RULES.read_text(), *(expr for _, _, expr in QUERIES)])
    for name in set(re.findall(r"\bmedia_[a-z_]+\b", asked)):
        assert name in known or re.sub(r"_(bucket|count|sum)$", "", name) in known, name


def test_the_dashboards_are_what_the_script_writes() -> None:
    for uid in dashboards.DASHBOARDS:
        assert (dashboards.FOLDER / f"{uid}.json").read_text() == dashboards.text(uid), "python3 scripts/dashboards.py"
        assert len({panel["id"] for panel in dashboards.dashboard(uid)["panels"]}) == len(dashboards.DASHBOARDS[uid][1])


@dataclass
class Pager:
    """Whom Alertmanager calls: what it was told, by alert and state."""

    url: str = ""
    told: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def pager() -> Iterator[Pager]:
    heard = Pager()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            heard.told += [(alert["labels"]["alertname"], alert["status"]) for alert in document["alerts"]]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    heard.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def running(words: list[str], folder: Path, answers: Callable[[], bool]) -> Iterator[None]:
    """A program, from when it answers on."""
    log = folder / "log"
    folder.mkdir(exist_ok=True)
    with log.open("wb") as output, subprocess.Popen(words, cwd=folder, stdout=output, stderr=subprocess.STDOUT) as process:
        try:
            assert until(lambda: process.poll() is not None or answers(), UP_S)
            assert process.poll() is None, log.read_text(errors="replace")[-2000:]
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def ready(port: int) -> bool:
    try:
        return Client(f"http://127.0.0.1:{port}").get("/-/ready").status == 200
    except OSError:
        return False


@contextmanager
def alertmanager(folder: Path, called: Pager) -> Iterator[int]:
    """The shipped configuration, with what an older Debian knows: the receiver's address in the file itself; and in haste."""
    port = free_port()
    text = (DEPLOY / "alertmanager" / "alertmanager.yml").read_text()
    for told, here in (
        ("url_file: /etc/alertmanager/receiver", f"url: {called.url}"),
        ("group_wait: 30s", "group_wait: 1s"),
        ("group_interval: 5m", "group_interval: 1s"),
    ):
        assert told in text
        text = text.replace(told, here)
    folder.mkdir()
    file = folder / "alertmanager.yml"
    file.write_text(text)
    subprocess.run([program("amtool"), "check-config", file], check=True, capture_output=True, timeout=60)
    words = [program("alertmanager"), f"--config.file={file}", f"--storage.path={folder}", f"--web.listen-address=127.0.0.1:{port}"]
    with running([*words, "--cluster.listen-address="], folder, lambda: ready(port)):
        yield port


@contextmanager
def prometheus(folder: Path, targets: dict[str, int], alerts_to: int) -> Iterator[Client]:
    """The shipped configuration, where every name is a port of this machine, and everything is asked each second."""
    told = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert {job["job_name"] for job in told["scrape_configs"]} == targets.keys()
    folder.mkdir()
    (folder / "token").write_text(TOKEN)
    rules = RULES.read_text()
    for told_so, here in HASTE:
        assert re.search(told_so, rules, re.MULTILINE), told_so
        rules = re.sub(told_so, here, rules, flags=re.MULTILINE)
    (folder / "rules.yml").write_text(rules)
    told["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    told["rule_files"] = [str(folder / "rules.yml")]
    told["alerting"]["alertmanagers"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{alerts_to}"]}]
    for job in told["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": [f"127.0.0.1:{targets[job['job_name']]}"]}]
        if "authorization" in job:
            job["authorization"] = {"credentials_file": str(folder / "token")}
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(told))
    port = free_port()
    words = [program("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"]
    with running([*words, f"--web.listen-address=127.0.0.1:{port}"], folder, lambda: ready(port)):
        yield Client(f"http://127.0.0.1:{port}")


def asked(prometheus: Client, expr: str) -> list[dict[str, Any]]:
    """What an expression gives now: figures, and no NaN."""
    for told, here in (
        ("$__rate_interval", "30s"),
        ("[7d:1h]", "[1m:1s]"),
        ("[1d:5m]", "[1m:1s]"),
        ("$job", ".*"),
        ("$instance", ".*"),
    ):
        expr = expr.replace(told, here)
    answer = prometheus.get(f"/api/v1/query?query={quote(expr, safe='')}").json
    assert answer["status"] == "success", (expr, answer)
    found = answer["data"]["result"]
    return [one for one in found if one["value"][1] != "NaN"]


@dataclass
class Watch:
    """All that is watched, what watches it, and whom that wakes."""

    store: ObjectStore
    redis: RedisServer
    clamd: Clamd
    processor: RunningProcessor
    proxy: RunningServer
    worker: psutil.Popen
    back_end: Receiver
    called: Pager
    prometheus: Client

    @contextmanager
    def wakes(self, *alerts: str, meanwhile: Callable[[], object] = lambda: None) -> Iterator[None]:
        """Somebody is called for each of *alerts*, and when what is done within has ended that, they are told that it is over.

        *meanwhile* is done again and again.
        """
        self._told(alerts, "firing", meanwhile)
        yield
        self._told(alerts, "resolved", meanwhile)

    def _told(self, alerts: tuple[str, ...], state: str, meanwhile: Callable[[], object]) -> None:
        wanted = {(alert, state) for alert in alerts}
        assert until(lambda: (meanwhile(), wanted <= {*self.called.told})[1], UP_S), self.called.told


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    films.provided()
    folder = tmp_path_factory.mktemp("watched")
    with ExitStack() as stack:
        store = stack.enter_context(provided("minio", folder / "minio"))
        redis = stack.enter_context(redis_provided(folder / "redis"))
        clamd = stack.enter_context(clamd_provided(folder / "clamd"))
        processor = stack.enter_context(RunningProcessor(folder / "processor", free_port()))
        back_end = stack.enter_context(listening(Receiver()))
        env = {
            **store.settings(), **hooked(back_end), "MEDIA_LOCAL_STORE": "off", "MEDIA_JOB_WORKERS": "0",
            "PROCESSOR_URL": processor.url, "PROCESSOR_TOKEN": TOKEN, "MEDIA_DATA_DIR": str(folder / "data"),
            "MEDIA_PORT": str(free_port()), "REDIS_URL": redis.url, "CLAMAV_URL": clamd.url, "MEDIA_WEBHOOK_PAUSES": "1 4 8 8 8",
        }  # fmt: skip
        proxy = stack.enter_context(RunningServer(folder / "proxy", env))
        worker_port = free_port()
        words = [sys.executable, "-m", "proxy", "worker", "--metrics-port", str(worker_port)]
        worker = psutil.Popen(words, env=proxy.env, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(worker.wait, UP_S)
        stack.callback(worker.kill)
        called = stack.enter_context(pager())
        told = stack.enter_context(alertmanager(folder / "alertmanager", called))
        targets = {"media-proxy": proxy.port, "media-worker": worker_port, "media-processor": processor.port}
        watching = stack.enter_context(prometheus(folder / "prometheus", targets, told))
        assert until(lambda: {one["metric"]["job"] for one in asked(watching, "up == 1")} == targets.keys(), UP_S)
        yield Watch(store, redis, clamd, processor, proxy, worker, back_end, called, watching)


@pytest.fixture
def client(watch: Watch) -> Client:
    """A client, once nothing is wrong any more."""
    assert until(lambda: asked(watch.prometheus, 'ALERTS{alertstate="firing"}') == [], UP_S), (
        asked(watch.prometheus, 'ALERTS{alertstate="firing"}')
    )  # fmt: skip
    watch.called.told.clear()
    return watch.proxy.client("ann")


@pytest.mark.stack
@pytest.mark.timeout(400)
def test_every_panel_has_something_to_show(watch: Watch, client: Client) -> None:
    film = client.stored(pictures.mp4(320, 240, seconds=1), "video/mp4")["key"]
    job = client.post(f"/api/assets/{film}/jobs", b'{"profile": "360p"}', {"Content-Type": "application/json"}).json
    assert until(lambda: client.get(f"/api/jobs/{job['id']}").json["state"] == "done", UP_S)

    def shows(expr: str) -> bool:
        key = client.stored(pictures.jpeg(64, 48))["key"]
        client.get(media(key, "w=20"))
        client.get(media(key, "w=20"))
        client.get(media("ann/nothing.jpg"))
        return bool(asked(watch.prometheus, expr))

    for uid, title, expr in QUERIES:
        if title not in ONLY_AFTER_FAULTS:
            assert until(lambda expr=expr: shows(expr), UP_S), (uid, title, expr)  # type: ignore[misc]
    assert asked(watch.prometheus, 'ALERTS{alertstate="firing"}') == []
    assert watch.called.told == []


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_a_dead_store_wakes_somebody(watch: Watch, client: Client) -> None:
    key = client.stored(pictures.jpeg(64, 48))["key"]
    watch.store.kill()
    with watch.wakes("MediaStoreDown", "MediaStoresDown", meanwhile=lambda: client.get(media(key))):
        watch.store.start()


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_a_dead_scanner_and_the_errors_that_it_makes_wake_somebody(watch: Watch, client: Client) -> None:
    photo = pictures.jpeg(64, 48)
    watch.clamd.kill()
    with watch.wakes("MediaScannerDown", "MediaErrors", meanwhile=lambda: client.upload(photo)):
        watch.clamd.start()


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_a_dead_processor_wakes_somebody(watch: Watch, client: Client) -> None:
    key = client.stored(pictures.jpeg(64, 48))["key"]
    watch.processor.kill()
    assert client.get(media(key, "w=33")).status == 503
    with watch.wakes("MediaProcessorsGone", "MediaDown"):
        watch.processor.start()


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_a_queue_that_stands_still_wakes_somebody(watch: Watch, client: Client) -> None:
    film = client.stored(pictures.mp4(320, 240, seconds=1), "video/mp4")["key"]
    watch.worker.suspend()
    client.post(f"/api/assets/{film}/jobs", b'{"profile": "480p"}', {"Content-Type": "application/json"})
    with watch.wakes("MediaJobsOld", "MediaDown"):
        watch.worker.resume()


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_a_dead_redis_wakes_somebody(watch: Watch, client: Client) -> None:
    watch.redis.kill()
    with watch.wakes("MediaRedisDown", meanwhile=lambda: client.get(media("ann/nothing.jpg", "w=5"))):
        watch.redis.start()


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_a_back_end_that_takes_no_events_wakes_somebody(watch: Watch, client: Client) -> None:
    watch.back_end.answers[:] = [500] * 1000
    client.stored(pictures.jpeg(64, 48))
    with watch.wakes("MediaEventsOld", "MediaEventsDead"):
        watch.back_end.answers.clear()


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_what_is_found_bad_wakes_somebody(watch: Watch, client: Client) -> None:
    key = client.stored(pictures.jpeg(64, 48))["key"]
    with closing(sqlite3.connect(watch.proxy.data / "catalogue.sqlite")) as database, database:
        database.execute("UPDATE assets SET state = 'quarantined' WHERE key = ?", (key,))
    with watch.wakes("MediaQuarantined"):
        """After an hour, here ten seconds, it is news no more."""


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_a_dead_proxy_wakes_somebody(watch: Watch, client: Client) -> None:
    watch.proxy.kill()
    with watch.wakes("MediaDown"):
        watch.proxy.start()

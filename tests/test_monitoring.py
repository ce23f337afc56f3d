"""What watches the service: a real Prometheus with the shipped rules, its alerts through a real Alertmanager, Grafana's queries."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from scripts import dashboards
from tests import pictures
from tests.kit import films
from tests.kit.client import Client, media
from tests.kit.ports import free_port
from tests.kit.processor import TOKEN, RunningProcessor
from tests.kit.server import REPOSITORY, RunningServer
from tests.kit.shared import required
from tests.kit.stores import provided
from tests.kit.waiting import until

DEPLOY = REPOSITORY / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
QUERIES = [
    (uid, panel.title, expr) for uid, (_, panels) in dashboards.DASHBOARDS.items() for panel in panels for expr, _ in panel.queries
]
ONLY_AFTER_FAULTS = {
    "Refused for their rate",
    "Pushed out",
    "Events to the back end",
    "Redis",
    "What stores are owed",
    "Renditions on disk",
}
"""Panels that are empty, or have nothing to show, where all is well and nothing is set up for them."""
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
    (folder / "rules.yml").write_text(re.sub(r"for: \d+m", "for: 1s", rules))
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
    """What an expression gives now."""
    expr = expr.replace("$__rate_interval", "30s").replace("[7d:1h]", "[1m:1s]").replace("[1d:5m]", "[1m:1s]")
    answer = prometheus.get(f"/api/v1/query?query={quote(expr, safe='')}").json
    assert answer["status"] == "success", (expr, answer)
    found = answer["data"]["result"]
    assert isinstance(found, list)
    return found


@pytest.mark.stack
@pytest.mark.timeout(400)
def test_dashboards_have_something_to_show_and_a_dead_store_wakes_somebody(tmp_path: Path) -> None:
    films.provided()
    worker_port = free_port()
    with ExitStack() as stack:
        store = stack.enter_context(provided("minio", tmp_path / "minio"))
        processor = stack.enter_context(RunningProcessor(tmp_path / "processor"))
        env = {
            **store.settings(), "MEDIA_LOCAL_STORE": "off", "MEDIA_JOB_WORKERS": "0", "PROCESSOR_URL": processor.url,
            "PROCESSOR_TOKEN": TOKEN, "MEDIA_DATA_DIR": str(tmp_path / "data"),
        }  # fmt: skip
        proxy = stack.enter_context(RunningServer(tmp_path / "proxy", env))
        words = [sys.executable, "-m", "proxy", "worker", "--metrics-port", str(worker_port)]
        worker = subprocess.Popen(words, env=proxy.env, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(worker.wait, UP_S)
        stack.callback(worker.terminate)
        called = stack.enter_context(pager())
        told = stack.enter_context(alertmanager(tmp_path / "alertmanager", called))
        targets = {"media-proxy": proxy.port, "media-worker": worker_port, "media-processor": processor.port}
        watching = stack.enter_context(prometheus(tmp_path / "prometheus", targets, told))

        client = proxy.client("ann")
        film = client.stored(pictures.mp4(320, 240, seconds=1), "video/mp4")["key"]
        job = client.post(f"/api/assets/{film}/jobs", b'{"profile": "360p"}', {"Content-Type": "application/json"}).json
        assert until(lambda: client.get(f"/api/jobs/{job['id']}").json["state"] == "done", UP_S)

        def shows(expr: str) -> bool:
            key = client.stored(pictures.jpeg(64, 48))["key"]
            client.get(media(key, "w=20"))
            client.get(media(key, "w=20"))
            client.get(media("ann/nothing.jpg"))
            return bool(asked(watching, expr))

        for uid, title, expr in QUERIES:
            if not asked(watching, expr) and title not in ONLY_AFTER_FAULTS:
                assert until(lambda expr=expr: shows(expr), UP_S), (uid, title, expr)  # type: ignore[misc]
        assert {target["metric"]["job"] for target in asked(watching, "up == 1")} == targets.keys()
        assert asked(watching, 'ALERTS{alertstate="firing"}') == []

        store.kill()
        client.get(media(film))
        assert until(lambda: client.get("/api/health").status != 0 and ("MediaStoreDown", "firing") in called.told, UP_S), (
            called.told
        )
        store.start()
        assert until(lambda: ("MediaStoreDown", "resolved") in called.told, UP_S), called.told

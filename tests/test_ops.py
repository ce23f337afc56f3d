"""What an operator sees: start, health, metrics, log lines, the drain after SIGTERM, and sentences about bad settings."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.auth import Tokens
from tests import pictures
from tests.kit.client import Client, media
from tests.kit.files import padded
from tests.kit.raw import Cut, upload_head
from tests.kit.server import REPOSITORY, SECRET, RunningServer
from tests.kit.waiting import until

IDLE_RSS_BYTES = 100 << 20
IDLE_ALL_BYTES = 250 << 20
START_CPU_S = 6.0
"""four times what it takes on a quiet machine"""


# -- health and metrics -------------------------------------------------------------------------------------------------


def test_health_tells_every_part_and_nothing_of_the_machine(server: RunningServer, stranger: Client) -> None:
    document = stranger.get("/api/health").json
    assert document["status"] == "ok"
    assert {"store", "catalogue", "renderer"} <= document["parts"].keys()
    assert all(part["status"] == "ok" for part in document["parts"].values())
    assert str(server.data) not in json.dumps(document)
    assert SECRET not in json.dumps(document)


FORWARDED = [
    {"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}, {"X-Real-IP": "127.0.0.1"}, {"Via": "1.1 web"},
]  # fmt: skip


@pytest.mark.parametrize("headers", FORWARDED, ids=lambda headers: next(iter(headers)))
def test_what_is_inside_is_for_operators_only(server: RunningServer, stranger: Client, headers: dict[str, str]) -> None:
    assert stranger.get("/metrics", headers).status == 404
    assert stranger.get("/api/health", headers).json == {"status": "ok", "reads": "public", "transforms": "open"}
    assert server.client("me").get("/metrics", headers).status == 404
    admin = server.client("me", scope="media:admin")
    assert admin.get("/metrics", headers).status == 200
    assert admin.get("/api/health", headers).json["parts"]
    assert Client(server.url, "no.token.this").get("/metrics", headers).status == 401


def test_metrics_tell_what_is_held_what_was_made_and_what_was_refused(serve: Callable[..., RunningServer]) -> None:
    server = serve()
    photo = pictures.jpeg(64, 48)
    for owner, count in (("much", 2), ("little", 1)):
        for _ in range(count):
            key = server.client(owner).stored(photo)["key"]
    assert server.client().get(media(key, "w=20&format=webp")).status == 200
    assert server.client().get(media("nobody/nothing.jpg")).status == 404
    assert server.metric("media_renders_total", type="image/webp") == 1
    assert server.metric("media_problems_total", code="not-found") == 1
    assert server.metric("media_resident_bytes") > 10 << 20 or sys.platform != "linux"
    server.restart()  # it looks at its start, and then only now and then
    assert until(lambda: server.metric("media_stored_objects", store="local") == 3)
    assert server.metric("media_stored_bytes", store="local") == 3 * len(photo)
    owners = {series: value for series, value in server.metrics().items() if series.startswith("media_owner_bytes")}
    assert owners == {'media_owner_bytes{owner="much"}': 2 * len(photo), 'media_owner_bytes{owner="little"}': len(photo)}


def test_operators_are_in_the_networks_that_are_configured(serve: Callable[..., RunningServer]) -> None:
    server = serve(MEDIA_OPERATOR_NETWORKS="10.0.0.0/8, fd00::/8")
    assert Client(server.url).get("/metrics").status == 404
    assert server.client("me", scope="media:admin").get("/metrics").status == 200


@pytest.mark.parametrize("path", ["/api/health/live", "/api/health/ready", "/api/health"])
def test_health_is_never_kept(stranger: Client, path: str) -> None:
    answer = stranger.get(path)
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    assert stranger.head(path).status == 200


def test_ready_is_503_while_the_store_cannot_be_written(serve: Callable[..., RunningServer]) -> None:
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    server = serve()
    folders = [folder for folder in (server.data / "media").rglob("*") if folder.is_dir()] + [server.data / "media"]
    for folder in folders:
        folder.chmod(0o500)
    try:
        assert until(lambda: server.client().get("/api/health/ready").status == 503)
        assert server.client().get("/api/health/live").status == 200
    finally:
        for folder in folders:
            folder.chmod(0o700)
    assert until(lambda: server.client().get("/api/health/ready").status == 200)


def test_the_metrics_count_requests_bytes_renders_and_where_renditions_were(server: RunningServer, client: Client) -> None:
    photo = pictures.jpeg(100, 80)
    before = server.metrics()
    path = media(client.stored(photo)["key"])
    client.get(path)
    client.get(f"{path}?w=33")
    client.get(f"{path}?w=33")
    client.get("/api/media/u/nothing.jpg")
    after = server.metrics()

    def grown(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    assert grown('media_request_seconds_count{outcome="2xx",route="media"}') == 3
    assert grown('media_request_seconds_count{outcome="4xx",route="media"}') == 1
    assert grown('media_request_seconds_count{outcome="2xx",route="upload"}') == 1
    assert grown('media_received_bytes_total{route="upload"}') == len(photo)
    assert grown('media_sent_bytes_total{route="media"}') > len(photo)
    assert grown('media_uploads_total{kind="image",outcome="stored",way="body"}') == 1
    assert grown('media_renditions_total{found="miss"}') == 1
    assert grown('media_renditions_total{found="memory"}') == 1
    assert grown('media_render_seconds_count{outcome="ok"}') == 1


def test_hostile_requests_add_no_series(server: RunningServer, stranger: Client) -> None:
    stranger.get("/warm/up")
    stranger.request("BREW", "/warm/up")
    before = set(server.metrics())
    for number in range(50):
        stranger.get(f"/path{number}")
        stranger.get(f"/api/media/owner{number}/x.jpg?w={number}")
        stranger.request(f"METHOD{number}", "/api/upload")
    assert not {series for series in set(server.metrics()) - before if "media" not in series}
    assert len(set(server.metrics()) - before) <= 60, "a histogram or two of routes that had no failure before"


def test_each_request_writes_one_line_with_the_id_that_its_answer_carries(server: RunningServer, client: Client) -> None:
    for path, status in (("/api/assets", 200), ("/api/media/u/nothing.jpg", 404), ("/nothing", 404)):
        mark = server.output.mark
        answer = client.get(f"{path}?limit=5" if path == "/api/assets" else path)
        assert answer.status == status
        request_id = answer.headers["X-Request-ID"]
        assert server.output.wait_for(lambda line, wanted=request_id: wanted in line, since=mark)
        lines = [line for line in server.log_lines(mark) if line.get("id") == request_id]
        assert len(lines) == 1
        assert (lines[0]["method"], lines[0]["status"], lines[0]["path"]) == ("GET", status, path)
        assert lines[0]["event"]
        assert lines[0]["level"]
        assert lines[0]["timestamp"]


def test_no_token_secret_or_query_is_ever_logged(server: RunningServer, client: Client) -> None:
    token = client.token or ""
    client.get("/api/media/u/nothing.jpg?dl=hush-hush&w=10")
    client.get("/api/assets?cursor=hush-hush")
    Client(server.url, token + "x").get("/api/assets")
    client.get("/api/media/u/x.jpg?exp=1&s=hush-hush")
    text = server.output.text
    assert "hush-hush" not in text
    assert token.rpartition(".")[2] not in text
    assert SECRET not in text


def test_a_trace_in_the_log_tells_where_and_no_values() -> None:
    crash = (
        "import structlog; from proxy.observe import configure_logs; configure_logs('info')\n"
        "def crashing(token):\n"
        "    raise LookupError\n"
        "try: crashing('hush' + '-hush')\n"
        "except LookupError: structlog.get_logger().exception('request.crashed')"
    )
    done = subprocess.run([sys.executable, "-c", crash], cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=True)
    line = json.loads(done.stderr)
    assert line["exception"][0]["frames"][-1]["name"] == "crashing"
    assert "hush-hush" not in done.stderr


# -- the first start ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server without any configuration but its port and folder, just started."""
    with RunningServer(tmp_path_factory.mktemp("first"), {"JWT_SECRET": None}) as running:
        yield running


def test_the_first_start_makes_a_secret_that_only_its_user_can_read(first: RunningServer) -> None:
    file = first.data / "jwt-secret"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_text().strip()) >= 32
    assert file.read_text().strip() not in first.output.text


def test_the_commands_that_the_first_start_prints_work_as_they_stand(first: RunningServer) -> None:
    line = first.output.wait_for(lambda text: "curl " in text)
    assert line is not None
    assert "transforms: open" in first.output.text
    assert "reads: public" in first.output.text
    said = next(text for text in first.output.since(0) if "token --sub me" in text and "curl" not in text)
    mint = said.partition("token:")[2].strip()
    assert mint in line
    environment = {**first.env, "PATH": os.environ["PATH"]}
    token = subprocess.run(
        ["/bin/sh", "-c", mint], cwd=first.folder, env=environment, capture_output=True, text=True, timeout=30, check=True
    )
    assert Client(first.url, token.stdout.strip()).get("/api/assets").status == 200
    (first.folder / "photo.jpg").write_bytes(pictures.jpeg(20, 20))
    curl = line[line.index("curl ") :]
    made = subprocess.run(["/bin/sh", "-c", curl.replace("curl ", "curl -sS ", 1)], cwd=first.folder, env=environment,
        capture_output=True,
                          text=True, timeout=30, check=False)  # fmt: skip
    if "curl: not found" in made.stderr:
        pytest.skip("there is no curl on this machine")
    assert json.loads(made.stdout)["key"].startswith("me/")


def test_the_second_start_keeps_the_secret(first: RunningServer) -> None:
    secret = (first.data / "jwt-secret").read_text()
    first.restart()
    assert (first.data / "jwt-secret").read_text() == secret


def test_nothing_in_the_data_folder_can_be_read_by_others(first: RunningServer) -> None:
    def open_to_others(path: Path) -> bool:
        return bool(stat.S_IMODE(path.stat().st_mode) & 0o007)

    reachable = [first.data] if open_to_others(first.data) else []
    for folder in reachable:
        reachable += [path for path in folder.iterdir() if path.is_dir() and open_to_others(path)]
    files = [path for folder in reachable for path in folder.iterdir() if path.is_file()]
    assert [path for path in files if open_to_others(path)] == []


def test_it_answers_soon_and_idles_in_little_memory(serve: Callable[..., RunningServer]) -> None:
    server = serve()
    times = server.process.cpu_times()
    spent = times.user + times.system
    client = server.client("me")
    client.get(media(client.stored(pictures.jpeg(100, 100))["key"]) + "?w=50")
    print(f"start {spent:.2f} s of work, HTTP process {server.rss() >> 20} MiB, with workers {server.rss_of_all() >> 20} MiB")
    assert server.rss() < IDLE_RSS_BYTES
    assert server.rss_of_all() < IDLE_ALL_BYTES
    assert spent < START_CPU_S


UNASKED_DRAIN_S = 30
"""what a stop may wait for requests where MEDIA_DRAIN says nothing: an end well before it has waited for nothing"""


# -- stopping -----------------------------------------------------------------------------------------------------------


def test_sigterm_lets_an_upload_finish_and_takes_no_new_one(serve: Callable[..., RunningServer]) -> None:
    server = serve()
    data = padded(pictures.jpeg(8, 8), 200_000)
    with server.wire() as wire, server.wire() as idle:
        wire.send(upload_head(server.token("me"), f"Content-Length: {len(data)}", "Expect: 100-continue"))
        assert wire.interim() == 100
        wire.send(data[:100_000])
        idle.request("GET", "/api/health/live").answer()
        server.terminate()
        assert server.output.wait_for(lambda line: "drain" in line) is not None
        assert until(lambda: refused(server)), "new connections are still taken"
        answer = wire.send(data[100_000:]).answer()
        assert answer.status == 201
        assert idle.ended(), "an idle connection kept the server up"
    assert server.wait() == 0
    assert json.loads(answer.body)["size"] == len(data)
    server.start()
    assert server.client().get(media(json.loads(answer.body)["key"])).body == data


def refused(server: RunningServer) -> bool:
    """Whether a new connection is refused, or at least not served."""
    try:
        with server.wire(timeout_s=1) as wire:
            wire.request("GET", "/api/health/live").answer()
    except (OSError, Cut):
        return True
    return False


def test_an_upload_that_does_not_finish_within_the_drain_leaves_nothing(serve: Callable[..., RunningServer]) -> None:
    server = serve(MEDIA_DRAIN="1")
    with server.wire() as wire:
        wire.send(upload_head(server.token("me"), "Content-Length: 100000", "Expect: 100-continue"))
        assert wire.interim() == 100
        wire.send(padded(pictures.jpeg(8, 8), 100_000)[:50_000])
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < UNASKED_DRAIN_S - 5
    assert not [name for name in server.files() if (server.data / name).stat().st_size > 1000]
    server.start()
    assert server.client("me").assets() == []


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_an_idle_server_ends_at_once_with_status_0_and_no_children(serve: Callable[..., RunningServer], number: str) -> None:
    server = serve()
    client = server.client("me")
    client.get(media(client.stored(pictures.jpeg(100, 100))["key"]) + "?w=50")
    children = server.children()
    begun = time.monotonic()
    server.process.send_signal(getattr(signal, number))
    assert server.wait() == 0
    assert time.monotonic() - begun < UNASKED_DRAIN_S - 5
    assert until(lambda: not any(child.is_running() for child in children))
    assert "Traceback" not in server.output.text


def test_a_second_server_on_the_same_folder_or_port_says_so(server: RunningServer, tmp_path: Path) -> None:
    second = RunningServer(tmp_path, {"MEDIA_PORT": str(server.port)})
    second.launch()
    assert second.wait() != 0
    assert str(server.port) in second.output.text
    assert "Traceback" not in second.output.text


# -- bad settings -------------------------------------------------------------------------------------------------------


def started(tmp_path: Path, **env: str | None) -> tuple[int, str]:
    """Status and output of a start that must fail."""
    server = RunningServer(tmp_path / "bad", env)
    server.launch()
    try:
        status = server.wait()
    except subprocess.TimeoutExpired:
        server.kill()
        raise AssertionError(f"it started: {server.output.text}") from None
    return status, server.output.text


def test_every_fault_is_named_in_one_message(tmp_path: Path) -> None:
    bad = {
        "MEDIA_PORT": "99999", "MEDIA_READ_ACCESS": "everybody", "MEDIA_MAX_BYTES_IMAGE": "lots", "MEDIA_CORS_ORIGINS": "*",
        "JWT_SECRET": "hunter2hunter2",
        "MEDIA_IDLE_TIMEOUT": "-1", "MEDIA_PUBLIC_URL": "ftp://x",
    }  # fmt: skip
    status, text = started(tmp_path, **bad)
    assert status not in {0, 1}
    assert [name for name in bad if name not in text] == []
    assert "hunter2" not in text
    assert "Traceback" not in text


@pytest.mark.parametrize(("name", "value"), [
    ("JWT_SECRET", "your-256-bit-secret"), ("JWT_PUBLIC_KEY", "not a key"), ("MEDIA_DATA_DIR", "/dev/null/x"),
    ("MEDIA_HOST", "203.0.113.1"),
])  # fmt: skip
def test_a_bad_setting_stops_the_start_with_its_name_and_without_a_secret(tmp_path: Path, name: str, value: str) -> None:
    env: dict[str, str | None] = {name: value}
    if name == "JWT_PUBLIC_KEY":
        env["JWT_SECRET"] = None
    status, text = started(tmp_path, **env)
    assert status != 0
    assert name in text
    assert "Traceback" not in text
    assert "SECRET" not in name or value not in text


def test_a_token_for_somebody_who_cannot_own_keys_is_not_minted(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "JWT_SECRET": SECRET, "MEDIA_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "proxy", "token", "--sub", "../x"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert done.stdout == ""
    assert "--sub" in done.stderr
    assert "Traceback" not in done.stderr
    for sub in ("a/b", "", "x\ny"):
        with pytest.raises(ValueError, match="part of a key"):
            Tokens(SECRET, ("HS256",)).mint(sub, None, 60)


def test_the_openapi_document_and_the_pages_are_served(stranger: Client) -> None:
    assert stranger.get("/api/openapi.json").json["openapi"].startswith("3.1")
    page = stranger.get("/")
    assert page.headers.get_content_type() == "text/html"
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert re.search(r"<title>", page.text)
    assert stranger.get("/", {"If-None-Match": page.headers["ETag"]}).status == 304

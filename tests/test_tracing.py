"""Traces: what a request made every program of ours do, in one; and what it costs nobody when there are none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import pictures
from tests.kit.client import Client, media
from tests.kit.collector import Collector, Seen, collecting
from tests.kit.commands import command
from tests.kit.ports import free_port
from tests.kit.processor import TOKEN, RunningProcessor
from tests.kit.redis import provided
from tests.kit.server import SECRET, RunningServer
from tests.kit.waiting import until

PHOTO = pictures.jpeg(640, 480)
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "50"}
ABOVE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def traced(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A media proxy with Redis, whose pictures another program makes; both tell the collector."""
    folder = tmp_path_factory.mktemp("traced")
    env = SOON | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "PROCESSOR_TOKEN": TOKEN}
    with provided(folder / "redis") as redis, RunningProcessor(folder / "processor", **env) as processor:
        more = {"PROCESSOR_URL": processor.url, "REDIS_URL": redis.url, "OTEL_EXPORTER_OTLP_HEADERS": "x-key=a%20b"}
        with RunningServer(folder / "proxy", env | more) as server:
            yield server


def trace_of(server: RunningServer, request_id: str) -> str:
    """The trace that the log names for a request."""
    lines: list[str] = []

    def found() -> bool:
        lines[:] = [line["trace_id"] for line in server.log_lines() if line.get("id") == request_id]
        return bool(lines)

    assert until(found), "the log has no line of the request with a trace"
    return lines[0]


def spans_of(server: RunningServer, collector: Collector, request_id: str, names: set[str]) -> list[Seen]:
    """The spans of a request, once those with all *names* are there; ``program: name`` is one of another program than ours."""
    trace = trace_of(server, request_id)

    def there() -> set[str]:
        return {f"{span.service}: {span.name}" if "processor" in span.service else span.name for span in collector.of(trace)}

    assert until(lambda: names <= there()), " ".join(sorted(there()))
    return collector.of(trace)


def test_an_upload_and_a_rendition_are_one_trace_each_over_all_programs(traced: RunningServer, collector: Collector) -> None:
    client = traced.client("ann")
    stored = client.upload(PHOTO, "image/jpeg")
    names = {"POST upload", "local put", "inspect", "media-proxy-processor: inspect", "catalogue"}
    spans = spans_of(traced, collector, stored.headers["X-Request-ID"], names)
    assert {span.service for span in spans} == {"media-proxy", "media-proxy-processor"}
    key = stored.json["key"]

    made = client.get(media(key, "w=100&format=webp"))
    names = {"GET media", "local open", "redis", "render", "media-proxy-processor: render", "variants put"}
    spans = spans_of(traced, collector, made.headers["X-Request-ID"], names)
    by_id = {span.id: span for span in spans}
    (first,) = [span for span in spans if not span.parent]
    assert (first.name, first.about["http.response.status_code"]) == ("GET media", 200)
    assert all(span.parent in by_id for span in spans if span is not first)
    (there,) = [span for span in spans if span.service == "media-proxy-processor"]
    assert (there.name, by_id[there.parent].name, there.about["media.outcome"]) == ("render", "render", "ok")
    assert {asked["path"] for asked in collector.asked} == {"/v1/traces"}
    assert any(asked.get("x-key") == "a b" for asked in collector.asked)
    assert key not in repr(collector.spans), "what is an owner's"


def test_a_trace_that_comes_with_a_request_goes_on(traced: RunningServer, collector: Collector) -> None:
    parent = {"traceparent": f"00-{ABOVE}-00f067aa0ba902b7-01"}
    answer = Client(traced.url).get("/api/media/nobody/nothing.jpg", parent)
    assert trace_of(traced, answer.headers["X-Request-ID"]) == ABOVE
    (first,) = [
        span for span in spans_of(traced, collector, answer.headers["X-Request-ID"], {"GET media"}) if span.name == "GET media"
    ]
    assert (first.parent, first.has_failed, first.about["http.response.status_code"]) == ("00f067aa0ba902b7", False, 404)
    for wrong in ("00-" + "0" * 32 + "-00f067aa0ba902b7-01", "x" * 5000, "ff-1-2-3"):
        answer = Client(traced.url).get("/api/health/live", {"traceparent": wrong})
        assert answer.status == 200
        assert trace_of(traced, answer.headers["X-Request-ID"]) != ABOVE


def test_durations_lead_to_traces(traced: RunningServer, collector: Collector) -> None:
    answer = Client(traced.url).get("/api/media/nobody/else.jpg")
    trace = trace_of(traced, answer.headers["X-Request-ID"])
    page = Client(traced.url).get("/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})
    assert page.headers["Content-Type"].startswith("application/openmetrics-text")
    assert page.text.endswith("# EOF\n")
    lines = [line for line in page.text.splitlines() if line.startswith("media_request_seconds_bucket") and trace in line]
    assert len(lines) == 1
    assert re.search(r'outcome="4xx",route="media".* # \{trace_id="[0-9a-f]{32}"\} 0\.\d+', lines[0])
    plain = Client(traced.url).get("/metrics")
    assert plain.headers["Content-Type"].startswith("text/plain")
    assert "trace_id" not in plain.text


def test_several_processes_tell_of_themselves(collector: Collector, tmp_path: Path) -> None:
    env = SOON | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "MEDIA_WORKERS": "2", "OTEL_SERVICE_NAME": "several"}
    with RunningServer(tmp_path, env) as server:
        stored = server.client("ann").upload(PHOTO)
        spans = spans_of(server, collector, stored.headers["X-Request-ID"], {"POST upload", "inspect"})
        assert {span.service for span in spans} == {"several"}
        page = Client(server.url).get("/metrics", {"Accept": "application/openmetrics-text"})
        assert page.text.endswith("# EOF\n")


def test_a_collector_that_is_away_or_slow_delays_nobody(tmp_path: Path) -> None:
    env = SOON | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with RunningServer(tmp_path, env) as server:
        client = server.client("ann")
        key = client.stored(PHOTO)["key"]
        assert client.get(media(key, "w=50")).status == 200
        assert server.output.wait_for(lambda line: "traces.lost" in line)
        assert server.stop() == 0
        assert server.output.text.count("traces.lost") == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
    ],
)
def test_what_cannot_be_right_stops_the_start(name: str, value: str, tmp_path: Path) -> None:
    done = command({"MEDIA_DATA_DIR": str(tmp_path), "JWT_SECRET": SECRET, name: value}, "serve")
    assert done.returncode == 2
    assert name in done.stderr


def test_who_is_not_sampled_has_no_exemplar(collector: Collector, tmp_path: Path) -> None:
    env = SOON | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_TRACES_SAMPLER": "always_off"}
    with RunningServer(tmp_path, env) as server:
        before = len(collector.spans)
        assert server.client("ann").stored(PHOTO)
        page = Client(server.url).get("/metrics", {"Accept": "application/openmetrics-text"})
        assert "trace_id" not in page.text
        assert server.stop() == 0
        assert len(collector.spans) == before

"""Every metric, in one list, and how log lines are written. Labels come from closed sets: never a key or a path, and owners
only as the few who have most."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import orjson
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest, multiprocess
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample
from prometheus_client.utils import floatToGoString

from processors import tracing

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
EDGES = (*map(floatToGoString, SECONDS), "+Inf")
JOB_SECONDS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
REFRESH_S = 1.0
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
METRICS_FOLDER = "metrics"
"""of the data folder: where several processes write their figures down"""
TRACES = structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=30)
"""Of a crash the log has where, and never the values: tokens and file names are among them."""


def process_ended(process: int) -> None:
    """What the *process* has counted stays; what it had, it has no more."""
    multiprocess.mark_process_dead(process)  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of one process, on a registry of their own.

    *shared*: those of all processes that have the same PROMETHEUS_MULTIPROC_DIR are shown together.
    """

    def __init__(self, *, shared: bool = False) -> None:
        self._shared = shared
        self._reads: list[tuple[Gauge, Callable[[], float]]] = []
        self.registry = registry = CollectorRegistry()
        self._requests = Histogram(
            "media_request_seconds", "Requests by route and outcome (2xx … 5xx, gone: the client left)", ["route", "outcome"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self._in = Counter("media_received_bytes", "Bytes of request bodies taken", ["route"], registry=registry)
        self._out = Counter("media_sent_bytes", "Bytes of answers' bodies sent", ["route"], registry=registry)
        self._renders = Histogram(
            "media_render_seconds", "Renditions made, with their wait in the queue", ["outcome"], buckets=SECONDS, registry=registry
        )
        self._cache = Counter(
            "media_renditions",
            "Where renditions were found: memory, shared, stored, or miss",
            ["found"],
            registry=registry,
        )
        self._batches = Counter(
            "media_render_batches", "Jobs of workers, each for the renditions of one source that were asked for together",
            registry=registry,
        )  # fmt: skip
        self._evicted = Counter(
            "media_variants_evicted", "Renditions in the local store that made room for others", registry=registry
        )
        self._uploads = Counter(
            "media_uploads", "Uploads by kind of media, outcome, and how they came: body, form, tus, chunks, promise",
            ["kind", "outcome", "way"], registry=registry,
        )  # fmt: skip
        self._stored = Counter(
            "media_uploaded_bytes", "Bytes of uploads that were stored, by how they came", ["way"], registry=registry
        )
        self._scans = Histogram(
            "media_scan_seconds", "What a scanner took for its verdict behind the last byte, by outcome: clean, infected, "
            "unscannable, unavailable", ["outcome"], buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self._stores = Counter(
            "media_store_events", "What stores did for each other: writes and reads taken over, debts paid", ["event", "store"],
            registry=registry,
        )  # fmt: skip
        self._events = Counter("media_events_sent", "Attempts to tell the back end of an event", ["outcome"], registry=registry)
        for outcome in ("delivered", "failed", "dead"):
            self._events.labels(outcome)  # there from the start: the first of a kind is an increase, too
        self._notifications = Counter(
            "media_notifications", "What stores told of their buckets, by what became of it", ["outcome"], registry=registry
        )
        self._jobs = Histogram(
            "media_job_seconds", "Jobs worked on, by outcome: done, failed, put off, lost (cancelled, or taken over)", ["outcome"],
            buckets=JOB_SECONDS, registry=registry,
        )  # fmt: skip
        for outcome in ("done", "failed"):
            self._jobs.labels(outcome)
        self._processed = Histogram(
            "media_processor_seconds", "Jobs of `media-proxy processor`, by what was asked and how it ended", ["do", "outcome"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self._asked = Counter(
            "media_processor_attempts", "Attempts to have work done by a processor, by outcome: ok, refused (by what the file is), "
            "busy, lost, local (this machine did it), nobody", ["outcome"], registry=registry,
        )  # fmt: skip
        self._limited = Counter("media_rate_limited", "Requests refused because of a rate limit", ["limit"], registry=registry)
        self._redis = Counter(
            "media_redis_commands", "Commands to Redis by outcome: ok, late (no answer within 50 ms), failed", ["outcome"],
            registry=registry,
        )  # fmt: skip
        self._up = Gauge(
            "media_store_up", "Whether a store is asked (1) or left alone for a while (0)", ["store"], registry=registry,
            multiprocess_mode="livemin",
        )  # fmt: skip
        self._owed = Gauge(
            "media_store_debts",
            "Copies and removals that a store is owed",
            ["store"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._exemplars: dict[tuple[str, str, str], Exemplar] = {}
        """the last trace of each bucket: routes and outcomes are few"""
        self._durations: dict[tuple[str, str], tuple[list[int], list[float]]] = {}
        self._problems = Counter("media_problems", "Requests that ended in a problem, by its code", ["code"], registry=registry)
        self._made = Counter("media_renders", "Renditions made, by their type", ["type"], registry=registry)
        self._tables = CollectorRegistry()
        self._sent: dict[str, int] = {}
        self._found: dict[str, int] = {}

    def request(self, route: str, outcome: str, seconds: float, sent: int, trace_id: str | None = None) -> None:
        """Count an answered request. There is one for every hit, and the library takes 2 to 3 us for each figure: so they are
        gathered here, and given to it when somebody looks, and each second where several processes count.
        """
        series = self._durations.get((route, outcome))
        if series is None:
            series = self._durations[route, outcome] = ([0] * (len(SECONDS) + 1), [0.0])
        bucket = bisect_left(SECONDS, seconds)
        series[0][bucket] += 1
        if trace_id is not None:
            self._exemplars[route, outcome, EDGES[bucket]] = Exemplar({"trace_id": trace_id}, seconds, time.time())
        series[1][0] += seconds
        self._sent[route] = self._sent.get(route, 0) + sent

    def received(self, route: str, size: int) -> None:
        self._in.labels(route).inc(size)

    def cache(self, found: str) -> None:
        self._found[found] = self._found.get(found, 0) + 1

    def upload(self, kind: str, outcome: str, way: str, size: int = 0) -> None:
        """An upload has come to its end; *size* bytes of it are stored."""
        self._uploads.labels(kind, outcome, way).inc()
        if size:
            self._stored.labels(way).inc(size)

    def scanned(self, outcome: str, seconds: float) -> None:
        """A scanner has said what it thinks of a body, or has not."""
        self._scans.labels(outcome).observe(seconds)

    @contextmanager
    def rendering(self) -> Iterator[None]:
        """Time a rendition and count how it ends: ok, or refused."""
        begun = time.perf_counter()
        outcome = "refused"
        try:
            yield
            outcome = "ok"
        finally:
            self._renders.labels(outcome).observe(time.perf_counter() - begun)

    def problem(self, code: str) -> None:
        """A request ended in a problem."""
        self._problems.labels(code).inc()

    def made(self, content_type: str) -> None:
        """A rendition was made."""
        self._made.labels(content_type).inc()

    def batch(self) -> None:
        self._batches.inc()

    def evicted(self) -> None:
        self._evicted.inc()

    def gauge(self, name: str, about: str, read: Callable[[], float], *, least: bool = False, most: bool = False) -> None:
        """Show *read()* as the gauge *name* whenever the metrics are asked for; of several processes the sum, *least* or *most*."""
        of_several: Literal["livemin", "livemax", "livesum"] = "livemin" if least else "livemax" if most else "livesum"
        self._show(Gauge(name, about, registry=self.registry, multiprocess_mode=of_several), read)

    def table(self, name: str, about: str, label: str, read: Callable[[], Mapping[str, float]]) -> None:
        """Show *read()* as the gauge *name*, a series for each entry: only those that there are now, as this process knows them."""
        self._tables.register(_Table(name, about, label, read))

    def figure(self, name: str, about: str, read: Callable[[], float]) -> None:
        """Show *read()* as the gauge *name*: something that is the same for all processes, as this one knows it."""
        self._tables.register(_Table(name, about, None, lambda: {"": read()}))

    def store(self, name: str, is_asked: Callable[[], bool], owed: Callable[[], float]) -> None:
        """Show whether the store *name* is asked, and how much it is owed, whenever the metrics are asked for."""
        self._show(self._up.labels(name), is_asked)
        self._show(self._owed.labels(name), owed)

    def store_event(self, event: str, store: str) -> None:
        self._stores.labels(event, store).inc()

    def event(self, outcome: str) -> None:
        self._events.labels(outcome).inc()

    def notification(self, outcome: str) -> None:
        self._notifications.labels(outcome).inc()

    def job(self, outcome: str, seconds: float) -> None:
        self._jobs.labels(outcome).observe(seconds)

    def processed(self, do: str, outcome: str, seconds: float) -> None:
        """A processor has come to the end of a job."""
        self._processed.labels(do, outcome).observe(seconds)

    def asked(self, outcome: str) -> None:
        """A processor was asked for something."""
        self._asked.labels(outcome).inc()

    def limited(self, limit: str) -> None:
        self._limited.labels(limit).inc()

    def redis(self, outcome: str) -> None:
        self._redis.labels(outcome).inc()

    def page(self, accept: str) -> tuple[bytes, str]:
        """The metrics and their type, as *accept* asks: in OpenMetrics, where durations lead to traces, or in Prometheus' text."""
        self._refresh()
        shown = self.registry
        if self._shared:
            shown = CollectorRegistry()
            multiprocess.MultiProcessCollector(shown)  # type: ignore[no-untyped-call]
        if "application/openmetrics-text" not in accept:
            return generate_latest(shown) + generate_latest(self._tables), CONTENT_TYPE_LATEST
        everything = CollectorRegistry()
        everything.register(_Leading(shown, self._exemplars))
        everything.register(self._tables)
        body: bytes = openmetrics.generate_latest(everything)  # type: ignore[no-untyped-call]
        return body, openmetrics.CONTENT_TYPE_LATEST

    async def refresh_for_ever(self) -> None:
        """Write down each second what gauges show, so that other processes can show it."""
        while True:
            self._refresh()
            await asyncio.sleep(REFRESH_S)

    def _show(self, gauge: Gauge, read: Callable[[], float]) -> None:
        if self._shared:  # the library has no functions there
            self._reads.append((gauge, read))
        else:
            gauge.set_function(read)

    def _refresh(self) -> None:
        for gauge, read in self._reads:
            gauge.set(read())
        for labels, (counts, total) in self._durations.items():
            series = self._requests.labels(*labels)
            for number, count in enumerate(counts):
                if count:
                    series._buckets[number].inc(count)  # the library has no way to add many observations at once
            series._sum.inc(total[0])
            counts[:] = [0] * len(counts)
            total[0] = 0.0
        for route, sent in self._sent.items():
            self._out.labels(route).inc(sent)
        for found, count in self._found.items():
            self._cache.labels(found).inc(count)
        self._sent.clear()
        self._found.clear()


class _Leading(Collector):
    """What *shown* has, with *exemplars* at the buckets of requests."""

    def __init__(self, shown: CollectorRegistry, exemplars: Mapping[tuple[str, str, str], Exemplar]) -> None:
        self._shown = shown
        self._exemplars = exemplars

    def collect(self) -> Iterable[Metric]:
        for family in self._shown.collect():
            if family.name == "media_request_seconds":
                family.samples = [sample._replace(exemplar=self._of(sample)) for sample in family.samples]
            yield family

    def _of(self, sample: Sample) -> Exemplar | None:
        labels = sample.labels
        return self._exemplars.get((labels["route"], labels["outcome"], labels["le"])) if "le" in labels else None


class _Table(Collector):
    def __init__(self, name: str, about: str, label: str | None, read: Callable[[], Mapping[str, float]]) -> None:
        self._family = (name, about, label)
        self._read = read

    def collect(self) -> Iterable[GaugeMetricFamily]:
        name, about, label = self._family
        labels = [] if label is None else [label]
        family = GaugeMetricFamily(name, about, labels=labels)
        for entry, value in self._read().items():
            family.add_metric([entry] if labels else [], value)
        yield family


def resident_bytes(process: int | str = "self") -> float:
    """Memory of a process that is in RAM, 0 where the system does not tell (no /proc)."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return float(pages * PAGE_BYTES)


def configure_logs(level: str) -> None:
    """Write log lines to standard error: JSON, or readable columns on a terminal."""
    on_terminal = sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
        if on_terminal
        else structlog.processors.JSONRenderer(serializer=orjson.dumps, default=repr)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _with_trace,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if on_terminal else [structlog.processors.ExceptionRenderer(TRACES)]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level.lower()),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr) if on_terminal else structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Forwarded()], force=True)


def _with_trace(log: Any, method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    if (trace_id := tracing.trace_id()) is not None:
        line["trace_id"] = trace_id
    return line


class _Forwarded(logging.Handler):
    """Brings what libraries and the workers' pool log into our form: one line each."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger(record.name).log(
            record.levelno, "library.logged", logger=record.name, message=record.getMessage()[:1000], exc_info=record.exc_info
        )


class AccessLog:
    """Writes the line of each answered request. As structlog would, in a third of its time: there is one for every hit."""

    def __init__(self) -> None:
        self._log = structlog.get_logger(__name__).bind()
        as_json = isinstance(structlog.get_config()["logger_factory"], structlog.BytesLoggerFactory)
        self._direct = as_json and self._log.is_enabled_for(logging.INFO)

    def write(self, line: dict[str, Any]) -> None:
        """Write *line* at level info."""
        if not self._direct:
            self._log.info("request", **line)
            return
        line |= {"event": "request", "level": "info", "timestamp": datetime.now(UTC)}
        sys.stderr.buffer.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z))
        sys.stderr.buffer.flush()

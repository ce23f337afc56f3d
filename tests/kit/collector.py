"""A collector of traces: OTLP over HTTP, as OpenTelemetry's own takes it, which keeps what it gets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Seen:
    """A span of *service*, by its *name*; *parent* is empty at a trace's first. Of *about* only texts and numbers."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    about: dict[str, Any]
    has_failed: bool


class Collector:
    """What came so far; *asked* are the headers of each request."""

    def __init__(self) -> None:
        self.spans: list[Seen] = []
        self.asked: list[dict[str, str]] = []
        self.url = ""

    def of(self, trace: str) -> list[Seen]:
        """The spans of one trace."""
        return [span for span in self.spans if span.trace == trace]

    def take(self, body: bytes) -> None:
        """Keep what a request brings."""
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            program = {one.key: one.value.string_value for one in resource.resource.attributes}
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                about = {one.key: one.value.string_value or one.value.int_value for one in span.attributes}
                ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                self.spans.append(Seen(program["service.name"], span.name, *ids, about, span.status.code == 2))


@contextmanager
def collecting() -> Iterator[Collector]:
    """A running one."""
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.asked.append({name.lower(): value for name, value in self.headers.items()} | {"path": self.path})
            found.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is said."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

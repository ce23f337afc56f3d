"""What one request makes others do, and how long each takes: spans, as OpenTelemetry has them, one trace for all programs.

Off, as it is unless `started`, nothing of it is imported, and a span costs a look at one name. There is one for the process, like
its log. Spans are for what a request waits for: what nobody asked for begins none, unless it says so (`begun`).
"""

from __future__ import annotations

import ipaddress
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from processors.errors import MediaError

PARENT = ("traceparent", "tracestate")
"""The headers of W3C Trace Context."""
LAST_WORDS_S = 3.0
"""for what is not exported yet when a program stops"""
About = Mapping[str, str | int | float]
"""Attributes, by the names of OpenTelemetry's semantic conventions, or ours: ``media.…``. Never a key: that is its owner's."""
Networks = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]

_tracing: _Tracing | None = None


@dataclass(frozen=True, slots=True)
class Export:
    """Where spans go: an OTLP/HTTP *endpoint* without its path, with *headers*. *service* is what this program is called there.

    *sampler* and *ratio* are those of OTEL_TRACES_SAMPLER, *resource* further attributes of the program. *heeded* are the networks
    whose requests may belong to a trace of theirs; None: all.
    """

    endpoint: str
    service: str
    version: str
    headers: Mapping[str, str]
    resource: Mapping[str, str]
    sampler: str
    ratio: float
    heeded: Networks | None = None


class Span:
    """Something that is being done; enter it. This one is of who traces nothing."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """It has ended."""

    def rename(self, name: str) -> None:
        """Call it *name*."""

    def say(self, about: About) -> None:
        """What is known of it now."""

    def trace_id(self, *, kept: bool = False) -> str | None:
        """The trace that it belongs to, in hexadecimal; with *kept* only where that is exported."""
        return None


NOTHING = Span()


def span(name: str, about: About | None = None) -> Span:
    """A part of what is being done for a request; nothing where there is none."""
    return NOTHING if _tracing is None else _tracing.part(name, about)


def begun(name: str, about: About | None = None) -> Span:
    """The first of a trace: something that is done for nobody who waits."""
    return NOTHING if _tracing is None else _tracing.first(name, about)


def served(name: str, headers: Mapping[str, str], remote: str | None) -> Span:
    """A request from *remote*; a part of the trace that its *headers* name, where that is one of those who are heeded."""
    return NOTHING if _tracing is None else _tracing.request(name, headers, remote)


def is_on() -> bool:
    """Whether there are spans at all."""
    return _tracing is not None


def headers() -> dict[str, str]:
    """What to send along so that what another program does becomes a part of this trace."""
    return {} if _tracing is None else _tracing.headers()


def trace_id() -> str | None:
    """The trace that this is done for, in hexadecimal."""
    return None if _tracing is None else _identity(_tracing.trace.get_current_span())


@contextmanager
def started(export: Export | None, noted: Callable[[str | None], None]) -> Iterator[None]:
    """Trace until the end of the block, if *export* says where to; raises ImportError without OpenTelemetry.

    Spans wait in a queue of fixed length, and go out in a thread of their own; what finds no room is dropped. *noted* hears of the
    first failure (why) and of the first success after one (None), in that thread. To be called after a fork.
    """
    global _tracing  # noqa: PLW0603
    if export is None:
        yield
        return
    _tracing = tracing = _Tracing(export, noted)
    try:
        yield
    finally:
        _tracing = None
        tracing.stop()


class _Tracing:
    """OpenTelemetry's tracer, and what of its library is used all the time."""

    def __init__(self, export: Export, noted: Callable[[str | None], None]) -> None:
        from opentelemetry import context, trace  # noqa: PLC0415 - an extra, and 8 MiB
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider, sampling  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        class Noted(SpanExporter):
            """Says once that spans do not arrive, and once that they do again; the library would for every batch."""

            def __init__(self) -> None:
                self._far = OTLPSpanExporter(endpoint=f"{export.endpoint.rstrip('/')}/v1/traces", headers=dict(export.headers))
                self._is_well = True

            def export(self, spans: Any) -> Any:
                result = self._far.export(spans)
                is_well = result is SpanExportResult.SUCCESS
                if is_well is not self._is_well:
                    noted(None if is_well else "they could not be delivered")
                self._is_well = is_well
                return result

            def shutdown(self) -> None:
                self._far.shutdown()  # type: ignore[no-untyped-call]

        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        root = {
            "always_on": sampling.ALWAYS_ON,
            "always_off": sampling.ALWAYS_OFF,
            "traceidratio": sampling.TraceIdRatioBased(export.ratio),
        }[export.sampler.removeprefix("parentbased_")]
        instance = f"{os.uname().nodename}-{os.getpid()}"
        about = {"service.name": export.service, "service.version": export.version, "service.instance.id": instance}
        self._provider = TracerProvider(
            sampler=sampling.ParentBased(root) if export.sampler.startswith("parentbased_") else root,
            resource=Resource.create({**about, **export.resource}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(Noted()))
        self._tracer = self._provider.get_tracer("media-proxy", export.version)
        self._heeded = export.heeded
        self._propagator = TraceContextTextMapPropagator()
        self._kinds = trace.SpanKind
        self.context = context
        self.trace = trace

    def part(self, name: str, about: About | None) -> Span:
        if not self.trace.get_current_span().get_span_context().is_valid:
            return NOTHING
        return _Real(self, self._tracer.start_span(name, kind=self._kinds.CLIENT, attributes=about))

    def first(self, name: str, about: About | None) -> Span:
        nobodys = self.context.Context()
        return _Real(self, self._tracer.start_span(name, nobodys, kind=self._kinds.CONSUMER, attributes=about))

    def request(self, name: str, headers: Mapping[str, str], remote: str | None) -> Span:
        around = self.context.Context()
        if self._heeds(remote):
            said = {header: headers[header] for header in PARENT if header in headers}
            around = self._propagator.extract(said, around)
        return _Real(self, self._tracer.start_span(name, around, kind=self._kinds.SERVER))

    def _heeds(self, remote: str | None) -> bool:
        if self._heeded is None:
            return True
        try:
            address = ipaddress.ip_address((remote or "").partition("%")[0])
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._heeded)

    def headers(self) -> dict[str, str]:
        said: dict[str, str] = {}
        self._propagator.inject(said)
        return said

    def stop(self) -> None:
        # The library waits for half a minute and more where nobody takes what is left.
        last = threading.Thread(target=self._provider.shutdown, daemon=True)
        last.start()
        last.join(LAST_WORDS_S)


class _Real(Span):
    __slots__ = ("_span", "_token", "_tracing")

    def __init__(self, tracing: _Tracing, span: Any) -> None:
        self._tracing = tracing
        self._span = span

    def __enter__(self) -> Self:
        self._token = self._tracing.context.attach(self._tracing.trace.set_span_in_context(self._span))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._tracing.context.detach(self._token)
        if error is not None:
            # Never the text of an error: it may name files and keys.
            self._span.set_attribute("error.type", error.slug if isinstance(error, MediaError) else type(error).__name__)
            if error.status >= 500 if isinstance(error, MediaError) else isinstance(error, Exception):
                self._span.set_status(self._tracing.trace.StatusCode.ERROR)
        self._span.end()

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def say(self, about: About) -> None:
        self._span.set_attributes(about)

    def trace_id(self, *, kept: bool = False) -> str | None:
        return _identity(self._span, kept=kept)


def _identity(span: Any, *, kept: bool = False) -> str | None:
    """The trace of a *span* of the library's; None where there is none, or *kept* is asked and it is not exported."""
    context = span.get_span_context()
    if not context.is_valid or (kept and not context.trace_flags.sampled):
        return None
    return f"{context.trace_id:032x}"

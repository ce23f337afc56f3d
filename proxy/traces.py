"""What the settings say of traces, for every program of ours: with `ties` a part of the composition root."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from urllib.parse import unquote

import structlog

from processors import tracing
from processors.tracing import Export, Networks
from proxy.errors import StartError
from proxy.settings import Settings

log = structlog.get_logger(__name__)


@contextmanager
def exporting(settings: Settings, program: str, heeded: Networks | None) -> Iterator[None]:
    """Trace what *program* does until the end of the block, if the settings say where to; raises StartError.

    *heeded* are the networks whose requests may bring a trace of their own; None: all.
    """
    endpoint, given = settings.otel_exporter_otlp_endpoint, settings.otel_exporter_otlp_headers
    export = None
    if endpoint is not None:
        export = Export(
            endpoint,
            settings.otel_service_name or program,
            version("sav3-media-proxy"),
            pairs(None if given is None else given.get_secret_value()),
            pairs(settings.otel_resource_attributes),
            str(settings.otel_traces_sampler),
            settings.otel_traces_sampler_arg,
            heeded,
        )
    try:
        with tracing.started(export, _noted):
            yield
    except ImportError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise StartError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, and OpenTelemetry is not installed:"
            " pip install 'sav3-media-proxy[otel]', or leave it out"
        ) from error


def pairs(text: str | None) -> Mapping[str, str]:
    """``name=value,name=value``, the values percent-encoded, as OTEL_* variables have them (W3C Baggage)."""
    found = (part.partition("=") for part in (text or "").split(","))
    return {name.strip(): unquote(value.strip()) for name, _, value in found if name.strip()}


def _noted(reason: str | None) -> None:
    if reason is None:
        log.info("traces.arrive")
    else:
        log.warning("traces.lost", reason=reason)

"""Where clamd is, as one line says it: CLAMAV_URL. Pure; what connects is `adapters.clamav`."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

PORT = 3310
FORMS = "tcp://host:3310, or unix:///run/clamav/clamd.ctl"


@dataclass(frozen=True, slots=True)
class Address:
    """A clamd: at *host* and *port*, or at the Unix socket *path*."""

    host: str = ""
    port: int = PORT
    path: str | None = None


def parse(url: str) -> Address:
    """The clamd that *url* names; raises ValueError."""
    try:
        parts = urlsplit(url.strip())
        port = PORT if parts.port is None else parts.port
    except ValueError:
        raise _not_one() from None
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise _not_one()
    if parts.scheme == "tcp" and parts.hostname and parts.path in {"", "/"} and port:
        return Address(parts.hostname, port)
    path = unquote(parts.path)
    if parts.scheme == "unix" and not parts.netloc and len(path) > 1 and "\0" not in path:
        return Address(path=path)
    raise _not_one()


def _not_one() -> ValueError:
    return ValueError(f"is one of {FORMS}")

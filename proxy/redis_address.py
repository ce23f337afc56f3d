"""Where Redis is, as one line says it: REDIS_URL. Pure; what connects is `adapters.redis`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import parse_qs, unquote, urlsplit

PORT = 6379
SENTINEL_PORT = 26379
OPTIONS = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "sentinel_password"}
FORMS = (
    "redis://:password@host:6379/0, rediss:// for TLS, redis+sentinel://:password@host:26379,host2:26379/service, "
    "redis+cluster://:password@host:6379,host2:6379, or unix:///path"
)


class Kind(StrEnum):
    """One server, one that Sentinels name, or a cluster."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Address:
    """A Redis. *hosts* are the server, its Sentinels, or nodes of the cluster; *path* is a Unix socket instead.

    *service* is the name by which the Sentinels know it; *options* are files of TLS, and the password of the Sentinels.
    """

    kind: Kind
    hosts: tuple[tuple[str, int], ...] = ()
    path: str | None = None
    service: str = ""
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    options: dict[str, str] = field(default_factory=dict, repr=False)


def parse(text: str) -> Address:
    """The address that *text* is; raises ValueError with a sentence that does not repeat it."""
    scheme, _, rest = text.partition("://")
    scheme = scheme.lower()
    tls, _, kind = scheme.partition("+")
    if not rest or tls not in {"redis", "rediss", "unix"} or kind not in {"", "sentinel", "cluster"} or (tls == "unix" and kind):
        raise ValueError(f"is an address such as {FORMS}")
    try:
        parts = urlsplit(f"x://{rest}")
        options = _options(parts.query)
        userinfo, _, places = parts.netloc.rpartition("@")
        username, _, password = userinfo.partition(":")
        common = {
            "username": unquote(username) or None,
            "password": unquote(password) or None,
            "tls": tls == "rediss",
            "options": options,
        }
        path = unquote(parts.path)
        if tls == "unix":
            if not path.startswith("/") or places:
                raise ValueError
            return Address(Kind.SINGLE, path=path, **common)  # type: ignore[arg-type]
        if kind == "sentinel":
            service, _, db = path.strip("/").partition("/")
            hosts = _hosts(places, SENTINEL_PORT)
            return Address(Kind.SENTINEL, hosts, service=_name(service), db=int(db or 0), **common)  # type: ignore[arg-type]
        hosts, db = _hosts(places, PORT), path.strip("/")
        if kind == "cluster":
            if db:
                raise ValueError
            return Address(Kind.CLUSTER, hosts, **common)  # type: ignore[arg-type]
        if len(hosts) != 1:
            raise ValueError
        return Address(Kind.SINGLE, hosts, db=int(db or 0), **common)  # type: ignore[arg-type]
    except ValueError as error:
        known = str(error) if str(error).startswith("knows") else f"is an address such as {FORMS}"
        raise ValueError(known) from None


def _options(query: str) -> dict[str, str]:
    given = parse_qs(query, keep_blank_values=True)
    if set(given) - OPTIONS or any(len(values) > 1 for values in given.values()):
        raise ValueError(f"knows only the options {', '.join(sorted(OPTIONS))}")
    return {name: values[0] for name, values in given.items()}


def _hosts(places: str, port: int) -> tuple[tuple[str, int], ...]:
    hosts = []
    for place in places.split(","):
        one = urlsplit(f"x://{place}")
        if not one.hostname or one.username is not None:
            raise ValueError
        hosts.append((one.hostname, one.port or port))
    return tuple(hosts)


def _name(service: str) -> str:
    if not service:
        raise ValueError
    return service

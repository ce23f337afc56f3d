"""Signed addresses made of what a person writes: a key, a path or an address, with a query in any spelling."""

from __future__ import annotations

import time
from urllib.parse import quote

from processors import grammar
from processors.errors import BadParameter
from processors.grammar import Query
from processors.transform import Transform
from proxy import hints, keys, ladder
from proxy.presets import Presets
from proxy.signing import Signatures

ROUND_S = 3600


def signed(
    given: str,
    signatures: Signatures,
    presets: Presets,
    ignored: frozenset[str] = frozenset(),
    *,
    ends: int | None,
    kid: str | None = None,
    free: str | None = None,
) -> str:
    """The path and query under *given* with a signature that holds until *ends* (Unix seconds; None: for ever).

    The end and the signature that *given* may have are dropped. Raises BadKey, BadParameter and NotOffered for what the
    service would refuse, LookupError without a secret (named *kid*).
    """
    path, _, raw_query = given.partition("?")
    if "://" in path:
        path = "/" + path.partition("://")[2].partition("/")[2]
    key = keys.from_target(path.removeprefix(keys.PREFIX))
    more = {
        "exp": None if ends is None else str(ends),
        "kid": kid,
        "any": None if free is None else ",".join(sorted(free.split(","))),
    }
    options = grammar.read("&".join(f"{name}={quote(value, safe='')}" for name, value in more.items() if value is not None))
    parameters = options.over(grammar.read(raw_query, ignored).without("s", "exp"))
    check(parameters, presets)
    return keys.PREFIX + signatures.address(key, dict(parameters.pairs))


def check(said: Query, presets: Presets) -> None:
    """Raise what a request that says this would be refused with, its signature aside."""
    freed = (said.get("any") or "").split(",")
    if unknown := set(freed) - ladder.FREE - ladder.OUTSIDE - {""}:
        raise BadParameter(f"any cannot free {min(unknown)}: there are no common values for it", param="any")
    preset = presets.named(said)
    exact = hints.resolved(said if preset is None else preset.under(said), {})
    ladder.check_freed(said, exact)
    Transform.of(exact)


def end(lifetime_s: int, now: float | None = None, *, rounded: bool = True) -> int:
    """When an address ends that holds for *lifetime_s* seconds; *rounded* up to the hour, so that caches see one address."""
    ends = int(time.time() if now is None else now) + lifetime_s
    return -(-ends // ROUND_S) * ROUND_S if rounded else ends

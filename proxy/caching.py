"""How an answer may be kept and by what it is found again: the caching headers of everything under /api/media. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from email.utils import format_datetime
from functools import lru_cache

from processors.grammar import SPELLINGS
from proxy import keys
from proxy.conditions import Version
from proxy.keys import Key

DAY_S = 86_400
YEAR_S = 365 * DAY_S
PENDING_S = 60
"""for what will soon be answered better"""
STALE = f"stale-while-revalidate={7 * DAY_S}, stale-if-error={7 * DAY_S}"
TAGGED = 2_048
MEANT = " ".join(f'"{name}"' for name in sorted(SPELLINGS))
NO_VARY_SEARCH = f"key-order, params, except=({MEANT})"
"""Names that are not of the grammar change nothing (draft-ietf-httpbis-no-vary-search)."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How an answer may be kept and shown. *private*: a token was needed; *names_version*: the address' ``v``."""

    private: bool = False
    names_version: str | None = None
    vary: tuple[str, ...] = ()
    """the headers on which it depends"""
    hints: tuple[str, ...] = ()
    """the client hints that would have made it better"""
    expires_s: int | None = None
    """until a signed address ends"""
    download: str | None = None
    """file name of an attachment; empty for the key's own"""
    preset: str | None = None
    degraded: tuple[str, ...] = ()
    """what the access mode took away"""

    @property
    def is_for_all(self) -> bool:
        """Whether whoever asks for the same address with the same Accept gets the same, for ever."""
        return not self.private and self.expires_s is None and set(self.vary) <= {"Accept"}


def headers(key: Key, version: Version, terms: Terms, degraded: tuple[str, ...] = ()) -> dict[str, str]:
    """The headers of a 200, a 206 and a 304 (RFC 9110 section 15.4.5) that say what it is and how long it lasts."""
    tags = _tags(key, terms.preset)
    given = {
        "ETag": str(version.etag),
        "Last-Modified": format_datetime(version.modified, usegmt=True),
        "Cache-Control": control(terms, version, degraded),
        "Cache-Tag": ", ".join(tags),
        "Cache-Groups": ", ".join(f'"{tag}"' for tag in tags),
        "No-Vary-Search": NO_VARY_SEARCH,
    }
    return given | selecting(terms)


def selecting(terms: Terms) -> dict[str, str]:
    """The headers that say on what the choice of an answer depends; errors carry them, too."""
    given = {"Vary": ", ".join(terms.vary)} if terms.vary else {}
    return given | ({"Accept-CH": ", ".join(hint for hint in terms.hints if hint.startswith("Sec-"))} if terms.hints else {})


def control(terms: Terms, version: Version, degraded: tuple[str, ...] = ()) -> str:
    """How long the answer may be kept: for ever if the address names its version, never beyond a signed address' end."""
    scope = "private" if terms.private else "public"
    left_s = YEAR_S if terms.expires_s is None else max(0, terms.expires_s)
    if "format-pending" in degraded or "truncated" in degraded:
        return f"{scope}, max-age={min(PENDING_S, left_s)}"
    if version.is_named(terms.names_version):
        return f"{scope}, max-age={min(YEAR_S, left_s)}, immutable"
    if terms.private or terms.expires_s is not None:
        return f"{scope}, max-age={min(DAY_S, left_s)}"
    return f"{scope}, max-age={DAY_S}, {STALE}"


def kept_s(terms: Terms | None, seconds: int) -> int:
    """How long a refusal may be kept that would be kept for *seconds*: never beyond a signed address' end."""
    return seconds if terms is None or terms.expires_s is None else min(seconds, max(0, terms.expires_s))


def group(kind: str, name: str) -> str:
    """The tag by which caches find what belongs to a key (kind ``key``), an owner or a preset."""
    return f"{kind}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


@lru_cache(TAGGED)
def _tags(key: Key, preset: str | None) -> tuple[str, ...]:
    own = (group("key", key), group("owner", keys.owner(key)))
    return own if preset is None else (*own, f"preset-{preset}")

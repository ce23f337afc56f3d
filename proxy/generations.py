"""The name of one write of an object: its etag on every store that holds it, and what says which of two writes is newer. Pure.

``g`` and 32 hex digits: the nanoseconds since 1970 at which it began, then 64 random bits. So copies of one write have one
etag, and the highest wins wherever two stores disagree. Objects that others put into a bucket have none: there the etag is the
store's own.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_GENERATION = re.compile(r"g[0-9a-f]{32}")


class Clock:
    """Nanoseconds since 1970 that never stand still and never go back, also when the machine's clock does."""

    def __init__(self) -> None:
        self._latest = 0
        self._lock = threading.Lock()

    def now_ns(self) -> int:
        """Later than every answer before."""
        with self._lock:
            self._latest = max(time.time_ns(), self._latest + 1)
            return self._latest


_clock = Clock()


def mint() -> str:
    """A new generation, higher than every one that this process has minted."""
    return f"g{_clock.now_ns():016x}{secrets.token_hex(8)}"


def of(since: timedelta, seed: str) -> str:
    """The generation of a write that has none: *since* 1970 it has been there, and *seed*, hex digits, tells it from others."""
    microseconds = max(0, since // timedelta(microseconds=1))
    return f"g{microseconds * 1000:016x}{seed[:16]}"


def is_generation(etag: str) -> bool:
    """Whether *etag* names a write of ours; the etags that stores make do not begin with a g."""
    return _GENERATION.fullmatch(etag) is not None


def order(generation: str) -> int:
    """When the write began, in nanoseconds since 1970: the higher of two wins."""
    return int(generation[1:17], 16)


def began(generation: str) -> datetime:
    """When the write began: the same on every store, so it is the object's Last-Modified."""
    return EPOCH + timedelta(microseconds=order(generation) // 1000)

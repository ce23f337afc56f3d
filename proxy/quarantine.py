"""Sources that decoders fail on again and again, which are left alone for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from processors.errors import Corrupt, Crashed, TooCostly
from proxy.cache import FreshCache
from proxy.ports import ObjectMeta

FAILURES = 3
QUARANTINE_S = 300.0
ENTRIES = 1_000

log = structlog.get_logger(__name__)


class Quarantine:
    """Counts, of each version of an object, the workers that it cost: by a crash, or by work beyond its deadline.

    After `FAILURES` of them nothing is made of that version for `QUARANTINE_S` seconds.
    """

    def __init__(self) -> None:
        self._failures: FreshCache[tuple[str, str], int] = FreshCache(ENTRIES, QUARANTINE_S)

    @contextmanager
    def guarding(self, source: ObjectMeta) -> Iterator[None]:
        """Work on *source*; raises Corrupt at once if it is in quarantine."""
        version = source.key, source.etag
        failures = self._failures.get(version) or 0
        if failures >= FAILURES:
            raise Corrupt("decoders failed on this file again and again: it is left alone for some minutes")
        try:
            yield
        except (Crashed, TooCostly) as error:
            if isinstance(error, Crashed) or error.members.get("limit") == "seconds":
                failures = (self._failures.get(version) or 0) + 1
                self._failures.set(version, failures)
                if failures == FAILURES:
                    log.warning("source.quarantined", key=source.key)
            raise

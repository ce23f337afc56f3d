"""Whether a store is asked at all: a breaker that opens when it fails, and closes when a probe finds it well. Pure but for time."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum

FAILURES = 3
"""Consecutive ones that open a closed breaker."""
SILENT_S = 1.0
"""A failure that took longer is as good as none: the store, or a deadline within its adapter, kept the request waiting."""
HEARD_S = 1.0
FIRST_PROBE_S = 1.0
LAST_PROBE_S = 7.0
"""The longest pause between probes. With a probe's own deadline (2.5 s) a store is in use again 10 s after it recovered."""


class Position(StrEnum):
    """CLOSED lets requests through, OPEN does not, HALF_OPEN has a probe on its way."""

    CLOSED = "closed"
    HALF_OPEN = "half-open"
    OPEN = "open"


class Breaker:
    """Counts how a store answers. Any answer of the store's, also a refusal, is a success here; see `Place` for what is none.

    A failure after a long silence opens it at once, since every further request would wait as long, unless the store has answered
    another one meanwhile. The pauses between probes double, and begin anew only after a request, not just a probe, went well.
    """

    def __init__(
        self,
        *,
        first_probe_s: float = FIRST_PROBE_S,
        last_probe_s: float = LAST_PROBE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._first_probe_s = self._pause_s = first_probe_s
        self._last_probe_s = last_probe_s
        self._clock = clock
        self._failures = 0
        self._probe_at = 0.0
        self._answered = clock()
        self.position = Position.CLOSED

    @property
    def closed(self) -> bool:
        """Whether requests go through."""
        return self.position is Position.CLOSED

    @property
    def probe_in_s(self) -> float:
        """How long the next probe has to wait, in seconds; of an open breaker."""
        return max(0.0, self._probe_at - self._clock())

    @property
    def heard(self) -> bool:
        """Whether the store has answered within the last second, and not failed since."""
        return self._failures == 0 and self._clock() - self._answered < HEARD_S

    def now(self) -> float:
        """The time of its clock, for *began* of what fails later."""
        return self._clock()

    def succeeded(self) -> None:
        """The store has answered a request. One that was under way when the breaker opened does not close it."""
        self._answered = self._clock()
        if self.closed:
            self._failures = 0
            self._pause_s = self._first_probe_s

    def failed(self, began: float, *, silent: bool = False) -> None:
        """What the store has been working on since *began* has failed; *silent*, because no answer came in time."""
        self._failures += 1
        silent = silent or self._clock() - began >= SILENT_S
        if self.closed and (self._failures >= FAILURES or (silent and self._answered <= began)):
            self._open()

    def probing(self) -> None:
        """A probe is on its way."""
        self.position = Position.HALF_OPEN

    def probed(self, *, well: bool) -> None:
        """The probe has ended; one that went well closes the breaker."""
        if well:
            self.position = Position.CLOSED
            self._answered = self._clock()
            self._failures = 0
        else:
            self._open()

    def _open(self) -> None:
        self.position = Position.OPEN
        self._probe_at = self._clock() + self._pause_s
        self._pause_s = min(2 * self._pause_s, self._last_probe_s)

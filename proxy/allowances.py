"""What everybody may ask for before it is enough: the limits of this deployment, counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil

from proxy.errors import RateLimited
from proxy.rates import Limit, Rate, Tally, told


class Allowances:
    """The limits of this deployment: *rules* says which rates each has, none where it is off.

    *shows*: whether answers tell how the caller stands. *refused* is told of each refusal.
    """

    def __init__(self, tally: Tally, rules: Mapping[Limit, Sequence[Rate]], *, shows: bool, refused: Callable[[str], None]) -> None:
        self._tally = tally
        self._rules = rules
        self._shows = shows
        self._refused = refused

    def is_on(self, limit: Limit) -> bool:
        """Whether *limit* has a rate at all."""
        return bool(self._rules.get(limit))

    async def take(self, limit: Limit, who: str, cost: int = 1) -> dict[str, str]:
        """Count *cost* for *who*; gives the headers that say how that stands. Raises RateLimited."""
        standings = [await self._tally.take(limit, rate, who, cost) for rate in self._rules.get(limit, ())] if cost else []
        headers = told(standings) if self._shows else {}
        over = [standing for standing in standings if not standing.granted]
        if over:
            self._refused(limit)
            wait_s = max(1, ceil(max(standing.reset_s for standing in over)))
            raise RateLimited(f"the limit of {limit} is reached", headers={"Retry-After": str(wait_s), **headers}, limit=str(limit))
        return headers

"""What uploads cost their owner, and how slowly they may come."""

from __future__ import annotations

from collections.abc import AsyncIterator

from proxy import streams
from proxy.allowances import Allowances
from proxy.observe import Metrics
from proxy.ports import Body
from proxy.rates import Limit, joined

PAID_BYTES = 1 << 20


class Meter:
    """Counts uploads and their bytes; *payer* is the owner they count for, None for nobody."""

    def __init__(self, allowances: Allowances, metrics: Metrics, idle_s: float, min_rate: int) -> None:
        self._allowances = allowances
        self._metrics = metrics
        self._idle_s = idle_s
        self._min_rate = min_rate

    async def begun(self, payer: str | None, size: int) -> dict[str, str]:
        """An upload begins, whose first request brings *size* bytes: the headers that say what is left; raises RateLimited.

        Both are counted before the body, whether it ends well or not.
        """
        if payer is None:
            return {}
        requests = await self._allowances.take(Limit.UPLOADS, payer)
        return joined(requests, await self.goes_on(payer, size))

    async def goes_on(self, payer: str | None, size: int) -> dict[str, str]:
        """One more request brings *size* bytes for an upload that has begun."""
        return {} if payer is None else await self._allowances.take(Limit.UPLOAD_BYTES, payer, size)

    async def through(self, route: str, body: Body, undeclared: str | None = None) -> AsyncIterator[bytes]:
        """*body*, as far as it comes fast enough; *undeclared* pays for it as it comes, by the MiB. Raises TooSlow, RateLimited."""
        unpaid = 0
        async for chunk in streams.paced(body, self._idle_s, self._min_rate):
            self._metrics.received(route, len(chunk))
            unpaid += len(chunk)
            if undeclared is not None and unpaid >= PAID_BYTES:
                await self._allowances.take(Limit.UPLOAD_BYTES, undeclared, unpaid)
                unpaid = 0
            yield chunk
        if undeclared is not None:
            await self._allowances.take(Limit.UPLOAD_BYTES, undeclared, unpaid)

    def rest(self, route: str, data: bytes, is_all: bool) -> tuple[bytes, bool]:
        """What had come of a body that broke off, and had gone through nothing yet, as it is given: it is taken, too."""
        self._metrics.received(route, len(data))
        return data, is_all

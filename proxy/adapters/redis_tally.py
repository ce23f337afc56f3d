"""Counting in Redis, for all processes together, by the library `limits`; in memory while Redis is away."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisClusterStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from proxy.adapters.redis import RedisLink
from proxy.adapters.tally import MemoryTally
from proxy.rates import Limit, Rate, Standing
from proxy.redis_address import Address, Kind


class RedisTally:
    """A `Tally` over *link*, whose deadline and breaker hold here, too."""

    def __init__(self, link: RedisLink, address: Address, prefix: str) -> None:
        self._link = link
        self._memory = MemoryTally()
        if address.kind is Kind.CLUSTER:
            hosts = ",".join(f"{host}:{port}" for host, port in address.hosts)
            options: dict[str, Any] = {"username": address.username, "password": address.password}
            tls: dict[str, Any] = {"ssl": True, **address.options} if address.tls else {}
            self._storage: Any = RedisClusterStorage(
                f"async+redis+cluster://{hosts}", implementation="redispy", key_prefix=f"{prefix}limits", **options, **tls
            )
        else:
            self._storage = RedisStorage(
                "async+redis://",
                implementation="redispy",
                key_prefix=f"{prefix}limits",
                connection_pool=link.client.connection_pool,
            )
        self._limiter = SlidingWindowCounterRateLimiter(self._storage)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._storage.bridge.storage is not self._link.client:
            await self._storage.bridge.storage.aclose()

    async def take(self, limit: Limit, rate: Rate, who: str, cost: int) -> Standing:
        """Count for all processes; here alone where Redis does not answer."""
        item = RateLimitItemPerSecond(rate.amount, rate.seconds, namespace=str(limit))

        async def counted(_: Any) -> Standing | None:
            granted = await self._limiter.hit(item, who, cost=cost)
            # What is left of the window before, what is in this one, and until when that is kept: to the end of the next.
            window = await self._storage.get_sliding_window(item.key_for(who), rate.seconds)
            before, before_s, now, now_s = window
            used = int(before * before_s / rate.seconds) + now
            return Standing(limit, rate, granted, max(0, rate.amount - used), max(0.0, now_s - rate.seconds))

        standing = await self._link.ask(counted, None)
        return standing if standing is not None else await self._memory.take(limit, rate, who, cost)

"""What ties the processes of one service together: Redis, where the settings name one. It chooses adapters, as `stores` does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from proxy import redis_address
from proxy.adapters.alone import NoBus, NoSharedCache
from proxy.adapters.house_bus import HouseBus, KeeperBus
from proxy.adapters.tally import MemoryTally
from proxy.house import House, Role
from proxy.observe import Metrics
from proxy.ports import Bus, SharedCache
from proxy.rates import Tally
from proxy.settings import Settings


@dataclass(frozen=True, slots=True)
class Ties:
    """The *cache* and the *bus* that all processes share; *house* leads to those of this machine alone.

    *checks* say how what carries them is.
    """

    cache: SharedCache
    bus: Bus
    house: Bus
    tally: Tally
    checks: Mapping[str, Callable[[], Awaitable[Mapping[str, Any] | None]]] = field(default_factory=dict)


@asynccontextmanager
async def tied(settings: Settings, house: House, metrics: Metrics) -> AsyncIterator[Ties]:
    """The ties of *settings* for the part that *house* gives this process; a Redis that is away does not hold up the start."""
    async with AsyncExitStack() as stack:
        near: Bus = NoBus()
        if house.role is Role.KEEPER:
            near = await stack.enter_async_context(KeeperBus(house.sockets / "bus"))
        elif house.role is Role.SERVER:
            near = await stack.enter_async_context(HouseBus(house.sockets / "bus"))
        if settings.redis_url is None:
            yield Ties(NoSharedCache(), near, near, MemoryTally())
            return
        from proxy.adapters.redis import RedisCache, RedisLink  # noqa: PLC0415 - 8 MiB that a service without Redis does not need
        from proxy.adapters.redis_bus import RedisBus  # noqa: PLC0415
        from proxy.adapters.redis_tally import RedisTally  # noqa: PLC0415

        prefix = f"{settings.media_redis_prefix}:1:"
        address = redis_address.parse(settings.redis_url.get_secret_value())
        link = await stack.enter_async_context(RedisLink(address, metrics.redis))
        bus = await stack.enter_async_context(RedisBus(link, prefix))
        tally = await stack.enter_async_context(RedisTally(link, address, prefix))
        yield Ties(RedisCache(link, prefix), bus, near, tally, {"redis": link.ping})

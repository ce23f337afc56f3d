"""Several processes of one service within one test: what they share is in memory, and can be taken away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from processors.formats import Kind
from proxy.adapters.memory import MemoryBackend
from proxy.commons import Commons
from proxy.delivery import Delivery
from proxy.descriptions import Descriptions
from proxy.keys import Key
from proxy.metas import Metas
from proxy.observe import Metrics
from proxy.ports import Backend, Bus, Renderer, SharedCache
from proxy.renditions import Renditions
from proxy.sources import Sources
from proxy.turns import Turns
from proxy.variants import Variants


class Memory:
    """What a `SharedCache` holds, for all who use it; time passes by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.values: dict[str, tuple[bytes, float]] = {}
        self.is_there = True

    def read(self, name: str) -> bytes | None:
        value, until = self.values.get(name, (b"", 0.0))
        return value if until > self.now else None


class MemoryShared:
    """A `SharedCache` in *memory*."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    @property
    def is_there(self) -> bool:
        return self._memory.is_there

    async def get(self, name: str) -> bytes | None:
        await asyncio.sleep(0)
        return self._memory.read(name) if self.is_there else None

    async def set(self, name: str, value: bytes, ttl_s: float) -> None:
        await asyncio.sleep(0)
        if self.is_there:
            self._memory.values[name] = (value, self._memory.now + ttl_s)

    async def add(self, name: str, value: bytes, ttl_s: float) -> None:
        if await self.get(name) is None:
            await self.set(name, value, ttl_s)

    async def delete(self, *names: str) -> None:
        await asyncio.sleep(0)
        for name in names if self.is_there else ():
            self._memory.values.pop(name, None)

    async def take(self, name: str, holder: str, ttl_s: float) -> float:
        await asyncio.sleep(0)
        if not self.is_there:
            return 0.0
        held, until = self._memory.values.get(name, (b"", 0.0))
        if until > self._memory.now and held != holder.encode():
            return until - self._memory.now
        self._memory.values[name] = (holder.encode(), self._memory.now + ttl_s)
        return 0.0

    async def renew(self, name: str, holder: str, ttl_s: float) -> None:
        if await self.get(name) == holder.encode():
            await self.set(name, holder.encode(), ttl_s)

    async def release(self, name: str, holder: str) -> None:
        if await self.get(name) == holder.encode():
            await self.delete(name)


class Hub:
    """Where the words of all `MemoryBus` go; while it *is_whole* they arrive at once."""

    def __init__(self) -> None:
        self.is_whole = True
        self.buses: list[MemoryBus] = []

    def cut(self) -> None:
        """From now on nobody hears anything."""
        self.is_whole = False

    def mend(self) -> None:
        """Words arrive again, and all are told that they may have missed some."""
        self.is_whole = True
        for bus in self.buses:
            for _, missed in bus.listeners.values():
                missed()


class MemoryBus:
    """A `Bus` by way of *hub*."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.listeners: dict[str, tuple[Callable[[str], None], Callable[[], None]]] = {}
        hub.buses.append(self)

    @property
    def is_whole(self) -> bool:
        return self._hub.is_whole

    def listen(self, topic: str, heard: Callable[[str], None], missed: Callable[[], None]) -> None:
        self.listeners[topic] = (heard, missed)

    async def say(self, topic: str, word: str) -> None:
        await asyncio.sleep(0)
        for bus in self._hub.buses if self.is_whole else ():
            if bus is not self and topic in bus.listeners:
                bus.listeners[topic][0](word)


class NoRecords:
    """A catalogue without records."""

    async def get(self, key: Key) -> None:
        return None


class Process:
    """One process that delivers from *backend*, with *stored* renditions; *delivery* and its parts."""

    def __init__(self, backend: Backend, stored: Backend, renderer: Renderer, shared: SharedCache, bus: Bus) -> None:
        self.commons = Commons(shared, bus, 1 << 18)
        self.sources = Sources(backend, dict.fromkeys(Kind, 1 << 20))
        self.metas = Metas(backend, self.commons)
        variants = Variants(stored, MemoryBackend())
        self.turns = Turns(shared, bus)
        self.renditions = Renditions(
            backend, self.metas, variants, renderer, self.sources, self.commons, self.turns, 1 << 20, Metrics()
        )
        descriptions = Descriptions(NoRecords(), self.sources, renderer, self.commons)  # type: ignore[arg-type]
        self.delivery = Delivery(backend, self.metas, self.renditions, descriptions, self.commons)

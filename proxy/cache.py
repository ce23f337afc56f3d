"""What stays in the memory of the process for a while, with a bound on bytes or entries and exact invalidation."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

ENTRY_BYTES = 600
"""What an entry costs beside its data: keys, headers and the tables that hold them (measured with tracemalloc: 450-580)."""


class ByteCache(Generic[K, V]):
    """The values used last, as many as fit in *max_bytes*; one larger than an eighth of it is not kept."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self.bytes = 0

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def set(self, key: K, value: V, size: int) -> None:
        """Keep *value*, whose data has *size* bytes, and let go of what was not used for longest."""
        self.delete(key)
        cost = size + ENTRY_BYTES
        if cost > self._max_bytes // 8:
            return
        self._entries[key] = (value, cost)
        self.bytes += cost
        while self.bytes > self._max_bytes:
            _, (_, freed) = self._entries.popitem(last=False)
            self.bytes -= freed

    def delete(self, key: K) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry[1]

    def __len__(self) -> int:
        return len(self._entries)


class FreshCache(Generic[K, V]):
    """At most *max_entries* values, each for *ttl_s* seconds.

    A value whose loading began before its key was deleted is given to who asked for it and not kept: a slow fill of an old
    version never comes after the new one.
    """

    def __init__(self, max_entries: int, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_entries = max_entries
        self._ttl_s = ttl_s
        self._clock = clock
        self._entries: OrderedDict[K, tuple[V, float]] = OrderedDict()
        self._loading: dict[K, int] = {}
        self._stale: set[K] = set()

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        if entry is None or entry[1] < self._clock():
            return None
        return entry[0]

    def last(self, key: K) -> V | None:
        """The value last kept, also when its time is over."""
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    def set(self, key: K, value: V) -> None:
        self._entries[key] = (value, self._clock() + self._ttl_s)
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    async def load(self, key: K, loader: Callable[[], Awaitable[V]]) -> V:
        """The value kept, or what *loader* gives, which is then kept unless *key* was deleted meanwhile."""
        kept = self.get(key)
        if kept is not None:
            return kept
        self._loading[key] = self._loading.get(key, 0) + 1
        try:
            value = await loader()
            if key not in self._stale:
                self.set(key, value)
            return value
        finally:
            self._loading[key] -= 1
            if not self._loading[key]:
                del self._loading[key]
                self._stale.discard(key)

    def delete(self, key: K) -> None:
        self._entries.pop(key, None)
        if key in self._loading:
            self._stale.add(key)

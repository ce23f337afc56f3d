"""What stays in the memory of the process for a while, with a bound on bytes or entries and exact invalidation."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from moka_py import Moka

from proxy.flights import Flights

K = TypeVar("K", bound=Hashable)
G = TypeVar("G", bound=Hashable)
V = TypeVar("V")

ENTRY_BYTES = 900
"""What an entry costs beside its data: keys, headers and the tables that hold them (measured: 410 of the cache's, 450 of ours)."""


class ByteCache(Generic[K, V, G]):
    """The values asked for most, lately, as many as fit in *max_bytes*; one larger than an eighth of it is not kept.

    What comes in must be asked for more often than what would make room for it (TinyLFU): a scan of thousands that are wanted
    once each pushes out none of those that are wanted again and again. *size_of* gives the bytes of a value's data, *group_of*
    what a key belongs to, so that all of a group can be dropped.
    """

    def __init__(self, max_bytes: int, size_of: Callable[[V], int], group_of: Callable[[K], G]) -> None:
        self._most = max_bytes // 8
        self._size_of = size_of
        self._group_of = group_of
        self._groups: dict[G, set[K]] = {}
        self._entries: Moka[K, V] = Moka(
            max_bytes, weigher=lambda key, value: size_of(value) + ENTRY_BYTES, eviction_listener=self._gone
        )

    def get(self, key: K) -> V | None:
        return self._entries.get(key)

    def set(self, key: K, value: V) -> None:
        """Keep *value*, if it is worth more than what is let go of for it."""
        if self._size_of(value) + ENTRY_BYTES > self._most:
            self._entries.remove(key)
            return
        self._groups.setdefault(self._group_of(key), set()).add(key)
        self._entries.set(key, value)
        self._entries.run_pending_tasks()  # else up to 64 of them stand in memory beyond the bound

    def drop(self, group: G) -> None:
        """Let go of all keys of *group*."""
        for key in tuple(self._groups.get(group, ())):
            self._entries.remove(key)

    @property
    def bytes(self) -> int:
        """What the entries take."""
        self._entries.run_pending_tasks()
        return self._entries.weighted_size()

    def __len__(self) -> int:
        self._entries.run_pending_tasks()
        return self._entries.count()

    def _gone(self, key: K, value: V, cause: str) -> None:
        if cause == "replaced":
            return
        group = self._group_of(key)
        members = self._groups.get(group)
        if members is not None:
            members.discard(key)
            if not members:
                del self._groups[group]


class FreshCache(Generic[K, V]):
    """At most *max_entries* values, each for *ttl_s* seconds; a function of the value gives them anew at each look.

    A value whose loading began before its key was deleted is given to who asked for it and not kept: a slow fill of an old
    version never comes after the new one.
    """

    def __init__(self, max_entries: int, ttl_s: float | Callable[[V], float], clock: Callable[[], float] = time.monotonic) -> None:
        self._max_entries = max_entries
        self._ttl_s = ttl_s if callable(ttl_s) else lambda value: ttl_s
        self._clock = clock
        self._entries: OrderedDict[K, tuple[V, float]] = OrderedDict()
        self._loading: dict[K, object] = {}
        self._flights: Flights[V] = Flights()

    def get(self, key: K) -> V | None:
        entry = self._entries.get(key)
        if entry is None or entry[1] + self._ttl_s(entry[0]) < self._clock():
            return None
        return entry[0]

    def last(self, key: K) -> V | None:
        """The value last kept, also when its time is over."""
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    def set(self, key: K, value: V) -> None:
        self._entries[key] = (value, self._clock())
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    async def load(self, key: K, loader: Callable[[], Awaitable[V]]) -> V:
        """The value kept, or what *loader* gives to all who ask meanwhile, which is then kept unless *key* was deleted."""
        kept = self.get(key)
        return kept if kept is not None else await self._flights.join(key, lambda: self._loaded(key, loader))

    def delete(self, key: K) -> None:
        """Let go of *key*, and do not keep what is being loaded; who asks from now on is given something newer."""
        self._entries.pop(key, None)
        self._loading.pop(key, None)
        self._flights.part(key)

    def clear(self) -> None:
        """Let go of all keys, as `delete` does of one."""
        self._entries.clear()
        for key in tuple(self._loading):
            self.delete(key)

    async def _loaded(self, key: K, loader: Callable[[], Awaitable[V]]) -> V:
        mark = self._loading[key] = object()
        try:
            value = await loader()
            if self._loading.get(key) is mark:
                self.set(key, value)
            return value
        finally:
            if self._loading.get(key) is mark:
                del self._loading[key]

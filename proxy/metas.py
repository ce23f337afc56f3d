"""What is known of objects without asking a store each time: some seconds old at most, and never older than a change."""

from __future__ import annotations

from collections.abc import Container

from proxy.cache import FreshCache
from proxy.commons import Absent, Commons
from proxy.errors import NotFound
from proxy.keys import Key
from proxy.ports import Backend, ObjectMeta

TTL_S = 5.0
ABSENT_TTL_S = 2.0
UNHEARD_TTL_S = 1.0
"""while changes that other processes make may not be heard of"""
ENTRIES = 20_000


class Metas:
    """The metas of *backend*, in memory, then as other processes have told them, then as the store has them.

    Those of *withheld* keys are told to nobody, as if there were none.
    """

    def __init__(self, backend: Backend, commons: Commons, withheld: Container[Key] = ()) -> None:
        self._backend = backend
        self._commons = commons
        self._withheld = withheld
        self._known: FreshCache[Key, ObjectMeta | Absent] = FreshCache(ENTRIES, self._ttl_s)

    async def get(self, key: Key) -> ObjectMeta:
        """The meta of *key*; raises NotFound, which is remembered for a moment, too."""
        meta = self._known.get(key) or await self._known.load(key, lambda: self._found_out(key))
        if isinstance(meta, Absent) or key in self._withheld:
            raise NotFound("no object has this key")
        return meta

    def fresh(self, key: Key) -> ObjectMeta | None:
        """The same, if it is known without asking."""
        meta = self._known.get(key)
        return meta if isinstance(meta, ObjectMeta) and key not in self._withheld else None

    def is_absent(self, key: Key) -> bool:
        """Whether it is known, without asking, that no store has *key*, or that nobody may have it."""
        return key in self._withheld or isinstance(self._known.get(key), Absent)

    def drop(self, key: Key) -> None:
        """Forget what is known of *key*: it has changed."""
        self._known.delete(key)

    def clear(self) -> None:
        """Forget everything: any key may have changed."""
        self._known.clear()

    def _ttl_s(self, meta: ObjectMeta | Absent) -> float:
        known_for = TTL_S if isinstance(meta, ObjectMeta) else ABSENT_TTL_S
        return known_for if self._commons.hears else min(known_for, UNHEARD_TTL_S)

    async def _found_out(self, key: Key) -> ObjectMeta | Absent:
        meta: ObjectMeta | Absent | None = await self._commons.meta(key)
        if meta is not None:
            return meta
        try:
            meta = await self._backend.head(key)
        except NotFound:
            await self._commons.tell_absent(key)
            return Absent()
        await self._commons.tell_meta(meta)
        return meta

"""The open debts of all keys, in memory as they are in the ledger: a healthy read must not ask a database."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress

from proxy import generations
from proxy.adapters.places import carried_through
from proxy.debts import Debt, Ledger
from proxy.errors import Unavailable
from proxy.keys import Key
from proxy.patience import Patience

MOST_KEYS = 20_000
"""About 20 MiB with the longest keys, 10 MiB with usual ones."""
PAGE = 1_000
PATIENCE_S = 2.0


class Debts:
    """What stores owe, of at most *most_keys* keys in memory. With more of them every question goes to the ledger.

    So it does where others change the ledger too (*shared*). Settled debts ask for nothing, and are not held in memory.
    """

    def __init__(self, ledger: Ledger, stores: Collection[str], most_keys: int = MOST_KEYS, *, shared: bool = False) -> None:
        self._shared = shared
        self._ledger = ledger
        self._stores = list(stores)
        self._most = most_keys
        self._open: dict[Key, dict[str, Debt]] = {}
        self._complete = False
        self._counts: dict[str, int] = {}
        self._writing = asyncio.Lock()
        self._patience = Patience(PATIENCE_S)

    async def load(self) -> None:
        """Learn what the ledger has; raises Unavailable, not where others change it too: every question goes there anyway."""
        if self._shared:
            with suppress(Unavailable):
                self._counts = await self._ledger.backlog()
            return
        async with self._writing:
            found: dict[Key, dict[str, Debt]] = {}
            after = None
            while len(found) <= self._most and (page := await self._ledger.due(self._stores, PAGE, after)):
                after = page[-1].key
                # A page may end within the debts of one key, so that key is asked for by itself.
                for debt in [*(debt for debt in page if debt.key != after), *await self._ledger.debts_of(after)]:
                    if not debt.settled:
                        found.setdefault(debt.key, {})[debt.store] = debt
            if len(found) > self._most:
                self._counts = await self._ledger.backlog()
            else:
                self._open, self._complete = found, True

    async def refresh(self) -> None:
        """After there were too many: count them, and hold them in memory again once half of the room is enough."""
        if self._complete:
            return
        self._counts = await self._ledger.backlog()
        if not self._shared and sum(self._counts.values()) <= self._most // 2:
            await self.load()

    @property
    def backlog(self) -> dict[str, int]:
        """How many open debts each store has; while there are too many for the memory, as of the last refresh."""
        counts = dict.fromkeys(self._stores, 0)
        if not self._complete:
            return counts | {store: count for store, count in self._counts.items() if store in counts}
        for debts in self._open.values():
            for store in debts:
                if store in counts:
                    counts[store] += 1
        return counts

    async def of(self, key: Key) -> list[Debt]:
        """The open debts of *key*; raises Unavailable, soon, and only while the memory does not hold all."""
        if self._complete:
            return list(self._open.get(key, {}).values())
        return [debt for debt in await self._patience.ask(lambda: self._ledger.debts_of(key)) if not debt.settled]

    async def all_of(self, key: Key) -> list[Debt]:
        """The debts of *key*, the settled ones too, as the ledger has them."""
        return await self._ledger.debts_of(key)

    async def due(self, stores: Collection[str], limit: int, after: Key | None) -> list[Debt]:
        """As the ledger's."""
        return await self._ledger.due(stores, limit, after)

    async def owe(self, debts: Sequence[Debt]) -> None:
        """Write them down. A caller that is cancelled leaves only when that is done: nobody gets the lock of the key before."""
        if debts:
            await carried_through(self._owe(debts))

    async def pay(self, debt: Debt) -> None:
        """Strike it out; as `owe`, when the caller is cancelled."""
        await carried_through(self._pay(debt))

    async def _owe(self, debts: Sequence[Debt]) -> None:
        async with self._writing:
            await self._ledger.owe(debts)
            for debt in debts:
                self._note(debt)

    async def _pay(self, debt: Debt) -> None:
        async with self._writing:
            await self._ledger.pay(debt)
            found = self._open.get(debt.key, {}).get(debt.store)
            if found is not None and (found.kind, found.etag) == (debt.kind, debt.etag):
                self._strike(debt)

    def _note(self, debt: Debt) -> None:
        if not self._complete:
            return
        found = self._open.get(debt.key, {}).get(debt.store)
        if found is not None and generations.order(found.etag) > generations.order(debt.etag):
            return
        if debt.settled:
            self._strike(debt)
            return
        self._open.setdefault(debt.key, {})[debt.store] = debt
        if len(self._open) > self._most:
            self._open, self._complete = {}, False

    def _strike(self, debt: Debt) -> None:
        known = self._open.get(debt.key)
        if known is not None and known.pop(debt.store, None) is not None and not known:
            del self._open[debt.key]

"""Several stores seen as one, each of which can be told to fail, over a ledger and a catalogue that outlive a restart."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.fallback import FallbackBackend
from proxy.adapters.ledger import SqlLedger
from proxy.adapters.memory import MemoryBackend
from proxy.adapters.places import Deadlines
from proxy.adapters.sqlite import SqliteDatabase
from proxy.debts import Debt
from proxy.errors import Unavailable
from proxy.keys import Key
from tests.kit.faulty import Faulty, Fuse
from tests.kit.waiting import eventually

NAMES = ("minio", "s3", "local")
QUICK = Deadlines(question=0.5, in_hand=0.5, streaming=5.0, first_probe=0.02, last_probe=0.1)


class Ledger(SqlLedger):
    """The real one, which can be *down*; it counts what it is *asked*."""

    def __init__(self, catalogue: SqlCatalogue) -> None:
        super().__init__(catalogue)
        self.down = False
        self.asked = 0
        self.fuse = Fuse()

    async def owe(self, owed: Sequence[Debt]) -> None:
        self._reached()
        await super().owe(owed)
        self.fuse.step()

    async def pay(self, debt: Debt) -> None:
        self._reached()
        await super().pay(debt)
        self.fuse.step()

    async def debts_of(self, key: Key) -> list[Debt]:
        self._reached()
        return await super().debts_of(key)

    def _reached(self) -> None:
        self.asked += 1
        self.fuse.step()
        if self.down:
            raise Unavailable("the catalogue does not answer")


class Several:
    """*stores* in their order, the *backend* made of them, and what it says of itself."""

    def __init__(self, folder: Path, ledger: Ledger, stores: Sequence[Faulty]) -> None:
        self.folder = folder
        self.ledger = ledger
        self.stores = {store.name: store for store in stores}
        self.records: dict[Key, str] = {}
        """What the catalogue would say of where a key is."""
        self.events: Counter[tuple[str, str]] = Counter()
        self.backend: FallbackBackend
        self.fuse = ledger.fuse
        for store in stores:
            store.fuse = self.fuse

    def __getitem__(self, name: str) -> Faulty:
        return self.stores[name]

    @asynccontextmanager
    async def running(
        self, *, policy: str = "move", most_debts: int = 1000, remembered: int = 1000, between: Path | None = None
    ) -> AsyncIterator[FallbackBackend]:
        """The backend, from its start to its stop; one start after the other, as a service does. *between*: locks of processes."""
        self.backend = FallbackBackend(
            list(self.stores.values()),
            self.ledger,
            spool=self.folder / "spool",
            holder_of=self._holder_of,
            placed=self._place,
            policy=policy,
            deadlines=QUICK,
            count=lambda event, store: self.events.update([(event, store)]),
            most_debts=most_debts,
            remembered=remembered,
            between=between,
        )
        async with self.backend:
            yield self.backend

    async def _holder_of(self, key: Key) -> str | None:
        return self.records.get(key)

    async def _place(self, key: Key, store: str) -> None:
        self.records[key] = store

    async def settled(self) -> None:
        """Return when every store is in use and nothing is owed."""
        await eventually(lambda: set(self.backend.states.values()) == {"closed"})
        await eventually(lambda: not any(self.backend.backlog.values()))

    async def left_alone(self, name: str) -> None:
        """Ask until the breaker of *name*, which fails, is open."""
        for _ in range(10):
            if self.backend.states[name] != "closed":
                return
            try:
                await self.backend.ping()
                await self.backend.head(Key("nobody/asks"))
            except Exception:
                continue
        raise AssertionError(f"{name} is still asked")

    async def holders(self, key: Key) -> list[str]:
        """The stores that have *key*, whether they answer or not."""
        return [name for name, store in self.stores.items() if key in {found.key async for found in store.store.list()}]


@asynccontextmanager
async def several(folder: Path, names: Sequence[str] = NAMES) -> AsyncIterator[Several]:
    """Stores in memory called *names*, not yet running."""
    async with SqlCatalogue(SqliteDatabase(folder / "catalogue.sqlite")) as catalogue:
        yield Several(folder, Ledger(catalogue), [Faulty(MemoryBackend(name=name)) for name in names])

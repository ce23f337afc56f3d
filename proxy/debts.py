"""What stores owe each other: the values, and the port of the list in which it is written down."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from proxy.keys import Key


class DebtKind(StrEnum):
    """What a store owes: the copy of a write that went elsewhere, or the removal of what was deleted while it was away."""

    COPY = "copy"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Debt:
    """What *store* must still get or lose of *key*. Durable before the write or the delete is acknowledged.

    *etag* is the generation of the write, or of the delete itself: only older writes fall to it. *holder* is the store that
    has the bytes of a COPY; *settled* says that it stays there for good (the policy ``leave``), and nothing is to be done.
    """

    key: Key
    store: str
    kind: DebtKind
    etag: str
    holder: str | None = None
    sha256: str | None = None
    settled: bool = False


class Ledger(Protocol):
    """The durable list of debts; one for each key and store, the newest replaces older ones. Raises Unavailable."""

    async def owe(self, debts: Sequence[Debt]) -> None:
        """Write them down, all or none; committed on return."""
        ...

    async def pay(self, debt: Debt) -> None:
        """Strike it out, unless a newer one has taken its place."""
        ...

    async def debts_of(self, key: Key) -> list[Debt]: ...

    async def due(self, stores: Collection[str], limit: int, after: Key | None = None) -> list[Debt]:
        """Up to *limit* unsettled debts of these *stores*, by key, beyond *after*."""
        ...

    async def backlog(self) -> dict[str, int]:
        """How many unsettled debts each store has."""
        ...

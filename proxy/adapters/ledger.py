"""What the stores owe, in a table beside the assets."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sql

from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.tables import debts
from proxy.debts import Debt, DebtKind
from proxy.keys import Key

REPLACED = ("kind", "etag", "holder", "sha256", "settled")


class SqlLedger:
    """Debts in the database of *catalogue*, which must be open. A generation's text sorts as its time, so etags are compared."""

    def __init__(self, catalogue: SqlCatalogue) -> None:
        self._catalogue = catalogue

    async def owe(self, owed: Sequence[Debt]) -> None:
        """Write them down, all or none; a row that is newer than what would replace it stays."""
        if not owed:
            return
        row = self._catalogue.insert(debts)
        newest = row.on_conflict_do_update(
            index_elements=[debts.c.key, debts.c.store],
            set_={name: row.excluded[name] for name in REPLACED},
            where=row.excluded.etag >= debts.c.etag,
        )
        async with self._catalogue.begun() as connection:
            # In one order by all, so that no two wait for each other's rows.
            await connection.execute(newest, [asdict(debt) for debt in sorted(owed, key=lambda debt: (debt.key, debt.store))])

    async def pay(self, debt: Debt) -> None:
        """Strike it out, unless another has taken its place."""
        that_one = sql.and_(debts.c.key == debt.key, debts.c.store == debt.store)
        async with self._catalogue.begun() as connection:
            await connection.execute(debts.delete().where(that_one, debts.c.kind == debt.kind, debts.c.etag == debt.etag))

    async def debts_of(self, key: Key) -> list[Debt]:
        """All of *key*, the settled ones too, by store."""
        return await self._found(debts.select().where(debts.c.key == key).order_by(debts.c.store))

    async def due(self, stores: Collection[str], limit: int, after: Key | None = None) -> list[Debt]:
        """Up to *limit* unsettled debts of these *stores*, by key, beyond *after*."""
        query = debts.select().where(~debts.c.settled, debts.c.store.in_(stores))
        if after is not None:
            query = query.where(debts.c.key > after)
        return await self._found(query.order_by(debts.c.key, debts.c.store).limit(limit))

    async def backlog(self) -> dict[str, int]:
        """How many unsettled debts each store has; a store without any is left out."""
        query = sql.select(debts.c.store, sql.func.count()).where(~debts.c.settled).group_by(debts.c.store)
        async with self._catalogue.begun() as connection:
            return {row[0]: row[1] for row in await connection.execute(query)}

    async def _found(self, query: sql.Select[Any]) -> list[Debt]:
        async with self._catalogue.begun() as connection:
            return [_debt(row) for row in await connection.execute(query)]


def _debt(row: sql.Row[Any]) -> Debt:
    fields = dict(row._mapping)
    return Debt(**fields | {"kind": DebtKind(fields["kind"])})


class Forgetful:
    """Remembers no debts: for what can be made again, and is of no harm where a store that was away still has it."""

    async def owe(self, debts: Sequence[Debt]) -> None:
        """Let them be."""

    async def pay(self, debt: Debt) -> None:
        """Nothing is written down."""

    async def debts_of(self, key: Key) -> list[Debt]:
        """None."""
        return []

    async def due(self, stores: Collection[str], limit: int, after: Key | None = None) -> list[Debt]:
        """None."""
        return []

    async def backlog(self) -> dict[str, int]:
        """Nothing."""
        return {}

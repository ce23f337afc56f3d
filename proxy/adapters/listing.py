"""Pages of records in SQL, each condition such that an index leads to the page, wherever it is."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sql

from proxy.adapters.counting import stamp
from proxy.adapters.tables import LISTED, assets
from proxy.ports import Asset
from proxy.selection import Selection, Sort

COLUMNS = {Sort.CREATED: assets.c.created, Sort.SIZE: assets.c.size, Sort.KEY: assets.c.key}
LAST = "\U0010ffff"
"""The greatest text: what begins with something is less than that and this."""


def place(asset: Asset, selection: Selection) -> str | int:
    """Where *asset* stands in the order."""
    if selection.sort is Sort.KEY:
        return asset.key
    return asset.size if selection.sort is Sort.SIZE else stamp(asset.created)


def page(owner: str, selection: Selection, position: tuple[str | int, str] | None, limit: int) -> sql.Select[Any]:
    """The first *limit* records of *owner*'s that *selection* selects, behind *position*."""
    if len(selection.types) < 2:
        return _part(owner, selection, position, limit, *selection.types)
    # A few of each type by its index, and of those the first: with all types in one condition, the rare ones are looked for
    # among all records.
    parts = [sql.select(_part(owner, selection, position, limit, one).subquery()) for one in selection.types]
    together = sql.union_all(*parts).subquery()
    columns = {Sort.CREATED: together.c.created, Sort.SIZE: together.c.size, Sort.KEY: together.c.key}
    return sql.select(together).order_by(*_order(selection, columns[selection.sort], together.c.key)).limit(limit)


def _part(owner: str, selection: Selection, position: tuple[str | int, str] | None, limit: int, *types: str) -> sql.Select[Any]:
    column, key = COLUMNS[selection.sort], assets.c.key
    # What goes by keys, or has a folder, is found by the keys, which begin with their owner: the owner's index would not help.
    by_key = selection.sort is Sort.KEY or selection.prefix is not None
    query = sql.select(*LISTED).where((assets.c.owner.concat("") if by_key else assets.c.owner) == owner)
    query = query.where(assets.c.state == selection.state)
    if by_key:
        begins = selection.prefix or f"{owner}/"
        least, most = key >= begins, key < begins + LAST
        if position is not None and column is key:  # in place of one bound: of two, SQLite may begin at the wrong one
            least, most = (least, key < position[1]) if selection.descends else (key > position[1], most)
        query = query.where(least, most)
    if types:
        query = query.where((assets.c.content_type.concat("") if by_key else assets.c.content_type) == types[0])
    if selection.since is not None:
        query = query.where(assets.c.created >= stamp(selection.since))
    if position is not None and column is not key:
        here, there = sql.tuple_(column, key), sql.tuple_(*position)
        query = query.where(here < there if selection.descends else here > there)
    return query.order_by(*_order(selection, column, key)).limit(limit)


def _order(selection: Selection, column: Any, key: Any) -> list[Any]:
    columns = [column] if column is key else [column, key]
    return [column.desc() if selection.descends else column.asc() for column in columns]

"""Counts what owners have, within the transactions that change it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.adapters.tables import reservations, uploads, usage
from proxy.quotas import Usage


def stamp(moment: datetime) -> int:
    """Microseconds since 1970, UTC."""
    return int(moment.timestamp() * 1_000_000)


async def counted(connection: AsyncConnection, insert: Callable[..., Any], owner: str, size: int, objects: int) -> None:
    """Add to what *owner* has. Until the transaction ends nobody else counts for this owner."""
    row = insert(usage).values(owner=owner, bytes=size, objects=objects)
    more = {"bytes": usage.c.bytes + size, "objects": usage.c.objects + objects}
    await connection.execute(row.on_conflict_do_update(index_elements=[usage.c.owner], set_=more))


async def standing(connection: AsyncConnection, owner: str, now: datetime, without: Sequence[str] = ()) -> Usage:
    """What *owner* has, and what is set aside by all but those called *without*."""
    row = (await connection.execute(sql.select(usage.c.bytes, usage.c.objects).where(usage.c.owner == owner))).first()
    total = sql.select(
        sql.func.coalesce(sql.func.sum(reservations.c.bytes), 0), sql.func.coalesce(sql.func.sum(reservations.c.objects), 0)
    )
    lives = sql.or_(reservations.c.expires > stamp(now), uploads.c.expires > stamp(now))
    total = total.select_from(reservations.outerjoin(uploads, uploads.c.id == reservations.c.name))
    total = total.where(reservations.c.owner == owner, lives, reservations.c.name.not_in(without))
    reserved = (await connection.execute(total)).one()
    size, objects = (0, 0) if row is None else (row.bytes, row.objects)
    return Usage(size, objects, int(reserved[0]), int(reserved[1]))

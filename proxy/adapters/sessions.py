"""Resumable uploads, in tables beside the assets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sql

from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.tables import chunks, uploads
from proxy.errors import Conflict
from proxy.sessions import Chunk, Form, Phase, Session

UNFINISHED = (Phase.RECEIVING, Phase.COMMITTING)


class SqlSessions:
    """Uploads in the database of *catalogue*, which must be open."""

    def __init__(self, catalogue: SqlCatalogue) -> None:
        self._catalogue = catalogue

    async def add(self, session: Session) -> None:
        """Write it down."""
        async with self._catalogue.begun() as connection:
            await connection.execute(uploads.insert().values(_row(session)))

    async def get(self, id: str) -> Session | None:
        """The upload, whatever its phase."""
        async with self._catalogue.begun() as connection:
            row = (await connection.execute(uploads.select().where(uploads.c.id == id))).first()
        return None if row is None else _session(row)

    async def change(self, before: Session, after: Session) -> Session | None:
        """Put *after* in its place, if nobody else has changed it since *before*."""
        after = replace(after, fence=before.fence + 1)
        query = uploads.update().where(uploads.c.id == before.id, uploads.c.fence == before.fence).values(_row(after))
        async with self._catalogue.begun() as connection:
            return after if (await connection.execute(query)).rowcount else None

    async def remove(self, id: str) -> None:
        """Forget it and its chunks."""
        async with self._catalogue.begun() as connection:
            await connection.execute(chunks.delete().where(chunks.c.upload == id))
            await connection.execute(uploads.delete().where(uploads.c.id == id))

    async def chunks(self, id: str) -> list[Chunk]:
        """All that are durable, by number."""
        query = chunks.select().where(chunks.c.upload == id).order_by(chunks.c.number)
        async with self._catalogue.begun() as connection:
            return [Chunk(row.number, row.sha256) for row in await connection.execute(query)]

    async def chunk(self, id: str, number: int) -> Chunk | None:
        """One of them."""
        query = chunks.select().where(chunks.c.upload == id, chunks.c.number == number)
        async with self._catalogue.begun() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else Chunk(row.number, row.sha256)

    async def add_chunk(self, id: str, chunk: Chunk, size: int, expires: datetime) -> bool:
        """Count it, once."""
        values = {"offset": uploads.c.offset + size, "fence": uploads.c.fence + 1, "expires": _stamp(expires)}
        query = uploads.update().where(uploads.c.id == id, uploads.c.phase == Phase.RECEIVING).values(values)
        try:
            async with self._catalogue.begun() as connection:
                if not (await connection.execute(query)).rowcount:
                    return False
                await connection.execute(chunks.insert().values(upload=id, number=chunk.number, sha256=chunk.sha256))
        except Conflict:  # it is counted already
            return True
        return True

    async def open_count(self, owner: str) -> int:
        """How many of the owner's may still become something."""
        query = sql.select(sql.func.count()).where(uploads.c.owner == owner, uploads.c.phase.in_(UNFINISHED))
        return await self._number(query)

    async def received(self, home: str) -> int:
        """The bytes of all that are unfinished; a FINAL one has none of its own."""
        query = sql.select(sql.func.coalesce(sql.func.sum(sql.func.coalesce(uploads.c.length, uploads.c.offset)), 0))
        query = query.where(uploads.c.home == home, uploads.c.phase.in_(UNFINISHED), uploads.c.form != Form.FINAL)
        return await self._number(query)

    async def ended(self, home: str, now: datetime, limit: int) -> list[Session]:
        """Those whose time is over, the oldest first."""
        query = uploads.select().where(uploads.c.home == home, uploads.c.expires <= _stamp(now))
        return await self._some(query.order_by(uploads.c.expires).limit(limit))

    async def committing(self, home: str, limit: int) -> list[Session]:
        """Those that are whole, the oldest first."""
        whole = sql.and_(
            uploads.c.phase == Phase.RECEIVING, uploads.c.offset == uploads.c.length, uploads.c.form.in_((Form.WHOLE, Form.FINAL))
        )
        query = uploads.select().where(uploads.c.home == home, sql.or_(uploads.c.phase == Phase.COMMITTING, whole))
        return await self._some(query.order_by(uploads.c.expires).limit(limit))

    async def known(self, ids: Sequence[str]) -> set[str]:
        """Those that there are."""
        async with self._catalogue.begun() as connection:
            return set((await connection.execute(sql.select(uploads.c.id).where(uploads.c.id.in_(ids)))).scalars())

    async def _number(self, query: sql.Select[Any]) -> int:
        async with self._catalogue.begun() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def _some(self, query: sql.Select[Any]) -> list[Session]:
        async with self._catalogue.begun() as connection:
            return [_session(row) for row in await connection.execute(query)]


def _stamp(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


def _row(session: Session) -> dict[str, Any]:
    return asdict(session) | {
        "expires": _stamp(session.expires),
        "parts": json.dumps(session.parts),
        "refusal": None if session.refusal is None else json.dumps(session.refusal),
    }


def _session(row: sql.Row[Any]) -> Session:
    fields = dict(row._mapping)
    return Session(
        **fields
        | {
            "form": Form(fields["form"]),
            "phase": Phase(fields["phase"]),
            "expires": datetime.fromtimestamp(fields["expires"] / 1_000_000, UTC),
            "parts": tuple(json.loads(fields["parts"])),
            "refusal": None if fields["refusal"] is None else json.loads(fields["refusal"]),
        }
    )

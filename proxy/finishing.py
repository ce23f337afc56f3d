"""From the last byte of an upload to an asset: once, whoever waits for it or leaves, and again after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import structlog

from processors import formats
from processors.errors import Corrupt, MediaError
from proxy import keys, streams
from proxy.claims import Clock, utc_now
from proxy.confirmation import REFUSALS
from proxy.errors import AlreadyUploaded, Infected, Locked, NotFound, QuotaExceeded, Unauthorized
from proxy.grants import Grants
from proxy.ingest import Incoming, Ingest, Promised, Way
from proxy.ports import Asset, Catalogue
from proxy.quotas import Quotas, of_promise
from proxy.sessions import Form, Phase, Session, SessionBook, Tails
from proxy.takeovers import Takeovers

AT_ONCE = 16
KINDS: dict[str, type[MediaError]] = REFUSALS | {
    kind.slug: kind for kind in (AlreadyUploaded, NotFound, QuotaExceeded, Unauthorized)
}
"""What an upload can be refused with for good."""

log = structlog.get_logger(__name__)


class Finishing:
    """Makes assets of uploads that are whole. Each is the work of one task, which goes on when the request that began it ends."""

    def __init__(
        self,
        book: SessionBook,
        tails: Tails,
        takeovers: Takeovers,
        grants: Grants,
        catalogue: Catalogue,
        ingest: Ingest,
        quotas: Quotas,
        lifetime: timedelta,
        clock: Clock = utc_now,
    ) -> None:
        self._book = book
        self._tails = tails
        self._takeovers = takeovers
        self._grants = grants
        self._catalogue = catalogue
        self._ingest = ingest
        self._quotas = quotas
        self._lifetime = lifetime
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[Session]] = {}
        self._places = asyncio.Semaphore(AT_ONCE)

    async def finished(self, session: Session, patience_s: float | None = None) -> Session:
        """The upload, once it is an asset; raises what it is refused for, and Locked after *patience_s* seconds."""
        if session.phase is Phase.DONE:
            return session
        if session.phase is Phase.FAILED:
            raise refusal_of(session)
        task = self._tasks.get(session.id)
        if task is None:
            task = self._tasks[session.id] = asyncio.create_task(self._run(session.id))
            task.add_done_callback(lambda done: self._ended(session.id, done))
        done, _ = await asyncio.wait([task], timeout=patience_s)
        if not done:
            raise Locked("the upload is being finished")
        return task.result()

    async def stop(self) -> None:
        """Break off what is in work: the next start goes on with it."""
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, id: str, done: asyncio.Task[Session]) -> None:
        del self._tasks[id]
        if not done.cancelled() and done.exception() is not None and not isinstance(done.exception(), MediaError):
            log.error("upload.commit_crashed", id=id, exc_info=done.exception())

    async def _run(self, id: str) -> Session:
        async with self._places, self._takeovers.alone(id):
            session = await self._book.get(id)
            if session is None:
                raise NotFound("there is no such upload")
            if session.phase is Phase.FAILED:
                raise refusal_of(session)
            if session.phase is Phase.DONE:
                return session
            try:
                session, asset = await self._stored(session)
            except MediaError as error:
                if error.slug in KINDS:
                    await self._refuse(session.id, error)
                raise
            after = await self._change(session, phase=Phase.DONE, key=asset.key, expires=self._clock() + self._lifetime)
            with suppress(MediaError):  # else the patrol does it
                await self._tails.remove(id)
                for part in session.parts:
                    await self._book.remove(part)
                    await self._tails.remove(part)
            return after

    async def _stored(self, session: Session) -> tuple[Session, Asset]:
        again = session.phase is Phase.COMMITTING
        sources = [session] if session.form is not Form.FINAL else [await self._part(id) for id in session.parts]
        async with aclosing(self._read(sources)) as whole:
            head, body = await streams.peek(whole, formats.HEAD_BYTES)
            format = formats.sniff(head)
            key = session.key or session.promised or keys.mint(session.owner, format.extension)
            session = await self._change(session, phase=Phase.COMMITTING, key=key)
            rooms = (room_of(session), *session.parts)
            way = Way.TUS if session.chunk_bytes is None else Way.CHUNKS
            incoming = Incoming(body, session.filename, session.claimed_type, session.length, rooms, way)
            if session.promised is None:
                return session, await self._ingest.store(session.owner, incoming, promised=Promised(key, format, _allowed))
            grant = await self._grants.of_promise(session.promised)
            try:
                return session, await self._grants.store(grant, incoming)
            except AlreadyUploaded:
                # Perhaps by ourselves, before a crash.
                asset = await self._catalogue.get(key)
                if again and asset is not None and asset.is_taken and asset.sha256 == await self._digest(sources):
                    return session, asset
                raise

    def _read(self, sources: list[Session]) -> AsyncGenerator[bytes]:
        return self._tails.read([source.id for source in sources], [source.offset for source in sources])

    async def _part(self, id: str) -> Session:
        part = await self._book.get(id)
        if part is None:
            raise NotFound("a part of this upload is not there any more")
        return part

    async def _digest(self, sources: list[Session]) -> str:
        digest = streams.Digest()
        await streams.drained(digest.through(self._read(sources)))
        return digest.hex

    async def _change(self, session: Session, **changes: Any) -> Session:
        after = await self._book.change(session, replace(session, **changes))
        if after is None:
            raise Locked
        return after

    async def _refuse(self, id: str, error: MediaError) -> None:
        session = await self._book.get(id)
        if session is not None:
            refusal = {"slug": error.slug, "detail": error.detail, "members": error.members}
            await self._change(session, phase=Phase.FAILED, refusal=refusal)
            # Of what is infected nothing is kept; else parts may be put together in another way.
            gone = session.parts if isinstance(error, Infected) else ()
            for one in (id, *gone):
                await self._tails.remove(one)
            for part in gone:
                await self._book.remove(part)
            await self._quotas.release([room_of(session), *gone])
        log.info("upload.refused", id=id, code=error.slug)


def refusal_of(session: Session) -> MediaError:
    """What a FAILED upload was refused for."""
    refusal = session.refusal or {}
    kind = KINDS.get(refusal.get("slug", ""), Corrupt)
    return kind(refusal.get("detail", ""), **refusal.get("members", {}))


def room_of(session: Session) -> str:
    """What the room is called that is taken for an upload: that of the promise, where it began with one."""
    return session.id if session.promised is None else of_promise(session.promised)


async def _allowed() -> None:
    """Whoever has a login may store under a key that was minted for them."""

"""Uploads in numbered chunks of one size, which come in any order, several at once, and each as often as the network wants.

Every chunk has its place in the file from the start, so no order costs memory; a chunk that is durable is never written again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from proxy.claims import Clock, utc_now
from proxy.errors import BadRequest, Conflict, Incomplete, NotFound, TooLarge
from proxy.finishing import Finishing, refusal_of
from proxy.grants import Grant
from proxy.ports import Body
from proxy.resumable import BLOCK_BYTES, Plan, Uploads
from proxy.sessions import Chunk, Form, Phase, Session, SessionBook, Tails
from proxy.takeovers import Takeovers

CHUNK_BYTES = 5 << 20
LEAST_CHUNK_BYTES, MOST_CHUNK_BYTES = 1 << 16, 64 << 20
MOST_CHUNKS = 10_000
MOST_NAMED = 1_000
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an upload is. *missing* are the first of the *missing_count* chunks that have not come."""

    session: Session
    chunks: int
    missing: Sequence[int]
    missing_count: int


class Chunked:
    """Uploads of the form CHUNKS."""

    def __init__(
        self,
        uploads: Uploads,
        book: SessionBook,
        tails: Tails,
        takeovers: Takeovers,
        finishing: Finishing,
        lifetime: timedelta,
        clock: Clock = utc_now,
    ) -> None:
        self._uploads = uploads
        self._book = book
        self._tails = tails
        self._takeovers = takeovers
        self._finishing = finishing
        self._lifetime = lifetime
        self._clock = clock

    async def begin(
        self, grant: Grant, filename: str | None, claimed_type: str | None, size: int, chunk_bytes: int | None
    ) -> Session:
        """A new upload of *size* bytes, in chunks of *chunk_bytes* if that is possible; raises what `Uploads.begin` does."""
        least = -(-size // MOST_CHUNKS)
        if chunk_bytes is None:
            chunk_bytes = max(CHUNK_BYTES, -(-least // MIB) * MIB)
        if not max(least, LEAST_CHUNK_BYTES) <= chunk_bytes <= MOST_CHUNK_BYTES:
            raise BadRequest(
                f"chunkSize is a number of bytes from {max(least, LEAST_CHUNK_BYTES)} to {MOST_CHUNK_BYTES}", param="chunkSize"
            )
        return await self._uploads.begin(grant, Plan(Form.CHUNKS, size, filename, claimed_type, chunk_bytes=chunk_bytes))

    async def progress(self, grant: Grant, id: str) -> Progress:
        """How far it is; nobody is disturbed."""
        session = await self._uploads.find(grant, id, Form.CHUNKS)
        count = chunk_count(session)
        if session.phase is not Phase.RECEIVING:
            return Progress(session, count, (), 0)
        here = {chunk.number for chunk in await self._book.chunks(id)}
        missing = [number for number in range(count) if number not in here]
        return Progress(session, count, missing[:MOST_NAMED], len(missing))

    async def put(self, grant: Grant, id: str, number: int, body: Body, size: int | None) -> Progress:
        """Take chunk *number*, durable on return; the same bytes again change nothing, and other bytes raise Conflict.

        Raises BadRequest and TooLarge for a chunk of another size than it has, and NotFound.
        """
        session = await self._uploads.find(grant, id, Form.CHUNKS)
        wanted = _chunk_size(session, number)
        if size is not None and size != wanted:
            raise _of_wrong_size(number, wanted, size)
        async with self._uploads.at_work(), self._takeovers.turn(f"{id}/{number}") as turn:
            known = await self._book.chunk(id, number)
            if known is None and session.phase is not Phase.RECEIVING:
                raise NotFound("there is no such upload")
            async with turn.receiving():
                digest = await self._taken(session, number, body, wanted, keeps=known is None)
            if known is not None and known.sha256 != digest:
                raise Conflict(f"chunk {number} has come with other bytes before")
            if known is None:
                await self._tails.flush(id)
                if not await self._book.add_chunk(id, Chunk(number, digest), wanted, self._clock() + self._lifetime):
                    raise NotFound("there is no such upload")
        progress = await self.progress(grant, id)
        await self._uploads.tell(progress.session, progress.session.offset)
        return progress

    async def _taken(self, session: Session, number: int, body: Body, wanted: int, *, keeps: bool) -> str:
        digest, seen = hashlib.sha256(), 0
        at, pieces, size = number * (session.chunk_bytes or 0), list[bytes](), 0
        async for piece in body:
            seen += len(piece)
            if seen > wanted:
                raise _of_wrong_size(number, wanted, seen)
            digest.update(piece)
            pieces.append(piece)
            size += len(piece)
            if size >= BLOCK_BYTES or seen == wanted:
                if keeps:
                    await self._tails.write(session.id, at, pieces)
                at, pieces, size = at + size, [], 0
        if seen < wanted:
            raise _of_wrong_size(number, wanted, seen)
        return digest.hexdigest()

    async def complete(self, grant: Grant, id: str) -> Session:
        """Make an asset of it, once; raises Incomplete, which loses nothing, and what the upload is refused for."""
        found = await self.progress(grant, id)
        if found.missing_count:
            raise Incomplete(
                f"{found.missing_count} of {found.chunks} chunks are missing",
                missing=list(found.missing[:50]), missing_count=found.missing_count,
            )  # fmt: skip
        if found.session.phase is Phase.FAILED:
            raise refusal_of(found.session)
        return await self._finishing.finished(found.session)

    async def abort(self, grant: Grant, id: str) -> None:
        """End the upload and drop its bytes."""
        await self._uploads.abort(grant, id, Form.CHUNKS)


def chunk_count(session: Session) -> int:
    """How many chunks the upload has."""
    return -(-(session.length or 0) // (session.chunk_bytes or 1))


def _chunk_size(session: Session, number: int) -> int:
    count = chunk_count(session)
    if not 0 <= number < count:
        raise BadRequest(f"chunks are numbered from 0 to {count - 1}", param="index")
    chunk_bytes = session.chunk_bytes or 0
    return min(chunk_bytes, (session.length or 0) - number * chunk_bytes)


def _of_wrong_size(number: int, wanted: int, size: int) -> BadRequest | TooLarge:
    if size > wanted:
        return TooLarge(f"chunk {number} has {wanted} bytes", max_bytes=wanted)
    return BadRequest(f"chunk {number} has {wanted} bytes, and {size} came")

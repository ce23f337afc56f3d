"""Uploads that survive: bytes that were acknowledged are never asked for again, and the last one makes an asset, once.

The offset that a client is told is durable first: bytes on the disk, then the record by compare-and-set. One request is at work on
an upload; a newer one stops it. What is whole is committed by a task of its own, which no client's leaving ends, and which the
next process begins again after a crash.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import structlog

from processors.errors import MediaError
from proxy.claims import Clock, utc_now
from proxy.errors import (
    BadRequest,
    ChecksumMismatch,
    Conflict,
    Forbidden,
    Locked,
    NotFound,
    OffsetMismatch,
    RateLimited,
    StorageFull,
    TooLarge,
    Unavailable,
)
from proxy.finishing import Finishing, room_of
from proxy.grants import Grant
from proxy.ingest import Ingest
from proxy.ports import Body
from proxy.progress import TOLD_EVERY_S, Passes, moment
from proxy.quotas import STEP_BYTES, Quotas
from proxy.sessions import Form, Phase, Session, SessionBook, Tails
from proxy.takeovers import Takeovers, Turn

T = TypeVar("T")

MOST_OPEN = 1_000
MOST_AT_ONCE = 256
"""requests of one process that bring bytes: each keeps up to 400 KiB of them"""
MOST_PARTS = 100
BLOCK_BYTES = 1 << 17
CHECKPOINT_BYTES = 32 << 20
CHECKPOINT_S = 5.0
FINISH_WAIT_S = 20.0
"""What a client that asks how far it is waits for the end: then it is told to come again."""
PATROL_S = 5.0
_ID = re.compile(r"[0-9a-f]{32}")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What somebody begins to upload, as they say it. *metadata* is said to them again; *parts* are for a FINAL one."""

    form: Form
    length: int | None
    filename: str | None = None
    claimed_type: str | None = None
    metadata: str | None = None
    chunk_bytes: int | None = None
    parts: tuple[str, ...] = ()


class Arriving:
    """The bytes that one request brings. *rest* gives what has come and was not read yet, and whether that is all there is."""

    def __init__(self, body: Body, rest: Callable[[], tuple[bytes, bool]] = lambda: (b"", False)) -> None:
        self.body = body
        self.rest = rest


class Checksum:
    """What the bytes of one request must add up to: *digest* by *hasher* (of hashlib)."""

    def __init__(self, hasher: Any, digest: bytes) -> None:
        self._hasher = hasher
        self._digest = digest

    def add(self, chunk: bytes) -> None:
        """Count *chunk* in."""
        self._hasher.update(chunk)

    @property
    def holds(self) -> bool:
        """Whether what was counted is what was said."""
        return secrets.compare_digest(self._hasher.digest(), self._digest)


class Uploads:
    """Begins uploads and takes their bytes, which `Finishing` makes assets of; *passes* tells owners how far they are."""

    def __init__(
        self,
        book: SessionBook,
        tails: Tails,
        takeovers: Takeovers,
        finishing: Finishing,
        ingest: Ingest,
        quotas: Quotas,
        *,
        lifetime: timedelta,
        most_bytes: int,
        passes: Passes,
        clock: Clock = utc_now,
    ) -> None:
        self._passes = passes
        self._book = book
        self._tails = tails
        self._takeovers = takeovers
        self._finishing = finishing
        self._ingest = ingest
        self._quotas = quotas
        self._lifetime = lifetime
        self._most_bytes = most_bytes
        self._clock = clock
        self._under_way = 0

    @property
    def receiving(self) -> int:
        """How many requests bring bytes now."""
        return self._under_way

    # -- from the first byte to the last ----------------------------------------------------------------------------------

    async def begin(self, grant: Grant, plan: Plan) -> Session:
        """A new upload; raises TooLarge, Unsupported, RateLimited, StorageFull, QuotaExceeded; Conflict for parts not yet whole."""
        parts = [await self.find(grant, id, Form.PART) for id in plan.parts]
        length = plan.length
        if plan.form is Form.FINAL:
            if not parts or len(parts) > MOST_PARTS:
                raise BadRequest(f"an upload is put together of 1 to {MOST_PARTS} parts")
            if not all(part.is_whole for part in parts):
                raise Conflict("a part of this upload has not come to its end")
            length = sum(part.offset for part in parts)
        limit = self._ingest.max_bytes_of(plan.claimed_type)
        if length is not None and length > limit:
            raise TooLarge(f"a body of this type may have {limit} bytes", max_bytes=limit)
        if plan.form is not Form.PART:
            grant.check(plan.claimed_type, length)
        await self._check_room(grant.owner, 0 if plan.form is Form.FINAL else length or 0)
        session = Session(
            secrets.token_hex(16), grant.owner, plan.form, length, self._clock() + self._lifetime, self._tails.home,
            plan.filename, plan.claimed_type, plan.metadata, plan.chunk_bytes, plan.parts,
            None if grant.promised is None else grant.promised.key,
            length or 0 if plan.form is Form.FINAL else 0,
        )  # fmt: skip
        await self._take_room(session, 0 if plan.form is Form.FINAL else length or 0)
        if plan.form is not Form.FINAL:
            await self._tails.make(session.id)
        await self._book.add(session)
        return await self._finishing.finished(session) if is_ready(session) else session

    async def _check_room(self, owner: str, size: int) -> None:
        if await self._book.open_count(owner) >= MOST_OPEN:
            raise RateLimited(f"{MOST_OPEN} of your uploads have not come to their end", headers={"Retry-After": "60"})
        if await self._book.received(self._tails.home) + size > self._most_bytes:
            raise StorageFull("there is no room for uploads on their way", headers={"Retry-After": "60"})

    async def _take_room(self, session: Session, size: int) -> None:
        # Parts count as one object together, with the upload that they are put together to.
        objects = 0 if session.form is Form.PART else 1
        await self._quotas.reserve(room_of(session), session.owner, size, self._clock(), session.expires, objects)

    async def find(self, grant: Grant, id: str, *forms: Form) -> Session:
        """The upload, if it is the caller's and of one of these *forms*; raises NotFound, also for one whose time is over."""
        session = await self._book.get(id) if _ID.fullmatch(id) else None
        if session is None or session.owner != grant.owner or session.form not in forms:
            raise NotFound("there is no such upload")
        if grant.promised is not None and session.promised != grant.promised.key:
            raise NotFound("there is no such upload")
        if session.expires <= self._clock():
            raise NotFound("the time of this upload is over")
        if session.home != self._tails.home:
            raise Unavailable("this upload is at another machine, which requests for it must be sent to")
        return session

    async def look(self, grant: Grant, id: str, *forms: Form) -> Session:
        """How far the upload is, exactly: whoever is still bringing bytes is stopped first. Raises NotFound and Locked."""
        session = await self.find(grant, id, *forms)
        if session.phase is Phase.RECEIVING:
            async with self._takeovers.turn(id):
                session = await self.find(grant, id, *forms)
        if session.phase is Phase.FAILED:
            raise NotFound("this upload has failed")
        return await self._finishing.finished(session, FINISH_WAIT_S) if is_ready(session) else session

    async def append(
        self, grant: Grant, id: str, offset: int, arriving: Arriving, size: int | None, *,
        length: int | None = None, checksum: Checksum | None = None,
    ) -> Session:  # fmt: skip
        """Add the bytes of one request at *offset*; what has come is kept, however the request ends, unless a *checksum* is wrong.

        *size* is how many the request says it brings, *length* what the upload has in all, where that was not known before.
        Raises OffsetMismatch, Locked (a newer request goes on), TooLarge, ChecksumMismatch, and what the upload is refused for.
        """
        session = await self.find(grant, id, Form.WHOLE, Form.PART, Form.FINAL)
        if session.form is Form.FINAL:
            raise Forbidden("an upload that is put together of others takes no bytes")
        self._check(session, offset, size, length)
        if _receives(session):
            async with self.at_work(), self._takeovers.turn(id) as turn:
                session = await self.find(grant, id, session.form)
                self._check(session, offset, size, length)
                if _receives(session):
                    if length is not None and session.length is None:
                        await self._take_room(session, length)
                    session = session if length is None else replace(session, length=length)
                    session = await self._received(session, turn, arriving, checksum)
        # Where nothing is to come any more the answer to the last bytes was lost, and they, or none, were sent again.
        return await self._finishing.finished(session) if is_ready(session) else session

    def _check(self, session: Session, offset: int, size: int | None, length: int | None) -> None:
        if session.phase is Phase.FAILED:
            raise NotFound("this upload has failed")
        if offset != session.offset:
            raise OffsetMismatch(f"the upload goes on at {session.offset}", expected=session.offset)
        known = session.length
        if length is not None:
            if known not in {None, length}:
                raise BadRequest("the length of an upload is said once")
            limit = self._ingest.max_bytes_of(session.claimed_type)
            if length < offset or length > limit:
                raise TooLarge(f"a body of this type may have {limit} bytes", max_bytes=limit)
            known = length
        limit = self._limit(session, known)
        if size is not None and offset + size > limit:
            raise TooLarge(f"the upload has {limit} bytes in all", max_bytes=limit)

    def _limit(self, session: Session, length: int | None) -> int:
        return self._ingest.max_bytes_of(session.claimed_type) if length is None else length

    async def _received(self, session: Session, turn: Turn, arriving: Arriving, checksum: Checksum | None) -> Session:
        limit = self._limit(session, session.length)
        at, pieces, size = session.offset, list[bytes](), 0
        checked = told = time.monotonic()
        failure: BaseException | None = None
        try:
            async with turn.receiving():
                async for chunk in arriving.body:
                    if at + size + len(chunk) > limit:
                        raise TooLarge(f"the upload has {limit} bytes in all", max_bytes=limit)
                    if checksum is not None:
                        checksum.add(chunk)
                    pieces.append(chunk)
                    size += len(chunk)
                    if size >= BLOCK_BYTES:
                        await self._tails.write(session.id, at, pieces)
                        at, pieces, size = at + size, [], 0
                        if time.monotonic() - told > TOLD_EVERY_S:
                            told = time.monotonic()
                            await self.tell(session, at)
                        is_due = at - session.offset >= CHECKPOINT_BYTES or time.monotonic() - checked > CHECKPOINT_S
                        if checksum is None and is_due:
                            session, checked = await to_the_end(self._kept(session, at)), time.monotonic()
        except (StorageFull, Unavailable) as error:
            failure, pieces = error, []
        except BaseException as error:  # also when the client has gone: what it has sent is kept
            failure = error
            rest, is_all = arriving.rest()
            pieces.append(rest[: limit - at - size])
            if isinstance(error, Locked) and is_all:
                failure = None
        if checksum is not None:
            if failure is not None:
                raise failure
            if not checksum.holds:
                raise ChecksumMismatch("the bytes do not add up to the checksum, and are thrown away")
        session = await to_the_end(self._added(session, at, pieces, is_known=failure is None))
        if failure is not None and (isinstance(failure, TooLarge) or not is_ready(session)):
            raise failure
        return session  # whole: whoever broke off at the last byte has all the same sent everything

    async def _added(self, session: Session, at: int, pieces: list[bytes], *, is_known: bool) -> Session:
        if not is_known:  # we may have been broken off when something was just kept
            standing = await self._book.get(session.id)
            if standing is None:
                raise NotFound("there is no such upload")
            session = replace(standing, length=session.length)
        if any(pieces):
            await self._tails.write(session.id, at, pieces)
        return await self._kept(session, at + sum(map(len, pieces)))

    async def _kept(self, session: Session, offset: int) -> Session:
        # The disk first, then the record: what a client is told survives a crash.
        await self._tails.flush(session.id)
        after = await self._book.change(session, replace(session, offset=offset, expires=self._clock() + self._lifetime))
        if after is None:
            raise Locked
        if after.length is None and offset // STEP_BYTES > session.offset // STEP_BYTES:
            await self._take_room(after, offset)
        await self.tell(after, offset)
        return after

    async def tell(self, session: Session, received: int) -> None:
        """Let the owner know how far the upload is."""
        await self._passes(session.owner, moment(session.id, session.filename, received, session.length))

    async def abort(self, grant: Grant, id: str, *forms: Form) -> None:
        """End the upload and drop its bytes, also while they come; what has become an asset stays one. Raises Locked, NotFound."""
        await self.find(grant, id, *forms)
        async with self._takeovers.turn(id):
            await self._dropped(id)

    async def _dropped(self, id: str) -> None:
        await self._book.remove(id)
        await self._tails.remove(id)
        await self._quotas.release([id])

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Within, a request brings bytes; raises Unavailable when too many do."""
        if self._under_way >= MOST_AT_ONCE:
            raise Unavailable("too many uploads come at once", retry_after_s=2)
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    # -- what nobody goes on with -----------------------------------------------------------------------------------------

    async def patrol_for_ever(self) -> None:
        """Look through them again and again; one process of a machine does it."""
        while True:
            try:
                await self.patrol()
            except MediaError as error:
                log.warning("upload.patrol_failed", reason=error.slug)
            except Exception:  # the root of a task: the next turn may be luckier
                log.exception("upload.patrol_failed")
            await asyncio.sleep(PATROL_S)

    async def patrol(self, batch: int = 100) -> None:
        """Finish what is whole, drop what has expired and what belongs to nothing."""
        waiting = await self._book.committing(self._tails.home, batch)
        await asyncio.gather(*(self._finishing.finished(session) for session in waiting), return_exceptions=True)
        for session in await self._book.ended(self._tails.home, self._clock(), batch):
            with suppress(Locked):
                async with self._takeovers.turn(session.id):
                    now = await self._book.get(session.id)
                    if now is not None and now.expires <= self._clock():
                        await self._dropped(session.id)
        left = (await self._tails.old())[:batch]
        for id in set(left) - await self._book.known(left):
            await self._tails.remove(id)


def _receives(session: Session) -> bool:
    return session.phase is Phase.RECEIVING and not session.is_whole


def is_ready(session: Session) -> bool:
    """Whether an asset is to be made of it."""
    return session.form is not Form.PART and session.phase in {Phase.RECEIVING, Phase.COMMITTING} and session.is_whole


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """What *work* gives; who is cancelled meanwhile waits for its end first."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        with suppress(MediaError):
            task.result()
        raise cancelled
    return task.result()

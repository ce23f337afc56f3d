"""From what was uploaded to an asset: checks what has come, gives it its key, and clears away what nobody confirmed."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from datetime import timedelta
from functools import partial
from itertools import count
from types import TracebackType
from typing import Self

import structlog

from processors.errors import Corrupt, MediaError, TooCostly, Unsupported
from proxy.claims import Claims, Clock, utc_now
from proxy.errors import (
    AlreadyUploaded,
    BadRequest,
    Forbidden,
    Infected,
    NotFound,
    NotUploaded,
    TooLarge,
    Unavailable,
    Unscannable,
)
from proxy.grants import format_of
from proxy.ingest import Incoming, Ingest, Promised, Way
from proxy.keys import Key
from proxy.ports import Asset, Backend, Catalogue, Listed, ObjectReader
from proxy.presigned import STAGED, staged_key
from proxy.promises import Promise, PromiseBook, Refusal, Stage
from proxy.quotas import Quotas, of_promise

REFUSALS: dict[str, type[MediaError]] = {
    kind.slug: kind for kind in (BadRequest, TooLarge, Unsupported, Corrupt, TooCostly, Infected, Unscannable)
}
"""What the bytes of an upload can be refused with for good."""
WAITING = (Stage.OPEN, Stage.ARRIVED)
WAIT_S = 20.0
"""For a confirmation that is under way already."""
SETTLED = timedelta(seconds=60)
"""After which an upload that its sender has not confirmed is confirmed for them."""
PATROL_S = 30.0
MOST_SEEN = 10_000
BATCH = 200

log = structlog.get_logger(__name__)


class Confirmation:
    """Confirms uploads that lie in *staged*. Entered, it *patrols*: confirms what nobody did, drops what is older than *keep*."""

    def __init__(
        self,
        book: PromiseBook,
        claims: Claims,
        staged: Backend,
        catalogue: Catalogue,
        ingest: Ingest,
        quotas: Quotas,
        keep: timedelta,
        clock: Clock = utc_now,
        *,
        patrols: bool = True,
    ) -> None:
        self._book = book
        self._claims = claims
        self._staged = staged
        self._catalogue = catalogue
        self._ingest = ingest
        self._quotas = quotas
        self._keep = keep
        self._clock = clock
        self._patrols = patrols
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._patrols:
            self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def confirm(self, key: Key, patience_s: float = WAIT_S) -> Asset:
        """The asset that the upload to *key* has become: checked and stored now, unless it was before.

        Raises NotFound, NotUploaded, what it was refused with (again, while that is remembered), and Conflict if another
        request is at work on it for longer than *patience_s*.
        """
        earlier = await self._settled(key)
        if earlier is not None:
            return earlier
        async with self._claims.alone(key, patience_s):
            return await self._settled(key) or await self._checked(key)

    async def withdraw(self, key: Key) -> None:
        """Take back what was promised, for all processes at once; raises NotFound, and AlreadyUploaded where it has been kept."""
        promise = await self._book.get(key)
        if promise is None:
            raise NotFound("nothing was promised under this key")
        stages = [*WAITING, Stage.REFUSED, Stage.WITHDRAWN]
        if not await self._book.move(key, stages, Stage.WITHDRAWN, self._clock()):
            raise AlreadyUploaded("this has become an object: delete that")
        await self._drop(key)

    async def _settled(self, key: Key) -> Asset | None:
        """What has become of *key*; None while it may still become something."""
        promise = await self._book.get(key)
        if promise is not None and promise.stage in WAITING:
            return None
        if promise is not None and promise.refusal is not None:
            refusal = promise.refusal
            raise REFUSALS.get(refusal.slug, Corrupt)(refusal.detail, **refusal.members)
        asset = await self._catalogue.get(key)
        if asset is None or not asset.is_taken:
            raise NotFound("nothing was promised under this key")
        return asset

    async def _checked(self, key: Key) -> Asset:
        promise = await self._promise(key)
        try:
            reader = await self._staged.open(staged_key(key))
        except NotFound:
            raise NotUploaded("nothing has been uploaded to this address, or not to its end") from None
        async with reader:
            try:
                asset = await self._stored(promise, reader)
            except MediaError as error:
                if error.slug in REFUSALS:
                    await self._refuse(promise, error)
                raise
        await self._book.move(key, WAITING, Stage.KEPT, self._clock())
        await self._drop(key)
        return asset

    async def _stored(self, promise: Promise, reader: ObjectReader) -> Asset:
        size = reader.meta.size
        if promise.size not in {None, size}:
            raise BadRequest(f"{size} bytes came, and {promise.size} were promised")
        if size > promise.max_bytes:
            raise TooLarge(f"a body of this type may have {promise.max_bytes} bytes", max_bytes=promise.max_bytes)
        now, room = self._clock(), of_promise(promise.key)
        await self._quotas.reserve(room, promise.owner, size, now, now + self._keep)  # before it is read, and looked at
        incoming = Incoming(reader.chunks, promise.filename, promise.content_type, size, (room,), Way.PROMISE)
        promised = Promised(promise.key, format_of(promise), partial(self._promise, promise.key))
        return await self._ingest.store(promise.owner, incoming, promised=promised)

    async def _promise(self, key: Key) -> Promise:
        promise = await self._book.get(key)
        if promise is None or promise.stage not in WAITING:
            raise Forbidden("what was promised has been taken back")
        return promise

    async def _refuse(self, promise: Promise, error: MediaError) -> None:
        refusal = Refusal(error.slug, error.detail, error.members)
        if await self._book.move(promise.key, WAITING, Stage.REFUSED, self._clock(), refusal):
            await self._drop(promise.key)

    async def _drop(self, key: Key) -> None:
        with suppress(MediaError):  # a patrol does it later
            await self._quotas.release([of_promise(key)])
            await self._staged.delete(staged_key(key))

    # -- what nobody confirms ---------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        for turn in count():
            try:
                await self.patrol()
            except MediaError as error:
                log.warning("upload.patrol_failed", reason=error.slug)
            except Exception:  # the root of a task: the next turn may be luckier
                log.exception("upload.patrol_failed", turn=turn)
            await asyncio.sleep(PATROL_S * (0.75 + secrets.randbelow(50) / 100))  # several machines may do this, not all at once

    async def patrol(self) -> None:
        """Look once through all that was uploaded and not confirmed, and through what was promised long ago."""
        for found in await self._seen():
            await self._look_at(found)
        now = self._clock()
        for promise in await self._book.ended(now, now - self._keep, BATCH):
            await self._drop(promise.key)
            await self._book.remove(promise.key)

    async def _seen(self) -> list[Listed]:
        seen: list[Listed] = []
        with suppress(Unavailable):  # of several stores one is away: what the others have need not wait for it
            async for found in self._staged.list(STAGED):
                seen.append(found)
                if len(seen) == MOST_SEEN:
                    break
        return seen

    async def _look_at(self, found: Listed) -> None:
        key = Key(found.key.removeprefix(STAGED))
        age = self._clock() - found.modified
        promise = await self._book.get(key)
        if age < (self._keep if promise is None else SETTLED):  # of another catalogue, or still its sender's to confirm
            return
        if promise is not None and promise.stage in WAITING and age < self._keep:
            try:
                await self.confirm(key, 0)
            except MediaError as error:
                log.info("upload.not_confirmed", key=key, reason=error.slug)
            return
        try:
            await self._staged.delete(found.key)
        except MediaError as error:
            log.warning("upload.not_dropped", key=key, reason=error.slug)
        else:
            log.info("upload.dropped", key=key)

"""Puts of one bucket: in one streamed piece where the size is known, else in parts that wait on this machine's disk."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import structlog
from botocore.exceptions import ClientError

from processors.errors import MediaError
from proxy.adapters.outgoing import Deadlines, Outgoing, send
from proxy.adapters.s3_errors import Profile, code_of, translated
from proxy.adapters.s3_parts import SINGLE_MAX_BYTES, Part, Parts
from proxy.adapters.s3_reading import GENERATION, Answer, entity_tag, meta_of
from proxy.adapters.staging import BLOCK_BYTES, Intake, Staging
from proxy.errors import Unavailable
from proxy.keys import Key
from proxy.ports import ObjectMeta

T = TypeVar("T")

IN_FLIGHT = 2
MAX_LEFT = 1_000
ABORTS = 3
GONE = frozenset({"NoSuchUpload", "NoSuchKey", "404"})

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a body goes, under which generation, and what other programs are to find beside it."""

    key: Key
    content_type: str
    etag: str
    metadata: Mapping[str, str] = field(default_factory=dict)


class Uploads:
    """Puts through *client* into *bucket* of *store*."""

    def __init__(self, client: Any, bucket: str, store: str, profile: Profile, deadlines: Deadlines, staging: Staging) -> None:
        self.store = store
        self.profile = profile
        self.deadlines = deadlines
        self.staging = staging
        self._client = client
        self._bucket = bucket
        self._left: dict[str, Key] = {}

    async def call(self, operation: str, key: Key, seconds: float | None, **parameters: Any) -> Answer:
        """The answer of one S3 operation on *key*, within *seconds*; None leaves the deadlines to who calls."""
        with translated():
            async with asyncio.timeout(seconds):
                answer: Answer = await getattr(self._client, operation)(Bucket=self._bucket, Key=key, **parameters)
                return answer

    async def whole(self, target: Target, intake: Intake, size: int) -> None:
        """One PUT of a body of known *size*, as it comes. The last block goes out when it was admitted.

        A put that is cancelled after that may be committed all the same: the store's answer is not waited for.
        """
        if size == 0:  # there is no last block to hold back: the object is there as soon as the store has the headers
            async for _ in intake.held_back():
                pass
            await self.nothing(target)
            return
        outgoing = Outgoing()
        try:
            answer = await send(self._putting(target, size), intake.held_back(), self.deadlines, outgoing)
        except Unavailable:
            if not outgoing.ended or not await self.has(target, size):
                raise
        else:
            await self._verify(target, answer, intake.md5)

    async def from_file(self, target: Target, part: Part) -> None:
        """One PUT of a body that lies in a file. It is tried again if the store answers, but not rightly."""
        for is_last in (False, True):
            outgoing = Outgoing()
            try:
                request = self._putting(target, part.size, ContentMD5=part.content_md5)
                answer = await send(request, self.blocks(part), self.deadlines, outgoing)
            except Unavailable:
                if outgoing.ended and await self.has(target, part.size):
                    return
                if is_last or not outgoing.was_asked:  # a store that is away is left at once: another may be there
                    raise
                await asyncio.sleep(self.deadlines.pauses[0])
            else:
                await self._verify(target, answer, part.md5)
                return

    async def nothing(self, target: Target) -> None:
        """One PUT of an empty body."""
        try:
            await self.call("put_object", target.key, self.deadlines.answer, Body=b"", **_headers(target))
        except Unavailable:
            if not await self.has(target, 0):
                raise

    def _putting(self, target: Target, size: int, **digest: str) -> Callable[[Outgoing], Awaitable[Answer]]:
        return lambda body: self.call(
            "put_object", target.key, None, Body=body, ContentLength=size, **digest, **_headers(target)
        )  # fmt: skip

    async def blocks(self, part: Part) -> AsyncIterator[bytes]:
        """What lies in the file of *part*."""
        at = 0
        while at < part.size:
            block = await self.staging.run(part.read, at, BLOCK_BYTES)
            at += len(block)
            yield block

    async def _verify(self, target: Target, answer: Answer, md5: str | None) -> None:
        """Compare what was sent with what the store says it got; raises Unavailable, and the object is gone, if they differ."""
        told = entity_tag(answer)
        is_md5 = self.profile.etag_is_md5 and answer.get("ServerSideEncryption") in self._plain
        if md5 is None or not is_md5 or len(told) != len(md5):
            return
        if told.lower() != md5:
            log.error("store.corrupted", store=self.store, key=target.key)
            if await self.has(target, None):
                await self.call("delete_object", target.key, self.deadlines.answer)
            raise Unavailable("the store did not get the bytes that were sent")

    @property
    def _plain(self) -> set[str | None]:
        # The ETag of an encrypted object is an MD5 at AWS only, and only with S3's own keys.
        return {None} if self.profile.path_style else {None, "AES256"}

    async def has(self, target: Target, size: int | None) -> bool:
        """Whether the store has this very write, *size* bytes long: what settles an answer that was lost."""
        try:
            answer = await self.call("head_object", target.key, self.deadlines.answer)
        except MediaError:
            return False
        meta = meta_of(target.key, answer, int(answer.get("ContentLength", -1)), self.store)
        return meta.etag == target.etag and size in {None, meta.size}

    async def abort(self, key: Key, upload: str) -> None:
        """Give up an upload in parts, so that the store drops them; one that cannot be given up now waits for `abort_left`."""
        # AWS says of AbortMultipartUpload that a part which is under way may outlive it: so it is looked for, and given up again.
        try:
            for _ in range(ABORTS):
                await self.call("abort_multipart_upload", key, self.deadlines.answer, UploadId=upload)
                await self.call("list_parts", key, self.deadlines.answer, UploadId=upload, MaxParts=1)
            raise Unavailable("a part that is under way keeps it alive")
        except MediaError as error:
            if isinstance(error.__cause__, ClientError) and code_of(error.__cause__) in GONE:
                return
            log.warning("store.upload_left", store=self.store, key=key, reason=error.slug)
            if len(self._left) < MAX_LEFT:
                self._left[upload] = key

    async def abort_left(self) -> None:
        """Give up what could not be given up before."""
        left, self._left = self._left, {}
        for upload, key in left.items():
            await self.abort(key, upload)

    async def abort_old(self, older_than: timedelta) -> None:
        """Give up, in the whole bucket, up to a thousand uploads in parts that dead processes have left."""
        with translated():
            async with asyncio.timeout(self.deadlines.answer):
                answer = await self._client.list_multipart_uploads(Bucket=self._bucket)  # MinIO lists them without a prefix only
        for upload in answer.get("Uploads", []):
            if datetime.now(UTC) - upload["Initiated"] >= older_than:
                log.info("store.upload_abandoned", store=self.store, key=upload["Key"])
                await self.abort(upload["Key"], upload["UploadId"])


class InParts:
    """One upload in parts, as an async context: a body of any size goes through `take`.

    Leaving it before `take` has ended aborts the upload on the store, also when the task is cancelled.
    """

    def __init__(self, uploads: Uploads, target: Target, size: int | None) -> None:
        self._uploads = uploads
        self._target = target
        self._parts = Parts(uploads.staging, size, equal=uploads.profile.equal_parts)
        self._creating: asyncio.Task[str] | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._is_done = False

    async def __aenter__(self) -> InParts:
        return self

    async def __aexit__(self, *_: object) -> None:
        leaving = asyncio.create_task(self._leave())
        cancelled: asyncio.CancelledError | None = None
        while not leaving.done():
            try:
                await asyncio.wait([leaving])
            except asyncio.CancelledError as error:
                cancelled = error
        leaving.result()
        if cancelled is not None:
            raise cancelled

    async def take(self, intake: Intake) -> None:
        """Send the body of *intake*: a short one by a single PUT. Nothing is visible before it was admitted."""
        async for _ in intake.blocks(self._parts.write):
            # The store is asked while a caller with 8 MiB in hand could still go elsewhere.
            if self._creating is None and intake.size > SINGLE_MAX_BYTES:
                await self._create()
            for part in self._parts.full():
                await self._launch(part)
        last = self._parts.last()
        if self._creating is None:
            await intake.admitted()
            if last is None:
                await self._uploads.nothing(self._target)
            else:
                await self._uploads.from_file(self._target, last)
        else:
            if last is not None:
                await self._launch(last)
            await self._finish_some(wanted=0)
            await intake.admitted()
            await self._complete(intake.size)
        self._is_done = True

    async def _create(self) -> None:
        async def created() -> str:
            answer = await self._uploads.call(
                "create_multipart_upload", self._target.key, self._uploads.deadlines.answer, **_headers(self._target)
            )
            return str(answer["UploadId"])

        self._creating = asyncio.create_task(created())
        await asyncio.shield(self._creating)  # who is cancelled here must learn the id, to abort it

    async def _launch(self, part: Part) -> None:
        await self._finish_some(wanted=IN_FLIGHT - 1)
        self._running.add(asyncio.create_task(self._send(part)))

    async def _finish_some(self, wanted: int) -> None:
        """Wait until at most *wanted* parts are in flight; raises what one of them raised."""
        while len(self._running) > wanted:
            done, self._running = await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    async def _send(self, part: Part) -> None:
        uploads, upload = self._uploads, await self._id()

        async def attempt() -> Answer:
            def request(body: Outgoing) -> Awaitable[Answer]:
                return uploads.call(
                    "upload_part", self._target.key, None, UploadId=upload, PartNumber=part.number, Body=body,
                    ContentLength=part.size, ContentMD5=part.content_md5,
                )  # fmt: skip

            return await send(request, uploads.blocks(part), uploads.deadlines, asked_s=uploads.deadlines.progress)

        part.etag = entity_tag(await _tried(attempt, uploads))
        await uploads.staging.run(part.close, surely=True)

    async def _id(self) -> str:
        assert self._creating is not None
        return await self._creating

    async def _complete(self, size: int) -> None:
        """Make one object of the parts. A lost answer, or a 200 with an error in it, is settled by asking for the object."""
        self._parts.check(size)
        parts = [{"PartNumber": part.number, "ETag": f'"{part.etag}"'} for part in self._parts.all]
        uploads = self._uploads
        for pause in (*uploads.deadlines.pauses, None):
            try:
                await uploads.call(
                    "complete_multipart_upload", self._target.key, uploads.deadlines.commit, UploadId=await self._id(),
                    MultipartUpload={"Parts": parts},
                )  # fmt: skip
                return
            except Unavailable:
                if await uploads.has(self._target, size):
                    return
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    async def _leave(self) -> None:
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
            for task in self._running:
                if not task.cancelled():
                    task.exception()  # the first one was raised
        await self._uploads.staging.run(self._parts.close, surely=True)
        if self._creating is None:
            return
        await asyncio.wait([self._creating])
        if not self._is_done and not self._creating.cancelled() and self._creating.exception() is None:
            await self._uploads.abort(self._target.key, self._creating.result())


async def _tried(attempt: Callable[[], Awaitable[T]], uploads: Uploads) -> T:
    for pause in uploads.deadlines.pauses:
        try:
            return await attempt()
        except Unavailable as error:
            log.warning("store.part_again", store=uploads.store, reason=error.detail)
        await asyncio.sleep(pause * (0.5 + secrets.randbelow(100) / 100))
    return await attempt()


def _headers(target: Target) -> dict[str, Any]:
    return {"ContentType": target.content_type, "Metadata": {**target.metadata, GENERATION: target.etag}}


def stored(target: Target, size: int, store: str) -> ObjectMeta:
    """What HEAD tells of the object now: S3 keeps no SHA-256 of ours."""
    answer = {"Metadata": {**target.metadata, GENERATION: target.etag}, "ContentType": target.content_type}
    return meta_of(target.key, answer, size, store)

"""Objects in a bucket of MinIO, AWS S3, or any other store that speaks S3."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog
from botocore.exceptions import ClientError

from processors.errors import MediaError
from proxy import generations, keys
from proxy.adapters import s3_client
from proxy.adapters.outgoing import Deadlines
from proxy.adapters.s3_client import Places
from proxy.adapters.s3_errors import PROFILES, SettingNames, code_of, explained, status_of, translated
from proxy.adapters.s3_reading import Answer, Reading, entity_tag, header, meta_of, sent
from proxy.adapters.s3_uploads import IN_FLIGHT, InParts, Target, Uploads, stored
from proxy.adapters.staging import WHOLE_BYTES, Staging
from proxy.errors import BadKey, Conflict, NotFound, RangeNotSatisfiable, StartError, StoreRefused, Unavailable
from proxy.keys import Key
from proxy.ports import Admit, Body, ByteRange, Listed, ObjectMeta, ObjectReader

TRANSFERS = 128
CONTROL_CONNECTIONS = 16
PUT_MAX_BYTES = 5 << 30
"""The most that S3 takes by one PUT."""
FIRST_REGION = "us-east-1"
"""The only region whose buckets are made without naming it."""

log = structlog.get_logger(__name__)


class S3Backend:
    """A store in one *bucket*. *endpoint_url* None is AWS. *spool* is a folder of this machine for what is under way.

    Uploads, downloads and all the rest have connections of their own, so that none of them starves the others; *uploads* and
    *downloads* are how many there may be at once. *names* are the settings' names, for what `check` says. Where *strict*, a store
    that refuses us at the start raises StartError. Uploads in parts begun longer than *abandoned_after* ago are given up then.
    """

    def __init__(
        self,
        name: str,
        *,
        bucket: str,
        endpoint_url: str | None,
        region: str,
        access_key: str,
        secret_key: str,
        spool: Path,
        profile: str = "generic",
        public_endpoint: str | None = None,
        whole_bytes: int = WHOLE_BYTES,
        deadlines: Deadlines | None = None,
        uploads: int = TRANSFERS,
        downloads: int = TRANSFERS,
        names: SettingNames | None = None,
        strict: bool = True,
        abandoned_after: timedelta = timedelta(days=2),
    ) -> None:
        self.name = name
        self.profile = PROFILES[profile]
        self._bucket = bucket
        self._region = region
        self._deadlines = deadlines or Deadlines()
        self._names = names or SettingNames()
        self._strict = strict
        self._abandoned_after = abandoned_after
        self._staging = Staging(spool, whole_bytes=whole_bytes)
        self._uploading = Places(uploads, self._deadlines.queue)
        self._downloading = Places(downloads, self._deadlines.queue)
        self._connections = (uploads * IN_FLIGHT, downloads, CONTROL_CONNECTIONS)
        self._public_endpoint = public_endpoint or endpoint_url
        self._client = partial(
            s3_client.client,
            region=region,
            access_key=access_key,
            secret_key=secret_key,
            profile=self.profile,
            deadlines=self._deadlines,
        )
        self._endpoint_url = endpoint_url
        self._stack = AsyncExitStack()
        self._is_checked = False

    async def __aenter__(self) -> Self:
        """Open the clients, and make the bucket where it is missing; raises StartError. A store that is away is no reason to."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._staging)
            opened = []
            for connections in self._connections:
                made = self._client(endpoint_url=self._endpoint_url, connections=connections)
                opened.append(await stack.enter_async_context(made))
                s3_client.keep_region(opened[-1])
            up, self._down, self._control = opened
            public = self._client(endpoint_url=self._public_endpoint, connections=1)
            self._public = await stack.enter_async_context(public)
            self._uploads = Uploads(up, self._bucket, self.name, self.profile, self._deadlines, self._staging)
            await self._begin()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    async def _begin(self) -> None:
        try:
            await self.check()
        except Unavailable as error:
            log.warning("store.away", store=self.name, reason=error.detail)
        except MediaError as error:
            if self._strict:
                raise StartError(f"The store {self.name} cannot be used: {error.detail}") from error
            log.error("store.refused", store=self.name, reason=error.detail)
        else:
            await self._tidy()

    async def _tidy(self) -> None:
        try:
            await self._uploads.abort_old(self._abandoned_after)
        except MediaError as error:  # the account may lack the right to list them, and needs it for nothing else
            log.info("store.upload_left", store=self.name, reason=error.detail)

    async def check(self) -> None:
        """Ask for the bucket, and make it where it is missing and that is allowed.

        Raises StoreRefused or Unavailable with a sentence for the operator, which names the setting that is wrong.
        """
        try:
            try:
                await self.call("list_objects_v2", MaxKeys=1)
            except StoreRefused as error:
                if not isinstance(error.__cause__, ClientError) or code_of(error.__cause__) != "NoSuchBucket":
                    raise
                await self._make_bucket()
        except MediaError as error:
            raise explained(error.__cause__, self._names, self._bucket) from error
        self._is_checked = True

    async def _make_bucket(self) -> None:
        place = {} if self._region in {FIRST_REGION, "auto"} else {"LocationConstraint": self._region}
        try:
            await self.call("create_bucket", **({"CreateBucketConfiguration": place} if place else {}))
        except MediaError as error:
            cause = error.__cause__
            if not isinstance(cause, ClientError) or code_of(cause) != "BucketAlreadyOwnedByYou":  # another worker was first
                raise
        else:
            log.info("store.bucket_made", store=self.name, bucket=self._bucket)

    async def head(self, key: Key) -> ObjectMeta:
        """What the object's metadata say; raises NotFound, once it is certain that not the whole bucket is missing."""
        try:
            answer = await self.call("head_object", Key=key)
        except NotFound:
            await self._has_bucket()  # an answer to HEAD has no body that tells the two apart
            raise
        except StoreRefused as error:
            if not isinstance(error.__cause__, ClientError) or status_of(error.__cause__) != 400:
                raise
            async with await self.open(key) as reader:  # nor one that says what is wrong, such as a key that is too long
                return reader.meta
        return meta_of(key, answer, int(answer["ContentLength"]), self.name)

    async def open(self, key: Key, span: ByteRange | None = None) -> ObjectReader:
        """The object, or *span* of it. A body that breaks off is asked for again, the same version from the byte reached.

        The version that is open may be overwritten or deleted; only if the connection breaks after that, it is lost.
        """
        wanted = None
        if span is not None:
            wanted = header(span) or header(span := span.within((await self.head(key)).size))
        await self._downloading.take()
        try:
            return await self._opened(key, span, wanted)
        except BaseException:
            self._downloading.leave()
            raise

    async def _opened(self, key: Key, span: ByteRange | None, wanted: str | None) -> ObjectReader:
        answer = await self._get(key, wanted)
        try:
            if span is not None and answer.get("ContentLength") == 0:  # MinIO's answer to a suffix of an empty object
                raise RangeNotSatisfiable("no byte of the object lies in the range", size=(await self.head(key)).size)
            got, size = sent(answer)
            if got != (ByteRange(0, size) if span is None else span.within(size)):
                raise Unavailable("the store sent other bytes than it was asked for")
        except BaseException:
            answer["Body"].close()
            raise
        tag = entity_tag(answer)

        async def again(at: int) -> Answer:
            resumed = await self._get(key, f"bytes={at}-{(got.stop or 0) - 1}", IfMatch=f'"{tag}"')
            if sent(resumed) != (ByteRange(at, got.stop), size) or entity_tag(resumed) != tag:
                resumed["Body"].close()
                raise Unavailable("the store sent other bytes than it was asked for")
            return resumed

        reading = Reading(answer, got, again, self._deadlines, self.name)

        async def close() -> None:
            try:
                await reading.aclose()
            finally:
                self._downloading.leave()

        meta = meta_of(key, answer, size, self.name)
        return ObjectReader(meta, reading.chunks(), None if span is None else got, closing=close)

    async def put(
        self,
        key: Key,
        body: Body,
        content_type: str,
        admit: Admit | None = None,
        *,
        size: int | None = None,
        etag: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> ObjectMeta:
        """Atomic by S3 itself, which shows an object when it has all of it.

        One streamed PUT where *size* is known, up to 5 GiB, and the store is known to drop a body that is cut; else the body
        goes out from files of *spool*, in one piece or in parts, with a digest of each.

        A put that is cancelled while the store commits may leave the object there: whole, and under this write's etag.
        *metadata* is kept beside it for other programs (``x-amz-meta-…``).
        """
        target = Target(key, content_type, etag or generations.mint(), metadata or {})
        in_one = size is not None and size <= PUT_MAX_BYTES and self.profile.drops_cut_bodies
        intake = self._staging.intake(
            body, key, content_type, store=self.name, etag=target.etag, size=size, admit=admit,
            md5=in_one and self.profile.etag_is_md5,
        )  # fmt: skip
        async with self._uploading.one(), intake:
            if size is not None and in_one:
                await self._uploads.whole(target, intake, size)
            else:
                async with InParts(self._uploads, target, size) as parts:
                    await parts.take(intake)
        return stored(target, intake.size, self.name)

    async def delete(self, key: Key) -> None:
        """Remove the object; idempotent."""
        try:
            await self.call("delete_object", Key=key)
        except (NotFound, Conflict):
            return  # it is not there, or could not be

    async def list(self, prefix: str = "") -> AsyncIterator[Listed]:
        """All with *prefix*, with the store's own times. Names that are no keys of ours are left out."""
        async with aclosing(self.names(prefix)) as names:
            async for found in names:
                try:
                    keys.parse(found.key)
                except BadKey:
                    continue  # such as the markers of folders that other programs make
                yield found

    async def names(self, prefix: str = "") -> AsyncGenerator[Listed, None]:
        """As `list`, a thousand at a time, with what is no key of ours too."""
        more: dict[str, str] = {}
        while True:
            page = await self.call("list_objects_v2", Prefix=prefix, **more)
            for found in page.get("Contents", []):
                yield Listed(Key(found["Key"]), int(found["Size"]), found["LastModified"].astimezone(UTC))
            if not page.get("IsTruncated"):
                return
            if page.get("NextContinuationToken") in {None, more.get("ContinuationToken")}:
                raise Unavailable("the store's list does not come to an end")
            more = {"ContinuationToken": page["NextContinuationToken"]}

    async def ping(self) -> None:
        """Raise Unavailable, or StoreRefused, if the bucket does not answer. What could not be done before is done now."""
        if not self._is_checked:
            await self.check()
        await self._has_bucket()
        await self._uploads.abort_left()

    async def presign_get(self, key: Key, expires_s: int) -> str:
        """An address at the public endpoint that gives the object to whoever has it, for *expires_s* seconds; asks nobody."""
        parameters = {"Bucket": self._bucket, "Key": key}
        with translated():
            url: str = await self._public.generate_presigned_url("get_object", Params=parameters, ExpiresIn=expires_s)
        return url

    async def call(self, operation: str, **parameters: Any) -> Answer:
        """One small S3 operation on the bucket; raises as all of this does."""
        with translated():
            async with asyncio.timeout(self._deadlines.answer):
                answer: Answer = await getattr(self._control, operation)(Bucket=self._bucket, **parameters)
                return answer

    async def _has_bucket(self) -> None:
        try:
            await self.call("head_bucket")
        except NotFound as error:
            raise StoreRefused("the store has no such bucket") from error

    async def _get(self, key: Key, wanted: str | None, **conditions: str) -> Answer:
        """The answer to a GET whose body is still to be read; raises RangeNotSatisfiable with the size."""
        given = conditions | ({"Range": wanted} if wanted is not None else {})
        try:
            with translated():
                async with asyncio.timeout(self._deadlines.answer):
                    answer: Answer = await self._down.get_object(Bucket=self._bucket, Key=key, **given)
        except Conflict as error:
            raise NotFound("no object has this key") from error
        except StoreRefused as error:
            cause = error.__cause__
            if not isinstance(cause, ClientError) or status_of(cause) != 416:
                raise
        else:
            return answer
        raise RangeNotSatisfiable("no byte of the object lies in the range", size=(await self.head(key)).size)

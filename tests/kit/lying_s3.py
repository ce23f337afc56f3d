"""An S3 server in memory that lies when it is told to, as real ones do too rarely for a test to wait for.

It speaks what the S3 backend uses, and looks at no signature. One bucket, which may be missing.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Self
from xml.sax.saxutils import escape

from aiohttp import web

META = "x-amz-meta-"


@dataclass
class Held:
    """One object."""

    data: bytes
    content_type: str
    metadata: dict[str, str]
    etag: str = ""

    def __post_init__(self) -> None:
        self.etag = self.etag or hashlib.md5(self.data, usedforsecurity=False).hexdigest()


@dataclass
class Lies:
    """What it does wrong; all of it may be changed while it runs. Names of operations are S3's, as in GetObject.

    *answers*: for each operation the errors that its next requests get, as (status, code). *lost*: operations that are done,
    and whose answer is lost, once. *never_continue*: no PUT is asked for its body. *short*: so many bytes of a GET's body come,
    then the line ends. *told_length*: added to the true length in a GET's head. *flips*: a bit of what is put is flipped.
    *complete_error*: Complete answers 200 with an error in it, after *complete_stores* or without. *redirect*: all requests are
    sent there. *other_bytes*: a range is answered by the one that begins a byte later.
    """

    answers: dict[str, deque[tuple[int, str]]] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    never_continue: bool = False
    short: deque[int] = field(default_factory=deque)
    told_length: int = 0
    flips: bool = False
    complete_error: int = 0
    complete_stores: bool = False
    redirect: str | None = None
    other_bytes: bool = False


class LyingS3:
    """``async with LyingS3() as store:`` and talk to ``store.endpoint``."""

    def __init__(self, *, has_bucket: bool = True) -> None:
        self.lies = Lies()
        self.has_bucket = has_bucket
        self.objects: dict[str, Held] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.asked: Counter[str] = Counter()
        self.completed: list[list[int]] = []
        """The sizes of the parts of each upload that was to be completed."""
        self.port = 0
        self._begun: dict[str, Held] = {}
        self._names = 0
        self._released = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{bucket}", self._bucket)
        app.router.add_route("*", "/{bucket}/{key:.*}", self._object, expect_handler=self._expect)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        self._released.set()
        await self._runner.cleanup()

    async def _expect(self, request: web.Request) -> web.StreamResponse | None:
        if self.lies.never_continue:
            await self._released.wait()
        elif (lie := self._error(request)) is not None:  # before a byte of the body is sent
            return lie
        else:
            assert request.transport is not None
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None

    def _error(self, request: web.Request) -> web.Response | None:
        operation = operation_of(request)
        if self.lies.redirect is not None:
            return web.Response(status=307, headers={"Location": self.lies.redirect + request.path_qs})
        if not self.has_bucket and operation != "CreateBucket":
            return problem(404, "NoSuchBucket")
        if queue := self.lies.answers.get(operation):
            return problem(*queue.popleft())
        return None

    async def _bucket(self, request: web.Request) -> web.StreamResponse:
        operation = operation_of(request)
        self.asked[operation] += 1
        if (lie := self._error(request)) is not None:
            return lie
        if operation == "CreateBucket":
            self.has_bucket = True
        if operation == "ListObjectsV2":
            return self._list(request.query)
        return web.Response()

    def _list(self, query: Any) -> web.Response:
        after, most = query.get("continuation-token", ""), int(query.get("max-keys", "1000"))
        found = sorted(key for key in self.objects if key.startswith(query.get("prefix", "")) and key > after)
        page, more = found[:most], len(found) > most
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.objects[key].data)}</Size>"
            f"<LastModified>{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000Z}</LastModified></Contents>"
            for key in page
        )
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        return xml("ListBucketResult", f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{contents}")

    async def _object(self, request: web.Request) -> web.StreamResponse:
        operation = operation_of(request)
        self.asked[operation] += 1
        if request.headers.get("Expect") is None and (lie := self._error(request)) is not None:
            return lie
        answer: web.StreamResponse | None = await getattr(self, f"_{operation}")(request, request.match_info["key"])
        if operation in self.lies.lost:
            self.lies.lost.discard(operation)
            assert request.transport is not None
            request.transport.abort()
        return answer or web.Response()

    async def _read(self, request: web.Request) -> bytes:
        data = bytearray(await request.read())
        if self.lies.flips and data:
            data[len(data) // 2] ^= 1
        return bytes(data)

    async def _PutObject(self, request: web.Request, key: str) -> web.Response:  # noqa: N802
        held = begun(request, await self._read(request))
        self.objects[key] = held
        return web.Response(headers={"ETag": f'"{held.etag}"'})

    async def _HeadObject(self, request: web.Request, key: str) -> web.Response:  # noqa: N802
        held = self.objects.get(key)
        return (
            web.Response(status=404) if held is None else web.Response(headers=head(held) | {"Content-Length": str(len(held.data))})
        )

    async def _GetObject(self, request: web.Request, key: str) -> web.StreamResponse:  # noqa: N802
        held = self.objects.get(key)
        if held is None:
            return problem(404, "NoSuchKey")
        if request.headers.get("If-Match", f'"{held.etag}"') != f'"{held.etag}"':
            return problem(412, "PreconditionFailed")
        status, headers, data = 200, head(held), held.data
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", "")):
            start = int(found[1]) + self.lies.other_bytes
            stop = min(int(found[2] or len(data)) + 1, len(data))
            if start >= stop:
                return problem(416, "InvalidRange")
            status, headers["Content-Range"], data = 206, f"bytes {start}-{stop - 1}/{len(data)}", data[start:stop]
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = len(data) + self.lies.told_length
        await response.prepare(request)
        if self.lies.short:
            await response.write(data[: self.lies.short.popleft()])
            assert request.transport is not None
            request.transport.close()
        else:
            await response.write(data)
        return response

    async def _DeleteObject(self, request: web.Request, key: str) -> web.Response:  # noqa: N802
        self.objects.pop(key, None)
        return web.Response(status=204)

    async def _CreateMultipartUpload(self, request: web.Request, key: str) -> web.Response:  # noqa: N802
        self._names += 1
        upload = f"upload{self._names}"
        self.uploads[upload] = {}
        self._begun[upload] = begun(request, b"")
        return xml("InitiateMultipartUploadResult", f"<UploadId>{upload}</UploadId>")

    async def _UploadPart(self, request: web.Request, key: str) -> web.Response:  # noqa: N802
        data = await self._read(request)
        if request.query["uploadId"] not in self.uploads:
            return problem(404, "NoSuchUpload")
        self.uploads[request.query["uploadId"]][int(request.query["partNumber"])] = data
        return web.Response(headers={"ETag": f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'})

    async def _CompleteMultipartUpload(self, request: web.Request, key: str) -> web.Response:  # noqa: N802
        upload = request.query["uploadId"]
        if upload not in self.uploads:
            return problem(404, "NoSuchUpload")
        self.completed.append([len(self.uploads[upload][number]) for number in sorted(self.uploads[upload])])
        lies, self.lies.complete_error = self.lies.complete_error > 0, max(0, self.lies.complete_error - 1)
        if not lies or self.lies.complete_stores:
            parts, held = self.uploads.pop(upload), self._begun[upload]
            data = b"".join(parts[number] for number in sorted(parts))
            self.objects[key] = Held(data, held.content_type, held.metadata, f"{upload}-{len(parts)}")
        if lies:
            return xml("Error", "<Code>InternalError</Code><Message>try again</Message>")
        return xml("CompleteMultipartUploadResult", f"<ETag>{self.objects[key].etag}</ETag>")

    async def _AbortMultipartUpload(self, request: web.Request, key: str) -> web.Response:  # noqa: N802
        self.uploads.pop(request.query["uploadId"], None)
        return web.Response(status=204)


def operation_of(request: web.Request) -> str:
    """What a request asks for, in S3's words."""
    query = request.query
    if not request.match_info.get("key"):
        return {"GET": "ListObjectsV2", "PUT": "CreateBucket"}.get(request.method, "HeadBucket")
    if "uploadId" in query:
        return {"PUT": "UploadPart", "POST": "CompleteMultipartUpload"}.get(request.method, "AbortMultipartUpload")
    return {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "POST": "CreateMultipartUpload"}.get(
        request.method, "DeleteObject"
    )


def begun(request: web.Request, data: bytes) -> Held:
    """What a request says of the object that it makes."""
    metadata = {name.lower(): value for name, value in request.headers.items() if name.lower().startswith(META)}
    return Held(data, request.headers.get("Content-Type", ""), metadata)


def head(held: Held) -> dict[str, str]:
    """The headers of an object."""
    modified = format_datetime(datetime.now(UTC), usegmt=True)
    return {**held.metadata, "ETag": f'"{held.etag}"', "Content-Type": held.content_type, "Last-Modified": modified}


def problem(status: int, code: str) -> web.Response:
    """An error document."""
    text = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>a lie</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")


def xml(name: str, inner: str) -> web.Response:
    """A document whose root is *name*."""
    text = f"<?xml version='1.0' encoding='UTF-8'?><{name}>{inner}</{name}>"
    return web.Response(text=text, content_type="application/xml")

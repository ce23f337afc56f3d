"""POST of /api/upload: a form with a file, or the file as the body."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import BodyPartReader, MultipartReader, web

from processors.errors import Unsupported
from proxy import streams
from proxy.auth import Action, Tokens, require_right
from proxy.errors import BadRequest, TooLarge, TooSlow
from proxy.ingest import Incoming, Ingest
from proxy.observe import Metrics
from proxy.ports import Body
from proxy.routes.assets import Presenter, private_json
from proxy.routes.bodies import go_ahead, raw_body, readable

FORM_OVERHEAD_BYTES = 1 << 16
"""What a form may have beside its file: boundaries, part headers, other fields."""
FORM_PARTS = 16
CHUNK_BYTES = 1 << 16
MAX_FILENAME = 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class UploadRoutes:
    """Takes uploads that come in one request."""

    def __init__(
        self, ingest: Ingest, tokens: Tokens, presenter: Presenter, metrics: Metrics, idle_s: float, min_rate: int
    ) -> None:
        self._ingest = ingest
        self._tokens = tokens
        self._presenter = presenter
        self._metrics = metrics
        self._idle_s = idle_s
        self._min_rate = min_rate

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Store the file; who may not, and what is too large, is refused before a byte is read and before 100 Continue."""
        principal = require_right(self._tokens.bearer(request.headers.getall("Authorization", [])), Action.WRITE)
        is_form = request.content_type == "multipart/form-data"
        if request.content_type.startswith("multipart/") and not is_form:
            raise Unsupported("of the multipart types only multipart/form-data is taken")
        self._check_head(request, is_form)
        idempotency_key = _idempotency_key(request)
        await go_ahead(request)
        if is_form:
            incoming = await self._form(request)
        else:
            body = self._metered(raw_body(request))
            incoming = Incoming(
                body, _filename(request.query.get("filename")), request.headers.get("Content-Type"), request.content_length
            )
        asset = await self._ingest.store(principal.owner, incoming, idempotency_key)
        return private_json(self._presenter.document(asset), 201, {"Location": self._presenter.url(asset)})

    def _check_head(self, request: web.Request, is_form: bool) -> None:
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Unsupported("send the bytes as they are, without Content-Encoding")
        claimed = None if is_form else request.headers.get("Content-Type")
        limit = self._ingest.max_bytes_of(claimed)
        if (request.content_length or 0) > limit + (FORM_OVERHEAD_BYTES if is_form else 0):
            raise TooLarge(f"a body of this type may have {limit} bytes", max_bytes=limit)

    async def _form(self, request: web.Request) -> Incoming:
        with readable():
            parts = _Form(await request.multipart(), self._idle_s)
            part = await parts.find_file()
        claimed = part.headers.get("Content-Type")
        return Incoming(self._metered(parts.body_of(part)), _filename(part.filename), claimed)

    async def _metered(self, body: Body) -> AsyncIterator[bytes]:
        async for chunk in streams.paced(body, self._idle_s, self._min_rate):
            self._metrics.received("upload", len(chunk))
            yield chunk


class _Form:
    """The parts of one multipart/form-data body, in the order they come, with bounds on their number and size."""

    def __init__(self, reader: MultipartReader, idle_s: float) -> None:
        self._reader = reader
        self._idle_s = idle_s
        self._parts = 0
        self._spare = FORM_OVERHEAD_BYTES

    async def find_file(self) -> BodyPartReader:
        """The part named ``file``; what comes before it is read and dropped."""
        while (part := await self._next()) is not None:
            if part.name == "file":
                return part
            await self._drop(part)
        raise BadRequest("the form has no field called file")

    async def body_of(self, part: BodyPartReader) -> AsyncIterator[bytes]:
        """The file's bytes. They end only when the whole form has been seen to be sound, so a broken one stores nothing."""
        with readable():
            while chunk := await part.read_chunk(CHUNK_BYTES):
                yield chunk
            while (other := await self._next()) is not None:
                if other.name == "file":
                    raise BadRequest("the form has more than one field called file")
                await self._drop(other)

    async def _next(self) -> BodyPartReader | None:
        async with self._in_time():
            part = await self._reader.next()
        if part is None:
            return None
        self._parts += 1
        if not isinstance(part, BodyPartReader) or self._parts > FORM_PARTS:
            raise BadRequest(f"a form has at most {FORM_PARTS} parts, and none within another")
        encoding = part.headers.get("Content-Encoding", part.headers.get("Content-Transfer-Encoding", "binary"))
        if encoding.lower() not in {"binary", "8bit", "7bit", "identity"}:
            raise Unsupported("send the bytes of a part as they are, without an encoding")
        return part

    async def _drop(self, part: BodyPartReader) -> None:
        async with self._in_time():
            while chunk := await part.read_chunk(8192):
                self._spare -= len(chunk)
                if self._spare < 0:
                    raise TooLarge(
                        f"the other fields of a form may have {FORM_OVERHEAD_BYTES} bytes", max_bytes=FORM_OVERHEAD_BYTES
                    )

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        # For what is small enough to come within the time that a sender may be silent.
        try:
            async with asyncio.timeout(self._idle_s):
                yield
        except TimeoutError:
            raise TooSlow(f"a part of the form did not come within {self._idle_s:g} seconds") from None


def _idempotency_key(request: web.Request) -> str | None:
    given = request.headers.get("Idempotency-Key")
    if given is not None and not _IDEMPOTENCY_KEY.fullmatch(given):
        raise BadRequest("Idempotency-Key is 1 to 255 visible ASCII characters")
    return given


def _filename(given: str | None) -> str | None:
    # A name to show, never a path: its last part, without control characters, of bounded length.
    name = _CONTROL.sub("_", re.split(r"[/\\]", given or "")[-1]).strip()[:MAX_FILENAME]
    return None if name in {"", ".", ".."} else name

"""POST of /api/upload: a form with a file, or the file as the body."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from aiohttp import web

from processors.errors import Unsupported
from proxy import streams
from proxy.allowances import Allowances
from proxy.errors import BadRequest, TooLarge
from proxy.grants import Grants
from proxy.ingest import Incoming, Ingest
from proxy.observe import Metrics
from proxy.ports import Body
from proxy.rates import Limit, joined
from proxy.routes.assets import Presenter, private_json
from proxy.routes.bodies import go_ahead, raw_body
from proxy.routes.forms import FORM_OVERHEAD_BYTES, Form, shown_name

PAID_BYTES = 1 << 20
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class UploadRoutes:
    """Takes uploads that come in one request."""

    def __init__(
        self,
        ingest: Ingest,
        grants: Grants,
        presenter: Presenter,
        metrics: Metrics,
        allowances: Allowances,
        idle_s: float,
        min_rate: int,
    ) -> None:
        self._allowances = allowances
        self._ingest = ingest
        self._grants = grants
        self._presenter = presenter
        self._metrics = metrics
        self._idle_s = idle_s
        self._min_rate = min_rate

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Store the file; who may not, and what is too large, is refused before a byte is read and before 100 Continue."""
        grant = await self._grants.admit(request.headers.getall("Authorization", []))
        is_form = request.content_type == "multipart/form-data"
        if request.content_type.startswith("multipart/") and not is_form:
            raise Unsupported("of the multipart types only multipart/form-data is taken")
        self._check_head(request, is_form)
        grant.check(None if is_form else request.headers.get("Content-Type"), None if is_form else request.content_length)
        idempotency_key = _idempotency_key(request)
        payer = None if grant.is_admin else grant.owner
        headers = await self._paid(payer, request.content_length or 0)
        undeclared = payer if request.content_length is None else None
        await go_ahead(request)
        if is_form:
            incoming = await self._form(request, undeclared)
        else:
            body = self._metered(raw_body(request), undeclared)
            incoming = Incoming(
                body, shown_name(request.query.get("filename")), request.headers.get("Content-Type"), request.content_length
            )
        asset = await self._grants.store(grant, incoming, idempotency_key)
        return private_json(self._presenter.document(asset), 201, {"Location": self._presenter.url(asset), **headers})

    def _check_head(self, request: web.Request, is_form: bool) -> None:
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Unsupported("send the bytes as they are, without Content-Encoding")
        claimed = None if is_form else request.headers.get("Content-Type")
        limit = self._ingest.max_bytes_of(claimed)
        if (request.content_length or 0) > limit + (FORM_OVERHEAD_BYTES if is_form else 0):
            raise TooLarge(f"a body of this type may have {limit} bytes", max_bytes=limit)

    async def _paid(self, payer: str | None, size: int) -> dict[str, str]:
        # Before the body: an upload and its declared bytes are counted whether it ends well or not.
        if payer is None:
            return {}
        requests = await self._allowances.take(Limit.UPLOADS, payer)
        return joined(requests, await self._allowances.take(Limit.UPLOAD_BYTES, payer, size))

    async def _form(self, request: web.Request, undeclared: str | None) -> Incoming:
        form = await Form.begun(request, self._idle_s)
        part = await form.find_file()
        body = self._metered(form.body_of(part), undeclared)
        return Incoming(body, shown_name(part.filename), part.headers.get("Content-Type"))

    async def _metered(self, body: Body, undeclared: str | None) -> AsyncIterator[bytes]:
        # Whose body has no declared length pays for it as it comes, by the MiB.
        unpaid = 0
        async for chunk in streams.paced(body, self._idle_s, self._min_rate):
            self._metrics.received("upload", len(chunk))
            unpaid += len(chunk)
            if undeclared is not None and unpaid >= PAID_BYTES:
                await self._allowances.take(Limit.UPLOAD_BYTES, undeclared, unpaid)
                unpaid = 0
            yield chunk
        if undeclared is not None:
            await self._allowances.take(Limit.UPLOAD_BYTES, undeclared, unpaid)


def _idempotency_key(request: web.Request) -> str | None:
    given = request.headers.get("Idempotency-Key")
    if given is not None and not _IDEMPOTENCY_KEY.fullmatch(given):
        raise BadRequest("Idempotency-Key is 1 to 255 visible ASCII characters")
    return given

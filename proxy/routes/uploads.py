"""POST of /api/upload: a form with a file, or the file as the body."""

from __future__ import annotations

import re
from dataclasses import replace

from aiohttp import web

from processors.errors import Unsupported
from proxy.errors import BadRequest, TooLarge
from proxy.grants import Grants
from proxy.ingest import Incoming, Ingest, Way
from proxy.progress import Progress
from proxy.routes.assets import Presenter, private_json
from proxy.routes.bodies import go_ahead, raw_body
from proxy.routes.forms import FORM_OVERHEAD_BYTES, Form, shown_name
from proxy.routes.metering import Meter

ROUTE = "upload"
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class UploadRoutes:
    """Takes uploads that come in one request."""

    def __init__(
        self, ingest: Ingest, grants: Grants, presenter: Presenter, meter: Meter, progress: Progress, idle_s: float
    ) -> None:
        self._ingest = ingest
        self._grants = grants
        self._presenter = presenter
        self._meter = meter
        self._progress = progress
        self._idle_s = idle_s

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Store the file; who may not, and what is too large, is refused before a byte is read and before 100 Continue."""
        grant = await self._grants.admit(request.headers.getall("Authorization", []))
        is_form = request.content_type == "multipart/form-data"
        if request.content_type.startswith("multipart/") and not is_form:
            raise Unsupported("of the multipart types only multipart/form-data is taken")
        self._check_head(request, is_form)
        grant.check(None if is_form else request.headers.get("Content-Type"), None if is_form else request.content_length)
        idempotency_key = _idempotency_key(request)
        payer = grant.payer
        headers = await self._meter.begun(payer, request.content_length or 0)
        undeclared = payer if request.content_length is None else None
        await go_ahead(request)
        if is_form:
            incoming = await self._form(request, undeclared)
        else:
            body = self._meter.through(ROUTE, raw_body(request), undeclared)
            incoming = Incoming(
                body, shown_name(request.query.get("filename")), request.headers.get("Content-Type"), request.content_length
            )
        told = self._progress.told(grant.owner, idempotency_key, incoming.filename, request.content_length, incoming.body)
        asset = await self._grants.store(grant, replace(incoming, body=told), idempotency_key)
        return private_json(self._presenter.document(asset), 201, {"Location": self._presenter.url(asset), **headers})

    def _check_head(self, request: web.Request, is_form: bool) -> None:
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Unsupported("send the bytes as they are, without Content-Encoding")
        claimed = None if is_form else request.headers.get("Content-Type")
        limit = self._ingest.max_bytes_of(claimed)
        if (request.content_length or 0) > limit + (FORM_OVERHEAD_BYTES if is_form else 0):
            raise TooLarge(f"a body of this type may have {limit} bytes", max_bytes=limit)

    async def _form(self, request: web.Request, undeclared: str | None) -> Incoming:
        form = await Form.begun(request, self._idle_s)
        part = await form.find_file()
        body = self._meter.through(ROUTE, form.body_of(part), undeclared)
        return Incoming(body, shown_name(part.filename), part.headers.get("Content-Type"), way=Way.FORM)


def _idempotency_key(request: web.Request) -> str | None:
    given = request.headers.get("Idempotency-Key")
    if given is not None and not _IDEMPOTENCY_KEY.fullmatch(given):
        raise BadRequest("Idempotency-Key is 1 to 255 visible ASCII characters")
    return given

"""Resumable uploads by tus 1.0 (tus.io/protocols/resumable-upload): /api/uploads, /api/uploads/{id}."""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from email.utils import format_datetime
from typing import Any

from aiohttp import web

from processors.errors import Unsupported
from proxy import keys
from proxy.errors import BadRequest, MethodNotAllowed, NotFound, UnknownVersion
from proxy.finishing import refusal_of
from proxy.grants import Grant, Grants
from proxy.resumable import Arriving, Checksum, Plan, Uploads, to_the_end
from proxy.routes.assets import Presenter, private_json
from proxy.routes.bodies import asked_body, unread
from proxy.routes.forms import shown_name
from proxy.routes.metering import Meter
from proxy.sessions import Form, Phase, Session

PREFIX = "/api/uploads/"
ROUTE = "tus-upload"
VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,creation-defer-length,expiration,checksum,termination,concatenation"
"""Without blanks: TUSKit splits at the commas and keeps them."""
BYTES = "application/offset+octet-stream"
ALGORITHMS: dict[str, Callable[[], Any]] = {"sha1": lambda: hashlib.sha1(usedforsecurity=False), "sha256": hashlib.sha256}
FORMS = (Form.WHOLE, Form.PART, Form.FINAL)
MAX_METADATA = 4096
_NUMBER = re.compile(r"[0-9]{1,18}")
_TYPE = re.compile(r"[\w.+-]{1,64}/[\w.+-]{1,64}")
_NAME = re.compile(r"[\x21-\x2b\x2d-\x7e]+")


class TusRoutes:
    """tus 1.0. Errors say no offset: TUSKit takes every answer that does for a success, whatever its status."""

    def __init__(self, uploads: Uploads, grants: Grants, presenter: Presenter, meter: Meter, max_bytes: int) -> None:
        self._uploads = uploads
        self._grants = grants
        self._presenter = presenter
        self._meter = meter
        self._max_bytes = max_bytes

    async def options(self, request: web.Request) -> web.StreamResponse:
        """What is spoken here."""
        headers = {
            "Tus-Version": VERSION,
            "Tus-Extension": EXTENSIONS,
            "Tus-Max-Size": str(self._max_bytes),
            "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
            "Allow": "POST, HEAD, GET, PATCH, DELETE, OPTIONS",
        }
        return web.Response(status=204, headers=headers)

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Begin an upload, with or without its first bytes (extensions creation…, concatenation)."""
        _check_version(request)
        grant = await self._grants.admit(request.headers.getall("Authorization", []))
        plan = _plan(request)
        brings = bool(request.content_length) or "Transfer-Encoding" in request.headers
        if brings:
            _check_bytes(request)
            if plan.form is Form.FINAL:
                raise BadRequest("an upload that is put together of others takes no bytes")
        spent = await self._meter.begun(grant.payer, request.content_length or 0)
        session = await to_the_end(self._uploads.begin(grant, plan))
        if brings:
            arriving = self._arriving(request, grant)
            session = await to_the_end(
                self._uploads.append(grant, session.id, 0, arriving, request.content_length, checksum=_checksum(request))
            )
        location = self._presenter.absolute(PREFIX + session.id)
        headers = {"Location": location, **self._told(session), **spent}
        if not brings:
            headers.pop("Upload-Offset")
        return web.Response(status=201, headers=headers)

    async def look(self, request: web.Request) -> web.StreamResponse:
        """How far an upload is; who still brings bytes for it is stopped, so that the answer holds."""
        _check_version(request)
        grant = await self._grants.admit(request.headers.getall("Authorization", []))
        session = await self._uploads.look(grant, request.match_info["id"], *FORMS)
        headers = self._told(session)
        headers |= {"Upload-Defer-Length": "1"} if session.length is None else {"Upload-Length": str(session.length)}
        headers |= {} if session.metadata is None else {"Upload-Metadata": session.metadata}
        headers |= {"Upload-Concat": "partial"} if session.form is Form.PART else {}
        if session.form is Form.FINAL:
            headers["Upload-Concat"] = f"final;{' '.join(PREFIX + part for part in session.parts)}"
        return web.Response(headers=headers)

    async def status(self, request: web.Request) -> web.StreamResponse:
        """The same and more for people and programs that do not speak tus, without disturbing anybody."""
        grant = await self._grants.admit(request.headers.getall("Authorization", []))
        session = await self._uploads.find(grant, request.match_info["id"], *FORMS)
        refusal = None
        if session.phase is Phase.FAILED:
            error = refusal_of(session)
            refusal = {"code": error.slug, "detail": error.detail}
        document = {
            "id": session.id,
            "state": str(session.phase),
            "offset": session.offset,
            "length": session.length,
            "filename": session.filename,
            "key": session.key if session.phase is Phase.DONE else None,
            "refusal": refusal,
            "expiresAt": session.expires.isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
        return private_json(document)

    async def append(self, request: web.Request) -> web.StreamResponse:
        """Add bytes; what has come is kept, however the request ends."""
        _check_version(request)
        grant = await self._grants.admit(request.headers.getall("Authorization", []))
        _check_bytes(request)
        offset, length = _number(request, "Upload-Offset"), _number(request, "Upload-Length")
        if offset is None:
            raise BadRequest("Upload-Offset says where the bytes belong")
        checksum = _checksum(request)
        spent = await self._meter.goes_on(grant.payer, request.content_length or 0)
        id, arriving = request.match_info["id"], self._arriving(request, grant)
        # To the end: a connection that breaks ends the body, and what has come of it is kept.
        session = await to_the_end(
            self._uploads.append(grant, id, offset, arriving, request.content_length, length=length, checksum=checksum)
        )
        return web.Response(status=204, headers={**self._told(session), **spent})

    async def remove(self, request: web.Request) -> web.StreamResponse:
        """End an upload, also while its bytes come (extension termination)."""
        _check_version(request)
        grant = await self._grants.admit(request.headers.getall("Authorization", []))
        await self._uploads.abort(grant, request.match_info["id"], *FORMS)
        return web.Response(status=204, headers={"Cache-Control": "no-store"})

    async def overridden(self, request: web.Request) -> web.StreamResponse:
        """POST in the place of another method, from clients that can send no other."""
        method = request.headers.get("X-HTTP-Method-Override", "").upper()
        if method == "PATCH":
            return await self.append(request)
        if method == "DELETE":
            return await self.remove(request)
        raise MethodNotAllowed(headers={"Allow": "HEAD, GET, PATCH, DELETE, OPTIONS"})

    def _arriving(self, request: web.Request, grant: Grant) -> Arriving:
        undeclared = grant.payer if request.content_length is None else None
        return Arriving(
            self._meter.through(ROUTE, asked_body(request), undeclared), lambda: self._meter.rest(ROUTE, *unread(request))
        )

    def _told(self, session: Session) -> dict[str, str]:
        headers = {
            "Upload-Offset": str(session.offset),
            "Upload-Expires": format_datetime(session.expires, usegmt=True),
            "Cache-Control": "no-store",
        }
        if session.phase is Phase.DONE and session.key is not None:
            key = keys.encoded(session.key)
            headers |= {"Content-Location": self._presenter.absolute(keys.PREFIX + key), "X-Media-Key": key}
        return headers


def _check_version(request: web.Request) -> None:
    if request.headers.get("Tus-Resumable") != VERSION:
        raise UnknownVersion(f"send Tus-Resumable: {VERSION}", headers={"Tus-Version": VERSION})


def _check_bytes(request: web.Request) -> None:
    if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != BYTES:
        raise Unsupported(f"the bytes of an upload are sent as {BYTES}")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Unsupported("send the bytes as they are, without Content-Encoding")


def _number(request: web.Request, name: str) -> int | None:
    given = request.headers.getall(name, [])
    if not given:
        return None
    if len(given) > 1 or not _NUMBER.fullmatch(given[0]):
        raise BadRequest(f"{name} is a number of bytes, in digits")
    return int(given[0])


def _plan(request: web.Request) -> Plan:
    length, deferred = _number(request, "Upload-Length"), request.headers.get("Upload-Defer-Length")
    concat = request.headers.get("Upload-Concat", "")
    metadata = request.headers.get("Upload-Metadata")
    form, parts = Form.WHOLE, tuple[str, ...]()
    if concat.startswith("final;"):
        form, parts = Form.FINAL, tuple(_part(address) for address in concat[len("final;") :].split())
    elif concat:
        if concat != "partial":
            raise BadRequest("Upload-Concat is partial, or final with the addresses of the parts")
        form = Form.PART
    if deferred is not None and deferred != "1":
        raise BadRequest("Upload-Defer-Length is 1, or not there")
    if form is Form.FINAL:
        if length is not None or deferred is not None:
            raise BadRequest("an upload that is put together of others has their length")
    elif (length is None) == (deferred is None):
        raise BadRequest("send Upload-Length, or Upload-Defer-Length: 1")
    said = _metadata(metadata or "")
    claimed = next((said[name] for name in ("filetype", "contentType", "type", "mimeType") if said.get(name)), None)
    return Plan(
        form,
        length,
        shown_name(said.get("filename") or said.get("name")),
        claimed if claimed is not None and _TYPE.fullmatch(claimed) else None,
        metadata or None,
        parts=parts,
    )


def _part(address: str) -> str:
    # An address as we gave it, or an absolute one of whatever host: only the id counts.
    _, found, id = address.rpartition(PREFIX)
    if not found:
        raise NotFound("a part of this upload is not one of ours")
    return id


def _metadata(text: str) -> dict[str, str]:
    if len(text) > MAX_METADATA:
        raise BadRequest(f"Upload-Metadata has at most {MAX_METADATA} characters")
    found: dict[str, str] = {}
    for pair in filter(None, (pair.strip() for pair in text.split(","))):
        name, _, value = pair.partition(" ")
        if not _NAME.fullmatch(name) or name in found:
            raise BadRequest("Upload-Metadata is a list of names, each once, with a value in Base64")
        try:
            found[name] = b64decode(value, validate=True).decode(errors="replace")
        except Base64Error:
            raise BadRequest("a value in Upload-Metadata is no Base64") from None
    return found


def _checksum(request: web.Request) -> Checksum | None:
    given = request.headers.get("Upload-Checksum")
    if given is None:
        return None
    algorithm, _, value = given.partition(" ")
    if algorithm not in ALGORITHMS:
        raise BadRequest(f"Upload-Checksum is by {' or '.join(ALGORITHMS)}")
    hasher = ALGORITHMS[algorithm]()
    try:
        digest = b64decode(value, validate=True)
    except Base64Error:
        digest = b""
    if len(digest) != hasher.digest_size:
        raise BadRequest("Upload-Checksum is the name of an algorithm and a digest in Base64")
    return Checksum(hasher, digest)

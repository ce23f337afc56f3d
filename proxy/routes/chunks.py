"""Uploads in numbered chunks: /api/upload/chunked, …/{id}, …/{id}/{index}, …/{id}/complete."""

from __future__ import annotations

import re
from typing import Any

from aiohttp import web

from processors.errors import Unsupported
from proxy.chunked import Chunked, Progress, chunk_count
from proxy.errors import BadRequest, NotFound
from proxy.finishing import refusal_of
from proxy.grants import Grant, Grants
from proxy.ports import Catalogue
from proxy.routes.assets import Presenter, private_json
from proxy.routes.bodies import asked_body, json_body
from proxy.routes.forms import shown_name
from proxy.routes.metering import Meter
from proxy.sessions import Phase, Session

PREFIX = "/api/upload/chunked/"
ROUTE = "upload-chunk"
KNOWN = ("filename", "size", "contentType", "chunkSize")
_INDEX = re.compile(r"[0-9]{1,9}")


class ChunkRoutes:
    """The simple way for clients of one's own: start, put chunks in any order, complete."""

    def __init__(
        self, chunked: Chunked, grants: Grants, catalogue: Catalogue, presenter: Presenter, meter: Meter, idle_s: float
    ) -> None:
        self._chunked = chunked
        self._grants = grants
        self._catalogue = catalogue
        self._presenter = presenter
        self._meter = meter
        self._idle_s = idle_s

    async def start(self, request: web.Request) -> web.StreamResponse:
        """Begin: ``{filename?, size, contentType?, chunkSize?}``."""
        grant = await self._admitted(request)
        document = await json_body(request, self._idle_s)
        if unknown := document.keys() - set(KNOWN):
            raise BadRequest(f"only {', '.join(KNOWN)} are known here", param=min(unknown)[:32])
        texts = {name: document.get(name) for name in ("filename", "contentType")}
        for name, text in texts.items():
            if text is not None and not isinstance(text, str):
                raise BadRequest(f"{name} is text", param=name)
        size, chunk_bytes = document.get("size"), document.get("chunkSize")
        if type(size) is not int or size < 1:
            raise BadRequest("size is the number of bytes, 1 or more", param="size")
        if chunk_bytes is not None and type(chunk_bytes) is not int:
            raise BadRequest("chunkSize is a number of bytes", param="chunkSize")
        spent = await self._meter.begun(grant.payer, 0)
        session = await self._chunked.begin(grant, shown_name(texts["filename"]), texts["contentType"], size, chunk_bytes)
        answer = {
            "sessionId": session.id,
            "chunkSize": session.chunk_bytes,
            "chunks": chunk_count(session),
            "expiresAt": _moment(session),
        }
        return private_json(answer, 201, {"Location": self._presenter.absolute(PREFIX + session.id), **spent})

    async def put(self, request: web.Request) -> web.StreamResponse:
        """Take a chunk; the same bytes again change nothing."""
        grant = await self._admitted(request)
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Unsupported("send the bytes as they are, without Content-Encoding")
        index = request.match_info["index"]
        if not _INDEX.fullmatch(index):
            raise NotFound
        spent = await self._meter.goes_on(grant.payer, request.content_length or 0)
        undeclared = grant.payer if request.content_length is None else None
        body = self._meter.through(ROUTE, asked_body(request), undeclared)
        progress = await self._chunked.put(grant, request.match_info["id"], int(index), body, request.content_length)
        return private_json(_told(progress), headers=spent)

    async def progress(self, request: web.Request) -> web.StreamResponse:
        """How far it is."""
        return private_json(_told(await self._chunked.progress(await self._admitted(request), request.match_info["id"])))

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Make an asset of it; again, the same answer."""
        session = await self._chunked.complete(await self._admitted(request), request.match_info["id"])
        asset = None if session.key is None else await self._catalogue.get(session.key)
        if asset is None or not asset.is_taken:
            raise NotFound("the object has been removed")
        return private_json(self._presenter.document(asset), headers={"Location": self._presenter.url(asset)})

    async def abort(self, request: web.Request) -> web.StreamResponse:
        """End it and drop what has come."""
        await self._chunked.abort(await self._admitted(request), request.match_info["id"])
        return web.Response(status=204, headers={"Cache-Control": "no-store"})

    async def _admitted(self, request: web.Request) -> Grant:
        return await self._grants.admit(request.headers.getall("Authorization", []))


def _moment(session: Session) -> str:
    return session.expires.isoformat(timespec="seconds").replace("+00:00", "Z")


def _told(progress: Progress) -> dict[str, Any]:
    session = progress.session
    told: dict[str, Any] = {
        "sessionId": session.id,
        "state": str(session.phase),
        "receivedBytes": session.offset,
        "totalBytes": session.length,
        "percent": round(100 * session.offset / (session.length or 1), 2),
        "chunkSize": session.chunk_bytes,
        "chunks": progress.chunks,
        "missing": list(progress.missing),
        "missingCount": progress.missing_count,
        "expiresAt": _moment(session),
    }
    if session.phase is Phase.DONE:
        told["key"] = session.key
    if session.phase is Phase.FAILED:
        error = refusal_of(session)
        told["refusal"] = {"code": error.slug, "detail": error.detail}
    return told

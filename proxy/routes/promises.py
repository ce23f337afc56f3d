"""Uploads that are promised before they come: /api/upload/presigned, /api/upload/confirm, /api/upload/tokens."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from processors.errors import Unsupported
from proxy import keys
from proxy.auth import Action, Tokens, require, require_right
from proxy.claims import Clock, utc_now
from proxy.confirmation import Confirmation
from proxy.errors import BadRequest, NotFound
from proxy.grants import UploadTokens
from proxy.keys import Key
from proxy.ports import Body
from proxy.presigned import Presigned, Promising, Wish
from proxy.promises import Promise, Way
from proxy.routes.assets import Presenter, private_json
from proxy.routes.bodies import asked_body, go_ahead, json_body
from proxy.routes.forms import Form, shown_name
from proxy.routes.metering import Meter
from proxy.tickets import PREFIX, Tickets

TOKENS_PREFIX = "/api/upload/tokens/"
ROUTE = "upload-presigned"


class PromiseRoutes:
    """Addresses and tokens that are good for one upload each."""

    def __init__(
        self,
        presigned: Presigned,
        promising: Promising,
        confirmation: Confirmation,
        tickets: Tickets,
        upload_tokens: UploadTokens,
        tokens: Tokens,
        presenter: Presenter,
        meter: Meter,
        *,
        address_s: int,
        token_s: int,
        idle_s: float,
        clock: Clock = utc_now,
    ) -> None:
        self._presigned = presigned
        self._promising = promising
        self._confirmation = confirmation
        self._tickets = tickets
        self._upload_tokens = upload_tokens
        self._tokens = tokens
        self._presenter = presenter
        self._meter = meter
        self._address_s = address_s
        self._token_s = token_s
        self._idle_s = idle_s
        self._clock = clock

    # -- addresses ----------------------------------------------------------------------------------------------------

    async def offer(self, request: web.Request) -> web.StreamResponse:
        """An address that takes one upload: ``{filename, contentType, size?, expiresIn?, mode?}``."""
        principal = require_right(self._tokens.bearer(request.headers.getall("Authorization", [])), Action.WRITE)
        document = await self._document(request, {"filename", "contentType", "size", "expiresIn", "mode"})
        mode = document.get("mode", "put")
        if mode not in ("put", "post"):
            raise BadRequest("mode is put or post", param="mode")
        wish = Wish.read(document, self._address_s)
        promise, address = await self._presigned.offer(principal.owner, wish, form=mode == "post")
        url = self._presenter.absolute(address.url) if address.url.startswith("/") else address.url
        answer: dict[str, Any] = {"uploadUrl": url, "key": promise.key, "expiresIn": wish.expires_s, "method": address.method}
        answer |= {"headers": dict(address.headers)} if address.fields is None else {"fields": dict(address.fields)}
        return private_json(answer)

    async def receive(self, request: web.Request) -> web.StreamResponse:
        """Take an upload to an address of ours: its bytes by PUT, or a form by POST. No token is needed."""
        key = _key(request, PREFIX)
        ticket = self._tickets.read(request.method, key, request.rel_url.raw_query_string, self._clock().timestamp())
        promise = await self._presigned.admit(ticket)
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Unsupported("send the bytes as they are, without Content-Encoding")
        if request.method == "POST":
            body, content_type, size = await self._form(request, promise), promise.content_type, None
        else:
            body = self._meter.through(ROUTE, asked_body(request))
            content_type, size = request.headers.get("Content-Type", ""), request.content_length
        meta = await self._presigned.receive(promise, body, content_type, size)
        return web.Response(status=200, headers={"ETag": f'"{meta.etag}"', "Cache-Control": "no-store"})

    async def withdraw(self, request: web.Request) -> web.StreamResponse:
        """Take back what was promised: the address holds no longer, and what has come to it is dropped."""
        return await self._withdrawn(request, PREFIX)

    async def confirm(self, request: web.Request) -> web.StreamResponse:
        """Have what was uploaded checked and made an object; again, the same answer: ``{key}``."""
        principal = require_right(self._tokens.bearer(request.headers.getall("Authorization", [])), Action.WRITE)
        given = (await self._document(request, {"key"})).get("key")
        if not isinstance(given, str):
            raise BadRequest("key is the one that came with the address", param="key")
        key = keys.parse(given)
        require(principal, Action.WRITE, key)
        asset = await self._confirmation.confirm(key)
        return private_json(self._presenter.document(asset), headers={"Location": self._presenter.url(asset)})

    # -- tokens -------------------------------------------------------------------------------------------------------

    async def mint(self, request: web.Request) -> web.StreamResponse:
        """A token that is good for one upload: ``{filename?, contentType, size?, expiresIn?}``."""
        principal = require_right(self._tokens.bearer(request.headers.getall("Authorization", [])), Action.WRITE)
        document = await self._document(request, {"filename", "contentType", "size", "expiresIn"})
        wish = Wish.read(document, self._token_s)
        promise = await self._promising.make(principal.owner, wish, Way.TOKEN)
        address = TOKENS_PREFIX + keys.encoded(promise.key)
        answer = {"token": self._upload_tokens.mint(promise), "key": promise.key, "expiresIn": wish.expires_s}
        return private_json(answer, 201, {"Location": self._presenter.absolute(address)})

    async def revoke(self, request: web.Request) -> web.StreamResponse:
        """Take the token for a key back, for all processes at once."""
        return await self._withdrawn(request, TOKENS_PREFIX)

    async def _withdrawn(self, request: web.Request, prefix: str) -> web.StreamResponse:
        key = _key(request, prefix)
        require(self._tokens.bearer(request.headers.getall("Authorization", [])), Action.WRITE, key)
        await self._confirmation.withdraw(key)
        return web.Response(status=204, headers={"Cache-Control": "no-store"})

    # -- bodies -------------------------------------------------------------------------------------------------------

    async def _document(self, request: web.Request, known: set[str]) -> dict[str, Any]:
        document = await json_body(request, self._idle_s)
        if unknown := document.keys() - known:
            raise BadRequest(f"only {', '.join(sorted(known))} are known here", param=min(unknown)[:32])
        if isinstance(document.get("filename"), str):
            document["filename"] = shown_name(document["filename"])
        return document

    async def _form(self, request: web.Request, promise: Promise) -> Body:
        if request.content_type != "multipart/form-data":
            raise Unsupported("send the form as multipart/form-data")
        await go_ahead(request)
        form = await Form.begun(request, self._idle_s)
        part = await form.find_file({"Content-Type": promise.content_type})
        return self._meter.through(ROUTE, form.body_of(part))


def _key(request: web.Request, prefix: str) -> Key:
    path = request.rel_url.raw_path
    if not path.startswith(prefix):
        raise NotFound
    return keys.from_target(path[len(prefix) :])

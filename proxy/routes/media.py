"""GET, HEAD and DELETE of /api/media/{key}: originals, renditions, removal."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from processors import grammar
from processors.grammar import Query
from processors.transform import Transform
from proxy import keys, responses
from proxy.assets import Assets
from proxy.auth import Action, Tokens, require, require_right
from proxy.conditions import NotModified, Wanted
from proxy.delivery import Delivery
from proxy.errors import BadKey, BadSignature, ExpiredAddress
from proxy.hot import HotAnswers
from proxy.keys import Key
from proxy.responses import Terms
from proxy.routes import targets
from proxy.settings import DeliveryMode, ReadAccess, TransformAccess
from proxy.signing import Signatures

PREFIX = "/api/media/"


@dataclass(frozen=True, slots=True)
class Gate:
    """Who may read what: the access modes of this deployment over tokens and signed addresses."""

    tokens: Tokens
    signatures: Signatures
    reads: ReadAccess
    transforms: TransformAccess

    @property
    def is_open(self) -> bool:
        """Whether everybody may have everything."""
        return self.reads is ReadAccess.PUBLIC and self.transforms is TransformAccess.OPEN

    def admit(self, authorization: list[str], query: Query, key: Key, transform: Transform) -> Terms:
        """The terms of the answer; raises Unauthorized, Forbidden, NotFound. A wrong signature is never overlooked."""
        signed_until = self._signed_until(query, key)
        private = self.reads is not ReadAccess.PUBLIC and signed_until is None
        if private:
            require(self.tokens.bearer(authorization), Action.READ, key)
        if self.transforms is TransformAccess.SIGNED and not transform.is_identity and signed_until is None:
            require_right(self.tokens.bearer(authorization), Action.TRANSFORM)
            private = True
        return Terms(
            private=private,
            names_version=transform.version,
            varies=transform.varies,
            expires_s=None if signed_until is None else int(signed_until - time.time()),
            download=transform.download,
        )

    def _signed_until(self, query: Query, key: Key) -> int | None:
        if "s" not in query:
            return None
        parameters = dict(query.pairs)
        verdict = self.signatures.verify(key, parameters)
        if verdict == "expired":
            raise ExpiredAddress
        if verdict is not None:
            raise BadSignature
        return int(parameters["exp"])


@dataclass(frozen=True, slots=True)
class Departure:
    """How originals leave. With ACCEL those that are files below *root* are sent by the nginx in front of us."""

    mode: DeliveryMode
    lifetime_s: int
    root: Path


class MediaRoutes:
    """Objects by their keys."""

    def __init__(
        self, delivery: Delivery, assets: Assets, gate: Gate, hot: HotAnswers, departure: Departure, idle_s: float
    ) -> None:
        self._delivery = delivery
        self._hot = hot
        self._assets = assets
        self._gate = gate
        self._departure = departure
        self._idle_s = idle_s

    async def get(self, request: web.Request) -> web.StreamResponse:
        """The object, or what the query makes of it."""
        path, query = targets.split(request, PREFIX)
        key = keys.from_target(path)
        said = grammar.read(query)
        transform = Transform.of(said)
        terms = self._gate.admit(request.headers.getall("Authorization", []), said, key, transform)
        wanted = responses.wanted(request)
        try:
            if transform.is_identity:
                return await self._original(request, key, wanted, terms)
            opened = await self._delivery.rendition(key, transform, request.headers.get("Accept", ""), wanted)
        except NotModified as same:
            return responses.not_modified(same.version, terms)
        if self._gate.is_open and terms.expires_s is None:
            self._hot.remember(request, opened, responses.media_headers(opened, terms))
        return await responses.send(request, opened, terms, self._idle_s)

    async def _original(self, request: web.Request, key: Key, wanted: Wanted, terms: Terms) -> web.StreamResponse:
        mode = self._departure.mode
        if mode is DeliveryMode.REDIRECT and request.method == "GET" and terms.download is None:
            address = await self._delivery.address(key, self._departure.lifetime_s)
            if address is not None:
                return responses.elsewhere(address, self._departure.lifetime_s)
        opened = await self._delivery.original(key, wanted, bodiless=request.method == "HEAD" and mode is not DeliveryMode.ACCEL)
        if mode is DeliveryMode.ACCEL and opened.reader.path is not None:
            return await responses.handed_over(opened, terms, self._departure.root)
        return await responses.send(request, opened, terms, self._idle_s)

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Remove the object, its variants and its record."""
        path, query = targets.split(request, PREFIX)
        key = keys.from_target(path)
        if query:
            raise BadKey("a DELETE takes no parameters: it removes the object with all its renditions")
        require(self._gate.tokens.bearer(request.headers.getall("Authorization", [])), Action.DELETE, key)
        await self._assets.remove(key)
        return web.Response(status=204)

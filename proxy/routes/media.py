"""GET, HEAD and DELETE of /api/media/{key}: originals, renditions, removal."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from aiohttp import web

from processors.errors import Unsupported
from processors.formats import PLAYLIST
from processors.transform import CUES, KEEP, Transform
from proxy import caching, cues, descriptions, keys, playlists, responses
from proxy.access import Admission, Gate
from proxy.assets import Assets
from proxy.auth import Action, owns, require
from proxy.caching import Terms
from proxy.conditions import ANYTHING, ETag, NotModified, Version, Wanted
from proxy.delivery import Delivery
from proxy.descriptions import Descriptions
from proxy.errors import BadKey, TooLarge, Unauthorized
from proxy.explanation import explained
from proxy.hot import HotAnswers
from proxy.keys import Key
from proxy.ports import ObjectMeta
from proxy.responses import TERMS
from proxy.routes import targets
from proxy.routes.assets import private_json
from proxy.routes.callers import Callers
from proxy.settings import DeliveryMode

PLAYLIST_END = f".{PLAYLIST.extension}"


@dataclass(frozen=True, slots=True)
class Departure:
    """How originals leave. With ACCEL those that are files below *root* are sent by the nginx in front of us."""

    mode: DeliveryMode
    lifetime_s: int
    root: Path


class MediaRoutes:
    """Objects by their keys."""

    def __init__(
        self,
        delivery: Delivery,
        assets: Assets,
        descriptions: Descriptions,
        gate: Gate,
        hot: HotAnswers,
        callers: Callers,
        departure: Departure,
        idle_s: float,
    ) -> None:
        self._delivery = delivery
        self._descriptions = descriptions
        self._hot = hot
        self._callers = callers
        self._assets = assets
        self._gate = gate
        self._departure = departure
        self._idle_s = idle_s

    async def get(self, request: web.Request) -> web.StreamResponse:
        """The object, or what the query makes of it."""
        path, query = targets.split(request, keys.PREFIX)
        key = keys.from_target(path)
        request[TERMS] = Terms(vary=self._gate.vary(query))
        admission = self._gate.admit(request.headers.getall("Authorization", []), query, key, request.headers)
        terms = request[TERMS] = admission.terms
        if "explain" in admission.said:
            return await self._explanation(request, key, admission)
        if admission.transform.is_data and admission.transform.format == "json":  # of which the owner gets more
            terms = request[TERMS] = replace(terms, vary=(*terms.vary, "Authorization"))
        wanted = responses.wanted(request)
        try:
            if admission.transform.is_identity:
                return await self._original(request, key, wanted, admission)
            if admission.transform.is_data:
                return await self._description(request, key, wanted, admission.transform, terms)
            if admission.transform.format == CUES:
                return await self._cues(request, key, wanted, admission)
            accept = request.headers.get("Accept", "")
            opened = await self._delivery.rendition(
                key, admission.transform, accept, wanted, lasting=admission.lasting, pay=self._callers.payer(request)
            )
        except NotModified as same:
            return responses.not_modified(key, same.version, terms)
        headers = responses.rendition_headers(opened, admission)
        if terms.is_for_all:
            self._hot.remember(request, opened, headers.copy())
        return await responses.send(request, opened, headers, self._idle_s)

    async def _explanation(self, request: web.Request, key: Key, admission: Admission) -> web.StreamResponse:
        if self._gate.tokens.bearer(request.headers.getall("Authorization", [])) is None:
            raise Unauthorized("explain=1 needs a token: Authorization: Bearer …")
        plan = None
        if not admission.transform.is_identity:
            plan = await self._delivery.plan(key, admission.transform, request.headers.get("Accept", ""), lasting=admission.lasting)
        source = await self._delivery.meta(key)
        return private_json(explained(admission, self._gate.reads, self._gate.transforms, source, plan))

    async def _description(
        self, request: web.Request, key: Key, wanted: Wanted, transform: Transform, terms: Terms
    ) -> web.StreamResponse:
        name = transform.format
        meta = await self._delivery.meta(key)
        known = await self._descriptions.known(key)
        seen = await self._descriptions.details(meta, self._callers.payer(request))
        principal = self._gate.tokens.bearer(request.headers.getall("Authorization", [])) if name == "json" else None
        if owns(principal, Action.READ, key):
            return private_json(descriptions.document(meta, known, seen, private=True), headers=caching.selecting(terms))
        if name == "json":
            private = transform.meta == KEEP  # the gate lets none say so but owners, and whoever they sign for
            body = json.dumps(descriptions.document(meta, known, seen, private=private)).encode()
        elif seen.get(name or "") is None:
            raise Unsupported("there is no picture to make it of")
        else:
            body = seen[name or ""].encode()
        return _text(meta, wanted, terms, body, "application/json" if name == "json" else "text/plain; charset=utf-8")

    async def _cues(self, request: web.Request, key: Key, wanted: Wanted, admission: Admission) -> web.StreamResponse:
        meta = await self._delivery.meta(key)
        seen = await self._descriptions.details(meta, self._callers.payer(request))
        width, height, duration_s = (seen.get(name) for name in ("width", "height", "duration"))
        if not (width and height and duration_s):
            raise Unsupported("storyboards are made of films that say how long they are")
        storyboard = replace(admission.transform, format=cues.FORMAT).settled(meta.content_type)
        address = cues.address(key, admission, self._gate.signatures)
        body = cues.track(storyboard, (width, height), duration_s, address).encode()
        return _text(meta, wanted, admission.terms, body, "text/vtt; charset=utf-8")

    async def _original(self, request: web.Request, key: Key, wanted: Wanted, admission: Admission) -> web.StreamResponse:
        mode, terms = self._departure.mode, admission.terms
        if key.endswith(PLAYLIST_END) and "s" in admission.said:
            return await self._playlist(key, wanted, admission)
        if mode is DeliveryMode.REDIRECT and request.method == "GET" and terms.download is None:
            address = await self._delivery.address(key, self._departure.lifetime_s)
            if address is not None:
                return responses.elsewhere(address, self._departure.lifetime_s)
        opened = await self._delivery.original(key, wanted, bodiless=request.method == "HEAD" and mode is not DeliveryMode.ACCEL)
        if mode is DeliveryMode.ACCEL and opened.reader.path is not None:
            return await responses.handed_over(opened, terms, self._departure.root)
        headers = responses.media_headers(opened, terms)
        headers["Cache-Status"] = responses.cache_status(opened)
        headers["Server-Timing"] = f"store;desc={opened.reader.meta.store or 'store'}"
        return await responses.send(request, opened, headers, self._idle_s)

    async def _playlist(self, key: Key, wanted: Wanted, admission: Admission) -> web.StreamResponse:
        opened = await self._delivery.original(key, ANYTHING)
        async with opened.reader as reader:
            if reader.meta.size > playlists.MAX_BYTES:
                raise TooLarge("the playlist is too large to be signed", max_bytes=playlists.MAX_BYTES)
            text = b"".join([chunk async for chunk in reader]).decode()
        body = playlists.signed(text, key, dict(admission.said.pairs), self._gate.signatures).encode()
        return _text(reader.meta, wanted, admission.terms, body, PLAYLIST.mime)

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Remove the object, its variants and its record."""
        path, query = targets.split(request, keys.PREFIX)
        key = keys.from_target(path)
        if query:
            raise BadKey("a DELETE takes no parameters: it removes the object with all its renditions")
        require(self._gate.tokens.bearer(request.headers.getall("Authorization", [])), Action.DELETE, key)
        await self._assets.remove(key)
        return web.Response(status=204, headers={"Cache-Group-Invalidation": f'"{caching.group("key", key)}"'})


def _text(meta: ObjectMeta, wanted: Wanted, terms: Terms, body: bytes, content_type: str) -> web.Response:
    digest = hashlib.sha256(body).hexdigest()[:32]
    version = Version(ETag(digest, weak=True), meta.modified, meta.etag)
    wanted.check(version)
    headers = responses.version_headers(meta.key, version, terms)
    headers["Content-Type"] = content_type
    headers["Content-Security-Policy"] = responses.SANDBOX
    return web.Response(body=body, headers=headers)

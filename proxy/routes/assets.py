"""Records of what the caller has stored: /api/assets, /api/assets/{key}, and many at once by /api/assets/query."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from aiohttp import web

from proxy import keys, responses
from proxy.amendments import Amendment
from proxy.assets import Assets
from proxy.auth import Action, Tokens, owns, require, require_right
from proxy.conditions import ETag, NotModified, Version, Wanted, version_name
from proxy.descriptions import embedded, point_of
from proxy.errors import BadRequest, Forbidden, NotFound
from proxy.keys import Key
from proxy.ports import Asset, State
from proxy.routes.bodies import json_body
from proxy.selection import Selection
from proxy.sourcesets import SourceSets, Wish
from proxy.warming import Warming

PREFIX = "/api/assets/"
PAGE = 50
SHOWN = frozenset({State.READY})
SHOWN_TO_ADMINS = SHOWN | {State.QUARANTINED}
MAX_PAGE = 200
PARAMETERS = frozenset({"limit", "cursor", "owner", "type", "prefix", "since", "state", "sort"})
PRIVATE = {"Cache-Control": "private, no-store"}


class Presenter:
    """Writes an asset as clients read it. *public_url* makes its address absolute; the Host of a request never does."""

    def __init__(self, public_url: str | None) -> None:
        self._base = public_url or ""

    def url(self, asset: Asset) -> str:
        """Where the original is."""
        return f"{self._base}{keys.PREFIX}{keys.encoded(asset.key)}"

    def absolute(self, address: str) -> str:
        """A path of ours as clients are told it."""
        return self._base + address

    def document(self, asset: Asset) -> dict[str, Any]:
        """The asset as JSON."""
        details = asset.details or {}
        colour = details.get("colour")
        return {
            "key": asset.key,
            "url": self.url(asset),
            "filename": asset.filename,
            "contentType": asset.content_type,
            "size": asset.size,
            "sha256": asset.sha256,
            "etag": asset.etag,
            "version": version_name(asset.etag, asset.focal),
            "width": asset.width,
            "height": asset.height,
            "duration": asset.duration_s,
            "colour": None if colour is None else f"#{colour}",
            "thumbhash": details.get("thumbhash"),
            "blurhash": details.get("blurhash"),
            "tracks": details.get("tracks"),
            "focal": point_of(asset.focal),
            "metadata": asset.metadata,
            **({} if asset.source is None else {"source": asset.source}),
            **({} if asset.labels is None else {"labels": asset.labels}),
            **({"sanitised": True} if asset.sanitised else {}),
            **({"optimised": True} if asset.optimised else {}),
            **({"state": str(asset.state)} if asset.state is not State.READY else {}),
            "createdAt": asset.created.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }

    def record(self, asset: Asset) -> dict[str, Any]:
        """The same with what its makers wrote into it, for who may see all of that."""
        return {**self.document(asset), "embedded": embedded(asset.embedded, private=True)}


class AssetRoutes:
    """Records, the caller's own."""

    def __init__(
        self, assets: Assets, tokens: Tokens, presenter: Presenter, warming: Warming, sets: SourceSets, idle_s: float
    ) -> None:
        self._assets = assets
        self._tokens = tokens
        self._presenter = presenter
        self._warming = warming
        self._sets = sets
        self._idle_s = idle_s

    async def page(self, request: web.Request) -> web.StreamResponse:
        """Some of the caller's assets; ``limit`` (1-200) and ``cursor`` page through those that are selected."""
        principal = require_right(self._tokens.bearer(request.headers.getall("Authorization", [])), Action.READ)
        if unknown := set(request.query) - PARAMETERS:
            raise BadRequest(f"only {', '.join(sorted(PARAMETERS))} are known here", param=min(unknown)[:32])
        limit = request.query.get("limit", str(PAGE))
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:6]) <= MAX_PAGE):
            raise BadRequest(f"limit is a number from 1 to {MAX_PAGE}", param="limit")
        selection, owner = Selection.read(request.query), request.query.get("owner", principal.owner)
        if not principal.is_admin and (owner != principal.owner or selection.state not in SHOWN):
            raise Forbidden("other owners, and states other than ready, are for media:admin")
        page = await self._assets.page(owner, int(limit), request.query.get("cursor"), selection)
        return private_json({"assets": [self._presenter.document(asset) for asset in page.assets], "nextCursor": page.cursor})

    async def get(self, request: web.Request) -> web.StreamResponse:
        """The record of one asset, and how far the renditions are that are made of every upload."""
        key = _key(request)
        principal = self._tokens.bearer(request.headers.getall("Authorization", []))
        require(principal, Action.READ, key)
        is_admin = principal is not None and principal.is_admin
        asset = await self._assets.get(key, SHOWN_TO_ADMINS if is_admin else SHOWN)
        made = await self._warming.progress(key, asset.content_type) if asset.state is State.READY else {}
        return self._record(request, asset, {"presets": made} if made else {})

    async def patch(self, request: web.Request) -> web.StreamResponse:
        """Change the focal point of a picture and the owner's metadata, by a JSON merge patch (RFC 7396)."""
        key = _key(request)
        require(self._tokens.bearer(request.headers.getall("Authorization", [])), Action.WRITE, key)
        amendment = Amendment.read(await json_body(request, self._idle_s))
        match = Wanted(match=responses.wanted(request).match)

        def changed(asset: Asset) -> Asset:
            match.check(_version(asset))
            return amendment.of(asset)

        return self._record(request, await self._assets.amend(key, changed), {})

    def _record(self, request: web.Request, asset: Asset, more: dict[str, Any]) -> web.Response:
        version = _version(asset)
        headers = {"ETag": str(version.etag)}
        if request.method != "PATCH" and not more:  # how far presets are is no part of the version
            try:
                Wanted(none_match=responses.wanted(request).none_match).check(version)
            except NotModified:
                return web.Response(status=304, headers=headers | PRIVATE)
        return private_json(self._presenter.record(asset) | more, headers=headers)

    async def query(self, request: web.Request) -> web.StreamResponse:
        """What is known of many assets at once, in the order of their keys, each with addresses for a ``srcset``."""
        principal = require_right(self._tokens.bearer(request.headers.getall("Authorization", [])), Action.READ)
        wish = Wish.read(await json_body(request, self._idle_s))
        found = await self._assets.many([key for key in wish.keys if owns(principal, Action.READ, key)])
        return private_json({"assets": [self._told(found.get(key), key, wish) for key in wish.keys]})

    def _told(self, asset: Asset | None, key: Key, wish: Wish) -> dict[str, Any]:
        if asset is None:
            return {"key": key, "error": NotFound.slug}
        addresses = {width: self._presenter.absolute(path) for width, path in self._sets.addresses(asset, wish).items()}
        return self._presenter.document(asset) | {
            "sources": {str(width): address for width, address in addresses.items()},
            "src": addresses[max(addresses)] if addresses else None,
            "srcset": ", ".join(f"{address} {width}w" for width, address in addresses.items()),
        }


def _key(request: web.Request) -> Key:
    path = request.rel_url.raw_path
    if not path.startswith(PREFIX):
        raise NotFound
    return keys.from_target(path[len(PREFIX) :])


def _version(asset: Asset) -> Version:
    return Version(ETag(f"{asset.revision}-{asset.etag}"), asset.created, asset.etag)


def private_json(document: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """JSON that is for the caller alone and kept by nobody."""
    return web.json_response(document, status=status, headers=PRIVATE | (headers or {}))

"""Records of what the caller has stored: /api/assets, /api/assets/{key}, and many at once by /api/assets/query."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from aiohttp import web

from proxy import keys, responses
from proxy.assets import Assets
from proxy.auth import Action, Tokens, owns, require, require_right
from proxy.conditions import ETag, Version, Wanted, version_name
from proxy.descriptions import point_of
from proxy.errors import BadRequest, NotFound
from proxy.keys import Key
from proxy.ports import Asset, State
from proxy.routes.bodies import json_body
from proxy.sourcesets import SourceSets, Wish
from proxy.warming import Warming

PREFIX = "/api/assets/"
PAGE = 50
SHOWN = frozenset({State.READY})
SHOWN_TO_ADMINS = SHOWN | {State.QUARANTINED}
MAX_PAGE = 200


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
            **({} if asset.source is None else {"source": asset.source}),
            **({"sanitised": True} if asset.sanitised else {}),
            **({"state": str(asset.state)} if asset.state is not State.READY else {}),
            "createdAt": asset.created.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }


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
        """The caller's assets, newest first; ``limit`` (1-200) and ``cursor`` page through them."""
        principal = require_right(self._tokens.bearer(request.headers.getall("Authorization", [])), Action.READ)
        if unknown := set(request.query) - {"limit", "cursor"}:
            raise BadRequest("only limit and cursor are known here", param=min(unknown)[:32])
        limit = request.query.get("limit", str(PAGE))
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:6]) <= MAX_PAGE):
            raise BadRequest(f"limit is a number from 1 to {MAX_PAGE}", param="limit")
        page = await self._assets.page(principal.owner, int(limit), request.query.get("cursor"))
        return private_json({"assets": [self._presenter.document(asset) for asset in page.assets], "nextCursor": page.cursor})

    async def get(self, request: web.Request) -> web.StreamResponse:
        """The record of one asset, and how far the renditions are that are made of every upload."""
        key = _key(request)
        principal = self._tokens.bearer(request.headers.getall("Authorization", []))
        require(principal, Action.READ, key)
        is_admin = principal is not None and principal.is_admin
        asset = await self._assets.get(key, SHOWN_TO_ADMINS if is_admin else SHOWN)
        made = await self._warming.progress(key, asset.content_type) if asset.state is State.READY else {}
        return private_json(self._presenter.document(asset) | ({"presets": made} if made else {}))

    async def patch(self, request: web.Request) -> web.StreamResponse:
        """Set the focal point of a picture, or take it away (RFC 7396: ``{"focal": [x, y]}`` or ``{"focal": null}``)."""
        key = _key(request)
        require(self._tokens.bearer(request.headers.getall("Authorization", [])), Action.WRITE, key)
        changes = await json_body(request, self._idle_s)
        if changes.keys() != {"focal"}:
            raise BadRequest("only focal can be changed here", param=min(changes.keys() - {"focal"}, default="focal")[:32])
        asset = await self._assets.get(key)
        Wanted(match=responses.wanted(request).match).check(Version(ETag(asset.etag), asset.created, asset.etag))
        return private_json(self._presenter.document(await self._assets.focus(key, _point(changes["focal"]))))

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


def _point(given: Any) -> str | None:
    if given is None:
        return None
    if not isinstance(given, list) or len(given) != 2 or not all(type(part) in (int, float) and 0 <= part <= 1 for part in given):
        raise BadRequest("focal is two numbers from 0 to 1, from the left and from the top, or null", param="focal")
    return "x".join(f"{part:.4f}".rstrip("0").rstrip(".") for part in given)


def private_json(document: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """JSON that is for the caller alone and kept by nobody."""
    return web.json_response(document, status=status, headers={"Cache-Control": "private, no-store", **(headers or {})})

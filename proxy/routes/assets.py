"""GET of /api/assets and /api/assets/{key}: the records of what the caller has stored."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from aiohttp import web

from proxy import keys
from proxy.assets import Assets
from proxy.auth import Action, Tokens, require, require_right
from proxy.errors import BadRequest, NotFound
from proxy.ports import Asset
from proxy.warming import Warming

PREFIX = "/api/assets/"
PAGE = 50
MAX_PAGE = 200


class Presenter:
    """Writes an asset as clients read it. *public_url* makes its address absolute; the Host of a request never does."""

    def __init__(self, public_url: str | None) -> None:
        self._base = public_url or ""

    def url(self, asset: Asset) -> str:
        """Where the original is."""
        return f"{self._base}/api/media/{keys.encoded(asset.key)}"

    def document(self, asset: Asset) -> dict[str, Any]:
        """The asset as JSON."""
        return {
            "key": asset.key,
            "url": self.url(asset),
            "filename": asset.filename,
            "contentType": asset.content_type,
            "size": asset.size,
            "sha256": asset.sha256,
            "etag": asset.etag,
            "width": asset.width,
            "height": asset.height,
            "duration": asset.duration_s,
            **({"sanitised": True} if asset.sanitised else {}),
            "createdAt": asset.created.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }


class AssetRoutes:
    """Records, the caller's own."""

    def __init__(self, assets: Assets, tokens: Tokens, presenter: Presenter, warming: Warming) -> None:
        self._assets = assets
        self._tokens = tokens
        self._presenter = presenter
        self._warming = warming

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
        path = request.rel_url.raw_path
        if not path.startswith(PREFIX):
            raise NotFound
        key = keys.from_target(path[len(PREFIX) :])
        require(self._tokens.bearer(request.headers.getall("Authorization", [])), Action.READ, key)
        asset = await self._assets.get(key)
        made = await self._warming.progress(key, asset.content_type)
        return private_json(self._presenter.document(asset) | ({"presets": made} if made else {}))


def private_json(document: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """JSON that is for the caller alone and kept by nobody."""
    return web.json_response(document, status=status, headers={"Cache-Control": "private, no-store", **(headers or {})})

"""What looks like an asset: GET /api/assets/{key}/similar."""

from __future__ import annotations

from aiohttp import web

from proxy import keys
from proxy.assets import Assets
from proxy.auth import Action, Tokens, require
from proxy.errors import BadRequest, NotFound
from proxy.fingerprints import MOST_DISTANCE
from proxy.resemblance import Resemblance
from proxy.routes.assets import PREFIX, Presenter, private_json

SUFFIX = "/similar"
DISTANCE = 6
LIMIT, MAX_LIMIT = 20, 100
PARAMETERS = frozenset({"distance", "limit"})


class SimilarRoutes:
    """Near duplicates among the assets of one owner."""

    def __init__(self, resemblance: Resemblance, assets: Assets, tokens: Tokens, presenter: Presenter) -> None:
        self._resemblance = resemblance
        self._assets = assets
        self._tokens = tokens
        self._presenter = presenter

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Up to ``limit`` records whose pictures differ in up to ``distance`` of 64 bits, nearest first."""
        path = request.rel_url.raw_path
        if not (path.startswith(PREFIX) and path.endswith(SUFFIX)):
            raise NotFound
        key = keys.from_target(path[len(PREFIX) : -len(SUFFIX)])
        require(self._tokens.bearer(request.headers.getall("Authorization", [])), Action.READ, key)
        if unknown := set(request.query) - PARAMETERS:
            raise BadRequest(f"only {' and '.join(sorted(PARAMETERS))} are known here", param=min(unknown)[:32])
        distance, limit = _number(request, "distance", DISTANCE, 0, MOST_DISTANCE), _number(request, "limit", LIMIT, 1, MAX_LIMIT)
        matches = await self._resemblance.similar(await self._assets.get(key), distance, limit)
        found = [{"distance": one.distance, "asset": self._presenter.document(one.asset)} for one in matches.found]
        return private_json({"similar": found, "complete": matches.complete})


def _number(request: web.Request, name: str, usual: int, least: int, most: int) -> int:
    text = request.query.get(name, str(usual))
    if not (text.isascii() and text.isdigit() and least <= int(text[:6]) <= most):
        raise BadRequest(f"{name} is a number from {least} to {most}", param=name)
    return int(text)

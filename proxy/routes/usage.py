"""GET /api/usage: what the caller has, and may have."""

from __future__ import annotations

from datetime import UTC, datetime

from aiohttp import web

from proxy.auth import Action, Tokens, require_right
from proxy.errors import BadRequest, Forbidden
from proxy.quotas import Quotas
from proxy.routes.assets import private_json

SHOWN, MOST_SHOWN = 10, 200


class UsageRoutes:
    """The caller's own usage, and for admins that of all."""

    def __init__(self, quotas: Quotas, tokens: Tokens) -> None:
        self._quotas = quotas
        self._tokens = tokens

    async def owners(self, request: web.Request) -> web.StreamResponse:
        """For admins: who has most, ``limit`` (1-200) of them; raises Forbidden."""
        principal = require_right(self._tokens.bearer(request.headers.getall("Authorization", [])), Action.READ)
        if not principal.is_admin:
            raise Forbidden("what others have is for media:admin")
        limit = request.query.get("limit", str(SHOWN))
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:6]) <= MOST_SHOWN):
            raise BadRequest(f"limit is a number from 1 to {MOST_SHOWN}", param="limit")
        found = await self._quotas.largest(int(limit))
        return private_json({"owners": [{"owner": owner, "bytes": has.bytes, "objects": has.objects} for owner, has in found]})

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Bytes and objects: those there are, those set aside for unfinished uploads, and the quota, null where there is none."""
        principal = require_right(self._tokens.bearer(request.headers.getall("Authorization", [])), Action.READ)
        usage, quota = await self._quotas.usage(principal.owner, datetime.now(UTC)), self._quotas.quota
        return private_json(
            {
                "bytes": usage.bytes,
                "objects": usage.objects,
                "reserved": {"bytes": usage.reserved_bytes, "objects": usage.reserved_objects},
                "quota": {"bytes": quota.bytes, "objects": quota.objects},
            }
        )

"""GET /api/usage: what the caller has, and may have."""

from __future__ import annotations

from datetime import UTC, datetime

from aiohttp import web

from proxy.auth import Action, Tokens, require_right
from proxy.quotas import Quotas
from proxy.routes.assets import private_json


class UsageRoutes:
    """The caller's own usage."""

    def __init__(self, quotas: Quotas, tokens: Tokens) -> None:
        self._quotas = quotas
        self._tokens = tokens

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

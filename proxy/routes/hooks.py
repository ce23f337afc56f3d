"""POST /api/hooks/minio: a store tells what has come into its buckets, and what has gone."""

from __future__ import annotations

import base64
import hmac
from collections import Counter
from collections.abc import Sequence

from aiohttp import web

from proxy import keys, notifications
from proxy.adoption import Adoption, Followers, Outcome
from proxy.confirmation import REFUSALS, Confirmation
from proxy.errors import BadKey, BadRequest, Conflict, NotFound, NotUploaded, Unauthorized
from proxy.keys import Key
from proxy.notifications import Notice
from proxy.observe import Metrics
from proxy.presigned import STAGED
from proxy.routes.assets import private_json
from proxy.routes.bodies import json_body

MAX_BYTES = 1 << 20


class HookRoutes:
    """Notifications about *buckets* of originals, and about that of *staged* uploads; with one of *tokens* alone."""

    def __init__(
        self,
        tokens: Sequence[str],
        buckets: frozenset[str],
        staged: str | None,
        adoption: Adoption,
        confirmation: Confirmation,
        followers: Followers,
        metrics: Metrics,
        idle_s: float,
    ) -> None:
        self._tokens = tokens
        self._buckets = buckets
        self._staged = staged
        self._adoption = adoption
        self._confirmation = confirmation
        self._followers = followers
        self._metrics = metrics
        self._idle_s = idle_s

    async def notify(self, request: web.Request) -> web.StreamResponse:
        """Bring records to what the stores have. Whoever gets no 2xx must tell it again: it may have been only begun."""
        self._admit(request)
        if "X-Amz-Sns-Message-Type" in request.headers:
            raise BadRequest("this is an envelope of Amazon SNS: send what is in it, or events by EventBridge")
        if not request.body_exists:  # is anybody there, some stores ask
            return private_json({})
        notices = notifications.read(await json_body(request, self._idle_s, MAX_BYTES))
        outcomes = await self._followers.all([self._follow(notice) for notice in notices])
        for outcome in outcomes:
            self._metrics.notification(outcome)
        return private_json(dict(Counter(map(str, outcomes))))

    async def ping(self, request: web.Request) -> web.StreamResponse:
        """Say that somebody is there, who knows the token: older MinIOs ask before they tell."""
        self._admit(request)
        return web.Response(status=204, headers={"Cache-Control": "private, no-store"})

    def _admit(self, request: web.Request) -> None:
        if not self._tokens:
            raise NotFound
        given = _token(request.headers.getall("Authorization", []))
        fits = [hmac.compare_digest(token.encode(), given) for token in self._tokens]
        if not any(fits):
            raise Unauthorized("the token of MEDIA_HOOK_TOKEN is needed")

    async def _follow(self, notice: Notice) -> Outcome:
        is_staged = notice.bucket == self._staged and notice.name.startswith(STAGED)
        try:
            key = keys.parse(notice.name.removeprefix(STAGED) if is_staged else notice.name)
        except BadKey:
            return Outcome.IGNORED
        if is_staged and notice.is_new:
            return await self._confirm(key)
        if notice.bucket in self._buckets and "/" in key and keys.valid_owner(keys.owner(key)):
            return await self._adoption.follow(key)
        return Outcome.IGNORED

    async def _confirm(self, key: Key) -> Outcome:
        try:
            await self._confirmation.confirm(key, 0)
        except (NotFound, NotUploaded, Conflict):  # of another catalogue; confirmed before; being confirmed
            return Outcome.UNCHANGED
        except tuple(REFUSALS.values()):
            return Outcome.REFUSED
        return Outcome.CONFIRMED


def _token(authorization: Sequence[str]) -> bytes:
    """What the headers of one request show: Bearer, or the password of Basic (RFC 7617), as some stores send of an address."""
    scheme, _, given = authorization[0].partition(" ") if len(authorization) == 1 else ("", "", "")
    if scheme.lower() == "bearer":
        return given.strip().encode(errors="surrogateescape")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(given.strip(), validate=True).partition(b":")[2]
    except ValueError:
        return b""

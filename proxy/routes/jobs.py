"""Long work on the caller's assets: what can be made, POST /api/assets/{key}/jobs, and /api/jobs to look at it and to cancel it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from proxy import keys
from proxy.assets import Assets
from proxy.auth import Action, Tokens, require, require_right
from proxy.errors import BadRequest, NotFound
from proxy.jobs import Job, Stage
from proxy.orders import Orders
from proxy.routes.assets import PREFIX, Presenter, private_json
from proxy.routes.bodies import json_body

SUFFIX = "/jobs"
JOBS = "/api/jobs/"
PAGE, MAX_PAGE = 50, 200
STAGES = [*map(str, Stage)]
_ID = re.compile(r"job_[0-9a-f]{30}")
_IDEMPOTENCY = re.compile(r"[\x21-\x7e]{1,255}")


class JobRoutes:
    """Jobs, the caller's own."""

    def __init__(self, orders: Orders, assets: Assets, tokens: Tokens, presenter: Presenter, idle_s: float) -> None:
        self._orders = orders
        self._assets = assets
        self._tokens = tokens
        self._presenter = presenter
        self._idle_s = idle_s

    async def order(self, request: web.Request) -> web.StreamResponse:
        """Have something made of an asset: ``{profile}``; 202 with the job, also where it is under way or done already."""
        path = request.rel_url.raw_path
        if not (path.startswith(PREFIX) and path.endswith(SUFFIX)):
            raise NotFound
        key = keys.from_target(path[len(PREFIX) : -len(SUFFIX)])
        require(self._tokens.bearer(request.headers.getall("Authorization", [])), Action.WRITE, key)
        idempotency_key = request.headers.get("Idempotency-Key")
        if idempotency_key is not None and not _IDEMPOTENCY.fullmatch(idempotency_key):
            raise BadRequest("Idempotency-Key is 1 to 255 visible ASCII characters")
        given = await json_body(request, self._idle_s)
        if unknown := given.keys() - {"profile"}:
            raise BadRequest("only profile is known here", param=min(unknown)[:32])
        name = given.get("profile")
        if not isinstance(name, str):
            raise BadRequest("profile is the name of one", param="profile")
        job = await self._orders.order(await self._assets.get(key), name, idempotency_key)
        return private_json(self._document(job), 202, {"Location": self._presenter.absolute(JOBS + job.id)})

    async def profiles(self, request: web.Request) -> web.StreamResponse:
        """The names of what can be made here, with ``type`` of objects of that content type."""
        require_right(self._tokens.bearer(request.headers.getall("Authorization", [])), Action.READ)
        return private_json({"profiles": self._orders.suiting(request.query.get("type"))})

    async def page(self, request: web.Request) -> web.StreamResponse:
        """The caller's jobs, newest first; ``key`` for those on one asset, ``state`` for those in one.

        ``limit`` (1-200) and ``cursor`` page through them.
        """
        principal = require_right(self._tokens.bearer(request.headers.getall("Authorization", [])), Action.READ)
        if unknown := set(request.query) - {"limit", "cursor", "key", "state"}:
            raise BadRequest("only key, state, limit and cursor are known here", param=min(unknown)[:32])
        limit = request.query.get("limit", str(PAGE))
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:6]) <= MAX_PAGE):
            raise BadRequest(f"limit is a number from 1 to {MAX_PAGE}", param="limit")
        cursor = request.query.get("cursor")
        if cursor is not None and not _ID.fullmatch(cursor):
            raise BadRequest("this cursor is not one of ours", param="cursor")
        key = keys.parse(request.query["key"]) if "key" in request.query else None
        if (state := request.query.get("state")) is not None and state not in STAGES:
            raise BadRequest(f"state is one of {', '.join(STAGES)}", param="state", allowed=STAGES)
        found = await self._orders.page(principal.owner, int(limit), cursor, key, None if state is None else Stage(state))
        return private_json({"jobs": [self._document(job) for job in found.jobs], "nextCursor": found.after})

    async def get(self, request: web.Request) -> web.StreamResponse:
        """One job."""
        return private_json(self._document(await self._job(request, Action.READ)))

    async def retry(self, request: web.Request) -> web.StreamResponse:
        """Order again what has failed or was canceled: 202 with the new job."""
        job = await self._orders.retry(await self._job(request, Action.WRITE))
        return private_json(self._document(job), 202, {"Location": self._presenter.absolute(JOBS + job.id)})

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """End a job that is not done; again, the same answer."""
        await self._orders.cancel(await self._job(request, Action.WRITE))
        return web.Response(status=204, headers={"Cache-Control": "no-store"})

    async def _job(self, request: web.Request, action: Action) -> Job:
        principal = require_right(self._tokens.bearer(request.headers.getall("Authorization", [])), action)
        id = request.match_info["id"]
        if not _ID.fullmatch(id):
            raise NotFound("no job has this id")
        return await self._orders.get(principal, id)

    def _document(self, job: Job) -> dict[str, Any]:
        address = self._presenter.absolute
        return {
            "id": job.id,
            "key": job.key,
            "profile": job.profile,
            "state": job.stage,
            "percent": round(job.percent, 1),
            "attempts": job.attempts,
            "results": [{"key": key, "url": address(keys.PREFIX + keys.encoded(key))} for key in job.results],
            "problem": job.problem,
            "createdAt": _written(job.created),
            "startedAt": _written(job.started),
            "endedAt": _written(job.ended),
        }


def _written(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

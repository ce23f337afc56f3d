"""What happens to one's own objects, as it happens: GET /api/events, a stream of server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
import json
import time

from aiohttp import web

from proxy.auth import Action, Tokens, require_right
from proxy.errors import BadRequest
from proxy.events import Event, EventLog
from proxy.feed import Feed

WRITE_S = 30.0
"""for a listener to take what is sent; then it is cut"""
MAX_ID = 64


class EventRoutes:
    """The stream of one owner. A client that comes back with Last-Event-ID is told what it has missed."""

    def __init__(self, events: EventLog, feed: Feed, tokens: Tokens) -> None:
        self._events = events
        self._feed = feed
        self._tokens = tokens

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Tell for ever; a client that leaves ends it, and so does the end of its token."""
        principal = require_right(self._tokens.bearer(request.headers.getall("Authorization", [])), Action.READ)
        last = request.headers.get("Last-Event-ID")
        if last is not None and (len(last) > MAX_ID or not last.isascii()):
            raise BadRequest("Last-Event-ID is the id of an event")
        with self._feed.listening(principal.owner) as listener:
            after = await self._events.position(last)
            response = web.StreamResponse(
                headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
            )
            await response.prepare(request)
            await response.write(b"retry: 3000\n\n")
            told = self._feed.told(self._events, listener, principal.owner, after)
            try:
                async with asyncio.timeout(max(principal.expires - time.time(), 0)) as life:
                    async for told_of in told:
                        async with asyncio.timeout(WRITE_S):
                            await response.write(_lines(told_of))
            except TimeoutError:
                if not life.expired():
                    raise
        return response


def _lines(told_of: Event | dict[str, object] | None) -> bytes:
    if told_of is None:
        return b": still here\n\n"
    if isinstance(told_of, Event):
        return f"id: {told_of.id}\nevent: {told_of.kind}\ndata: {told_of.body}\n\n".encode()
    return f"event: {told_of['type']}\ndata: {json.dumps(told_of, separators=(',', ':'))}\n\n".encode()

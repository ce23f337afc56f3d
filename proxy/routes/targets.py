"""The part of a request's address that a route cares for, exactly as it was sent."""

from __future__ import annotations

from aiohttp import web

from proxy.errors import BadKey, NotFound


def split(request: web.Request, prefix: str) -> tuple[str, str]:
    """What follows *prefix* in the path, and the query, undecoded: the router cannot tell %2F from /, nor decode twice."""
    raw = request.raw_path
    if not raw.startswith("/"):  # absolute form (RFC 9112 section 3.2.2): its host counts for nothing
        raw = "/" + raw.partition("://")[2].partition("/")[2]
    path, _, query = raw.partition("?")
    if not path.startswith(prefix):
        raise NotFound
    if "#" in raw:
        raise BadKey("a request has no fragment: write # as %23")
    return path[len(prefix) :], query

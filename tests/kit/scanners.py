"""A scanner that knows one bad word, and behaves as one that reads bodies on their way; it may go away at any byte."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.errors import Infected, Unavailable, Unscannable
from proxy.ports import Body
from tests.kit.clamd import BAD_WORD


class WordScanner:
    """Finds `BAD_WORD`, looks at *max_bytes* at most, and is away while *is_there* is false, or after *lasts* bytes of a body.

    *asked* counts what it was given, *busy* what it has at the moment.
    """

    def __init__(self, max_bytes: int = 1 << 20) -> None:
        self.is_there = True
        self.lasts: int | None = None
        self.busy = 0
        self.asked = 0
        self._max_bytes = max_bytes

    @asynccontextmanager
    async def watch(self, body: Body, size: int | None = None) -> AsyncIterator[Body]:
        """*body*, looked through on its way."""
        self.asked += 1
        if size is not None and size > self._max_bytes:
            raise Unscannable
        await self.ping()
        self.busy += 1
        try:
            yield self._through(body)
        finally:
            self.busy -= 1

    async def _through(self, body: Body) -> AsyncIterator[bytes]:
        seen = b""
        async for chunk in body:
            seen += chunk
            if len(seen) > self._max_bytes:
                raise Unscannable
            if self.lasts is not None and len(seen) > self.lasts:
                raise Unavailable
            yield chunk
        if BAD_WORD in seen:
            raise Infected("the scanner found Bad.Word in it", signature="Bad.Word")

    async def ping(self) -> None:
        """Raise Unavailable while it is away."""
        if not self.is_there:
            raise Unavailable

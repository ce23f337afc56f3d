"""How far uploads are, told to their owners while the bytes come."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from proxy.ports import Body

Passes = Callable[[str, dict[str, Any]], Awaitable[None]]
"""Tells an owner of something that is only of the moment."""

TOLD_EVERY_S = 0.5


class Progress:
    """Tells of uploads that come in one request, if they take so long that somebody may want to watch."""

    def __init__(self, passes: Passes, clock: Callable[[], float] = time.monotonic) -> None:
        self._passes = passes
        self._clock = clock

    async def told(self, owner: str, id: str | None, filename: str | None, length: int | None, body: Body) -> AsyncIterator[bytes]:
        """*body*, unchanged. *id* is what its sender calls the upload, *length* the bytes declared, a form around it counted in."""
        id = id or f"once-{secrets.token_hex(8)}"
        received, told, is_told = 0, self._clock(), False
        async for chunk in body:
            received += len(chunk)
            if self._clock() - told > TOLD_EVERY_S:
                told, is_told = self._clock(), True
                await self._passes(owner, moment(id, filename, received, length))
            yield chunk
        if is_told:
            await self._passes(owner, moment(id, filename, received, received))


def moment(id: str, filename: str | None, received: int, length: int | None) -> dict[str, Any]:
    """How far an upload is, as its owner is told; *length* None: not known yet."""
    return {"type": "upload.progress", "id": id, "filename": filename, "receivedBytes": received, "totalBytes": length}

"""Forms that carry a file (multipart/form-data), as they come: bounded, and sound to their end before anything counts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Self

from aiohttp import BodyPartReader, MultipartReader, web

from processors.errors import Unsupported
from proxy.errors import BadRequest, TooLarge, TooSlow
from proxy.routes.bodies import readable

FORM_OVERHEAD_BYTES = 1 << 16
"""What a form may have beside its file: boundaries, part headers, other fields."""
FORM_PARTS = 16
CHUNK_BYTES = 1 << 16
MAX_FILENAME = 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Form:
    """The parts of one multipart/form-data body, in the order they come, with bounds on their number and size."""

    def __init__(self, reader: MultipartReader, idle_s: float) -> None:
        self._reader = reader
        self._idle_s = idle_s
        self._parts = 0
        self._spare = FORM_OVERHEAD_BYTES

    @classmethod
    async def begun(cls, request: web.Request, idle_s: float) -> Self:
        """The form in the body of *request*, none of it read yet."""
        with readable():
            return cls(await request.multipart(), idle_s)

    async def find_file(self, demanded: Mapping[str, str] | None = None) -> BodyPartReader:
        """The part named ``file``; what comes before it is read and dropped.

        Raises BadRequest where a field of one of the *demanded* names did not come before, and Unsupported where it has
        another value.
        """
        missing = dict(demanded or {})
        with readable():
            while (part := await self._next()) is not None:
                if part.name == "file":
                    if missing:
                        raise BadRequest(f"the form has no field {min(missing)} before its file")
                    return part
                said = await self._drop(part)
                wanted = missing.pop(part.name or "", None)
                if wanted is not None and said != wanted.encode():
                    raise Unsupported(f"the field {part.name} was signed as {wanted}")
        raise BadRequest("the form has no field called file")

    async def body_of(self, part: BodyPartReader) -> AsyncIterator[bytes]:
        """The file's bytes. They end only when the whole form has been seen to be sound, so a broken one stores nothing."""
        with readable():
            while chunk := await part.read_chunk(CHUNK_BYTES):
                yield chunk
            while (other := await self._next()) is not None:
                if other.name == "file":
                    raise BadRequest("the form has more than one field called file")
                await self._drop(other)

    async def _next(self) -> BodyPartReader | None:
        async with self._in_time():
            part = await self._reader.next()
        if part is None:
            return None
        self._parts += 1
        if not isinstance(part, BodyPartReader) or self._parts > FORM_PARTS:
            raise BadRequest(f"a form has at most {FORM_PARTS} parts, and none within another")
        encoding = part.headers.get("Content-Encoding", part.headers.get("Content-Transfer-Encoding", "binary"))
        if encoding.lower() not in {"binary", "8bit", "7bit", "identity"}:
            raise Unsupported("send the bytes of a part as they are, without an encoding")
        return part

    async def _drop(self, part: BodyPartReader) -> bytes:
        said = b""
        async with self._in_time():
            while chunk := await part.read_chunk(8192):
                said += chunk
                self._spare -= len(chunk)
                if self._spare < 0:
                    raise TooLarge(
                        f"the other fields of a form may have {FORM_OVERHEAD_BYTES} bytes", max_bytes=FORM_OVERHEAD_BYTES
                    )
        return said

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        # For what is small enough to come within the time that a sender may be silent.
        try:
            async with asyncio.timeout(self._idle_s):
                yield
        except TimeoutError:
            raise TooSlow(f"a part of the form did not come within {self._idle_s:g} seconds") from None


def shown_name(given: str | None) -> str | None:
    """A name to show, never a path: the last part of what was *given*, without control characters, of bounded length."""
    name = _CONTROL.sub("_", re.split(r"[/\\]", given or "")[-1]).strip()[:MAX_FILENAME]
    return None if name in {"", ".", ".."} else name

"""Objects of an S3 store as they are read: one version from end to end, also when its connection breaks in the middle."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC
from typing import Any

import structlog

from processors.errors import MediaError
from proxy import generations
from proxy.adapters.outgoing import Deadlines
from proxy.adapters.s3_errors import translated
from proxy.errors import Unavailable
from proxy.keys import Key
from proxy.ports import ByteRange, ObjectMeta

READ_BYTES = 1 << 17
DRAIN_BYTES = 1 << 16
DRAIN_S = 1.0
PROGRESS_BYTES = 1 << 16
UNKNOWN_TYPE = "application/octet-stream"
GENERATION = "generation"
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")

log = structlog.get_logger(__name__)

Answer = dict[str, Any]


def entity_tag(answer: Answer) -> str:
    """The store's own ETag, without its quotes."""
    return str(answer.get("ETag", "")).removeprefix("W/").strip('"')


def meta_of(key: Key, answer: Answer, size: int, store: str) -> ObjectMeta:
    """What the answer to a HEAD or GET tells of an object: our generation's etag and time, else the store's own."""
    given = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
    generation = str(given.get(GENERATION, ""))
    ours = generations.is_generation(generation)
    etag = generation if ours else entity_tag(answer)
    modified = generations.began(generation) if ours else answer.get("LastModified", generations.EPOCH).astimezone(UTC)
    others = {name: str(value) for name, value in given.items() if name != GENERATION}
    return ObjectMeta(key, size, answer.get("ContentType") or UNKNOWN_TYPE, etag, modified, None, store, others)


def header(span: ByteRange) -> str | None:
    """*span* as a Range header (RFC 9110 section 14.2); None where that takes the size of the object to know."""
    if span.start < 0:
        return f"bytes={span.start}" if span.stop is None else None
    if span.stop is None:
        return f"bytes={span.start}-"
    return f"bytes={span.start}-{span.stop - 1}" if span.stop > span.start else None


def sent(answer: Answer) -> tuple[ByteRange, int]:
    """Which bytes of an object of which size an answer brings; raises Unavailable if it does not say so rightly."""
    length = int(answer["ContentLength"]) if "ContentLength" in answer else None
    told = answer.get("ContentRange")
    if length is None:
        raise Unavailable("the store does not say how much it sends")
    if told is None:
        return ByteRange(0, length), length
    found = _CONTENT_RANGE.fullmatch(told)
    if found is None:
        raise Unavailable("the store does not say which bytes it sends")
    first, last, size = (int(number) for number in found.groups())
    if last - first + 1 != length or last >= size:
        raise Unavailable("the store contradicts itself about the bytes that it sends")
    return ByteRange(first, last + 1), size


class Reading:
    """The bytes *span* of one version, out of *answer* and, where that breaks off, out of what *again* gives from the byte reached.

    *again* asks for the same version and raises when there is none any more; it gets the first byte wanted.
    """

    def __init__(
        self,
        answer: Answer,
        span: ByteRange,
        again: Callable[[int], Awaitable[Answer]],
        deadlines: Deadlines,
        store: str,
    ) -> None:
        assert span.stop is not None
        self._body = answer["Body"]
        self._at = span.start
        self._stop = span.stop
        self._again = again
        self._deadlines = deadlines
        self._store = store

    async def chunks(self) -> AsyncIterator[bytes]:
        """Pieces of up to 128 KiB, as many bytes as *span* has; raises Unavailable when they cannot be had."""
        pauses = fresh = (0.0, *self._deadlines.pauses)
        reached = self._at
        while self._at < self._stop:
            try:
                chunk = await self._read()
            except Unavailable as error:
                if self._at - reached >= PROGRESS_BYTES:
                    pauses = fresh
                reached = self._at
                await self._resume(error, pauses)
                pauses = pauses[1:]
                continue
            self._at += len(chunk)
            yield chunk

    async def _read(self) -> bytes:
        """One piece. Raises Unavailable for fewer bytes than were promised; more of them than that are a lie as well."""
        if self._body is None:
            raise Unavailable("the store does not answer")
        with translated():
            async with asyncio.timeout(self._deadlines.progress):
                chunk: bytes = await self._body.read(READ_BYTES)
        if not chunk:
            raise Unavailable("the store sent less than it promised")
        if len(chunk) > self._stop - self._at:
            raise Unavailable("the store sent more than it promised")
        return chunk

    async def _resume(self, error: Unavailable, pauses: tuple[float, ...]) -> None:
        """Ask again after the first of *pauses*; there are as many attempts in a row as there are of them."""
        await self.aclose()
        if not pauses:
            raise error
        log.warning("store.read_resumed", store=self._store, at=self._at, stop=self._stop, reason=error.detail)
        await asyncio.sleep(pauses[0])
        try:
            self._body = (await self._again(self._at))["Body"]
        except Unavailable:
            return  # the next turn counts it
        except MediaError as gone:
            raise Unavailable("the object was replaced or removed while it was read") from gone

    async def aclose(self) -> None:
        """Give the connection back, or break it if more than a little is still to come (aio-libs/aiobotocore#1061)."""
        body, self._body = self._body, None
        if body is None:
            return
        if 0 < self._stop - self._at <= DRAIN_BYTES:
            try:
                async with asyncio.timeout(DRAIN_S):
                    with translated():
                        while await body.read(READ_BYTES):
                            pass
            except (Unavailable, TimeoutError):
                pass
        body.close()

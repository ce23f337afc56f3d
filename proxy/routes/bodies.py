"""Bodies of requests: the word to go ahead, the bytes as they come, and small documents."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from processors.errors import Unsupported
from proxy.errors import BadRequest, TooLarge, TooSlow

JSON_TYPES = frozenset(("application/json", "application/merge-patch+json"))
MAX_JSON_BYTES = 1 << 16


async def json_body(request: web.Request, patience_s: float, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """The JSON object in the body; raises Unsupported, TooLarge, TooSlow, BadRequest."""
    if request.content_type not in JSON_TYPES or request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Unsupported("send a JSON object, as application/json")
    if (request.content_length or 0) > max_bytes:
        raise TooLarge(f"this body may have {max_bytes} bytes", max_bytes=max_bytes)
    await go_ahead(request)
    text = b""
    try:
        async with asyncio.timeout(patience_s):
            async for chunk in raw_body(request):
                text += chunk
                if len(text) > max_bytes:
                    raise TooLarge(f"this body may have {max_bytes} bytes", max_bytes=max_bytes)
    except TimeoutError:
        raise TooSlow(f"the body did not come within {patience_s:g} seconds") from None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest("the body is no JSON") from error
    if not isinstance(document, dict):
        raise BadRequest("the body is no JSON object")
    return document


async def go_ahead(request: web.Request) -> None:
    """Ask a client that waits for it (Expect: 100-continue, RFC 9110 section 10.1.1) to send its body."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The interim answer is no part of the final one, which has not begun.
        request.writer.output_size = 0


async def raw_body(request: web.Request) -> AsyncIterator[bytes]:
    """The body as it comes; raises BadRequest when it breaks."""
    with readable():
        async for chunk in request.content.iter_any():
            yield chunk


async def asked_body(request: web.Request) -> AsyncIterator[bytes]:
    """The same; who waits for 100 Continue gets it when the first byte is wanted, after all that the head is refused for."""
    await go_ahead(request)
    async for chunk in raw_body(request):
        yield chunk


def unread(request: web.Request) -> tuple[bytes, bool]:
    """What has come of the body and was not read, and whether that is the rest of it; what comes later is not."""
    # aiohttp (3.14.5) gives out nothing of a stream whose connection has broken, though it has these bytes.
    stream = request.content
    pieces: list[bytes] = [*getattr(stream, "_buffer", ())]
    return b"".join(pieces)[getattr(stream, "_buffer_offset", 0) :], stream.is_eof() and stream.exception() is None


@contextmanager
def readable() -> Iterator[None]:
    """Say BadRequest for what aiohttp raises on a broken body."""
    # aiohttp says of a broken body: ValueError (no boundary, bad disposition), BadHttpMessage (part headers over 8 KiB),
    # PayloadEncodingError within RequestPayloadError (bad chunks, an end before Content-Length).
    try:
        yield
    except (ValueError, HttpProcessingError, web.RequestPayloadError) as error:
        raise BadRequest("the body is malformed or ends too early") from error

"""From a request to what it wants, and from an open object to the wire: status, caching headers, bytes, and nothing less."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from urllib.parse import quote

from aiohttp import web
from multidict import CIMultiDict

from processors import formats
from processors.formats import Kind
from processors.grammar import Query
from proxy import caching, keys
from proxy.access import Admission
from proxy.caching import Terms
from proxy.conditions import Version, Wanted
from proxy.delivery import Opened
from proxy.keys import Key
from proxy.ports import ObjectReader

SERVER = "sav3-media-proxy"
INTERNAL = "/_media/"
"""The location of nginx that holds the store's files."""
TERMS: web.RequestKey[Terms] = web.RequestKey("terms", Terms)
"""what a route has found out of how the answer may be kept, for whoever writes a refusal"""
SENDFILE_WINDOW = 1 << 20
SENDFILE_FROM = 256 << 10
"""Below this a read and a write cost less than setting sendfile up."""
SANDBOX = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
PLAYER = "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'; sandbox allow-same-origin"
"""For films and sound: a browser's own player loads them from its page, which in a full sandbox has no origin to load from."""
_UNSAFE = re.compile(r'[\x00-\x1f\x7f"\\/%]')


def wanted(request: web.Request) -> Wanted:
    """The conditions and range of *request*."""
    return Wanted.of(request.method, request.headers)


def media_headers(opened: Opened, terms: Terms) -> CIMultiDict[str]:
    """The headers of a 200 and a 206, but for those that speak of length and range."""
    meta = opened.reader.meta
    degraded = (*opened.degraded, *terms.degraded)
    headers = version_headers(meta.key, opened.version, terms, degraded)
    kind = _kind(meta.content_type)
    headers["Content-Type"] = meta.content_type
    headers["Content-Security-Policy"] = PLAYER if kind in {Kind.VIDEO, Kind.AUDIO} else SANDBOX
    headers["Accept-Ranges"] = "none" if opened.version.etag.weak else "bytes"
    if degraded:
        headers["X-Media-Degraded"] = ", ".join(degraded)
    # Pictures, films and sound of types that we know are shown; everything else, SVG and HTML above all, is a download.
    if terms.download is not None or kind not in {Kind.IMAGE, Kind.VIDEO, Kind.AUDIO}:
        headers["Content-Disposition"] = disposition(terms.download or str(meta.key).rpartition("/")[2])
    return headers


def rendition_headers(opened: Opened, admission: Admission) -> CIMultiDict[str]:
    """As `media_headers`, for what was made as *admission* asks."""
    meta = opened.reader.meta
    headers = media_headers(opened, admission.terms)
    address = _spelled_out(meta.key, admission, meta.content_type)
    if address is not None:
        headers["Content-Location"] = address
    headers["Cache-Status"] = cache_status(opened)
    phases = (f"{phase};dur={1000 * seconds:.1f}" for phase, seconds in opened.seconds.items())
    headers["Server-Timing"] = ", ".join((f"cache;desc={opened.found}", *phases))
    return headers


def cache_status(opened: Opened) -> str:
    """What our caches did for the answer (RFC 9211): in which one it was, or that it had to be made, and is kept now."""
    if opened.found is None:
        return f"{SERVER}; fwd=bypass; detail={opened.reader.meta.store or 'store'}"
    if opened.found != "miss":
        return f"{SERVER}; hit; detail={opened.found}"
    kept = "" if opened.degraded else "; stored"
    return f"{SERVER}; fwd=uri-miss{kept}{'; collapsed' if opened.collapsed else ''}; detail=render"


def version_headers(key: Key, version: Version, terms: Terms, degraded: tuple[str, ...] = ()) -> CIMultiDict[str]:
    """The headers that also a 304 carries (RFC 9110 section 15.4.5)."""
    headers = CIMultiDict(caching.headers(key, version, terms, degraded))
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return headers


def disposition(filename: str) -> str:
    """Content-Disposition of an attachment called *filename*, safe for every name (RFC 6266 section 4, RFC 8187)."""
    plain = _UNSAFE.sub("_", filename).encode("ascii", "replace").decode().replace("?", "_").strip() or "download"
    text = f'attachment; filename="{plain}"'
    return text if plain == filename else f"{text}; filename*=UTF-8''{quote(_shown(filename), safe='')}"


async def send(request: web.Request, opened: Opened, headers: CIMultiDict[str], idle_s: float) -> web.StreamResponse:
    """Write *opened* behind *headers* as the answer and close it. Each MiB must be taken within *idle_s* seconds."""
    reader = opened.reader
    if reader.data is not None:
        if request.method == "HEAD":
            headers["Content-Length"] = str(reader.length)
            return web.Response(headers=headers)
        return web.Response(body=reader.data, headers=headers)
    return await stream(request, reader, headers, idle_s)


async def stream(request: web.Request, reader: ObjectReader, headers: CIMultiDict[str], idle_s: float) -> web.StreamResponse:
    """Write what *reader* has behind *headers*, and close it: the one place from which bodies go out.

    A body that turns out shorter or longer than was promised ends in a broken connection: aiohttp would keep the
    connection open and let the next answer become part of this body, or end a truncated one cleanly.
    """
    async with reader:
        if reader.span is not None:
            headers["Content-Range"] = f"bytes {reader.span.start}-{(reader.span.stop or 0) - 1}/{reader.meta.size}"
        response = web.StreamResponse(status=200 if reader.span is None else 206, headers=headers)
        response.content_length = reader.length
        await response.prepare(request)
        if request.method != "HEAD":
            sent = False
            try:
                await _body(request, response, reader, idle_s)
                sent = True
            finally:
                if not sent and request.transport is not None:
                    request.transport.abort()
        await response.write_eof()
        return response


def elsewhere(address: str, lifetime_s: int) -> web.Response:
    """The 302 to a presigned *address*: private, since it opens the object to whoever has it, and kept for half its life."""
    return web.Response(status=302, headers={"Location": address, "Cache-Control": f"private, max-age={lifetime_s // 2}"})


async def handed_over(opened: Opened, terms: Terms, root: Path) -> web.Response:
    """The headers of an original whose bytes nginx sends from its file below *root* (nginx, X-Accel-Redirect).

    Of a range, too: nginx reads it in the same request.
    """
    reader = opened.reader
    assert reader.path is not None
    headers = media_headers(opened, terms)
    headers["X-Accel-Redirect"] = INTERNAL + quote(str(reader.path.relative_to(root)))
    await reader.aclose()
    return web.Response(headers=headers)


async def _body(request: web.Request, response: web.StreamResponse, reader: ObjectReader, idle_s: float) -> None:
    if reader.file is not None and reader.length >= SENDFILE_FROM:
        await _sendfile(request, reader, idle_s)
        return
    left = reader.length
    async for chunk in reader:
        left -= len(chunk)
        if left < 0:
            break
        async with asyncio.timeout(idle_s):
            await response.write(chunk)
    if left:
        raise ConnectionAbortedError("the store gave another number of bytes than it had promised")


async def _sendfile(request: web.Request, reader: ObjectReader, idle_s: float) -> None:
    assert reader.file is not None
    loop = asyncio.get_running_loop()
    start = 0 if reader.span is None else reader.span.start
    stop = start + reader.length
    while start < stop:
        if request.transport is None:
            raise ConnectionResetError("the client has gone")
        async with asyncio.timeout(idle_s):
            count = await loop.sendfile(request.transport, reader.file, start, min(SENDFILE_WINDOW, stop - start))
        if not count:
            raise ConnectionAbortedError("the file is shorter than its record says")
        start += count


def not_modified(key: Key, version: Version, terms: Terms) -> web.Response:
    """The 304 to a caller that holds *version*."""
    degraded = ("format-pending",) if version.is_pending else ()
    return web.Response(status=304, headers=version_headers(key, version, terms, degraded))


def _spelled_out(key: Key, admission: Admission, content_type: str) -> str | None:
    # The address under which the format that was chosen is always given; None where there is none. An address is signed as it
    # stands: only where the signature leaves the format to its holder another one holds, too.
    format = formats.by_mime(content_type)
    if admission.terms.vary[:1] != ("Accept",) or format is None:
        return None
    said = admission.said
    allowed = (said.get("any") or "").split(",") if "s" in said else admission.preset.allow if admission.preset else ("format",)
    if "format" not in allowed:
        return None
    spelled = Query.of({**dict(said.pairs), "format": "jpg" if format.name == "jpeg" else format.name})
    return f"{keys.PREFIX}{keys.encoded(key)}?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in spelled.pairs)


def _kind(content_type: str) -> Kind | None:
    format = formats.by_mime(content_type.partition(";")[0].strip().lower())
    return None if format is None else format.kind


def _shown(filename: str) -> str:
    # A name for a header: no path, no control characters, of bounded length.
    return re.sub(r"[\x00-\x1f\x7f/\\]", "_", filename)[:200]

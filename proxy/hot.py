"""Renditions that are asked for again and again, answered before the router looks at the request.

What is remembered of an address is which rendition it names and with which headers, never the bytes: those must still be in
`Delivery`'s memory, and the original must still be the version that the rendition was made of. Only what everybody may see,
and only for requests whose headers cannot change the answer.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import HttpVersion11
from multidict import CIMultiDict

from proxy.delivery import Delivery, Focal, Opened
from proxy.keys import Key
from proxy.responses import SERVER

ENTRIES = 4_096
"""1.7 KB each (measured with tracemalloc)"""
ADDRESS_CHARS = 1_024
"""of an address and its Accept header; longer ones are answered with a second look"""
DECIDING = ("Authorization", "Origin", "Range", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since", "Expect")
"""Headers that make a request one to think about."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """The rendition *name* of version *version* of *key*, and the lines of its answer's *head* that are always the same."""

    key: Key
    version: str
    name: Key
    focal: Focal | None
    head: bytes


class Ready(web.Response):
    """An answer whose head is written already, but for the lines that are of this request: its id, the date, the connection.

    Made anew by aiohttp for each answer the head takes a fifth of a hit's CPU time (58 us, 47 so); it has no public way to bring
    one along.
    """

    def __init__(self, head: bytes, body: bytes) -> None:
        super().__init__(body=body)
        self._head = head
        self.request_id = ""

    async def _start(self, request: web.BaseRequest) -> AbstractStreamWriter:
        self._req = request
        writer = self._payload_writer = request._payload_writer
        keeps = request.keep_alive if self._keep_alive is None else self._keep_alive
        self._keep_alive = keeps
        connection = "Connection: close\r\n" if not keeps else ""
        last = f"X-Request-ID: {self.request_id}\r\nDate: {rfc822_formatted_time()}\r\n{connection}\r\n"
        writer._headers_buf = self._head + last.encode()  # type: ignore[attr-defined]
        writer._headers_written = False  # type: ignore[attr-defined]
        return writer


class HotAnswers:
    """The last few thousand addresses of public renditions, with the Accept header they were asked for with."""

    def __init__(self, delivery: Delivery, *, cross_origin: bool) -> None:
        self._delivery = delivery
        self._cross_origin = cross_origin
        self._known: OrderedDict[tuple[str, str], Remembered] = OrderedDict()

    def answer(self, request: web.Request) -> Ready | None:
        """The answer to *request*, if it is a hot one and may be given without a second look."""
        headers = request.headers
        known = self._known.get((request.raw_path, headers.get("Accept", "")))
        if (
            known is None
            or request.method != "GET"
            or request.version != HttpVersion11
            or any(name in headers for name in DECIDING)
        ):
            return None
        rendered = self._delivery.kept(known.key, known.version, known.name, known.focal)
        return None if rendered is None else Ready(known.head, rendered.data)

    def forget(self) -> None:
        """Let go of everything: what addresses stand for has changed."""
        self._known.clear()

    def remember(self, request: web.Request, opened: Opened, headers: CIMultiDict[str]) -> None:
        """Keep in mind what *request* was answered with. The caller vouches that everybody may have it."""
        address = request.raw_path, request.headers.get("Accept", "")
        if (
            opened.name is None
            or opened.reader.span is not None
            or request.method != "GET"
            or opened.version.is_pending
            or sum(map(len, address)) > ADDRESS_CHARS
        ):
            return
        headers["Server"] = SERVER
        headers["Server-Timing"] = "cache;desc=memory"
        headers["Cache-Status"] = f"{SERVER}; hit; detail=memory"
        if self._cross_origin:
            headers["Vary"] = f"{headers['Vary']}, Origin" if "Vary" in headers else "Origin"
        if any(mark in value for value in headers.values() for mark in "\r\n"):
            return  # which aiohttp refuses to send
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        head = "".join(("HTTP/1.1 200 OK\r\n", *lines, f"Content-Length: {opened.reader.length}\r\n")).encode()
        self._known[address] = Remembered(opened.reader.meta.key, opened.version.original, opened.name, opened.focal, head)
        if len(self._known) > ENTRIES:
            self._known.popitem(last=False)

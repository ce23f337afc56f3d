"""A small HTTP client that changes nothing: paths, headers and bodies go out as given and come back as they are."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import quote, urlsplit

Headers = Mapping[str, str]
UNKNOWN = "application/octet-stream"
BOUNDARY = "media-kit-boundary"


@dataclass(frozen=True)
class Answer:
    """An answer, whole. *headers* are read without regard to case."""

    status: int
    headers: Message
    body: bytes

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The code of a problem document; None for another answer."""
        return self.json["code"] if self.headers.get_content_type() == "application/problem+json" else None

    def __repr__(self) -> str:
        return f"<Answer {self.status} {dict(self.headers)} {self.body[:300]!r}>"


@dataclass(frozen=True)
class FilePart:
    """A part of a form that carries a file."""

    data: bytes
    filename: str | None = "photo.jpg"
    content_type: str | None = UNKNOWN
    name: str = "file"

    def encode(self) -> bytes:
        """Its head and body, without boundaries."""
        disposition = f'form-data; name="{self.name}"' + (f'; filename="{self.filename}"' if self.filename is not None else "")
        head = f"Content-Disposition: {disposition}\r\n" + (f"Content-Type: {self.content_type}\r\n" if self.content_type else "")
        return head.encode() + b"\r\n" + self.data


def form(*parts: FilePart | tuple[str, str] | bytes, boundary: str = BOUNDARY, closed: bool = True) -> bytes:
    """A multipart/form-data body of *parts*: files, (name, text) fields, or bytes (head and body as they are)."""
    encoded = []
    for part in parts:
        if isinstance(part, tuple):
            encoded.append(FilePart(part[1].encode(), None, None, part[0]).encode())
        else:
            encoded.append(part if isinstance(part, bytes) else part.encode())
    mark = boundary.encode()
    return b"".join(b"--" + mark + b"\r\n" + part + b"\r\n" for part in encoded) + (b"--" + mark + b"--\r\n" if closed else b"")


def form_type(boundary: str = BOUNDARY) -> str:
    """The Content-Type of `form`."""
    return f"multipart/form-data; boundary={boundary}"


class Client:
    """One request, one connection. *token* is shown unless a request brings its own Authorization; *trusted* is for https."""

    def __init__(self, url: str, token: str | None = None, timeout_s: float = 60.0, trusted: ssl.SSLContext | None = None) -> None:
        self.url = url
        self.token = token
        self._host, self._port = urlsplit(url).hostname or "", urlsplit(url).port or 0
        self._timeout_s = timeout_s
        self._trusted = trusted

    def request(
        self, method: str, path: str, headers: Headers | None = None, body: bytes | Iterable[bytes] | None = None
    ) -> Answer:
        """The answer, read to its end; raises http.client.IncompleteRead when it is cut."""
        sent = {"Authorization": f"Bearer {self.token}"} if self.token is not None else {}
        sent |= headers or {}
        connection = self.connection()
        try:
            connection.connect()
            with suppress(BrokenPipeError, ConnectionResetError):  # refused before the body was whole: the answer is there
                connection.request(
                    method, path, body=body, headers={**sent, "Connection": "close"}, encode_chunked="Transfer-Encoding" in sent
                )
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def connection(self) -> http.client.HTTPConnection:
        """A new one, not open yet."""
        if self._trusted is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=self._trusted)

    def get(self, path: str, headers: Headers | None = None) -> Answer:
        """GET *path*."""
        return self.request("GET", path, headers)

    def head(self, path: str, headers: Headers | None = None) -> Answer:
        """HEAD *path*."""
        return self.request("HEAD", path, headers)

    def delete(self, path: str, headers: Headers | None = None) -> Answer:
        """DELETE *path*."""
        return self.request("DELETE", path, headers)

    def post(self, path: str, body: bytes | Iterable[bytes] = b"", headers: Headers | None = None) -> Answer:
        """POST *body* to *path*."""
        return self.request("POST", path, headers, body)

    def upload(
        self, data: bytes, content_type: str = UNKNOWN, filename: str | None = None, headers: Headers | None = None
    ) -> Answer:
        """Upload *data* as a raw body."""
        path = "/api/upload" + (f"?filename={quote(filename, safe='')}" if filename is not None else "")
        return self.post(path, data, {"Content-Type": content_type, **(headers or {})})

    def upload_form(self, *parts: FilePart | tuple[str, str] | bytes, headers: Headers | None = None) -> Answer:
        """Upload a form."""
        return self.post("/api/upload", form(*parts), {"Content-Type": form_type(), **(headers or {})})

    def stored(
        self, data: bytes, content_type: str = UNKNOWN, filename: str | None = None, headers: Headers | None = None
    ) -> dict[str, Any]:
        """The record of *data*, once it is uploaded; asserts that it was taken."""
        answer = self.upload(data, content_type, filename, headers)
        assert answer.status == 201, answer
        record = answer.json
        assert isinstance(record, dict)
        return record

    def assets(self) -> list[dict[str, Any]]:
        """Every record of the caller, all pages."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            answer = self.get(f"/api/assets?limit=100{cursor}")
            assert answer.status == 200, answer
            found += answer.json["assets"]
            if not answer.json.get("nextCursor"):
                return found
            cursor = f"&cursor={quote(answer.json['nextCursor'], safe='')}"


def media(key: str, query: str = "") -> str:
    """The path of an object."""
    return f"/api/media/{quote(key, safe='/')}" + (f"?{query}" if query else "")

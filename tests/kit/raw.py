"""A raw-socket HTTP/1.1 client: exact bytes out, exact bytes in, and how the connection ended."""

from __future__ import annotations

import select
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

CRLF = b"\r\n"


class Cut(Exception):
    """The connection ended before the answer was whole. *got* is what came, *reset* whether it ended by RST."""

    def __init__(self, got: bytes, *, reset: bool) -> None:
        super().__init__(f"the answer was cut after {len(got)} bytes ({'RST' if reset else 'FIN'}): {got[:200]!r}")
        self.got = got
        self.reset = reset


@dataclass(frozen=True)
class RawAnswer:
    """One answer. *interim* are the 1xx statuses before it; *headers* are in the order and spelling in which they came."""

    status: int
    version: str
    headers: list[tuple[str, str]]
    body: bytes
    interim: tuple[int, ...] = ()
    head: bytes = b""

    def header(self, name: str) -> str | None:
        """The value of the only header *name*; None if there is none; asserts that it is there once."""
        values = [value for given, value in self.headers if given.lower() == name.lower()]
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else None


class Wire:
    """A connection. Every wait ends after *timeout_s* with TimeoutError. *receive_buffer* makes a reader that stalls soon."""

    def __init__(self, host: str, port: int, *, timeout_s: float = 30.0, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout_s)
        try:
            self.socket.connect((host, port))
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ahead = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- sending ------------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> Self:
        """Send exactly *data*."""
        self.socket.sendall(data)
        return self

    def send_what_it_takes(self, data: bytes) -> int:
        """Send *data* until the other side refuses more; gives how many bytes went out."""
        sent = 0
        with suppress(ConnectionError, TimeoutError):
            while sent < len(data):
                sent += self.socket.send(data[sent : sent + 65_536])
        return sent

    def request(
        self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"", *, length: bool = True
    ) -> Self:
        """Send a request; Host is added, and Content-Length if there is a *body* and *length* is not turned off."""
        fields = {"Host": "127.0.0.1", **(headers or {})}
        if body and length and "Content-Length" not in fields:
            fields["Content-Length"] = str(len(body))
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
        return self.send(head.encode("latin-1") + body)

    def finish_sending(self) -> Self:
        """FIN: nothing more will come from here, answers may still be read."""
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def reset(self) -> None:
        """RST: the connection is gone at once."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        """Close it, in the ordinary way."""
        self.socket.close()

    # -- reading ------------------------------------------------------------------------------------------------------

    def answer(self, method: str = "GET") -> RawAnswer:
        """The next final answer, whole; raises Cut if the connection ends before. *method* says whether a body comes at all."""
        interim: list[int] = []
        while True:
            head = self._until(CRLF + CRLF)
            line, *fields = head[:-4].decode("latin-1").split("\r\n")
            version, _, rest = line.partition(" ")
            status = int(rest[:3])
            if not 100 <= status < 200:
                break
            interim.append(status)
        headers = [(name, value.strip()) for name, _, value in (field.partition(":") for field in fields)]
        body = self._body(method, status, {name.lower(): value for name, value in headers}, head)
        return RawAnswer(status, version, headers, body, tuple(interim), head)

    def interim(self) -> int:
        """The status of the next answer, whatever it is, which stays unread unless it is a 1xx."""
        head = self._until(CRLF + CRLF)
        status = int(head.split(b" ", 2)[1][:3])
        if status >= 200:
            self._ahead = head + self._ahead
        return status

    def _body(self, method: str, status: int, headers: dict[str, str], head: bytes) -> bytes:
        if method == "HEAD" or status in {204, 304}:
            return b""
        if "chunked" in headers.get("transfer-encoding", ""):
            return self._chunked(head)
        if "content-length" in headers:
            return self._exactly(int(headers["content-length"]))
        data, reset = self.rest()
        if reset:
            raise Cut(head + data, reset=True)
        return data

    def _chunked(self, head: bytes) -> bytes:
        body = b""
        while True:
            try:
                size = int(self._until(CRLF).split(b";")[0], 16)
                body += self._exactly(size + 2)[:-2]
            except Cut as cut:
                raise Cut(head + body + cut.got, reset=cut.reset) from None
            if size == 0:
                return body

    def rest(self) -> tuple[bytes, bool]:
        """All that still comes until the connection ends, and whether it ended by RST. Raises TimeoutError if it stays open."""
        data, self._ahead = self._ahead, b""
        pieces = [data]
        try:
            while chunk := self.socket.recv(65_536):
                pieces.append(chunk)
        except ConnectionResetError:
            return b"".join(pieces), True
        return b"".join(pieces), False

    def ended(self, seconds: float = 15.0) -> bool:
        """Whether the other side closes the connection within *seconds*, without another byte."""
        self.socket.settimeout(seconds)
        try:
            return self._ahead == b"" and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def is_given_up(self, answer: RawAnswer) -> bool:
        """Whether *answer* was the last: it says so and the connection ends when this side is done too, or it ends at once."""
        if (answer.header("Connection") or "").lower() == "close":
            self.finish_sending()
        return self.ended()

    def readable(self) -> bool:
        """Whether something has come that is not read yet."""
        return bool(self._ahead) or bool(select.select([self.socket], [], [], 0)[0])

    def read_slowly(self, size: int, seconds: float) -> bytes:
        """What comes when *size* bytes at most are taken and the reader then stalls; gives up after *seconds*."""
        end = time.monotonic() + seconds
        data, self._ahead = self._ahead, b""
        while len(data) < size and time.monotonic() < end:
            chunk = self.socket.recv(size - len(data))
            if not chunk:
                break
            data += chunk
        return data

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._ahead:
            self._more()
        found, _, self._ahead = self._ahead.partition(mark)
        return found + mark

    def _exactly(self, size: int) -> bytes:
        pieces = [self._ahead[:size]]
        self._ahead = self._ahead[size:]
        missing = size - len(pieces[0])
        while missing:
            try:
                chunk = self.socket.recv(min(missing, 1 << 20))
            except ConnectionResetError:
                raise Cut(b"".join(pieces), reset=True) from None
            if not chunk:
                raise Cut(b"".join(pieces), reset=False)
            pieces.append(chunk)
            missing -= len(chunk)
        return b"".join(pieces)

    def _more(self) -> None:
        try:
            chunk = self.socket.recv(65_536)
        except ConnectionResetError:
            raise Cut(self._ahead, reset=True) from None
        if not chunk:
            raise Cut(self._ahead, reset=False)
        self._ahead += chunk


def upload_head(token: str, *lines: str) -> bytes:
    """The head of an upload with a good token and further header *lines*, ready for its body."""
    head = ("POST /api/upload HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {token}", *lines)
    return "".join(f"{line}\r\n" for line in (*head, "")).encode()

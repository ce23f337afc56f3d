"""A back end that is told of events, and the settings of a service that tells it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = b"the secret of the back end, long"
WHSEC = f"whsec_{base64.b64encode(SECRET).decode()}"


@dataclass
class Receiver:
    """A back end. *answers* are those of the next requests, 204 beyond them: a status, "twice" for two of 204, "lost" for none
    though the event was taken, "late" for one that comes when *go* is set.
    """

    url: str = ""
    answers: list[int | str] = field(default_factory=list)
    go: threading.Event = field(default_factory=threading.Event)
    taken: list[dict[str, Any]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def heard(self, headers: dict[str, str], body: bytes) -> int | str:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        wanted = "v1," + base64.b64encode(hmac.digest(SECRET, signed, hashlib.sha256)).decode()
        if wanted not in headers["webhook-signature"].split():
            self.wrong.append(headers["webhook-signature"])
        self.tried.append(headers["webhook-id"])
        answer = self.answers.pop(0) if self.answers else 204
        if answer == "late":
            self.go.wait(60)
        if answer in {204, "twice", "lost", "late"}:
            self.taken.append(json.loads(body))
            self.ids.append(headers["webhook-id"])
        return answer

    @property
    def keys(self) -> list[str]:
        """The keys of what was taken."""
        return [event["data"]["key"] for event in self.taken]

    def once(self, key: str) -> list[str]:
        """What was taken of *key*, as a receiver has it that leaves out what comes twice."""
        taken = dict(zip(reversed(self.ids), reversed(self.taken), strict=True))
        return [event["type"] for event in reversed(taken.values()) if event["data"]["key"] == key]

    def types(self, key: str) -> list[str]:
        return [event["type"] for event in self.taken if event["data"]["key"] == key]


@contextmanager
def listening(receiver: Receiver) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = receiver.heard({name.lower(): value for name, value in self.headers.items()}, body)
            if answer == "lost":
                self.close_connection = True
                return
            status = answer if isinstance(answer, int) else 204
            self.send_response(status)
            if status == 302:
                self.send_header("Location", receiver.url)
            self.send_header("Content-Length", "0")
            self.end_headers()
            if answer == "twice":
                self.wfile.write(b"HTTP/1.1 204 No Content\r\n\r\n")

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


def hooked(receiver: Receiver, **env: str) -> dict[str, str]:
    settings = {"MEDIA_WEBHOOK_URL": receiver.url, "MEDIA_WEBHOOK_SECRET": WHSEC, "MEDIA_WEBHOOK_ALLOW_PRIVATE": "true"}
    return settings | {"MEDIA_WEBHOOK_PAUSES": "0.1 0.1 0.1"} | env

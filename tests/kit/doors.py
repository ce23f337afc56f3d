"""Connections that stay with one process of a service that has several."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager

from tests.kit.client import Answer, Headers
from tests.kit.server import RunningServer

MOST_TRIES = 1000


class Door:
    """One connection, and so one process; requests with a token of *sub*."""

    def __init__(self, server: RunningServer, sub: str | None = None) -> None:
        self._headers = {} if sub is None else {"Authorization": f"Bearer {server.token(sub)}"}
        self._line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        self.process = int(self.get("/api/health").json["process"])

    def request(self, method: str, path: str, headers: Headers | None = None, body: bytes | None = None) -> Answer:
        """The answer of this process."""
        self._line.request(method, path, body=body, headers={**self._headers, **(headers or {})})
        response = self._line.getresponse()
        return Answer(response.status, response.headers, response.read())

    def get(self, path: str, headers: Headers | None = None) -> Answer:
        """GET *path*."""
        return self.request("GET", path, headers)

    def stored(self, data: bytes, content_type: str) -> str:
        """The key of *data*, once this process has taken it."""
        answer = self.request("POST", "/api/upload", {"Content-Type": content_type}, data)
        assert answer.status == 201, answer
        key = json.loads(answer.body)["key"]
        assert isinstance(key, str)
        return key

    def close(self) -> None:
        """End the connection."""
        self._line.close()


@contextmanager
def doors(server: RunningServer, sub: str | None = None, count: int = 2) -> Iterator[list[Door]]:
    """One door to each of *count* processes: connections are opened until that many have taken one."""
    found: dict[int, Door] = {}
    spare: list[Door] = []
    try:
        for _ in range(MOST_TRIES):
            door = Door(server, sub)
            (spare.append(door) if door.process in found else found.setdefault(door.process, door))
            if len(found) == count:
                break
        assert len(found) == count, f"{len(found)} of {count} processes take connections"
        yield list(found.values())
    finally:
        for door in (*found.values(), *spare):
            door.close()

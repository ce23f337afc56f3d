"""GET /api/events, as a client reads it."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.kit.server import RunningServer
    from tests.kit.stack import Stack


class Stream:
    """GET /api/events, read in the background."""

    def __init__(self, server: RunningServer | Stack, owner: str, last: str | None = None, token: str | None = None) -> None:
        self._line = server.client().connection()
        headers = {"Authorization": f"Bearer {token or server.token(owner)}"} | ({} if last is None else {"Last-Event-ID": last})
        self._line.request("GET", "/api/events", headers=headers)
        self._socket = self._line.sock
        self.answer = self._line.getresponse()
        self.events: list[tuple[str | None, str, dict[str, Any]]] = []
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        id, kind = None, ""
        try:
            for raw in self.answer:
                name, _, value = raw.decode().rstrip("\n").partition(": ")
                if name == "id":
                    id = value
                elif name == "event":
                    kind = value
                elif name == "data":
                    self.events.append((id, kind, json.loads(value)))
                    id = None
        except (OSError, ValueError, http.client.HTTPException):
            pass
        finally:
            self.ended.set()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # the other side was faster
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.answer.close()
        self._line.close()

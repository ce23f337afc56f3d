"""Real Redis servers as child processes, with the configuration that is deployed: to be killed, paused, and started again."""

from __future__ import annotations

import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from proxy.adapters import redis as adapter
from tests.kit.daemon import Daemon
from tests.kit.shared import required

DEPLOYED = Path(__file__).parents[2] / "deploy" / "redis.conf"


class RedisServer(Daemon):
    """One server with a password of its own. *further* are lines of its configuration; a *sentinel* has only those."""

    def __init__(self, folder: Path, further: tuple[str, ...] = (), *, sentinel: bool = False) -> None:
        super().__init__(folder)
        self.password = secrets.token_hex(12)
        self._further = further
        self._sentinel = sentinel

    @property
    def url(self) -> str:
        """What REDIS_URL says of it."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def command(self, *words: str | bytes, password: str | None = None) -> bytes:
        """The first 64 KiB of what the server answers to *words*, as it comes over the wire."""
        with closing(socket.create_connection(("127.0.0.1", self.port), 5)) as line:
            for parts in (("AUTH", password or self.password), words):
                encoded = [part.encode() if isinstance(part, str) else part for part in parts]
                line.sendall(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in encoded))
                answer = line.recv(1 << 16)
        return answer

    def _prepared(self) -> list[str]:
        lines = [] if self._sentinel else [f"include {DEPLOYED}", f"requirepass {self.password}"]
        own = self.folder / "own.conf"
        own.write_text("\n".join([*lines, f"dir {self.folder}", f"port {self.port}", "bind 127.0.0.1", *self._further]) + "\n")
        return ["redis-server", str(own), *(["--sentinel"] if self._sentinel else [])]

    def _answers(self) -> bool:
        return self.command("PING").startswith(b"+PONG")


def provided(folder: Path, *further: str) -> RedisServer:
    """A server that is not started yet; skips the test where there is none, and fails it in CI."""
    if shutil.which("redis-server") is None:
        (pytest.fail if required() else pytest.skip)("redis-server is not installed")
    return RedisServer(folder, further)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands may take as long as a busy machine lets them: for tests of what they do, and not of how soon."""
    monkeypatch.setattr(adapter, "COMMAND_S", 10.0)
    monkeypatch.setattr(adapter, "PATIENCE_S", 10.0)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A running server of the test's own."""
    with provided(tmp_path / "redis") as server:
        yield server

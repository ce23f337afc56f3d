"""Real Redis servers as child processes, with the configuration that is deployed: to be killed, paused, and started again."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Self

import pytest

from proxy.adapters import redis as adapter
from tests.kit.output import Output
from tests.kit.ports import free_port
from tests.kit.shared import required
from tests.kit.waiting import until

DEPLOYED = Path(__file__).parents[2] / "deploy" / "redis.conf"


class RedisServer:
    """One server with a port, a folder and a password of its own, which stay through a restart. *further* are lines of its
    configuration; a *sentinel* has only those. Use it as a context, or kill() it.
    """

    def __init__(self, folder: Path, further: tuple[str, ...] = (), *, sentinel: bool = False) -> None:
        self.folder = folder
        self.port = free_port()
        self.password = secrets.token_hex(12)
        self.output = Output()
        self._further = further
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What REDIS_URL says of it."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The server's, while it runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Start it, also again after kill(), and wait until it answers."""
        assert self._process is None or self._process.poll() is not None, "it runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [] if self._sentinel else [f"include {DEPLOYED}", f"requirepass {self.password}"]
        own = self.folder / "own.conf"
        own.write_text("\n".join([*lines, f"dir {self.folder}", f"port {self.port}", "bind 127.0.0.1", *self._further]) + "\n")
        self._process = subprocess.Popen(
            ["redis-server", str(own), *(["--sentinel"] if self._sentinel else [])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self._process.stdout is not None
        self.output = Output()
        self.output.follow(self._process.stdout)  # type: ignore[arg-type]
        if not until(self._answers):
            self.kill()
            raise AssertionError(f"Redis did not answer:\n{self.output.text[-1500:]}")
        return self

    def command(self, *words: str | bytes, password: str | None = None) -> bytes:
        """The first 64 KiB of what the server answers to *words*, as it comes over the wire."""
        with closing(socket.create_connection(("127.0.0.1", self.port), 5)) as line:
            for parts in (("AUTH", password or self.password), words):
                encoded = [part.encode() if isinstance(part, str) else part for part in parts]
                line.sendall(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in encoded))
                answer = line.recv(1 << 16)
        return answer

    def kill(self) -> None:
        """SIGKILL; what is not in its snapshot is gone."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)
            self.output.join()

    def pause(self) -> None:
        """SIGSTOP: its port takes connections, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after pause()."""
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"Redis ended with {self._process.returncode}:\n{self.output.text[-1500:]}")
        try:
            return self.command("PING").startswith(b"+PONG")
        except OSError:
            return False


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

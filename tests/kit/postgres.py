"""Real PostgreSQL servers as child processes: to be killed, paused, and started again. A database for each test."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil
import pytest

from tests.kit.output import Output
from tests.kit.ports import free_port
from tests.kit.shared import required
from tests.kit.waiting import until

PROGRAMS = ("initdb", "postgres", "psql")
UNPRIVILEGED = ("postgres", "nobody")
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}
"""What makes it quick: a kill of its processes loses nothing all the same, one of the machine would."""


def program(name: str) -> str | None:
    """Where PostgreSQL's program is: Debian keeps those of the server out of the PATH."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: int(place.parent.name.partition(".")[0]))
    return shutil.which(name, path=os.pathsep.join([*(str(place) for place in reversed(places)), os.environ.get("PATH", "")]))


def _identity() -> dict[str, Any]:
    # PostgreSQL refuses to run as root.
    if os.geteuid() != 0:
        return {}
    for name in UNPRIVILEGED:
        with suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise AssertionError(f"there is no user for it: {', '.join(UNPRIVILEGED)}")


class PostgresServer:
    """One server at *host*, with a port, a folder and a password of its own, which stay through a restart. Use it as a context."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host, self.port = host, port or free_port()
        self.password = secrets.token_hex(12)
        self.output = Output()
        self._identity = _identity()
        self._folder = Path(tempfile.mkdtemp(prefix="media-proxy-pg-"))
        self._process: subprocess.Popen[bytes] | None = None
        if self._identity:
            os.chown(self._folder, self._identity["user"], self._identity["group"])

    def url(self, database: str = "postgres") -> str:
        """What DATABASE_URL says of one of its databases."""
        return f"postgresql://postgres:{self.password}@{self.host}:{self.port}/{database}"

    def start(self) -> Self:
        """Start it, also again after kill(), and wait until it answers."""
        assert self._process is None or self._process.poll() is not None, "it runs already"
        data = self._folder / "data"
        if not data.exists():
            secret = self._folder / "secret"
            secret.write_text(self.password)
            secret.chmod(0o644)
            # A collation that sorts as people do: nothing of ours may rest on the database's own.
            collation = ("--locale-provider=icu", "--icu-locale=en", "--encoding=UTF8", "--locale=C.UTF-8")
            who = ("--username=postgres", f"--pwfile={secret}", "--auth=scram-sha-256")
            self._run("initdb", "--no-sync", f"--pgdata={data}", *who, *collation)
        settings = SETTINGS | {"listen_addresses": self.host}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        (data / "postmaster.pid").unlink(missing_ok=True)  # of one that was killed
        self._process = subprocess.Popen(
            [program("postgres") or "", "-D", str(data), "-p", str(self.port), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self._folder,
            start_new_session=True,
            **self._identity,
        )
        assert self._process.stdout is not None
        self.output = Output()
        self.output.follow(self._process.stdout)  # type: ignore[arg-type]
        if not until(self._answers):
            self.kill()
            raise AssertionError(f"PostgreSQL did not answer:\n{self.output.text[-1500:]}")
        return self

    def query(self, text: str, database: str = "postgres") -> list[str]:
        """The rows that *text* gives, each with ``|`` between its columns."""
        words = ["--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "--set=ON_ERROR_STOP=1", f"--command={text}"]
        answer = self._run("psql", *words, self.url(database), check=False)
        assert answer.returncode == 0, answer.stderr.decode()
        return answer.stdout.decode().splitlines()

    def kill(self) -> None:
        """SIGKILL to it and all its processes, as a machine that dies would."""
        if self._process is not None and self._process.poll() is None:
            family = self._family()
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            self._process.wait(10)
            psutil.wait_procs(family, 10)
            self.output.join()

    def pause(self) -> None:
        """SIGSTOP to all: the system takes connections for it, and nothing answers."""
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def resume(self) -> None:
        """SIGCONT after pause()."""
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def stop(self) -> None:
        """End it in order, and drop its folder."""
        if self._process is not None and self._process.poll() is None:
            self.resume()
            self._process.send_signal(signal.SIGQUIT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _family(self) -> list[psutil.Process]:
        assert self._process is not None
        main = psutil.Process(self._process.pid)
        return [main, *main.children(recursive=True)]

    def _run(self, name: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        command = [program(name) or "", *words]
        return subprocess.run(command, check=check, capture_output=True, cwd=self._folder, timeout=60, **self._identity)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"PostgreSQL ended with {self._process.returncode}:\n{self.output.text[-1500:]}")
        return self._run("psql", "--command=SELECT 1", self.url(), check=False).returncode == 0


def provided(host: str = "127.0.0.1", port: int = 0) -> PostgresServer:
    """A server that is not started yet; skips the test where there is none, and fails it in CI."""
    if missing := [name for name in PROGRAMS if program(name) is None]:
        (pytest.fail if required() else pytest.skip)(f"PostgreSQL is not installed: {', '.join(missing)}")
    return PostgresServer(host, port)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running server, for all tests that leave it alone."""
    with provided() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """An empty database of the test's own."""
    name = f"t{secrets.token_hex(8)}"
    postgres_server.query(f"CREATE DATABASE {name}")
    try:
        yield postgres_server.url(name)
    finally:
        postgres_server.query(f"DROP DATABASE {name} WITH (FORCE)")

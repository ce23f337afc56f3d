"""Real object stores as child processes: versitygw and MinIO on free loopback ports, to be killed, stopped and started again."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest
from botocore.session import get_session

from proxy.adapters.s3 import S3Backend
from scripts import stores
from tests.kit.output import Output
from tests.kit.ports import free_port
from tests.kit.shared import required
from tests.kit.waiting import until

START_S = 60.0
PROGRAMS = {program.name: program for program in stores.PROGRAMS}


class ObjectStore:
    """One S3 server with a data folder, a port and credentials of its own, which all stay through a restart.

    *profile* is the name of its quirks in `proxy.adapters.s3`. Use it as a context, or kill() it.
    """

    def __init__(self, profile: str, folder: Path) -> None:
        self.profile = profile
        self.data = folder / "data"
        self.folder = folder
        self.host, self.port = "127.0.0.1", free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.region = "us-east-1"
        self.access_key = f"test{secrets.token_hex(8)}"
        self.secret_key = secrets.token_hex(20)
        self.more: dict[str, str] = {}
        """further variables of its environment"""
        self.output = Output()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The server's, while it runs."""
        assert self._process is not None
        return self._process.pid

    def start(self, seconds: float = START_S) -> Self:
        """Start it, also again after kill() or stop(), and wait until it takes connections."""
        assert self._process is None or self._process.poll() is not None, "it runs already"
        self.launch()
        if not until(self._answers, seconds):
            self.kill()
            raise AssertionError(f"{self.profile} did not answer within {seconds:g} s:\n{self.output.text[-1500:]}")
        return self

    def launch(self) -> None:
        """Start it and wait for nothing."""
        self.data.mkdir(parents=True, exist_ok=True)
        self.output = Output()
        command, environ = self._command()
        self._process = subprocess.Popen(
            command,
            env={"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder), **environ, **self.more},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self.output.follow(self._process.stdout)  # type: ignore[arg-type]

    def up(self) -> bool:
        """Whether it answers."""
        with suppress(OSError), socket.create_connection((self.host, self.port), 1) as line:
            # An S3 error in answer to a request without credentials; MinIO says 503 to all while it starts.
            line.settimeout(5)
            line.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            return line.recv(64).startswith(b"HTTP/1.1 403")
        return False

    def kill(self) -> None:
        """SIGKILL, as a machine that dies would; it may be started again."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL where that is not enough."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP: its port takes connections, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after pause()."""
        os.kill(self.pid, signal.SIGCONT)

    def bucket(self) -> str:
        """The name of a bucket that nobody has."""
        return f"test-{secrets.token_hex(8)}"

    def client(self, access_key: str | None = None, secret_key: str | None = None) -> Any:
        """A client of S3 that is not ours, with the administrator's rights or those of a key."""
        return get_session().create_client(
            "s3", region_name=self.region, endpoint_url=self.endpoint, aws_access_key_id=access_key or self.access_key,
            aws_secret_access_key=secret_key or self.secret_key,
        )  # fmt: skip

    def backend(self, folder: Path, name: str = "minio", **settings: Any) -> S3Backend:
        """A backend in a bucket of its own, not opened yet; *settings* replace what it is given."""
        given: dict[str, Any] = {
            "bucket": self.bucket(), "endpoint_url": self.endpoint, "region": self.region, "access_key": self.access_key,
            "secret_key": self.secret_key, "spool": folder / "spool", "profile": self.profile,
        }  # fmt: skip
        return S3Backend(name, **(given | settings))

    def settings(self) -> dict[str, str]:
        """What makes a media proxy keep its objects here, in buckets of its own."""
        return {
            "MINIO_ENDPOINT": "127.0.0.1", "MINIO_PORT": str(self.port), "MINIO_PROFILE": self.profile,
            "MINIO_ACCESS_KEY": self.access_key, "MINIO_SECRET_KEY": self.secret_key, "MINIO_BUCKET_NAME": self.bucket(),
            "MINIO_THUMBNAILS_BUCKET_NAME": self.bucket(), "MINIO_TEMP_BUCKET_NAME": self.bucket(),
        }  # fmt: skip

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _end(self, with_signal: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(with_signal)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self.output.join()

    def _command(self) -> tuple[list[str], Mapping[str, str]]:
        at = f"127.0.0.1:{self.port}"
        if self.profile == "versitygw":
            keys = {"ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret_key}
            return [str(PROGRAMS["versitygw"].path), "--quiet", "--port", at, "posix", str(self.data)], keys
        keys = {"MINIO_ROOT_USER": self.access_key, "MINIO_ROOT_PASSWORD": self.secret_key}
        # Without MINIO_CI_CD it takes no folder of the disk that the system is on.
        quiet = {"MINIO_BROWSER": "off", "MINIO_UPDATE": "off", "MINIO_CI_CD": "1", "MINIO_SITE_REGION": self.region}
        return [str(PROGRAMS["minio"].path), "server", "--quiet", "--address", at, str(self.data)], keys | quiet

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"{self.profile} ended with {self._process.returncode}:\n{self.output.text[-1500:]}")
        return self.up()


def provided(profile: str, folder: Path) -> ObjectStore:
    """A store that is not started yet; skips the test where the program is not built or cannot run, and fails it in CI."""
    reason = why_absent(profile, folder)
    if reason is not None:
        (pytest.fail if required() else pytest.skip)(reason)
    return ObjectStore(profile, folder)


def why_absent(profile: str, folder: Path) -> str | None:
    """What keeps the store from running here; None if nothing does."""
    if not os.access(PROGRAMS[profile].path, os.X_OK):
        return f"{profile} is not built: install Go, then run make test"
    if profile == "versitygw" and not has_attributes(folder):
        return "versitygw needs a file system with extended attributes: set TMPDIR to a folder on one"
    return None


def has_attributes(folder: Path) -> bool:
    """Whether files in *folder* can have extended attributes of the user's."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / "attributes"
    probe.touch()
    try:
        if hasattr(os, "setxattr"):  # Linux
            os.setxattr(probe, "user.test", b"1")
    except OSError:
        return False
    finally:
        probe.unlink()
    return True


_running: dict[str, ObjectStore] = {}


def shared(profile: str) -> ObjectStore:
    """The store of this kind that runs for the whole session, started by the first who asks. It is not to be killed."""
    if profile not in _running:
        folder = Path(tempfile.mkdtemp(prefix=f"{profile}-"))
        _running[profile] = provided(profile, folder).start()
    return _running[profile]


@pytest.fixture(scope="session", autouse=True)
def _end_of_stores() -> Iterator[None]:
    yield
    while _running:
        _, store = _running.popitem()
        store.kill()
        shutil.rmtree(store.folder)


@pytest.fixture(scope="session")
def versitygw() -> ObjectStore:
    """A running versitygw for the whole session; who kills one makes one of their own by `provided`."""
    return shared("versitygw")


@pytest.fixture(scope="session")
def minio() -> ObjectStore:
    """A running MinIO for the whole session; who kills one makes one of their own by `provided`."""
    return shared("minio")

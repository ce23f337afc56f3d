"""A real clamd as a child process, with two signatures of the tests' own: to be killed, paused, and started again."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import md5
from pathlib import Path

import pytest

from tests.kit.daemon import Daemon
from tests.kit.shared import required

EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
"""What every scanner knows, and nobody is harmed by (eicar.org); here in two, so that none finds it in this file."""
BAD_WORD = b"the one bad word of these tests"
FOUND_EICAR, FOUND_WORD = "Eicar-Test.UNOFFICIAL", "Bad.Word.UNOFFICIAL"
"""What clamd calls them: signatures that are not its makers' end so."""
STREAM_BYTES = 4 << 20
FILE_BYTES = 2 << 20


def write_signatures(folder: Path) -> None:
    """Have *folder* be a database of clamd that knows the two."""
    (folder / "tests.hdb").write_text(f"{md5(EICAR, usedforsecurity=False).hexdigest()}:{len(EICAR)}:Eicar-Test\n")
    (folder / "tests.ndb").write_text(f"Bad.Word:0:*:{BAD_WORD.hex()}\n")


class Clamd(Daemon):
    """One clamd with a Unix socket beside its port. *further* are lines of its configuration."""

    def __init__(self, folder: Path, further: tuple[str, ...] = ()) -> None:
        super().__init__(folder)
        # Names of sockets are short: those of tests' folders may not be.
        self._sockets = Path(tempfile.mkdtemp(prefix="clamd-"))
        self._further = further

    @property
    def url(self) -> str:
        """What CLAMAV_URL says of it."""
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def socket_url(self) -> str:
        """The same by its Unix socket."""
        return f"unix://{self._sockets}/ctl"

    def spooled(self) -> list[Path]:
        """What it holds of bodies that it has not come to the end of."""
        return [*(self.folder / "spool").rglob("*")]

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def _prepared(self) -> list[str]:
        signatures = self.folder / "signatures"
        for place in (signatures, self.folder / "spool"):
            place.mkdir(parents=True, exist_ok=True)
        write_signatures(signatures)
        lines = (
            *("Foreground yes", "TCPAddr 127.0.0.1", f"TCPSocket {self.port}", f"LocalSocket {self._sockets}/ctl"),
            *(f"DatabaseDirectory {signatures}", f"TemporaryDirectory {self.folder / 'spool'}"),
            *(f"StreamMaxLength {STREAM_BYTES}", f"MaxFileSize {FILE_BYTES}", f"MaxScanSize {2 * FILE_BYTES}"),
            *self._further,
            *([] if any("AlertExceedsMax" in line for line in self._further) else ["AlertExceedsMax yes"]),
        )
        configuration = self.folder / "clamd.conf"
        configuration.write_text("\n".join(lines) + "\n")
        return ["clamd", "--config-file", str(configuration)]

    def _answers(self) -> bool:
        with closing(socket.create_connection(("127.0.0.1", self.port), 5)) as line:
            line.sendall(b"zPING\0")
            return line.recv(16).startswith(b"PONG")


def provided(folder: Path, *further: str) -> Clamd:
    """A clamd that is not started yet; skips the test where there is none, and fails it in CI."""
    if shutil.which("clamd", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
        (pytest.fail if required() else pytest.skip)("clamd is not installed")
    return Clamd(folder, further)


@contextmanager
def running(folder: Path, *further: str) -> Iterator[Clamd]:
    """A running one, for as long as the context lasts."""
    with provided(folder, *further) as clamd:
        yield clamd

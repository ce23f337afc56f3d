"""A server of somebody else's as a child process: to be killed, paused, and started again on the same port."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.kit.output import Output
from tests.kit.ports import free_port
from tests.kit.waiting import until


class Daemon:
    """One with a port and a folder of its own, which stay through a restart. Use it as a context, or kill() it.

    Whoever derives from it says what is `_prepared`, and whether it `_answers`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.output = Output()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its own, while it runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Start it, also again after kill(), and wait until it answers."""
        assert self._process is None or self._process.poll() is not None, "it runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            self._prepared(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin"},
        )
        assert self._process.stdout is not None
        self.output = Output()
        self.output.follow(self._process.stdout)  # type: ignore[arg-type]
        if not until(self._is_up):
            self.kill()
            raise AssertionError(f"it did not answer:\n{self.output.text[-1500:]}")
        return self

    def kill(self) -> None:
        """SIGKILL."""
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

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"it ended with {self._process.returncode}:\n{self.output.text[-1500:]}")
        try:
            return self._answers()
        except OSError:
            return False

    def _prepared(self) -> Sequence[str]:
        """Its command, when its files are there."""
        raise NotImplementedError

    def _answers(self) -> bool:
        """Whether it answers; may raise OSError."""
        raise NotImplementedError

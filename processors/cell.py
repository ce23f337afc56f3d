"""Runs a program on one folder, bounded: in a sandbox where the machine has one, and ended with all that it started."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from processors import launch

SOURCE, RESULTS = "in", "out"
"""the two folders of a job: what is read, and what is written; programs run in the latter"""
OPEN_FILES = 64
TAIL_BYTES = 4096
LINE_BYTES = 1 << 16
TRIAL_S = 10.0
_RUNTIME = ("/usr", "/lib", "/lib64", "/bin", "/opt", "/nix/store", "/etc/alternatives", "/etc/ld.so.cache", "/etc/fonts")
_SIGNALS = frozenset((signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGKILL, signal.SIGSEGV, signal.SIGXCPU))
_SIGNALS |= {signal.SIGXFSZ, signal.SIGSYS}
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "AV_LOG_FORCE_NOCOLOR": "1"}


class Sandbox(StrEnum):
    """What stands between a program and the machine, beside its bounds.

    BUBBLEWRAP: it sees the system's programs and its two folders, no process, no network. NAMESPACE: no network. NONE: nothing.
    """

    BUBBLEWRAP = "bubblewrap"
    NAMESPACE = "namespace"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a run may take. *cpu_s* is of all its threads together, *file_bytes* of each file that it writes."""

    deadline_s: float
    cpu_s: int
    memory_bytes: int
    file_bytes: int


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: its exit status, negative for a signal, and the end of what it said of errors."""

    status: int
    said: str


class Late(Exception):
    """The run was ended at its deadline."""


class Cell:
    """Runs programs behind *sandbox*."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    @classmethod
    async def best(cls, folder: Path) -> Cell:
        """The strictest that works on this machine, tried out in *folder*."""
        for sandbox in (Sandbox.BUBBLEWRAP, Sandbox.NAMESPACE):
            cell = cls(sandbox)
            if (sandbox is not Sandbox.BUBBLEWRAP or shutil.which("bwrap")) and await cell._works(folder):
                return cell
        return cls(Sandbox.NONE)

    async def run(
        self, folder: Path, program: Sequence[str], bounds: Bounds, heard: Callable[[str], None] = lambda line: None
    ) -> Ended:
        """Run *program*, whose first word is a path, in the folder of results; *heard* gets each line that it prints.

        Raises Late at the deadline. When this ends, in whatever way, so has the program with all its children.
        """
        process = await asyncio.create_subprocess_exec(
            *self._words(folder, program, bounds),
            cwd=folder / RESULTS,
            env=_ENVIRONMENT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(bounds.deadline_s):
                _, said = await asyncio.gather(_lines(process, heard), _tail(process))
                return Ended(self._status(await process.wait()), said)
        except TimeoutError:
            raise Late from None
        finally:
            await asyncio.shield(_ended(process))

    def _words(self, folder: Path, program: Sequence[str], bounds: Bounds) -> list[str]:
        hidden = launch.HIDDEN if self.sandbox is Sandbox.NAMESPACE else "-"
        limits = [bounds.cpu_s, bounds.memory_bytes, bounds.file_bytes, OPEN_FILES]
        words = [sys.executable, "-I", "-S", launch.__file__, *map(str, (os.getpid(), *limits)), hidden]
        if self.sandbox is Sandbox.BUBBLEWRAP:
            words += [shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent", "--proc", "/proc", "--dev", "/dev"]
            words += [word for path in _RUNTIME for word in _shown(Path(path))]
            words += ["--ro-bind", str(folder / SOURCE), f"/job/{SOURCE}", "--bind", str(folder / RESULTS), f"/job/{RESULTS}"]
            words += ["--chdir", f"/job/{RESULTS}", "--"]
        return [*words, *program]

    def _status(self, status: int) -> int:
        # Bubblewrap tells the death of what it runs as shells do.
        return 128 - status if self.sandbox is Sandbox.BUBBLEWRAP and status - 128 in _SIGNALS else status

    async def _works(self, folder: Path) -> bool:
        (folder / SOURCE).mkdir(exist_ok=True)
        (folder / RESULTS).mkdir(exist_ok=True)
        trial = shutil.which("true", path=_ENVIRONMENT["PATH"])
        if trial is None:
            return False
        try:
            return (await self.run(folder, [trial], Bounds(TRIAL_S, 10, 1 << 30, 1 << 20))).status == 0
        except (Late, OSError):
            return False


def _shown(path: Path) -> list[str]:
    if path.is_symlink():
        return ["--symlink", str(path.readlink()), str(path)]
    return ["--ro-bind-try", str(path), str(path)]


async def _lines(process: asyncio.subprocess.Process, heard: Callable[[str], None]) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        heard(line.decode("utf-8", "replace").strip())


async def _tail(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    tail = b""
    while chunk := await process.stderr.read(LINE_BYTES):
        tail = (tail + chunk)[-TAIL_BYTES:]
    return tail.decode("utf-8", "replace")


async def _ended(process: asyncio.subprocess.Process) -> None:
    # The group has the program's id, which stays taken until it is waited for: nobody else can be hit.
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()

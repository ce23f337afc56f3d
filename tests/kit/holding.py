"""Another process that holds places of a file of locks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kit.server import REPOSITORY

PROGRAM = """
import sys
from pathlib import Path
from proxy.adapters.locks import LockFile
file = LockFile(Path(sys.argv[1]))
file.open()
assert file.take(int(sys.argv[2]), shared=sys.argv[3] == "shared")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_elsewhere(path: Path, place: int, *, shared: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """Within, another process holds *place* of the file *path*, unless it is killed."""
    arguments = [str(path), str(place), "shared" if shared else "alone"]
    command = [sys.executable, "-c", PROGRAM, *arguments]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield holder
        holder.kill()

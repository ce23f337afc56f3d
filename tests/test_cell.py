"""What stands around the programs that read strangers' films: bounds of the kernel, a sandbox, and an end for all of them."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from processors.cell import RESULTS, SOURCE, Bounds, Cell, Ended, Late, Sandbox
from tests.kit.films import provided
from tests.kit.waiting import until

MIB = 1 << 20
WIDE = Bounds(60.0, 60, 1 << 30, MIB)
SHELL = shutil.which("bash") or "/bin/sh"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in (SOURCE, RESULTS):
        (tmp_path / "job" / part).mkdir(parents=True)
    (tmp_path / "job" / SOURCE / "source").write_bytes(b"bytes of the source")
    return tmp_path / "job"


@pytest.fixture(params=list(Sandbox))
async def cell(request: pytest.FixtureRequest, folder: Path) -> Cell:
    """A cell behind each sandbox that this machine has."""
    cell = Cell(request.param)
    if cell.sandbox is Sandbox.BUBBLEWRAP:
        provided()
        if shutil.which("bwrap") is None:
            pytest.skip("bubblewrap is not installed")
    if not await cell._works(folder):
        pytest.skip(f"no {cell.sandbox} here")
    return cell


async def shell(cell: Cell, folder: Path, script: str, bounds: Bounds = WIDE) -> tuple[Ended, list[str]]:
    lines: list[str] = []
    return await cell.run(folder, [SHELL, "-c", script], bounds, lines.append), lines


async def test_a_program_reads_its_source_writes_results_and_is_heard(cell: Cell, folder: Path) -> None:
    ended, lines = await shell(cell, folder, "cat ../in/source; echo; cp ../in/source made; echo oh >&2; exit 3")
    assert (ended.status, ended.said.strip(), lines) == (3, "oh", ["bytes of the source"])
    assert (folder / RESULTS / "made").read_bytes() == b"bytes of the source"


async def test_the_bounds_hold(cell: Cell, folder: Path) -> None:
    ended, _ = await shell(cell, folder, "exec dd if=/dev/zero of=big bs=65536 count=64 2>/dev/null")
    assert ended.status == -signal.SIGXFSZ
    assert (folder / RESULTS / "big").stat().st_size <= MIB
    ended, _ = await shell(cell, folder, "exec dd if=/dev/zero of=/dev/null bs=2G count=1")
    assert ended.status > 0
    assert "memory" in ended.said
    ended, _ = await shell(cell, folder, "while :; do :; done", Bounds(60.0, 1, 1 << 30, MIB))
    assert ended.status == -signal.SIGXCPU
    ended, lines = await shell(cell, folder, "ulimit -n; ulimit -c")
    assert lines == ["64", "0"]


async def test_what_is_said_of_errors_is_bounded(cell: Cell, folder: Path) -> None:
    ended, _ = await shell(cell, folder, "for i in $(seq 20000); do echo line $i >&2; done; exit 1")
    assert len(ended.said) <= 4096
    assert ended.said.endswith("line 20000\n")


async def test_at_the_deadline_everything_ends_that_it_has_started(cell: Cell, folder: Path) -> None:
    with pytest.raises(Late):
        await shell(cell, folder, "trap '' TERM; sleep 4321.5 & sleep 4321.5", Bounds(2.0, 60, 1 << 30, MIB))
    assert until(lambda: not any("4321.5" in words(process) for process in psutil.process_iter()))


async def test_nobody_can_be_called_and_no_file_of_others_be_read(cell: Cell, folder: Path) -> None:
    secret = folder.parent / "secret"
    secret.write_text("canary")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        call = f"exec 3<>/dev/tcp/127.0.0.1/{listener.getsockname()[1]}"
        ended, _ = await shell(cell, folder, call)
        assert (ended.status == 0) == (cell.sandbox is Sandbox.NONE)
    _, lines = await shell(cell, folder, f"cat {secret}; echo; echo x > ../in/source && echo written")
    if cell.sandbox is Sandbox.BUBBLEWRAP:
        assert lines == [""]
        assert (folder / SOURCE / "source").read_bytes() == b"bytes of the source"


def test_it_ends_with_who_has_started_it(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("the kernel of this system does not do that")
    script = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom processors.cell import *\nfolder = Path(sys.argv[1])\n"
        "for part in (SOURCE, RESULTS): (folder / part).mkdir()\n"
        "asyncio.run(Cell(Sandbox.NONE).run(folder, ['/bin/sleep', '5432.1'], Bounds(600.0, 60, 1 << 30, 1)))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    assert until(lambda: any("5432.1" in words(one) for one in psutil.process_iter()))
    process.kill()
    process.wait()
    assert until(lambda: not any("5432.1" in words(one) for one in psutil.process_iter()))


def words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline() if process.status() != psutil.STATUS_ZOMBIE else []
    except psutil.Error:
        return []

"""A worker that somebody has taken over can do little: what the kernel then refuses it, tried in such a process."""

from __future__ import annotations

import ctypes
import json
import platform
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import pictures
from tests.kit.client import Client, media
from tests.kit.server import REPOSITORY, RunningServer
from tests.kit.waiting import until

ATTEMPTS = """
import ctypes, json, os, socket, subprocess, sys, threading
from processors import image
from processors.confinement import confine
from processors.values import Limits
image.prepare()
own, other, port = sys.argv[1:]
in_force = confine(Limits(), [own])
said = {}
def attempt(name, act):
    try:
        act()
        said[name] = "done"
    except MemoryError:
        said[name] = "MemoryError"
    except OSError as error:
        said[name] = type(error).__name__
attempt("read-own", lambda: open(os.path.join(own, "picture")).read())
attempt("read-other", lambda: open(os.path.join(other, "secret")).read())
attempt("read-environment", lambda: open(f"/proc/{os.getppid()}/environ").read())
def write():
    with open(os.path.join(own, "left-behind"), "w") as file:
        file.write("x" * 100_000)
attempt("write", write)
attempt("connect", lambda: socket.create_connection(("127.0.0.1", int(port))))
thread = threading.Thread(target=attempt, args=("connect-in-a-thread", lambda: socket.create_connection(("127.0.0.1", int(port)))))
thread.start()
thread.join()
attempt("start-a-program", lambda: subprocess.run(["true"]))
attempt("fork", lambda: os.fork() or os._exit(0))
attempt("signal-the-parent", lambda: os.kill(os.getppid(), 0))
attempt("allocate", lambda: bytearray(8 << 30))
print(json.dumps([in_force, said]))
"""
PARTS = {
    "memory": {"allocate": "MemoryError"},
    "writing": {"write": "OSError"},
    "files": {"read-other": "PermissionError", "read-environment": "PermissionError", "write": "PermissionError"},
    "network": dict.fromkeys(("connect", "connect-in-a-thread", "start-a-program", "fork", "signal-the-parent"), "PermissionError"),
}


@pytest.fixture(scope="module")
def attempted(tmp_path_factory: pytest.TempPathFactory, listening: int) -> tuple[list[str], dict[str, str]]:
    """What is in force in a confined process, and how each of its attempts ended."""
    own, other = tmp_path_factory.mktemp("own"), tmp_path_factory.mktemp("other")
    (own / "picture").write_text("to be read")
    (other / "secret").write_text("not to be read")
    done = subprocess.run(
        [sys.executable, "-c", ATTEMPTS, str(own), str(other), str(listening)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    in_force, said = json.loads(done.stdout)
    return in_force, said


@pytest.fixture(scope="module")
def listening() -> Iterator[int]:
    """A port that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def possible() -> set[str]:
    """What this system can bound."""
    if sys.platform != "linux":
        return {"writing"}
    has_landlock = ctypes.CDLL(None).syscall(444, None, 0, 1) > 0
    has_filters = platform.machine() in {"x86_64", "aarch64"} and Path("/proc/sys/kernel/seccomp").exists()
    return {"memory", "writing"} | ({"files"} if has_landlock else set()) | ({"network"} if has_filters else set())


@pytest.mark.parametrize("part", PARTS)
def test_what_a_worker_may_not_do_fails(attempted: tuple[list[str], dict[str, str]], part: str) -> None:
    in_force, said = attempted
    if part not in possible():
        pytest.skip(f"this system cannot bound {part}")
    assert part in in_force
    expected = dict(PARTS[part])
    if part == "writing" and "files" in in_force:
        expected = {"write": "PermissionError"}
    assert {name: said[name] for name in expected} == expected


def test_a_worker_still_reads_the_files_that_it_is_given(attempted: tuple[list[str], dict[str, str]]) -> None:
    assert attempted[1]["read-own"] == "done"


def test_health_says_how_workers_are_confined_and_the_kernel_agrees(server: RunningServer, client: Client) -> None:
    in_force = client.get("/api/health").json["parts"]["renderer"]["confined"]
    assert set(in_force) <= set(PARTS)
    assert "writing" in in_force
    if sys.platform != "linux":
        return
    bounded = f"Seccomp:\t{2 if 'network' in in_force else 0}"

    def agrees() -> bool:
        said = [Path(f"/proc/{worker.pid}/status").read_text() for worker in server.children()]
        return bool(said) and all("NoNewPrivs:\t1" in status and bounded in status for status in said)

    assert until(agrees)  # one of them may just be starting


@pytest.mark.parametrize("make", [pictures.bmp, pictures.heic, pictures.webm])
def test_every_library_loads_and_works_in_a_confined_worker(client: Client, make: Callable[[], bytes]) -> None:
    """Pillow, FFmpeg and pillow-heif are loaded on first use, when the doors are shut."""
    record = client.stored(make())
    assert client.get(media(record["key"], "w=8")).status == 200

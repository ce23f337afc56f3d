"""Whether pyvips runs on a libvips that is new enough, told without importing it into this process."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

FLOOR = (8, 18)
ANSWER_S = 15.0


def check() -> None:
    """Raise RuntimeError, with what to do, if pyvips would run on a libvips that is missing or too old.

    Building pyvips from source on a machine with libvips' headers replaces the wheel's binding by one to the system's
    libvips. An untouched wheel is known by its digest (1 ms); else a child says what it gets (0.2 s).
    """
    found = _wheel_version() or _version_in_child()
    if found < FLOOR:
        has = f"libvips {'.'.join(map(str, found))}" if found else "no libvips that works"
        wanted = ".".join(map(str, FLOOR))
        raise RuntimeError(
            f"pyvips runs on {has}, and {wanted} or newer is needed: "
            f"{sys.executable} -m pip install --force-reinstall --no-deps pyvips-binary"
        )


def _wheel_version() -> tuple[int, ...] | None:
    try:
        wheel = metadata.distribution("pyvips-binary")
    except metadata.PackageNotFoundError:
        return None
    for file in wheel.files or ():
        if file.name.startswith("_libvips") and file.hash is not None:
            path = Path(str(file.locate()))
            digest = hashlib.new(file.hash.mode, path.read_bytes()).digest() if path.exists() else b""
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == file.hash.value:
                return _numbers(wheel.version)
    return None


def _version_in_child() -> tuple[int, ...]:
    program = "import pyvips; print(pyvips.version(0), pyvips.version(1), pyvips.version(2), sep='.')"
    try:
        child = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=ANSWER_S, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ()
    return _numbers(child.stdout)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])

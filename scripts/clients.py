"""The upload clients from npm that tests use, installed once by their lock file.

They lie outside the clone, in the user's cache; MEDIA_TEST_CLIENTS names another folder. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent / "tests" / "clients"
NAMES = ("package.json", "package-lock.json")


def folder() -> Path:
    """Where they are kept, by what the lock file says."""
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in NAMES)).hexdigest()[:16]
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("MEDIA_TEST_CLIENTS") or Path(cache) / "sav3-media-proxy" / "clients") / digest


def modules() -> Path:
    """The packages, once they are installed."""
    return folder() / "node_modules"


def install() -> str | None:
    """Install them, in some seconds; None, or what went wrong. A kill in between leaves nothing that looks whole."""
    if modules().exists():
        return None
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        return "Node and npm are not installed"
    folder().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder().parent) as fresh:
        place = Path(fresh) / "clients"
        place.mkdir()
        for name in NAMES:
            shutil.copy(HERE / name, place)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        ended = subprocess.run(command, cwd=place, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if ended.returncode != 0:
            return (ended.stderr.strip().splitlines() or ["npm ci failed"])[0]
        try:
            place.rename(folder())
        except OSError:  # another was faster
            return None if modules().exists() else f"{folder()} cannot be made"
    return None

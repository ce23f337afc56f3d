"""The Kotlin compiler for the tests of the docs' examples, fetched once by Maven. Standard library only.

It lies outside the clone, in the user's cache; MEDIA_TEST_KOTLIN names another folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

POM = Path(__file__).resolve().parent.parent / "tests" / "clients" / "kotlin" / "pom.xml"
DEADLINE_S = 600


def folder() -> Path:
    """Where its jars are, once they are fetched."""
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:16]
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("MEDIA_TEST_KOTLIN") or Path(cache) / "sav3-media-proxy" / "kotlin") / digest


def install() -> str | None:
    """Fetch it; None, or what went wrong. A kill in between leaves nothing that looks whole."""
    if folder().exists():
        return None
    maven = shutil.which("mvn")
    if maven is None or shutil.which("java") is None:
        return "Maven and Java are not installed"
    folder().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder().parent) as fresh:
        shutil.copy(POM, fresh)
        command = [maven, "--quiet", "--batch-mode", "dependency:copy-dependencies", f"-DoutputDirectory={fresh}/jars"]
        try:
            ended = subprocess.run(
                command, cwd=fresh, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE_S
            )
        except subprocess.TimeoutExpired:
            return "Maven did not end"
        if ended.returncode != 0:
            return (ended.stdout.strip().splitlines() or ["Maven failed"])[0]
        try:
            (Path(fresh) / "jars").rename(folder())
        except OSError:  # another was faster
            return None if folder().exists() else f"{folder()} cannot be made"
    return None

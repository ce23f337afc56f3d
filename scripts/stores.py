"""The programs in Go that tests run, built once from their modules: versitygw, MinIO with its client, and Helm.

They lie outside the clone, in the user's cache; MEDIA_TEST_STORES names another folder. Standard library only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Program:
    """A program out of a Go module; *package* is what is built, *version* the module's."""

    name: str
    package: str
    version: str

    @property
    def path(self) -> Path:
        """Where it lies once it is built."""
        return folder() / f"{self.name}-{self.version}"


# MinIO's tags are no versions to Go: only the pseudo-version of a commit resolves, and those are the last.
PROGRAMS = (
    Program("versitygw", "github.com/versity/versitygw/cmd/versitygw", "v1.8.0"),
    Program("minio", "github.com/minio/minio", "v0.0.0-20260212201848-7aac2a2c5b7c"),
    Program("mc", "github.com/minio/mc", "v0.0.0-20250313080218-cf909e1063a9"),
    Program("helm", "helm.sh/helm/v4/cmd/helm", "v4.3.1"),
)


def folder() -> Path:
    """Where the programs are kept."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("MEDIA_TEST_STORES") or Path(cache) / "sav3-media-proxy" / "stores")


def missing() -> list[Program]:
    """Those that are not built yet."""
    return [program for program in PROGRAMS if not os.access(program.path, os.X_OK)]


def build(program: Program) -> str | None:
    """Build it, in some minutes; None, or what went wrong. A kill in between leaves nothing that looks like a program."""
    if shutil.which("go") is None:
        return "Go is not installed"
    folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder()) as fresh:
        environ = os.environ | {"GOBIN": fresh, "CGO_ENABLED": "0", "GOFLAGS": ""}
        command = ["go", "install", "-ldflags=-s -w", f"{program.package}@{program.version}"]
        ended = subprocess.run(command, env=environ, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if ended.returncode != 0:
            return (ended.stderr.strip().splitlines() or ["go install failed"])[-1]
        (Path(fresh) / program.name).replace(program.path)
    return None

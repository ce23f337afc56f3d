"""The programs in Go that tests run, built once from their modules: versitygw, MinIO with its client, and Helm.

They lie outside the clone, in the user's cache; MEDIA_TEST_STORES names another folder. Standard library only.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Program:
    """A program out of a Go module; *package* is what is built, *version* the module's.

    *module* is given where that replaces modules of others, which Go does only within it.
    """

    name: str
    package: str
    version: str
    module: str | None = None

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
TRAEFIK = Program("traefik", "github.com/traefik/traefik/v3/cmd/traefik", "v3.5.3", "github.com/traefik/traefik/v3")
"""For the tests that take longer alone: it is as large as all the others."""


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
        command, place = ["go", "install", "-ldflags=-s -w", f"{program.package}@{program.version}"], None
        if program.module is not None:
            found = _go(["go", "mod", "download", "-json", f"{program.module}@{program.version}"], environ)
            if found.returncode != 0:
                return _reason(found)
            place = Path(fresh) / "module"
            shutil.copytree(json.loads(found.stdout)["Dir"], place, copy_function=shutil.copyfile)
            for copied in (place, *place.rglob("*/")):  # Go's cache is read-only, and what is to be removed must not be
                copied.chmod(0o755)
            command = ["go", "build", "-ldflags=-s -w", "-o", f"{fresh}/{program.name}", program.package]
        ended = _go(command, environ, place)
        if ended.returncode != 0:
            return _reason(ended)
        (Path(fresh) / program.name).replace(program.path)
    return None


def _go(command: list[str], environ: dict[str, str], place: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=place, env=environ, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def _reason(ended: subprocess.CompletedProcess[str]) -> str:
    return (ended.stderr.strip().splitlines() or ["go failed"])[-1]

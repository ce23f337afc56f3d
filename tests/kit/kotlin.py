"""Kotlin programs, compiled by `scripts.kotlin`'s compiler and run on the JVM."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts import kotlin
from tests.kit.shared import required

DEADLINE_S = 300


def compiled(source: str, folder: Path) -> list[str]:
    """The command that runs the main function of *source*; skips the test where Kotlin is not here, and fails it in CI."""
    java = shutil.which("java")
    if java is None or not kotlin.folder().exists():
        (pytest.fail if required() else pytest.skip)("no Java, or no Kotlin: make test-slow installs them where it may")
    jars = os.pathsep.join(map(str, sorted(kotlin.folder().glob("*.jar"))))
    (folder / "main.kt").write_text(source, encoding="utf-8")
    compiler = [
        java,
        "-cp",
        jars,
        "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler",
        "main.kt",
        "-d",
        "classes",
        "-no-stdlib",
        "-cp",
        jars,
    ]
    done = subprocess.run(
        [*compiler, "-no-reflect", "-nowarn"], cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return [java, "-cp", f"{folder / 'classes'}{os.pathsep}{jars}", "MainKt"]

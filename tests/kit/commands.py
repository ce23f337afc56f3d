"""Commands of `media-proxy` as programs of their own, on given variables and no others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from tests.kit.server import KEPT_VARIABLES, REPOSITORY

PATIENT_S = 100


def environ(env: Mapping[str, str]) -> dict[str, str]:
    """*env* and what any program needs."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return kept | {"PYTHONPATH": str(REPOSITORY), **env}


def command(env: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """What ``media-proxy`` *words* did."""
    done = subprocess.run(
        [sys.executable, "-m", "proxy", *words], env=environ(env), capture_output=True, text=True, timeout=PATIENT_S, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def begun(env: Mapping[str, str], *words: str) -> subprocess.Popen[str]:
    """The command while it runs."""
    return subprocess.Popen(
        [sys.executable, "-m", "proxy", *words], env=environ(env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )

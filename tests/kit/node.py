"""Programs for Node that use the clients of `scripts.clients`, as a user's would."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripts import clients
from tests.kit.shared import required

SCRIPTS = Path(__file__).parents[1] / "clients"
DEADLINE_S = 90.0


def modules() -> Path:
    """Where the packages are; skips the test where they or Node are not there, and fails it in CI."""
    if shutil.which("node") is None or not clients.modules().exists():
        (pytest.fail if required() else pytest.skip)("no Node, or no clients from npm: make test installs them where it may")
    return clients.modules()


@dataclass(frozen=True)
class Ran:
    """How a program ended, and the lines that it printed, each a JSON object."""

    status: int
    lines: list[dict[str, Any]]
    errors: str


def program(script: str, config: dict[str, Any]) -> subprocess.Popen[str]:
    """*script*, begun."""
    config = {"modules": str(modules()), **config}
    command = ["node", str(SCRIPTS / script), json.dumps(config)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(running: subprocess.Popen[str]) -> Ran:
    """What came of it; killed when it takes too long."""
    try:
        out, errors = running.communicate(timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        running.kill()
        out, errors = running.communicate()
    return Ran(running.returncode, [json.loads(line) for line in out.splitlines()], errors)


def run(script: str, config: dict[str, Any]) -> Ran:
    """*script*, from begin to end."""
    return ended(program(script, config))

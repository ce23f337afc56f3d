"""What it costs to refuse a file: CPU and memory of a worker. ``python -m tests.kit.refusals`` prints a table."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests import bombs
from tests.kit import shared
from tests.kit.server import REPOSITORY

LOOK = """
import json, os, re, sys, time
from processors import image, inspection
from processors.confinement import confine
from processors.errors import MediaError
from processors.values import Limits
image.prepare()
image.capabilities(Limits())
confine(Limits(), None)
def kib(name):
    return int(re.search(name + r":\\s*(\\d+)", open("/proc/self/status").read())[1])
before, began = kib("VmRSS"), time.process_time()
try:
    inspection.inspect(sys.argv[1], Limits(), whole=True)
    outcome = "taken"
except MediaError as error:
    outcome = type(error).__name__
print(json.dumps([outcome, (time.process_time() - began) * 1000, max(0, kib("VmHWM") - before) / 1024]))
"""


@dataclass(frozen=True)
class Refusal:
    """*outcome* is ``taken`` or the error's name, *cpu_ms* what the look took, *mib* by how much the process grew."""

    outcome: str
    cpu_ms: float
    mib: float


def refusal(path: Path) -> Refusal:
    """How a new worker ends with the file, as at an upload."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(path)], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True
    )
    return Refusal(*json.loads(done.stdout))


def shared_bombs() -> list[Path]:
    """The bombs of the shared set, where it is there."""
    if not shared.present():
        return []
    names = [entry["file"] for entry in shared.manifest()["files"]]
    return [shared.FOLDER / name for name in names if re.match(r"bombs/|svg/(billion|deep|gzip)", name)]


def main() -> None:
    """Print what each bomb costs."""
    with tempfile.TemporaryDirectory() as folder:
        made = [Path(folder) / name for name in bombs.BOMBS]
        for path in made:
            path.write_bytes(bombs.BOMBS[path.name]())
        print(f"{'file':34} {'bytes':>10} {'outcome':12} {'CPU ms':>8} {'MiB':>6}")
        for path in made + shared_bombs():
            cost = refusal(path)
            print(f"{path.name:34} {path.stat().st_size:>10} {cost.outcome:12} {cost.cpu_ms:8.1f} {cost.mib:6.1f}")


if __name__ == "__main__":
    main()

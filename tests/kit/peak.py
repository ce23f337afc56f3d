"""`python -m tests.kit.peak SMALL FILE TRANSFORM`: a job's memory at its peak, and its estimate, as a JSON pair of bytes.

In a process of its own, since the peak of a process only grows. The same is done to SMALL first, for what is loaded on first use.
An empty TRANSFORM is the look into a file at its upload.
"""

from __future__ import annotations

import ctypes
import json
import resource
import sys
from pathlib import Path

from processors import image, inspection
from processors.values import Limits

LIMITS = Limits(budget_bytes=1 << 40)


def job(path: str, transform: str) -> int:
    """Do it, and give its estimate."""
    work = image.rendering(path, transform, LIMITS) if transform else inspection.inspecting(path, LIMITS, whole=True)
    work.run()
    return work.estimate_bytes


def main(small: str, file: str, transform: str) -> None:
    """Print the pair. Linux only: elsewhere the peak of a process cannot be set back."""
    image.prepare()
    job(small, transform)
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    estimate = job(file, transform)
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(json.dumps([int(peak.split()[1]) * 1024 - before, estimate]))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""FFmpeg's programs, for tests of what stands on them: films that take long, and what a film is."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.kit.shared import required


def provided() -> None:
    """Skip the test where FFmpeg is not installed, and fail it in CI."""
    if not all(shutil.which(name) for name in ("ffmpeg", "ffprobe")):
        (pytest.fail if required() else pytest.skip)("ffmpeg is not installed")


def long(folder: Path, seconds: int = 60) -> bytes:
    """A film, its index first, that is made and uploaded at once, and takes a while to be turned into another."""
    path = folder / "long.mp4"
    source = ["-f", "lavfi", "-i", f"testsrc2=size=1280x720:rate=30:duration={seconds}"]
    subprocess.run(
        ["ffmpeg", "-v", "error", *source, "-c:v", "libx264", "-preset", "ultrafast", "-movflags", "+faststart", "-y", str(path)],
        check=True,
        timeout=120,
    )
    return path.read_bytes()


def look(data: bytes, folder: Path) -> dict[str, Any]:
    """What ffprobe says of a film: ``format`` and ``streams``."""
    path = folder / "look"
    path.write_bytes(data)
    told = subprocess.run(
        ["ffprobe", "-v", "error", "-of", "json", "-show_format", "-show_streams", str(path)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    found = json.loads(told.stdout)
    assert isinstance(found, dict)
    return found


def sounding(folder: Path) -> bytes:
    """A film of two seconds with a tone."""
    path = folder / "sounding.mp4"
    picture = ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=10:duration=2"]
    sound = ["-f", "lavfi", "-i", "sine=frequency=440:duration=2"]
    encoded = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", "-y", str(path)]
    subprocess.run(["ffmpeg", "-v", "error", *picture, *sound, *encoded], check=True, timeout=60)
    return path.read_bytes()

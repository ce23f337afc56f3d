"""Admission stands on estimates of memory: for large pictures they are within 0.7 and 1.5 of what a job really takes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import pyvips

from tests import pictures

LEAST, MOST = 0.7, 1.5
SLACK_BYTES = 16 << 20
"""what code that is loaded later and fragments take whatever the size, and no estimate has to know"""

Save = Callable[[pyvips.Image], bytes]
SAVES: dict[str, Save] = {
    "jpeg": lambda image: bytes(image.jpegsave_buffer()),
    "progressive": lambda image: bytes(image.jpegsave_buffer(interlace=True)),
    "png": lambda image: bytes(image.pngsave_buffer(compression=1)),
    "clear png": lambda image: bytes(image.bandjoin(image[1]).pngsave_buffer(compression=1)),
    "interlaced png": lambda image: bytes(image.pngsave_buffer(compression=1, interlace=True)),
    "webp": lambda image: bytes(image.webpsave_buffer(effort=0)),
    "lossless webp": lambda image: bytes(image.webpsave_buffer(effort=0, lossless=True)),
    "avif": lambda image: bytes(image.heifsave_buffer(compression="av1", effort=0)),
    "bmp": lambda image: pictures.bmp(image.width, image.height),
    "heic": lambda image: pictures.heic(image.width, image.height),
    "apng": lambda image: pictures.apng(image.width * 2 // 3, image.height * 2 // 3, frames=2),
    "avif sequence": lambda image: pictures.avif(image.width * 2 // 3, image.height * 2 // 3, frames=2),
}
SMALL, LARGE = (64, 48), (6000, 4000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("costs")


def stored(folder: Path, name: str, size: tuple[int, int]) -> Path:
    path = folder / f"{name} {size[0]}"
    if not path.exists():
        picture = pictures.corners(*size)
        image = pyvips.Image.new_from_memory(picture.tobytes(), *size, 3, "uchar").copy(interpretation="srgb")
        path.write_bytes(SAVES[name](image))
    return path


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is told by Linux only")
@pytest.mark.parametrize(
    ("name", "transform"),
    [
        ("jpeg", "format=webp&w=1280"), ("jpeg", "format=webp"), ("jpeg", "format=avif&w=2000"), ("progressive", ""),
        ("progressive", "format=jpg&w=320"), ("png", "format=jpg&w=320"), ("clear png", "format=png&w=2000"),
        ("clear png", "format=webp"), ("interlaced png", ""), ("webp", "format=jpg"), ("lossless webp", ""),
        ("avif", ""), ("avif", "format=webp"), ("heic", ""), ("heic", "format=webp&w=1280"), ("bmp", "format=jpg&w=320"),
        ("apng", "format=webp&w=320"), ("avif sequence", "format=webp&w=320"),
    ],
)  # fmt: skip
def test_an_estimate_is_near_what_a_large_picture_takes(folder: Path, name: str, transform: str) -> None:
    files = [str(stored(folder, name, size)) for size in (SMALL, LARGE)]
    told = subprocess.run(
        [sys.executable, "-m", "tests.kit.peak", *files, transform], capture_output=True, text=True, timeout=60, check=True
    )
    taken, estimate = json.loads(told.stdout)
    assert LEAST * taken - SLACK_BYTES <= estimate <= MOST * taken + SLACK_BYTES, f"{estimate >> 20} MiB for {taken >> 20} MiB"

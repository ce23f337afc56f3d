"""Sizes of renditions beside those of vipsthumbnail, the program of libvips, for random pictures and random transforms."""

from __future__ import annotations

import io
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests import pictures
from tests.kit.client import media
from tests.kit.server import RunningServer

SEED = 20261123
PICTURES = 10
MAX_SIDE = 300


@pytest.fixture(scope="module")
def vipsthumbnail() -> str:
    """The program, of Debian's libvips-tools."""
    program = shutil.which("vipsthumbnail")
    if program is None:
        assert os.environ.get("CI") != "true", "vipsthumbnail must be there in CI"
        pytest.skip("vipsthumbnail is not installed")
    return program


def size(data: bytes) -> tuple[int, int]:
    """Width and height of a picture file."""
    with Image.open(io.BytesIO(data)) as picture:
        return picture.size


def sources(chance: random.Random, folder: Path) -> list[Path]:
    """Pictures of random sizes, some of them to be turned."""
    paths = []
    for number in range(PICTURES):
        width, height = chance.randint(1, MAX_SIDE), chance.randint(1, MAX_SIDE)
        turn = chance.choice([None, 1, 3, 6, 8])
        is_jpeg = number % 2 == 0
        data = pictures.jpeg(width, height, orientation=turn) if is_jpeg else pictures.png(width, height)
        paths.append(folder / f"{number}.{'jpg' if is_jpeg else 'png'}")
        paths[-1].write_bytes(data)
    return paths


def wishes(chance: random.Random, count: int) -> list[tuple[str, list[str]]]:
    """Random transforms in our words and in the program's: what is inside a box, cut to it, or stretched to it."""
    found = []
    for _ in range(count):
        width, height = chance.randint(1, MAX_SIDE), chance.randint(1, MAX_SIDE)
        larger = chance.choice([True, False])
        up, mark = ("&up=1", "") if larger else ("", ">")
        kind = chance.choice(["w", "h", "inside", "cover", "stretch"])
        if kind == "w":
            found.append((f"w={width}{up}", ["--size", f"{width}x{mark}"]))
        elif kind == "h":
            found.append((f"h={height}{up}", ["--size", f"x{height}{mark}"]))
        elif kind == "inside":
            found.append((f"w={width}&h={height}{up}", ["--size", f"{width}x{height}{mark}"]))
        elif kind == "cover":  # where the picture is smaller than the box, we keep the shape of the box, and the program does not
            found.append((f"w={width}&h={height}&fit=cover&up=1", ["--size", f"{width}x{height}", "--smartcrop", "centre"]))
        else:
            found.append((f"w={width}&h={height}&fit=stretch&up=1", ["--size", f"{width}x{height}!"]))
    return found


@pytest.mark.parametrize("count", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_a_thousand_random_renditions_have_the_sizes_that_vipsthumbnail_gives_them(
    server: RunningServer, vipsthumbnail: str, tmp_path: Path, count: int
) -> None:
    """Within a pixel: the program shrinks while it loads, and rounds what it then has."""
    chance = random.Random(SEED + count)
    files = sources(chance, tmp_path)
    thumbnails = tmp_path / "thumbnails"
    thumbnails.mkdir()
    client = server.client("me")
    addresses = [media(client.stored(path.read_bytes())["key"]) for path in files]
    different = []
    for query, options in wishes(chance, count):
        command = [vipsthumbnail, *map(str, files), *options, "--output", f"{thumbnails}/%s.png"]
        subprocess.run(command, check=True, cwd=tmp_path, timeout=60, capture_output=True)
        for path, address in zip(files, addresses, strict=True):
            answer = client.get(f"{address}?{query}&format=png")
            assert answer.status == 200, answer
            ours, theirs = size(answer.body), size((thumbnails / f"{path.stem}.png").read_bytes())
            if any(abs(one - other) > 1 for one, other in zip(ours, theirs, strict=True)):
                different.append((path.name, size(path.read_bytes()), query, ours, theirs))
    assert different == []

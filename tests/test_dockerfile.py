"""deploy/Dockerfile: linted, and its steps done in an empty place, where what they leave takes uploads and makes pictures."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import pictures
from tests.kit.client import media
from tests.kit.server import REPOSITORY, RunningServer
from tests.kit.shared import required

DOCKERFILE = REPOSITORY / "deploy" / "Dockerfile"
PREFIX = "/opt/media-proxy"


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage, without comments, each on one line."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.partition(" ") for line in text.splitlines() if line.strip()]
    found: list[list[tuple[str, str]]] = []
    for word, _, rest in lines:
        if word == "FROM":
            found.append([])
        found[-1].append((word, " ".join(rest.split())))
    return found


def test_the_linter_finds_nothing() -> None:
    linter = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if linter is None:
        (pytest.fail if required() else pytest.skip)("hadolint is not installed")
    done = subprocess.run([linter, DOCKERFILE], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


def test_what_is_copied_is_there_and_goes_to_the_builder() -> None:
    shown = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for word, rest in stages()[0] if word == "COPY" for name in rest.split()[:-1]}
    assert copied == shown
    assert all((REPOSITORY / name).exists() for name in copied)


def test_nobody_in_it_is_root_and_everything_it_runs_is_of_one_version() -> None:
    build, final = stages()
    assert {rest.partition(" AS ")[0] for word, rest in build + final if word == "FROM"} == {"python:3.13.9-slim-trixie"}
    assert [rest for word, rest in final if word == "USER"] == ["10001:10001"]
    (check,) = [rest for word, rest in final if word == "HEALTHCHECK"]
    assert "/api/health/live" in check


class Built(RunningServer):
    """The service as the first stage leaves it below *root*."""

    root: Path

    @property
    def command(self) -> list[str]:
        return [str(self.root / "opt" / "media-proxy" / "bin" / "media-proxy"), "serve"]


@pytest.mark.stack
@pytest.mark.timeout(500)
def test_the_steps_of_the_first_stage_make_a_service_of_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    (tmp_path / "opt").mkdir()
    env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}

    def here(text: str) -> str:
        return text.replace(PREFIX, str(tmp_path / "opt" / "media-proxy")).replace("/src/", f"{source}/")

    for word, rest in stages()[0]:
        if word == "ENV":
            env |= dict(part.split("=", 1) for part in shlex.split(here(rest)))
        elif word == "COPY":
            *names, place = rest.split()
            for name in names:
                if (REPOSITORY / name).is_dir():
                    shutil.copytree(REPOSITORY / name, source / place, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(REPOSITORY / name, source / name)
        elif word == "RUN":
            step = re.sub(r"^python ", f"{shlex.quote(sys.executable)} ", here(rest))
            done = subprocess.run(["sh", "-c", step], cwd=source, env=env, capture_output=True, text=True, check=False, timeout=400)
            assert done.returncode == 0, (step, done.stdout[-2000:], done.stderr[-2000:])
    shutil.rmtree(source)  # the second stage has it no more
    server = Built(tmp_path / "run", {"PYTHONPATH": None, "VIRTUAL_ENV": None})
    server.root = tmp_path
    with server:
        client = server.client("me")
        key = client.stored(pictures.jpeg(64, 48))["key"]
        assert client.get(media(key, "w=20&format=webp")).headers["Content-Type"] == "image/webp"
        assert client.get("/").status == 200

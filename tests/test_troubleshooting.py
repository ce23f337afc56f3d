"""The commands of docs/troubleshooting.md do what the page says, on a real service that is well."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import pictures
from tests.kit.redis import RedisServer
from tests.kit.server import REPOSITORY, RunningServer
from tests.kit.stores import ObjectStore

PAGE = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
SHOWN = re.compile(r"#\s*→ (.+)$", re.MULTILINE)
"""what a command must show, as the page says beside it"""
ONCE = """#!/bin/sh
# The doctor takes seconds: what it has said once is said again.
if [ "$*" = doctor ]; then
  [ -e doctor.said ] || "{python}" -m proxy doctor > doctor.said || exit $?
  exec cat doctor.said
fi
exec "{python}" -m proxy "$@"
"""


@pytest.mark.stack
@pytest.mark.timeout(300)
def test_every_command_of_the_page_shows_what_it_says(tmp_path: Path, minio: ObjectStore, redis: RedisServer) -> None:
    (tmp_path / "photo.jpg").write_bytes(pictures.jpeg(640, 480))
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "media-proxy"
    program.write_text(ONCE.format(python=sys.executable))
    program.chmod(0o755)
    settings = {
        **minio.settings(), "REDIS_URL": redis.url, "MEDIA_CORS_ORIGINS": "https://app.example", "MEDIA_QUOTA_BYTES": "1G",
        "MINIO_PUBLIC_ENDPOINT": minio.endpoint,
    }  # fmt: skip
    with RunningServer(tmp_path / "server", settings) as server:
        first, *others = [block.replace("http://127.0.0.1:10020", server.url) for block in BLOCKS]
        env = {**server.env, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
        minted = run(f"{first}\nexport MEDIA TOKEN ADMIN; env", env, tmp_path)
        env |= dict(line.split("=", 1) for line in minted.splitlines() if line.startswith(("MEDIA=", "TOKEN=", "ADMIN=")))
        assert env["MEDIA"] == server.url
        for block in others:
            said = run(block, env, tmp_path)
            for shown in SHOWN.findall(block):
                assert shown.strip() in said, f"{block}\n--- says\n{said}"


def run(block: str, env: dict[str, str], folder: Path) -> str:
    """What the commands of *block* print; each must end well."""
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block], env=env, cwd=folder, check=False, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, f"{block}\n--- ended with {ended.returncode}\n{ended.stdout}{ended.stderr}"
    return ended.stdout + ended.stderr


def test_every_trouble_has_a_command_and_a_cure() -> None:
    chapters = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    assert len(chapters) > 12
    for chapter in chapters:
        title = chapter.partition("\n")[0]
        assert "```sh" in chapter or title == "Starting", title


@pytest.mark.slow
@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({"MINIO_PORT": "1"}, "start the store, or change MINIO_ENDPOINT and MINIO_PORT"),
        ({"MINIO_SECRET_KEY": "of another account"}, "the secret does not belong to the access key: see MINIO_SECRET_KEY"),
        ({"MINIO_USE_SSL": "true"}, "takes connections and speaks no https: change MINIO_USE_SSL"),
        ({"MINIO_REGION": "eu-west-9"}, "the store is in another region"),
        ({"PATH": ""}, "FFmpeg is not installed, and no jobs are taken"),
        ({"PATH": ""}, "FFmpeg sees the service's files, but no network"),
    ],
    ids=["port", "secret", "tls", "region", "ffmpeg", "bubblewrap"],
)
def test_the_doctor_says_what_the_page_quotes(tmp_path: Path, minio: ObjectStore, faults: dict[str, str], said: str) -> None:
    assert said in PAGE
    env = RunningServer(tmp_path, {**minio.settings(), **faults}).env
    ended = subprocess.run(
        [sys.executable, "-m", "proxy", "doctor"], env=env, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=90
    )
    assert said in ended.stdout

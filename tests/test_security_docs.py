"""What docs/security.md promises whoever tries it from outside, tried."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import pictures
from tests.kit.client import media
from tests.kit.server import RunningServer
from tests.kit.snippets import DOCS

PAGE = (DOCS / "security.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(curl [^`]*)`[^|]*\| (\d{3}) \|$", PAGE, re.MULTILINE)


@pytest.mark.stack
def test_a_service_that_is_set_up_as_the_page_says_refuses_all_that_it_says(
    serve: Callable[..., RunningServer], owner: str, tmp_path: Path
) -> None:
    server = serve(
        MEDIA_READ_ACCESS="signed", MEDIA_URL_SECRETS="correct-horse-battery-staple-twice-over", MEDIA_TRANSFORM_ACCESS="ladder",
        MEDIA_CORS_ORIGINS="https://app.example", MEDIA_TRUSTED_PROXIES="127.0.0.0/8",
    )  # fmt: skip
    photo = pictures.jpeg(64, 48)
    (tmp_path / "photo.jpg").write_bytes(photo)
    key = server.client(owner).stored(photo)["key"]
    assert server.client(owner).get(media(key)).status == 200
    assert len(ROWS) == PAGE.count("| `curl ")
    for command, status in ROWS:
        told = subprocess.run(
            ["bash", "-euc", command], env={**os.environ, "SERVICE": server.url, "KEY": key}, cwd=tmp_path,
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        assert told.stdout == status, command

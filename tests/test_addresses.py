"""`media-proxy sign`: what a person writes becomes an address that the service takes, or one sentence says why not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from processors.errors import MediaError
from proxy import addresses
from proxy.presets import Presets
from proxy.signing import Signatures
from tests import pictures
from tests.kit.server import KEPT_VARIABLES, REPOSITORY, RunningServer

SECRET = "0123456789abcdef-an-url-secret-of-32-bytes-and-more"
PREFIX = "/api/media/"


def command(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """What `media-proxy sign` does with *arguments*."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "proxy", "sign", *arguments],
        env={**kept, "PYTHONPATH": str(REPOSITORY), "MEDIA_URL_SECRETS": f"a:{SECRET}", **env},
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_what_the_command_prints_opens_what_it_names(serve: Callable[..., RunningServer], tmp_path: Path) -> None:
    (tmp_path / "presets.toml").write_text('card = "w=60"')
    settings = {"MEDIA_URL_SECRETS": f"a:{SECRET}", "MEDIA_PRESETS": str(tmp_path / "presets.toml")}
    server = serve(MEDIA_READ_ACCESS="signed", MEDIA_TRANSFORM_ACCESS="signed", **settings)
    key = server.client("me").stored(pictures.jpeg(64, 64))["key"]
    given = f"https://x.example{PREFIX}{key}?preset=card&utm_source=x&dl=a%20b.jpg"
    done = command(tmp_path, given, "--any", "w,dpr", "--kid", "a", "--expires", "60", "--exact", **settings)
    assert (done.returncode, done.stderr) == (0, "")
    assert server.client().get(done.stdout.strip()).status == 200
    assert server.client().get(f"{done.stdout.strip()}&dpr=2").status == 200

    def signed(given: str) -> str:
        return addresses.signed(given, Signatures([SECRET]), Presets(None), ends=addresses.end(60))

    for given in (
        key,
        f"{PREFIX}{key}?width=32",
        f"{key}?w=32&dpr=2",
        f"http://h{PREFIX}{key.replace('-', '%2D')}?fit=crop&w=9&h=8",
    ):
        assert server.client().get(signed(given)).status == 200, given
        assert server.client().get(signed(signed(given))).status == 200, "a signed address can be signed again"


@pytest.mark.parametrize(("arguments", "env", "sentence"), [
    (["u/a.jpg?witdh=1"], {}, "a parameter has a name that is not known (witdh); width is known."),
    (["u/a.jpg?w=1"], {"MEDIA_URL_SECRETS": ""}, "MEDIA_URL_SECRETS has no secret: set one, or more."),
])  # fmt: skip
def test_what_cannot_be_signed_is_one_sentence_and_status_2(
    tmp_path: Path, arguments: list[str], env: dict[str, str], sentence: str
) -> None:
    done = command(tmp_path, *arguments, **env)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"media-proxy: {sentence}\n")


@pytest.mark.parametrize(("given", "free"), [
    ("u/a.jpg?w=0", None), ("u/../a.jpg", None), ("", None), ("u/%zz.jpg", None), ("u/a.jpg?preset=none", None),
    ("u/a.jpg?w=1&w=2", None),
    ("u/a.jpg?w=17", "w"), ("u/a.jpg?w=16", "blur"), ("u/a.jpg", "width"), ("u/a.jpg", "s"), ("u/a.jpg?w=8000&dpr=2", None),
])  # fmt: skip
def test_what_the_service_would_refuse_is_not_signed(given: str, free: str | None) -> None:
    with pytest.raises(MediaError) as refused:
        addresses.signed(given, Signatures([SECRET]), Presets(None), ends=9, free=free)
    assert 400 <= refused.value.status < 404


def test_an_end_is_rounded_up_to_the_hour() -> None:
    assert addresses.end(100, now=7200.5) == 10_800
    assert addresses.end(3600, now=7200.0) == 10_800
    assert addresses.end(100, now=7200.0, rounded=False) == 7300

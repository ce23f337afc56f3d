"""deploy/Dockerfile: linted, and its steps done in an empty place, where what they leave takes uploads and makes pictures."""

from __future__ import annotations

import json
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
from tests.kit.ports import free_port
from tests.kit.server import REPOSITORY, RunningServer
from tests.kit.shared import required
from tests.kit.waiting import until

DOCKERFILE = REPOSITORY / "deploy" / "Dockerfile"
PREFIX = "/opt/media-proxy"
BASE = ("python3", "python3-venv", "ca-certificates")
"""What the image that ours begins with has of Debian's."""
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


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


class Root:
    """An image as its Dockerfile makes it, in a folder of this machine: Debian's files with its Python, and what the steps add."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin", "LANG": "C.UTF-8"}
        self.user = "0:0"
        self.command: list[str] = []
        self.check: list[str] = []
        self._at = "/"

    def words(self, *command: str) -> list[str]:
        """What runs *command* in it, as its user."""
        prepare = 'mount -t proc proc "$0/proc" && exec chroot --userspec "$1" "$0" sh -c \'cd "$0" && exec "$@"\' "$2" "${@:3}"'
        return ["unshare", "--mount", "bash", "-c", prepare, str(self.folder), self.user, self._at, *command]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """How a command in it ended."""
        # How this machine reaches package indexes, it reaches them, too.
        ways = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy") or name == "PIP_INDEX_URL"}
        env = ways | {"PIP_CERT": CERTIFICATES, **self.env}
        return subprocess.run(self.words(*command), env=env, check=False, capture_output=True, text=True, timeout=600)

    def take(self, word: str, rest: str, before: Root | None) -> None:
        """Do one step; *before* is the stage before."""
        if word == "ENV":
            for name, value in (part.split("=", 1) for part in shlex.split(rest)):
                self.env[name] = value.replace("$PATH", self.env["PATH"])
        elif word == "WORKDIR":
            self._at = rest
            (self.folder / rest[1:]).mkdir(parents=True, exist_ok=True)
        elif word == "RUN":
            done = self.run("sh", "-c", rest)
            assert done.returncode == 0, (rest, done.stdout[-2000:], done.stderr[-3000:])
        elif word == "COPY":
            *names, place = rest.split()
            source = REPOSITORY
            if names[0] == "--from=build":
                assert before is not None
                names, source = [name[1:] for name in names[1:]], before.folder
            for name in names:
                target = Path(self._at, place) if (source / name).is_dir() else Path(self._at, place, Path(name).name)
                subprocess.run(["cp", "-a", str(source / name), str(self.folder / str(target)[1:])], check=True)
        elif word == "USER":
            self.user = rest
        elif word == "CMD":
            self.command = json.loads(rest)
        elif word == "HEALTHCHECK":
            self.check = json.loads(rest.partition(" CMD ")[2])
        else:
            assert word in {"FROM", "VOLUME", "EXPOSE", "STOPSIGNAL"}, word


class Image(RunningServer):
    """The service in the last stage, started as the image starts it."""

    root: Root

    @property
    def command(self) -> list[str]:
        return self.root.words(*self.root.command)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_image_serves_from_nothing_but_what_its_steps_put_there(tmp_path: Path) -> None:
    for name in ("mmdebstrap", "unshare", "chroot"):
        if shutil.which(name) is None or os.geteuid() != 0:
            (pytest.fail if required() else pytest.skip)(f"{name} is not installed, or this is not root")
    sites = subprocess.run(["apt-get", "indextargets", "--format", "$(SITE)"], capture_output=True, text=True, check=True).stdout
    suite = re.search(r"slim-(\w+)", stages()[0][0][1])
    assert suite is not None
    base = tmp_path / "base"
    made = subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(BASE)}", suite[1], base, sites.split()[0]],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr[-2000:]
    shutil.copy(CERTIFICATES, base / CERTIFICATES[1:])
    shutil.copy("/etc/resolv.conf", base / "etc" / "resolv.conf")
    for name in ("python", "python3"):  # where the image has its own
        (base / "usr" / "local" / "bin" / name).symlink_to("/usr/bin/python3")
    before: Root | None = None
    for number, steps in enumerate(stages()):
        root = Root(tmp_path / f"stage-{number}")
        subprocess.run(["cp", "-a", str(base), str(root.folder)], check=True)
        for word, rest in steps:
            root.take(word, rest, before)
        before = root

    port = str(free_port())
    server = Image(
        tmp_path / "run",
        {**dict.fromkeys(("PYTHONPATH", "VIRTUAL_ENV", "HOME")), **root.env, "MEDIA_HOST": "127.0.0.1", "MEDIA_PORT": port},
    )
    server.root = root
    with server:
        client = server.client("me")
        key = client.stored(pictures.jpeg(64, 48))["key"]
        assert client.get(media(key, "w=20&format=avif")).headers["Content-Type"] == "image/avif"
        film = client.stored(pictures.mp4(320, 240, seconds=1), "video/mp4")["key"]
        job = client.post(f"/api/assets/{film}/jobs", b'{"profile": "360p"}', {"Content-Type": "application/json"}).json
        assert until(lambda: client.get(f"/api/jobs/{job['id']}").json["state"] == "done", 60)
        assert server.process.uids().real == 10001
        check = [word.replace(":10020", f":{port}") for word in root.check]
        assert root.run(*check).returncode == 0
    assert root.run(*check).returncode != 0
    owned = root.folder / "var" / "lib" / "media-proxy"
    assert (owned.stat().st_uid, owned.stat().st_mode & 0o777) == (10001, 0o700)
    for place in (base, *tmp_path.glob("stage-*")):  # gigabytes
        shutil.rmtree(place)

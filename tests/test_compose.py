"""docker-compose.media.yml and what belongs to it, held to the programs: settings, commands, files, ports and secrets."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.settings import Settings
from proxy.spelling import size

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "docker-compose.media.yml"
OURS = ("processor", "media-proxy", "worker", "media-proxy-2")


@pytest.fixture(scope="module")
def stack() -> dict[str, Any]:
    found = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def init(folder: Path, *profiles: str) -> subprocess.CompletedProcess[str]:
    """What scripts/init-env.sh says in a copy of the repository's scripts at *folder*."""
    (folder / "scripts").mkdir(exist_ok=True)
    shutil.copy(ROOT / "scripts" / "init-env.sh", folder / "scripts")
    program = ["sh", "scripts/init-env.sh", *profiles]
    return subprocess.run(program, cwd=folder, capture_output=True, text=True, timeout=30, check=False)


def written(folder: Path) -> dict[str, str]:
    lines = (folder / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def test_every_variable_of_our_programs_is_a_setting(stack: dict[str, Any]) -> None:
    known = {name.upper() for name in Settings.model_fields}
    for name in OURS:
        assert set(stack["services"][name]["environment"]) <= known, name


@pytest.mark.parametrize("name", OURS)
def test_every_command_of_ours_is_one(stack: dict[str, Any], name: str) -> None:
    program, *words = stack["services"][name]["command"]
    assert program == "media-proxy"
    said = subprocess.run(
        [sys.executable, "-m", "proxy", words[0], "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert {word for word in words if word.startswith("--")} <= set(re.findall(r"--[a-z-]+", said.stdout))


def test_every_file_that_is_mounted_is_there_and_every_image_has_a_version(stack: dict[str, Any]) -> None:
    for name, service in stack["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith("./") or (ROOT / source).exists(), (name, source)
            assert source.startswith((".", "$")) or source in stack["volumes"], (name, source)
        assert re.search(r":[^:}]*\d[^:}]*}$", service["image"]), name


def test_what_is_published_is_what_the_page_says(stack: dict[str, Any]) -> None:
    published = {port for service in stack["services"].values() for port in service.get("ports", [])}
    ports = {port.rsplit(":", 2)[1] for port in published}
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    assert ports == {"10020", "10090", "9001", "443", "3000"}
    assert all(f"| {port} |" in page for port in ports)


def test_every_service_is_watched_bounded_and_has_no_more_rights_than_it_needs(stack: dict[str, Any]) -> None:
    for name, service in stack["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True, name
        assert service.get("restart") == "no" or "healthcheck" in service, name
        assert set(service["networks"]) <= set(stack["networks"]), name
    assert stack["networks"]["inside"]["internal"] is True


def test_secrets_come_from_a_file_that_is_made_once(stack: dict[str, Any], tmp_path: Path) -> None:
    done = init(tmp_path, "postgres", "edge", "clamav", "monitoring")
    assert done.returncode == 0, done.stderr
    made = written(tmp_path)
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    needed = set(re.findall(r"\$\{([A-Z_]+):\?", COMPOSE.read_text(encoding="utf-8")))
    assert needed <= made.keys()
    assert made["COMPOSE_PROFILES"] == "postgres,edge,clamav,monitoring"
    assert made["POSTGRES_PASSWORD"] in made["DATABASE_URL"]
    secrets = [made[name] for name in needed if name != "MINIO_ROOT_USER"]
    assert len(set(secrets)) == len(secrets)
    assert all(len(secret) >= 40 for secret in secrets)
    again = init(tmp_path)
    assert (again.returncode, written(tmp_path)) == (1, made)
    assert "there already" in again.stderr


def test_the_service_takes_what_is_made(stack: dict[str, Any], tmp_path: Path) -> None:
    assert init(tmp_path, "postgres", "clamav").returncode == 0
    made = written(tmp_path)

    def value(text: str) -> str:
        return re.sub(r"\$\{([A-Z_]+)(?::[-?]([^}]*))?\}", lambda found: made.get(found[1], found[2] or ""), text)

    for name in OURS:
        given = {key: value(text) for key, text in stack["services"][name]["environment"].items()}
        settings = Settings.from_env(given)
        assert settings.processor_token is not None, name


def test_a_profile_that_is_not_there_is_refused(tmp_path: Path) -> None:
    done = init(tmp_path, "monitors")
    assert done.returncode == 1
    assert done.stderr.strip() == "There is no profile monitors: choose among postgres, edge, clamav and monitoring."
    assert not (tmp_path / ".env").exists()


def test_clamd_looks_at_what_the_service_is_told_that_it_does(tmp_path: Path) -> None:
    assert init(tmp_path, "clamav").returncode == 0
    settings = Settings.from_env(
        {name: value for name, value in written(tmp_path).items() if name.startswith(("CLAMAV", "MEDIA_SCAN"))}
    )
    lines = (line.split() for line in (ROOT / "deploy" / "clamav" / "clamd.conf").read_text().splitlines() if line[:1].isupper())
    told = dict(lines)
    assert settings.clamav_url == "tcp://clamav:3310"
    assert size(told["StreamMaxLength"]) == size(told["MaxFileSize"]) == settings.media_scan_limit
    assert size(told["MaxScanSize"]) > 3 * settings.media_scan_limit
    assert int(told["MaxScanTime"]) == 1000 * settings.media_scan_deadline
    assert told["AlertExceedsMax"] == "yes"

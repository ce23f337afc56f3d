"""The Helm chart as Helm renders it, and its pods as plain processes: commands, environments and probes as they are shipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import pytest
import yaml

from scripts import stores
from tests.kit.client import Answer, Client
from tests.kit.ports import free_port
from tests.kit.server import REPOSITORY, START_S, RunningServer
from tests.kit.shared import required
from tests.kit.waiting import until

CHART = REPOSITORY / "deploy" / "helm" / "media-proxy"
EXAMPLES = sorted((CHART / "ci").glob("*.yaml"))
HELM = next(program for program in stores.PROGRAMS if program.name == "helm")
RELEASE = "try"
Manifest = dict[str, Any]


def helm(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """How Helm ended; skips the test where it is not built, and fails it in CI."""
    if not os.access(HELM.path, os.X_OK):
        (pytest.fail if required() else pytest.skip)("helm is not built: install Go, then run make test")
    return subprocess.run([HELM.path, *words], check=False, capture_output=True, text=True, timeout=60)


@cache
def rendered(example: Path, *overrides: str) -> list[Manifest]:
    """What Helm makes of the chart with the values of *example*, each override such as ``proxy.replicas=1`` on top."""
    given = [word for override in overrides for word in ("--set", override)]
    ended = helm("template", RELEASE, CHART, "--namespace", "media", "--values", example, *given)
    assert ended.returncode == 0, ended.stderr
    return [manifest for manifest in yaml.safe_load_all(ended.stdout) if manifest]


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The one manifest of *kind* called *name*."""
    (found,) = [one for one in manifests if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def templates(manifests: list[Manifest]) -> list[tuple[str, Manifest]]:
    """Every pod there is to be, by the name of what makes it: its spec."""
    makers = [one for one in manifests if one["kind"] in {"Deployment", "StatefulSet"}]
    pods = [(one["metadata"]["name"], one["spec"]) for one in manifests if one["kind"] == "Pod"]
    return [(one["metadata"]["name"], one["spec"]["template"]["spec"]) for one in makers] + pods


def environment(manifests: list[Manifest], container: Manifest, secret: Mapping[str, str]) -> dict[str, str]:
    """What the process in *container* finds in its environment; *secret* stands for a Secret that is not among the manifests."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        if "configMapRef" in source:
            found |= named(manifests, "ConfigMap", source["configMapRef"]["name"])["data"]
        else:
            found |= _secret(manifests, source["secretRef"]["name"], secret)
    for entry in container.get("env", ()):
        if "value" in entry:
            found[entry["name"]] = entry["value"]
        else:
            reference = entry["valueFrom"]["secretKeyRef"]
            found[entry["name"]] = _secret(manifests, reference["name"], secret)[reference["key"]]
    return found


def _secret(manifests: list[Manifest], name: str, absent: Mapping[str, str]) -> dict[str, str]:
    made = [one["stringData"] for one in manifests if one["kind"] == "Secret" and one["metadata"]["name"] == name]
    return made[0] if made else dict(absent)


@dataclass(frozen=True)
class Cage:
    """The security context of a pod and its container, as far as bubblewrap can make one: user, read-only root, no capabilities."""

    user: int
    group: int
    read_only: bool

    @classmethod
    def of(cls, pod: Manifest) -> Cage:
        own = pod["containers"][0]["securityContext"]
        return cls(pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"], own["readOnlyRootFilesystem"])

    def around(self, command: list[str], writable: Path) -> list[str]:
        """*command* in it, which may write to *writable* and an empty /tmp alone."""
        words = [
            "bwrap",
            "--die-with-parent",
            "--ro-bind" if self.read_only else "--bind",
            "/",
            "/",
            "--dev",
            "/dev",
            "--proc",
            "/proc",
        ]
        words += ["--tmpfs", "/tmp", "--ro-bind", str(REPOSITORY), str(REPOSITORY), "--bind", str(writable), str(writable)]
        words += ["--unshare-user", "--uid", str(self.user), "--gid", str(self.group), "--cap-drop", "ALL", "--"]
        return [*words, *command]

    def provided(self, folder: Path) -> None:
        """Skip the test where no such cage can be made, and fail it in CI."""
        made = (
            shutil.which("bwrap") and not subprocess.run(self.around(["true"], folder), check=False, capture_output=True).returncode
        )
        if not made:
            (pytest.fail if required() else pytest.skip)("bubblewrap is not installed, or may make no namespaces here")


class RunningPod(RunningServer):
    """The container of one pod as a process on loopback: its command, its environment, the security context.

    *env* puts addresses of this machine in the place of those of a cluster; ports are free ones.
    """

    def __init__(self, folder: Path, pod: Manifest, rendered_env: Mapping[str, str], env: Mapping[str, str | None]) -> None:
        (self._container,) = pod["containers"]
        self._cage = Cage.of(pod)
        (folder / "data").mkdir(parents=True)
        self._cage.provided(folder)
        super().__init__(folder, {**rendered_env, **env, "MEDIA_DATA_DIR": str(folder / "data")})
        self.env.pop("TMPDIR", None)
        (listens,) = (entry["containerPort"] for entry in self._container["ports"])
        own = free_port()
        self.ports = {entry["name"]: own for entry in self._container["ports"]}
        self.args = [
            "127.0.0.1" if word == "0.0.0.0" else str(own) if word == str(listens) else word for word in self._container["args"]
        ]
        for name in ("MEDIA_HOST", "PROCESSOR_HOST"):
            if self.env.get(name) == "0.0.0.0":
                self.env[name] = "127.0.0.1"
        for name in ("MEDIA_PORT", "PROCESSOR_PORT"):
            if self.env.get(name) == str(listens):
                self.env[name] = str(own)
        self.url = f"http://127.0.0.1:{own}"
        self.port = own

    @property
    def command(self) -> list[str]:
        program = {"media-proxy": [sys.executable, "-m", "proxy"]}[self._container["command"][0]]
        return self._cage.around([*program, *self.args], self.folder)

    def start(self, seconds: float = START_S) -> Self:
        """Start it, and wait until its startup probe holds."""
        self.launch()
        return self.started(seconds)

    def started(self, seconds: float = START_S) -> Self:
        """Wait until its startup probe holds."""
        if not until(lambda: self.running and self._holds("startupProbe"), seconds):
            text = self.output.text[-3000:]
            self.kill()
            raise AssertionError(f"{self.args} is not up:\n{text}")
        return self

    def terminate(self) -> None:
        """SIGTERM to what runs in the cage, which does not pass it on."""
        for child in self.process.children():
            child.terminate()

    def probed(self, probe: str) -> Answer:
        """The answer to one of its probes."""
        asked = self._container[probe]["httpGet"]
        return Client(f"http://127.0.0.1:{self.ports[asked['port']]}").get(asked["path"])

    def _holds(self, probe: str) -> bool:
        try:
            return 200 <= self.probed(probe).status < 400
        except OSError:
            return False

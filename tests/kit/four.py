"""MinIO on four nodes and the balancer before them, from the files that deploy/minio-distributed ships, on loopback addresses.

Each node runs the command of its service as it is written, in a cage (bubblewrap) where the four names lead to four addresses of
this machine and /data is a folder of its own. What is added: the address to listen on, since four share one machine.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, Self

import pytest
import yaml
from botocore.exceptions import BotoCoreError, ClientError

from tests.kit.output import Output
from tests.kit.server import REPOSITORY
from tests.kit.shared import required
from tests.kit.stores import PROGRAMS, ObjectStore, why_absent
from tests.kit.waiting import until

SHIPPED = REPOSITORY / "deploy" / "minio-distributed"
START_S = 120.0
TRIAL = "trial-of-the-nodes"


def compose() -> dict[str, Any]:
    """The compose file."""
    return dict(yaml.safe_load((SHIPPED / "compose.yml").read_text()))


def endpoints(words: list[str]) -> list[str]:
    """The addresses of all nodes in the words of a command, ``{1...4}`` and its kin written out."""
    (pattern,) = [word for word in words if word.startswith("http")]
    found = re.search(r"\{(\d+)\.\.\.(\d+)\}", pattern)
    assert found is not None
    return [pattern.replace(found[0], str(number)) for number in range(int(found[1]), int(found[2]) + 1)]


class Node(ObjectStore):
    """One of the four: its *service* in the compose file, under its *name*, at *address*; *hosts* is a file of all names."""

    def __init__(self, name: str, service: dict[str, Any], folder: Path, address: str, hosts: Path, keys: tuple[str, str]) -> None:
        super().__init__("minio", folder)
        self.host, self.port = address, 9000
        self.endpoint = f"http://{address}:{self.port}"
        self.access_key, self.secret_key = keys
        self._name = name
        self._words = shlex.split(service["command"])
        self._named = {name: str(value) for name, value in service["environment"].items()}
        self._hosts = hosts

    def _command(self) -> tuple[list[str], dict[str, str]]:
        assert {"MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"} <= self._named.keys()
        words = [f"{self.host}{word}" if re.fullmatch(r":\d+", word) else word for word in self._words]
        cage = ["bwrap", "--die-with-parent", "--ro-bind", str(PROGRAMS["minio"].path), "/minio", "--bind", str(self.data), "/data"]
        cage += ["--ro-bind", str(self._hosts), "/etc/hosts", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--"]
        keys = {"MINIO_ROOT_USER": self.access_key, "MINIO_ROOT_PASSWORD": self.secret_key}
        # Who has names on loopback is taken to be alone, unless told which of them is its own, as in a cluster; and without
        # MINIO_CI_CD it takes no folder of the disk that the system is on.
        cluster = {"KUBERNETES_SERVICE_HOST": self.host, "_MINIO_SERVER_LOCAL": f"{self._name}:{self.port}", "MINIO_CI_CD": "1"}
        return [*cage, "/minio", *words, "--address", f"{self.host}:{self.port}"], self._named | keys | cluster


class Balancer:
    """HAProxy with the shipped configuration at *address*, where *hosts* has the names of the nodes."""

    def __init__(self, folder: Path, address: str, hosts: Path) -> None:
        self.host, self.port = address, 9000
        text = (SHIPPED / "haproxy.cfg").read_text()
        assert "bind :9000" in text
        # Names are looked up once, in the file: there is no name server to be asked again.
        text = text.replace("bind :9000", f"bind {address}:9000").replace(" resolvers names", "")
        self._file, self._hosts = folder / "haproxy.cfg", hosts
        self._file.write_text(text.partition("\nresolvers names")[0] + "\n")
        self.output = Output()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it."""
        if (program := shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")) is None:
            (pytest.fail if required() else pytest.skip)("haproxy is not installed")
        cage = [
            "bwrap",
            "--die-with-parent",
            "--ro-bind",
            "/",
            "/",
            "--ro-bind",
            str(self._hosts),
            "/etc/hosts",
            "--dev",
            "/dev",
            "--",
        ]
        self._process = subprocess.Popen(
            [*cage, program, "-db", "-f", str(self._file)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.output.follow(self._process.stdout)  # type: ignore[arg-type]
        return self

    def kill(self) -> None:
        """SIGTERM, which it ends at."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self.output.join()


class Four(ObjectStore):
    """All of it, with one address: that of the balancer. Use it as a context."""

    def __init__(self, folder: Path) -> None:
        super().__init__("minio", folder)
        folder.mkdir(parents=True, exist_ok=True)
        services = compose()["services"]
        names = [name for name in services if name != "minio"]
        network = f"127.{secrets.randbelow(250) + 2}.{secrets.randbelow(250) + 2}"
        addresses = {name: f"{network}.{number}" for number, name in enumerate(names, 1)}
        hosts = folder / "hosts"
        hosts.write_text("".join(f"{address} {name}\n" for name, address in addresses.items()))
        self.access_key, self.secret_key = f"test{secrets.token_hex(8)}", secrets.token_hex(20)
        keys = (self.access_key, self.secret_key)
        self.nodes = [Node(name, services[name], folder / name, addresses[name], hosts, keys) for name in names]
        self.balancer = Balancer(folder, f"{network}.{len(names) + 1}", hosts)
        self._has_trial = False
        self.host, self.port = self.balancer.host, self.balancer.port
        self.endpoint = f"http://{self.host}:{self.port}"

    def __enter__(self) -> Self:
        reason = why_absent("minio", self.folder) or (None if shutil.which("bwrap") else "bubblewrap is not installed")
        if reason is not None:
            (pytest.fail if required() else pytest.skip)(reason)
        self.balancer.start()
        self.back(*range(len(self.nodes)))
        return self

    def __exit__(self, *_: object) -> None:
        self.cut(*range(len(self.nodes)))
        self.balancer.kill()

    def back(self, *numbers: int) -> None:
        """Start those nodes, also again after `cut`, and wait until they answer, and all together take objects."""
        for number in numbers:
            self.nodes[number].launch()
        if not until(lambda: all(self.nodes[number].up() for number in numbers) and self.takes(), START_S):
            text = "\n".join(self.nodes[number].output.text[-1500:] for number in numbers) + self.balancer.output.text[-800:]
            self.__exit__()
            raise AssertionError(f"the nodes did not come up:\n{text}")

    def takes(self) -> bool:
        """Whether an object can be put, by a client that is not ours. The first one after a start takes some seconds."""
        client = self.client()
        try:
            if not self._has_trial:
                client.create_bucket(Bucket=TRIAL)
                self._has_trial = True
            client.put_object(Bucket=TRIAL, Key="trial", Body=b"trial")
        except (ClientError, BotoCoreError) as error:
            self._has_trial |= "BucketAlreadyOwnedByYou" in str(error)  # whose answer was lost
            return False
        return True

    def cut(self, *numbers: int) -> None:
        """Kill those nodes, as machines that lose their power."""
        for number in numbers:
            self.nodes[number].kill()

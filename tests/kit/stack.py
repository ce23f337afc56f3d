"""docker-compose.media.yml as plain processes: each service runs its own command, in its own environment, among its own files.

A service is in a cage (bubblewrap) with the user, the mounts and the names that the compose file gives it, and has an address of
its own on loopback; so ports, names and paths stay as they are shipped. What differs is said where it is done: above all, to listen
everywhere becomes to listen at that address, since all share one machine.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import jwt
import psutil
import pytest
import yaml
from botocore.session import get_session

from scripts import stores
from tests.kit import certificates, clamd, postgres
from tests.kit.client import Client
from tests.kit.output import Output
from tests.kit.server import REPOSITORY
from tests.kit.shared import required
from tests.kit.waiting import until

COMPOSE = REPOSITORY / "docker-compose.media.yml"
PROXIES = ("media-proxy", "media-proxy-2")
OWN_PLACES = {"data", "dev", "etc", "proc", "run", "tmp", "var"}
"""Top folders that a container has for itself; all others are those of this machine, to be read."""
SYSTEM = ("alternatives", "fonts", "group", "host.conf", "ld.so.cache", "localtime", "nsswitch.conf", "passwd", "ssl")
"""What programs need of /etc."""
BY_IMAGE = {"minio": ["minio"], "nginx": ["nginx", "-g", "daemon off;"]}
"""What an image starts, before the words of the compose file."""
STARTS = {"/init-unprivileged": "clamd"}
"""What programs of an image start which are not here; clamav's fetches signatures, too, and the tests have their own."""
UP_S = 120.0


def compose() -> dict[str, Any]:
    """The compose file."""
    return dict(yaml.safe_load(COMPOSE.read_text(encoding="utf-8")))


def filled(text: str, values: dict[str, str]) -> str:
    """*text* with ``${NAME:-otherwise}`` and ``${NAME:?message}`` filled in, as Compose does; ``$$`` is one dollar."""

    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        given = values.get(found[1]) or (found[3] or "" if found[2] == "-" else None)
        assert given is not None, f"{found[1]} {found[3]}"
        return given

    return re.sub(r"\$\$|\$\{([A-Z_]+):([-?])([^}]*)\}", value, text)


class Service:
    """One service of *stack*, at *address*. Its processes are ended with it."""

    def __init__(self, stack: Stack, name: str, address: str) -> None:
        self.name, self.address = name, address
        self.output = Output()
        self._stack = stack
        self._told: dict[str, Any] = stack.services[name]
        self._process: subprocess.Popen[bytes] | None = None

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start it, also again after `kill`, and wait until it is what those who depend on it wait for."""
        assert not self.running, f"{self.name} runs already"
        self.output = Output()
        self._process = subprocess.Popen(
            self._caged(self._words()),
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self.output.follow(self._process.stdout)  # type: ignore[arg-type]
        if self._told.get("restart") == "no":
            assert self._process.wait(UP_S) == 0, self.output.text[-2000:]
            self.output.join()
        else:
            assert until(self.healthy, UP_S), f"{self.name} does not get healthy:\n{self.output.text[-3000:]}"
        return self

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.poll() is None

    def healthy(self) -> bool:
        """Whether its health check, run as it is written, says so."""
        assert self.running, f"{self.name} has ended:\n{self.output.text[-3000:]}"
        kind, *words = self._told["healthcheck"]["test"]
        words = ["/bin/sh", "-c", *words] if kind == "CMD-SHELL" else words
        command = self._caged([self._here(filled(word, self._stack.values)) for word in words])
        with suppress(subprocess.TimeoutExpired):
            return subprocess.run(command, env=self._environment(), check=False, capture_output=True, timeout=20).returncode == 0
        return False

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """How a command in it ended, as by `docker compose exec`."""
        command, env = self._caged([*words]), self._environment()
        return subprocess.run(command, env=env, check=False, capture_output=True, text=True, timeout=UP_S)

    def terminate(self) -> None:
        """SIGTERM to its first program, as at `docker stop`."""
        assert self._process is not None
        cages = {"bwrap"}
        next(child for child in psutil.Process(self._process.pid).children(recursive=True) if child.name() not in cages).terminate()

    def wait(self, seconds: float = 60.0) -> int:
        """Its exit status, once it has ended; raises subprocess.TimeoutExpired."""
        assert self._process is not None
        status = self._process.wait(seconds)
        self.output.join()
        return status

    def kill(self) -> None:
        """SIGKILL to all its processes, as when a container is killed: they are a family of their own."""
        if self.running:
            assert self._process is not None
            children = psutil.Process(self._process.pid).children(recursive=True)
            self._process.kill()
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            self._process.wait(10)
            psutil.wait_procs(children, 10)
            self.output.join()

    # -- what the compose file says of it -----------------------------------------------------------------------------

    def _words(self) -> list[str]:
        entry, command = self._told.get("entrypoint"), self._told.get("command", [])
        words = [*(BY_IMAGE.get(self.name, []) if entry is None else entry)]
        words += shlex.split(command) if isinstance(command, str) else command
        words = [self._here(filled(word, self._stack.values)) for word in words]
        words = [re.sub("|".join(STARTS), lambda found: STARTS[found[0]], word) for word in words]
        # MinIO takes its port on all addresses unless told, and asks for a disk of its own.
        return [*words, "--address", f"{self.address}:9000"] if self.name == "minio" else words

    def _here(self, text: str) -> str:
        """*text*, where what a container calls all addresses or its own is the address of this service."""
        if re.fullmatch(r":\d+", text):
            return self.address + text
        return text.replace("0.0.0.0", self.address).replace("127.0.0.1", self.address)

    def _environment(self) -> dict[str, str]:
        told = {name: filled(value, self._stack.values) for name, value in self._told.get("environment", {}).items()}
        given = {name: self.address if value == "0.0.0.0" else value for name, value in told.items()}
        # On loopback a connection comes from 127.0.0.1, whoever makes it.
        given = {name: value.replace(self._stack.nginx_address, "127.0.0.1") for name, value in given.items()}
        own = {"PATH": self._stack.path, "HOME": "/tmp", "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
        return own | ({"MINIO_CI_CD": "1"} if self.name == "minio" else {}) | given

    def _caged(self, words: list[str]) -> list[str]:
        cage = ["bwrap", "--die-with-parent", "--unshare-pid", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
        for place in Path("/").iterdir():
            if place.is_symlink():
                cage += ["--symlink", str(place.readlink()), str(place)]
            elif place.is_dir() and place.name not in OWN_PLACES:
                cage += ["--ro-bind", str(place), str(place)]
        for place in (Path("/etc") / name for name in SYSTEM):
            cage += ["--ro-bind-try", str(place), str(place)]
        cage += ["--ro-bind-try", "/etc/nginx/mime.types", "/etc/nginx/mime.types"]
        for shown in (REPOSITORY, stores.folder(), self._stack.tools):
            cage += ["--ro-bind", str(shown), str(shown)]
        for tmpfs in self._told.get("tmpfs", []):
            if (target := tmpfs.partition(":")[0]) != "/tmp":
                cage += [*_way_to(target), "--tmpfs", target]
        for volume in self._told.get("volumes", []):
            source, target, *mode = filled(volume, self._stack.values).split(":")
            cage += [*_way_to(target), "--ro-bind" if mode == ["ro"] else "--bind", str(self._stack.source(source)), target]
        cage += ["--ro-bind", str(self._stack.hosts(self)), "/etc/hosts", "--chdir", "/tmp"]
        if user := self._told.get("user"):
            uid, _, gid = user.partition(":")
            cage += ["--unshare-user", "--uid", uid, "--gid", gid, "--cap-drop", "ALL"]
        return [*cage, "--", *words]


class Stack:
    """All of it, with *profiles*, and data in *folder*. Use it as a context."""

    def __init__(self, folder: Path, *profiles: str) -> None:
        self.folder = folder
        told = compose()
        self.services = {
            name: service for name, service in told["services"].items() if set(service.get("profiles", profiles)) & {*profiles}
        }
        network = f"127.{secrets.randbelow(250) + 2}.{secrets.randbelow(250) + 2}"
        self.address = {name: f"{network}.{number}" for number, name in enumerate(self.services, 1)}
        self.nginx_address: str = told["services"]["nginx"]["networks"]["inside"]["ipv4_address"]
        self.tools = folder / "tools"
        self.path = f"{self.tools}:{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
        self.values = self._secrets(profiles)
        self.running = {name: Service(self, name, self.address[name]) for name in self.services if name != "postgres"}
        self._postgres = postgres.provided(self.address["postgres"], 5432) if "postgres" in self.services else None

    def __getitem__(self, name: str) -> Service:
        return self.running[name]

    def __enter__(self) -> Self:
        reason = self._absent()
        if reason is not None:
            (pytest.fail if required() else pytest.skip)(reason)
        self.tools.mkdir()
        for program in stores.PROGRAMS:
            (self.tools / program.name).symlink_to(program.path)
        try:
            if self._postgres is not None:
                secret = self.values["POSTGRES_PASSWORD"]
                self._postgres.start().query(f"CREATE ROLE media LOGIN PASSWORD '{secret}'")
                self._postgres.query("CREATE DATABASE media OWNER media")
            if "clamav" in self.services:
                clamd.write_signatures(self.source("clamav-data"))
            for name in self._order():
                self[name].start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for service in reversed(self.running.values()):
            service.kill()
        if self._postgres is not None:
            self._postgres.stop()

    # -- clients ------------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where nginx listens."""
        return f"https://{self.address['nginx']}:8443"

    def client(self, sub: str | None = None, at: str = "nginx", **claims: Any) -> Client:
        """A client of nginx, or of the proxy *at*, that shows a token of *sub*."""
        token = self.token(sub, **claims) if sub is not None else None
        if at != "nginx":
            return Client(f"http://{self.address[at]}:10020", token)
        trusted = ssl.create_default_context(cafile=str(self.folder / "authority" / "ca.pem"))
        return Client(self.url, token, trusted=trusted)

    def token(self, sub: str, **claims: Any) -> str:
        """A token as a back end makes it with the secret in .env."""
        now = int(time.time())
        return jwt.encode({"sub": sub, "iat": now, "exp": now + 3600, **claims}, self.values["JWT_SECRET"], "HS256")

    def bucket(self, access_key: str, secret_key: str) -> Any:
        """A client of the store that is not ours."""
        return get_session().create_client(
            "s3", region_name="us-east-1", endpoint_url=self.values["MINIO_PUBLIC_ENDPOINT"], aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
        )  # fmt: skip

    # -- what a service finds -----------------------------------------------------------------------------------------

    def source(self, volume: str) -> Path:
        """What a service has mounted: a file of the repository, or a volume's folder."""
        if volume == "./deploy/nginx/nginx.conf":
            return self._nginx_conf()
        if volume == "./deploy/clamav/clamd.conf":
            return self._clamd_conf()
        if volume.startswith("./"):
            return REPOSITORY / volume
        place = Path(volume) if volume.startswith("/") else self.folder / "volumes" / volume
        place.mkdir(parents=True, exist_ok=True)
        return place

    def hosts(self, service: Service) -> Path:
        """The names that *service* knows, in a file."""
        lines = [f"{service.address} localhost"]
        for name, told in self.services.items():
            aliases = next((place.get("aliases", []) for place in _networks(told) if place), [])
            lines.append(" ".join([self.address[name], name, *aliases]))
        place = self.folder / f"hosts-{service.name}"
        place.write_text("\n".join(lines) + "\n")
        return place

    def _nginx_conf(self) -> Path:
        """The shipped configuration as Debian's older nginx takes it, which names no `resolve` and no `http2` of its own."""
        text = (REPOSITORY / "deploy" / "nginx" / "nginx.conf").read_text()
        for told, here in (
            ("listen 8443 ssl;", f"listen {self.address['nginx']}:8443 ssl http2;"),
            ("http2 on;", ""),
            ("server proxies:10020 resolve ", "server proxies:10020 "),
        ):
            assert told in text, told
            text = text.replace(told, here)
        place = self.folder / "nginx.conf"
        place.write_text(text)
        return place

    def _clamd_conf(self) -> Path:
        """The shipped configuration, where all addresses are the one of the service."""
        text = (REPOSITORY / "deploy" / "clamav" / "clamd.conf").read_text()
        assert "TCPAddr 0.0.0.0" in text
        place = self.folder / "clamd.conf"
        place.write_text(text.replace("TCPAddr 0.0.0.0", f"TCPAddr {self.address['clamav']}"))
        return place

    def _secrets(self, profiles: Iterable[str]) -> dict[str, str]:
        """What scripts/init-env.sh writes, and what an operator adds."""
        self.folder.mkdir(parents=True, exist_ok=True)
        made = certificates.authority(self.folder / "authority", self.address.get("nginx", "127.0.0.1"))
        tls = self.folder / "tls"
        tls.mkdir()
        shutil.copy(made.certificate, tls / "fullchain.pem")
        shutil.copy(made.key, tls / "privkey.pem")
        file = self.folder / "env"
        command = ["sh", str(REPOSITORY / "scripts" / "init-env.sh"), *profiles]
        subprocess.run(command, env=os.environ | {"MEDIA_ENV": str(file)}, check=True, capture_output=True, timeout=60)
        written = dict(line.split("=", 1) for line in file.read_text().splitlines() if not line.startswith("#"))
        addresses = {"MINIO_PUBLIC_ENDPOINT": f"http://{self.address['minio']}:9000", "MEDIA_PUBLIC_URL": self.url}
        return written | addresses | {"TLS_DIR": str(tls)}

    def _order(self) -> list[str]:
        """Names of services, each after those that it depends on."""
        found: list[str] = []

        def add(name: str) -> None:
            for needed in self.services[name].get("depends_on", {}):
                if needed in self.running:
                    add(needed)
            if name not in found:
                found.append(name)

        for name in self.running:
            add(name)
        return found

    @staticmethod
    def _absent() -> str | None:
        missing = [program.name for program in stores.PROGRAMS if not os.access(program.path, os.X_OK)]
        if missing:
            return f"{', '.join(missing)} not built: install Go, then run make test"
        needed = ("bwrap", "redis-server", "nginx", "ffmpeg", "wget", "openssl", "clamd", "nc")
        absent = [name for name in needed if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
        return f"not installed: {', '.join(absent)}" if absent else None


def _way_to(target: str) -> list[str]:
    """Words that make the folders above *target* such as all may pass."""
    return [word for place in reversed(Path(target).parents[:-1]) for word in ("--perms", "0755", "--dir", str(place))]


def _networks(told: dict[str, Any]) -> list[dict[str, Any] | None]:
    networks = told["networks"]
    return list(networks.values()) if isinstance(networks, dict) else []

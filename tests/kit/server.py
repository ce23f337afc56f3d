"""The real server as a child process with a data folder of its own, and all that a test may ask about it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import jwt
import psutil

from tests import pictures
from tests.kit.client import Answer, Client, media
from tests.kit.output import Output
from tests.kit.raw import Wire
from tests.kit.waiting import until

REPOSITORY = Path(__file__).parents[2]
SECRET = "a test secret that is long enough for HS256, no more"
START_S = 60.0
STOP_S = 60.0
CATALOGUE = re.compile(r"\.(db|sqlite3?)(-wal|-shm|-journal)?$|(^|/)(\.lock|lock|jwt-secret|jwt\.secret|secret)$")
CONNECTIONS = Path("/proc/net/tcp")
"""The connections of all processes, where the system is Linux."""
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "VIRTUAL_ENV", "COVERAGE_PROCESS_START")


class RunningServer:
    """`python -m proxy serve` on a free loopback port. *env* is added to the defaults; a value of None takes a variable away."""

    def __init__(self, folder: Path, env: Mapping[str, str | None] | None = None) -> None:
        self.data = folder / "media-data"
        given: dict[str, str | None] = {
            "MEDIA_HOST": "127.0.0.1",
            "MEDIA_PORT": "0",
            "MEDIA_DATA_DIR": str(self.data),
            "JWT_SECRET": SECRET,
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(REPOSITORY),
            **(env or {}),
        }
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        self.env = kept | {name: value for name, value in given.items() if value is not None}
        self.data = Path(self.env["MEDIA_DATA_DIR"])
        self.folder = folder
        self.output = Output()
        self.url = ""
        self.port = 0
        self._is_warm = False
        self._process: subprocess.Popen[bytes] | None = None

    # -- life ---------------------------------------------------------------------------------------------------------

    def start(self, seconds: float = START_S) -> Self:
        """Start it and wait for the line that names its address; raises AssertionError with its output if none comes."""
        self.launch()
        line = self.output.wait_for(lambda text: re.search(r"http://127\.0\.0\.1:\d+", text) is not None, seconds=seconds)
        if line is None:
            status = self._process.poll() if self._process is not None else None
            self.kill()
            raise AssertionError(f"the server named no address (exit status {status}):\n{self.output.text[-1500:]}")
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert found is not None
        self.url, self.port = found[0], int(found[1])
        ready = until(self._answers, seconds)
        if not ready:
            self.kill()
            raise AssertionError(f"the server named its address and did not answer:\n{self.output.text[-1500:]}")
        return self

    def launch(self) -> None:
        """Start it and wait for nothing."""
        assert self._process is None or self._process.poll() is not None, "it runs already"
        self.output = Output()
        self._is_warm = False
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            self.command,
            env=self.env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.output.follow(self._process.stdout)  # type: ignore[arg-type]
        self.output.follow(self._process.stderr)  # type: ignore[arg-type]

    @property
    def command(self) -> list[str]:
        """What starts it."""
        return [sys.executable, "-m", "proxy", "serve"]

    live = "/api/health/live"

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the server ended with {self._process.returncode}:\n{self.output.text[-1500:]}")
        with suppress(OSError):
            return Client(self.url).get(self.live).status == 200
        return False

    def terminate(self) -> None:
        """Send SIGTERM and return at once."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = STOP_S) -> int:
        """The exit status, once it has ended; raises subprocess.TimeoutExpired."""
        assert self._process is not None
        status = self._process.wait(seconds)
        self.output.join()
        return status

    def stop(self) -> int:
        """SIGTERM, then its exit status; killed (and an error) if it does not end within a minute."""
        if self._process is None or self._process.poll() is not None:
            return 0 if self._process is None else int(self._process.returncode)
        self.terminate()
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the server did not end within {STOP_S:g} s after SIGTERM:\n{self.output.text[-1500:]}") from None

    def kill(self) -> None:
        """SIGKILL to the server and to whatever it had started, as a machine that dies would."""
        if self._process is None:
            return
        children = self.children() if self._process.poll() is None else []
        with suppress(ProcessLookupError):
            self._process.kill()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        self._process.wait(5)
        psutil.wait_procs(children, 5)
        self.output.join()

    def restart(self) -> Self:
        """Stop it and start it again on the same data folder, on whatever port is free."""
        self.stop()
        return self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self.kill()

    # -- clients ------------------------------------------------------------------------------------------------------

    def client(self, sub: str | None = None, **claims: Any) -> Client:
        """A client that shows a token of *sub*; one without a token when *sub* is None."""
        return Client(self.url, self.token(sub, **claims) if sub is not None else None)

    def wire(self, **options: Any) -> Wire:
        """A raw connection."""
        return Wire("127.0.0.1", self.port, **options)

    def token(self, sub: str = "user123", *, scope: str | None = None, lifetime_s: int = 3600, **claims: Any) -> str:
        """A token signed with the server's own secret; *claims* are added, or taken away where None."""
        now = int(time.time())
        payload: dict[str, Any] = {"sub": sub, "iat": now, "exp": now + lifetime_s, "scope": scope}
        payload |= {"aud": self.env.get("JWT_AUDIENCE"), "iss": self.env.get("JWT_ISSUER"), **claims}
        return jwt.encode({name: value for name, value in payload.items() if value is not None}, self.env["JWT_SECRET"], "HS256")

    # -- what it has --------------------------------------------------------------------------------------------------

    @property
    def process(self) -> psutil.Process:
        """The HTTP process."""
        assert self._process is not None
        return psutil.Process(self._process.pid)

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.poll() is None

    def place(self, key: str, data: bytes, content_type: str) -> None:
        """Put an object into the store past all that an upload is checked for, as others do with a bucket."""
        answer = self.client("boss", scope="media:admin").request("PUT", f"/api/store/{key}", {"Content-Type": content_type}, data)
        assert answer.status == 201, answer

    def children(self) -> list[psutil.Process]:
        """All processes below it, of any generation, zombies too."""
        with suppress(psutil.NoSuchProcess):
            return list(self.process.children(recursive=True))
        return []

    def rss(self) -> int:
        """Resident bytes of the HTTP process alone."""
        return int(self.process.memory_info().rss)

    def rss_of_all(self) -> int:
        """Resident bytes of it and its children."""
        total = self.rss()
        for child in self.children():
            with suppress(psutil.NoSuchProcess):
                total += child.memory_info().rss
        return total

    def files(self) -> set[str]:
        """Every file below the data folder, by its name within it, but those of the catalogue, the lock and the secret."""
        names: set[str] = set()
        for folder, _, files in os.walk(self.data):
            names.update(str(Path(folder, name).relative_to(self.data)) for name in files)
        return {name for name in names if not CATALOGUE.search(name)}

    def warm(self) -> None:
        """Let every worker do a job, once, so that what they load then does not count as grown later."""
        if self._is_warm or "JWT_SECRET" not in self.env:
            return
        self._is_warm = True
        client = self.client("warm", scope="media:admin")
        photo = pictures.jpeg(64, 64)

        def work(width: int) -> None:
            path = media(client.stored(photo)["key"])
            client.get(f"{path}?w={width}")
            client.delete(path)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(8, 24)))

    def settle(self) -> None:
        """Wait until what earlier requests left is done: renditions are stored behind answers, log lines come through a pipe."""
        assert until(lambda: self.metric("media_storing") == 0), "renditions are still being stored"
        mark = self.output.mark
        last = Client(self.url).get("/api/health/live").headers["X-Request-ID"]
        assert self.output.wait_for(lambda line: last in line, since=mark), "the log does not come"

    def open_files(self) -> set[str]:
        """Names of the regular files that the HTTP process has open below its data folder, but those of the catalogue."""
        below = str(self.data.resolve()) + os.sep
        with suppress(psutil.Error):
            names = (str(file.path) for file in self.process.open_files())
            return {name.removeprefix(below) for name in names if name.startswith(below) and not CATALOGUE.search(name)}
        return set()

    def connections(self) -> int:
        """How many client connections it holds, in whatever state."""
        return self.handles()[0]

    def handles(self) -> tuple[int, int]:
        """How many client connections and how many other descriptors the HTTP process has, without files of the catalogue, which
        are pooled."""
        with suppress(psutil.Error, OSError):
            if not CONNECTIONS.exists():
                lines = self.process.net_connections("tcp")
                connections = sum(1 for one in lines if one.laddr and one.laddr.port == self.port and one.raddr)
                pooled = sum(1 for file in self.process.open_files() if CATALOGUE.search(str(file.path)))
                return connections, int(self.process.num_fds()) - connections - pooled
            # The table first: what is closed before the descriptors are read is then neither. psutil reads all rows of all
            # processes, also of the thousands of connections that have just ended: 32 ms.
            row = rb":%04X [0-9A-F]{8}:(?!0000)(?:\S+ +){7}(\d+) " % self.port
            ours = {f"socket:[{int(inode)}]" for inode in re.findall(row, CONNECTIONS.read_bytes())}
            held = [link for descriptor in Path(f"/proc/{self.process.pid}/fd").iterdir() if (link := target(descriptor))]
            connections = sum(1 for link in held if link in ours)
            return connections, sum(1 for link in held if not CATALOGUE.search(link)) - connections
        return 0, 0

    def metrics(self) -> dict[str, float]:
        """Every series of /metrics, as ``name{label="value",…}``, with its value."""
        answer = Client(self.url).get("/metrics")
        assert answer.status == 200, answer
        series = {}
        for line in answer.text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                series[name] = float(value)
        return series

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the series called *name* that carry all *labels*."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            value
            for series, value in self.metrics().items()
            if series.partition("{")[0] == name and all(pair in series for pair in wanted)
        )

    def log_lines(self, since: int = 0) -> list[dict[str, Any]]:
        """The structured log lines after *since*; lines that are not JSON objects are left out."""
        found = []
        for line in self.output.since(since):
            with suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict):
                    found.append(entry)
        return found


def target(descriptor: Path) -> str | None:
    """What a descriptor in /proc is of; None if it was closed meanwhile."""
    with suppress(FileNotFoundError):
        return str(descriptor.readlink())
    return None


__all__ = ["SECRET", "Answer", "RunningServer"]

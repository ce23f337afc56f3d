"""`media-proxy processor` as a child process."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.kit.client import Client
from tests.kit.server import RunningServer

TOKEN = "what proxies and processors share in tests"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


class RunningProcessor(RunningServer):
    """One on a free loopback port, or on *port*, with *env* beside what it needs."""

    live = "/health/live"

    def __init__(self, folder: Path, port: int = 0, **env: str | None) -> None:
        super().__init__(folder, {"PROCESSOR_PORT": str(port), "PROCESSOR_TOKEN": TOKEN, **env})

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "proxy", "processor"]

    def metrics(self) -> dict[str, float]:
        pairs = (line.rpartition(" ") for line in Client(self.url).get("/metrics", HEADERS).text.splitlines() if line[:1] != "#")
        return {name: float(value) for name, _, value in pairs}

    def state(self) -> Any:
        """What it says of itself."""
        return json.loads(Client(self.url).get("/health", HEADERS).body)

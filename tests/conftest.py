"""What most tests stand on: one real server for the whole session, and a maker of others with settings of their own."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.kit import aftereffects
from tests.kit.aftereffects import BadInput
from tests.kit.client import Client
from tests.kit.databases import database
from tests.kit.postgres import postgres_server, postgres_url
from tests.kit.redis import patient, redis
from tests.kit.server import RunningServer
from tests.kit.stores import _end_of_stores, minio, versitygw

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # others use this machine as well
settings.load_profile("suite")

__all__ = ["_end_of_stores", "database", "minio", "patient", "postgres_server", "postgres_url", "redis", "versitygw"]

MOST_WORKERS = 4


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker for each core and one more, since many tests wait; four at most. None for the tests of one file, which run one after
    the other anyway: what they print is seen, and a debugger can be used."""
    files = {argument.partition("::")[0] for argument in config.args}
    if len(files) == 1 and all(Path(file).is_file() for file in files):
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores + 1, MOST_WORKERS)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The real server with default settings, shared by all tests that do not change it."""
    with RunningServer(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., RunningServer]]:
    """Starts servers with settings of their own: ``serve(MEDIA_READ_ACCESS="owner")``; a value of None takes one away."""
    started: list[RunningServer] = []

    def start(**env: str | None) -> RunningServer:
        running = RunningServer(tmp_path / f"server{len(started)}", env)
        started.append(running)
        return running.start()

    try:
        yield start
    finally:
        for running in started:
            running.kill()


@pytest.fixture
def owner() -> str:
    """An owner that no other test has."""
    return f"u{secrets.token_hex(6)}"


@pytest.fixture
def client(server: RunningServer, owner: str) -> Client:
    """A client of the shared server with a token of *owner*."""
    return server.client(owner)


@pytest.fixture
def stranger(server: RunningServer) -> Client:
    """A client of the shared server without a token."""
    return server.client()


Harmless = Callable[..., AbstractContextManager[BadInput]]


@pytest.fixture
def harmless(server: RunningServer) -> Harmless:
    """Checks the after-effects of a bad input to the shared server: ``with harmless(413, "too-large") as bad: bad.answer = …``."""
    return partial(aftereffects.harmless, server)

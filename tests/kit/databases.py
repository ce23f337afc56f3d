"""The databases that a catalogue can stand on, for tests that must hold on each of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.adapters.catalogue import Database
from proxy.adapters.postgres import PostgresDatabase
from proxy.adapters.sqlite import SqliteDatabase

CONNECTIONS = 8
PATIENT_S = 60.0
"""A deadline that a busy machine does not miss."""

Open = Callable[[], Database]
"""Gives the database of a test, not yet entered: each time the same one, as another process would open it."""


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """An empty database of the test's own, of each kind."""
    if request.param == "sqlite":
        return lambda: SqliteDatabase(tmp_path / "catalogue.sqlite")
    url = request.getfixturevalue("postgres_url")
    return lambda: PostgresDatabase(url, CONNECTIONS, PATIENT_S)

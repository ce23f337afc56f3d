"""What streaming through the S3 store costs in memory. Slow; figures are printed with -s."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit import stores
from tests.kit.server import REPOSITORY
from tests.kit.stores import ObjectStore

MIB = 1 << 20
GIB = 1 << 30


@pytest.fixture(params=["minio", "versitygw"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    """A store of the test's own, whose gigabytes go with it."""
    with stores.provided(request.param, tmp_path) as running:
        yield running


def load(store: ObjectStore, folder: Path, **what: Any) -> dict[str, float]:
    """What `tests.kit.s3_load` says."""
    settings = {
        "bucket": store.bucket(), "endpoint_url": store.endpoint, "region": store.region, "access_key": store.access_key,
        "secret_key": store.secret_key, "profile": store.profile, "spool": str(folder / "spool"),
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.kit.s3_load", json.dumps({"store": settings, **what})]
    ended = subprocess.run(command, cwd=REPOSITORY, check=False, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr[-3000:]
    found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    print(store.profile, what, found)
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is Linux's to tell")
@pytest.mark.parametrize("known", [True, False])
async def test_two_gibibytes_go_up_and_down_in_less_than_forty_mebibytes(store: ObjectStore, known: bool, tmp_path: Path) -> None:
    found = load(store, tmp_path, size=2 * GIB, count=1, known=known, with_bare=known, admitted=True)
    assert found["peak"] < 40 * MIB


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is Linux's to tell")
@pytest.mark.parametrize("known", [True, False])
async def test_a_hundred_uploads_at_once_take_less_than_three_hundred_mebibytes_in_all(
    store: ObjectStore, known: bool, tmp_path: Path
) -> None:
    found = load(store, tmp_path, size=64 * MIB, count=100, known=known, with_bare=False, admitted=False)
    assert found["all"] < 300 * MIB

"""Locks by key that hold between the processes of one machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.adapters.locks import KeyLocks, LockFile, place_of
from proxy.errors import Unavailable
from proxy.keys import Key
from tests.kit.holding import held_elsewhere
from tests.kit.waiting import until

KEY = Key("u7/a.jpg")
PLACE = place_of(hashlib.sha256(KEY.encode()).hexdigest())


@pytest.fixture
def file(tmp_path: Path) -> Iterator[LockFile]:
    """One that other processes may open too."""
    locks = LockFile(tmp_path / "keys.lock")
    locks.open()
    yield locks
    locks.close()


async def test_a_key_that_another_process_changes_is_waited_for(file: LockFile, tmp_path: Path) -> None:
    locks = KeyLocks(0.05, file)
    with held_elsewhere(tmp_path / "keys.lock", PLACE) as holder:
        with pytest.raises(Unavailable):
            async with locks.alone(KEY):
                pass
        async with locks.alone(Key("u7/another.jpg")):
            pass
        holder.kill()
        holder.wait()
        async with locks.alone(KEY):
            pass


def test_a_process_that_is_killed_holds_nothing(file: LockFile, tmp_path: Path) -> None:
    with held_elsewhere(tmp_path / "keys.lock", 7) as holder:
        assert not file.take(7)
        holder.kill()
        assert until(lambda: file.take(7), 1.0)


def test_some_may_share_what_one_cannot_have_alone_then(file: LockFile, tmp_path: Path) -> None:
    with held_elsewhere(tmp_path / "keys.lock", 7, shared=True):
        assert not file.is_free(7)
        assert file.take(7, shared=True)
        with held_elsewhere(tmp_path / "keys.lock", 7, shared=True):
            pass

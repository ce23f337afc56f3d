"""SIGKILL at random moments: what was acknowledged is there with its digest, what was not is nowhere."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable
from http.client import HTTPException

import pytest

from tests import pictures
from tests.kit.client import FilePart, media
from tests.kit.files import padded
from tests.kit.server import RunningServer
from tests.kit.waiting import until

WRITERS = 4
SEED = 20261123


class Ledger:
    """What the writers know: the digests of what was acknowledged, and the keys that were removed with an answer."""

    def __init__(self) -> None:
        self.stored: dict[str, str] = {}
        self.removed: set[str] = set()
        self.unsure: set[str] = set()
        self.lock = threading.Lock()


def write(server: RunningServer, ledger: Ledger, number: int, chance: random.Random, ended: threading.Event) -> None:
    """Upload (and now and then remove) until *ended*, and note what was acknowledged."""
    client = server.client(f"writer{number}")
    photo = pictures.jpeg(8, 8)
    while not ended.is_set():
        data = padded(photo, chance.choice([2_000, 60_000, 400_000, 3_000_000]) + chance.randrange(1000))
        try:
            answer = client.upload(data) if chance.random() < 0.7 else client.upload_form(FilePart(data))
            if answer.status == 201:
                with ledger.lock:
                    ledger.stored[answer.json["key"]] = hashlib.sha256(data).hexdigest()
                if chance.random() < 0.3:
                    remove(server, ledger, answer.json["key"], number)
        except (OSError, HTTPException):
            return  # the server is gone


def remove(server: RunningServer, ledger: Ledger, key: str, number: int) -> None:
    """Remove *key*; without an answer it may be there or not."""
    with ledger.lock:
        ledger.unsure.add(key)
    if server.client(f"writer{number}").delete(media(key)).status == 204:
        with ledger.lock:
            ledger.stored.pop(key)
            ledger.unsure.discard(key)
            ledger.removed.add(key)


def check(server: RunningServer, ledger: Ledger) -> None:
    """Every promise, after a restart."""
    reader = server.client()
    for key, digest in ledger.stored.items():
        answer = reader.get(media(key))
        if answer.status == 404:
            assert key in ledger.unsure, f"{key} was acknowledged and is gone"
            continue
        assert answer.status == 200, answer
        assert hashlib.sha256(answer.body).hexdigest() == digest, f"{key} has other bytes"
    for key in ledger.removed:
        assert reader.get(media(key)).status == 404, f"{key} was removed and is back"
    records = {asset["key"]: asset for number in range(WRITERS) for asset in server.client(f"writer{number}").assets()}
    assert ledger.stored.keys() - ledger.unsure <= records.keys()
    for key, record in records.items():
        answer = reader.get(media(key))
        assert answer.status == 200, f"{key} has a record and no bytes"
        assert hashlib.sha256(answer.body).hexdigest() == record["sha256"], f"{key} is not what its record says"
    sizes = {record["size"] for record in records.values()}
    files = {name: (server.data / name).stat().st_size for name in server.files()}
    left = {name: size for name, size in files.items() if size > 1000 and size not in sizes}
    assert not left, f"files of no object: {left}"


def rounds(serve: Callable[..., RunningServer], count: int) -> None:
    """Start, upload from several sides, kill at a random moment, start again and check; *count* times on one data folder."""
    chance = random.Random(SEED)
    ledger = Ledger()
    server = serve()
    for _ in range(count):
        ended = threading.Event()
        writers = [
            threading.Thread(target=write, args=(server, ledger, number, random.Random(chance.random()), ended), daemon=True)
            for number in range(WRITERS)
        ]
        for writer in writers:
            writer.start()
        assert until(lambda: ledger.stored), "the writers get nothing stored"
        ended.wait(chance.uniform(0.05, 0.8))
        server.kill()
        ended.set()
        for writer in writers:
            writer.join(10)
        server.start()
        spent = server.process.cpu_times()
        assert spent.user + spent.system < 8, "a start after a kill took too much"
        check(server, ledger)


@pytest.mark.timeout(180)
def test_what_was_acknowledged_survives_a_kill_at_any_moment(serve: Callable[..., RunningServer]) -> None:
    rounds(serve, 3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_was_acknowledged_survives_a_hundred_kills(serve: Callable[..., RunningServer]) -> None:
    rounds(serve, 100)

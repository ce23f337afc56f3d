"""The first store dies, or falls silent, and comes back, while people upload, read and remove: the whole service, end to end."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path

import pytest

from tests import pictures
from tests.kit.client import media
from tests.kit.files import padded
from tests.kit.server import RunningServer
from tests.kit.stores import ObjectStore, provided
from tests.kit.waiting import until

pytestmark = pytest.mark.stack

WRITERS = 4
SIZES = (2_000, 60_000, 400_000, 3_000_000)
"""All of them stay in hand until a store has them, so that none of these uploads may fail."""
SEED = 20261123
PHASE = 30
"""Requests in each phase: before the outage, within it, behind it."""


class People:
    """They upload, read and remove all the time, and note what they were told."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.stored: dict[str, str] = {}
        self.removed: set[str] = set()
        self.unsure: set[str] = set()
        self.answers: Counter[tuple[str, int]] = Counter()
        self.wrong: list[str] = []
        self.dying = False
        """Whether the service is about to be killed."""
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._live, args=(number,)) for number in range(WRITERS)]

    def __enter__(self) -> People:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(60)

    def done(self) -> int:
        """How many answers there were."""
        with self._lock:
            return sum(self.answers.values())

    def go_on(self, requests: int = PHASE) -> None:
        """Return when there were so many more answers."""
        target = self.done() + requests
        assert until(lambda: self.done() >= target, 90), f"only {self.answers}"

    def _live(self, number: int) -> None:
        chance = random.Random(SEED + number)
        photo = pictures.jpeg(8, 8)
        while not self._ended.is_set():
            try:
                move = chance.random()
                if move < 0.5:
                    self._upload(f"writer{number}", padded(photo, chance.choice(SIZES) + chance.randrange(1000)))
                elif move < 0.8:
                    self._read(chance)
                else:
                    self._remove(chance)
            except (OSError, HTTPException) as error:
                if not self.dying:
                    self._note("broken", 0, f"{error!r}")

    def _upload(self, owner: str, data: bytes) -> None:
        answer = self.server.client(owner).upload(data)
        with self._lock:
            if answer.status == 201:
                self.stored[answer.json["key"]] = hashlib.sha256(data).hexdigest()
        self._note("upload", answer.status, "" if answer.status == 201 else repr(answer))

    def _read(self, chance: random.Random) -> None:
        with self._lock:
            if not self.stored and not self.removed:
                return
            key = chance.choice([*self.stored, *self.removed])
            gone, digest = key in self.removed, self.stored.get(key)
        answer = self.server.client("reader", scope="media:admin").get(media(key))
        right = answer.status == 503 or (
            answer.status == 404 if gone else answer.status == 200 and hashlib.sha256(answer.body).hexdigest() == digest
        )
        with self._lock:  # somebody may be removing it
            right = right or (answer.status == 404 and key not in self.stored)
        self._note("read", answer.status, "" if right else f"{key}: {answer!r}")

    def _remove(self, chance: random.Random) -> None:
        with self._lock:
            if len(self.stored) < 5:
                return
            key = chance.choice(list(self.stored))
            digest = self.stored.pop(key)
            self.unsure.add(key)
        status = self.server.client("remover", scope="media:admin").delete(media(key)).status
        with self._lock:
            if status == 204:
                self.removed.add(key)
                self.unsure.discard(key)
            elif status == 503:
                self.unsure.discard(key)
                self.stored[key] = digest
        self._note("remove", status, "" if status in {204, 503} else str(status))

    def _note(self, what: str, status: int, wrong: str) -> None:
        with self._lock:
            self.answers[what, status] += 1
            if wrong:
                self.wrong.append(f"{what} {wrong}")


def settled(server: RunningServer) -> bool:
    """Whether every store is in use again and nothing is owed."""
    series = server.metrics()
    up = [value for name, value in series.items() if name.startswith("media_store_up{")]
    owed = [value for name, value in series.items() if name.startswith("media_store_debts{")]
    assert up
    assert owed
    return all(up) and not any(owed)


def what_is_left(server: RunningServer, people: People) -> list[str]:
    """What is not as people were told it is."""
    reader = server.client("reader", scope="media:admin")
    faults = []
    for key, digest in people.stored.items():
        answer = reader.get(media(key))
        if answer.status != 200 or hashlib.sha256(answer.body).hexdigest() != digest:
            faults.append(f"{key} was stored, and is {answer!r}")
    faults += [f"{key} was removed, and is there" for key in people.removed if reader.get(media(key)).status != 404]
    return faults


def originals_on_disk(server: RunningServer) -> list[str]:
    """The data of objects that are in the local store."""
    return [name for name in server.files() if name.startswith("media/objects/") and not name.endswith(".json")]


def killed(store: ObjectStore) -> Callable[[], object]:
    """SIGKILL; gives what brings it back."""
    store.kill()
    return store.start


def silent(store: ObjectStore) -> Callable[[], object]:
    """SIGSTOP: it takes connections and never answers; gives what brings it back."""
    store.pause()
    return store.resume


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    """A versitygw of the test's own."""
    return provided("versitygw", tmp_path / "versitygw")


@pytest.mark.parametrize("fall", [killed, pytest.param(silent, marks=pytest.mark.slow)])
def test_an_outage_of_the_first_store_loses_nothing_and_revives_nothing(
    store: ObjectStore, tmp_path: Path, fall: Callable[[ObjectStore], Callable[[], object]]
) -> None:
    with store, RunningServer(tmp_path / "server", store.settings()) as server:
        with People(server) as people:
            people.go_on()
            come_back = fall(store)
            people.go_on()
            assert server.metric("media_store_events_total", event="failover", store="local") > 0
            come_back()
            people.go_on()
        assert people.wrong == []
        assert until(lambda: settled(server), 60), server.metrics()
        assert what_is_left(server, people) == []
        assert originals_on_disk(server) == []
        assert {status for what, status in people.answers if what == "upload"} == {201}
        assert people.removed


@pytest.mark.slow
@pytest.mark.parametrize("at", [0.1, 0.5, 0.99])
def test_a_long_upload_whose_store_dies_under_it_is_told_so_and_leaves_nothing(
    store: ObjectStore, tmp_path: Path, at: float
) -> None:
    """24 MiB are more than is kept in hand; the second try goes to the next store."""
    data = padded(pictures.jpeg(8, 8), 24 << 20)

    def dying() -> Iterator[bytes]:
        for sent in range(0, len(data), 1 << 16):
            if sent <= at * len(data) < sent + (1 << 16):
                store.kill()
            yield data[sent : sent + (1 << 16)]

    with store, RunningServer(tmp_path / "server", store.settings()) as server:
        client = server.client("u")
        headers = {"Content-Type": "image/jpeg", "Content-Length": str(len(data))}
        answer = client.request("POST", "/api/upload", headers, dying())
        assert answer.status in {201, 503}
        assert answer.status == 503 or at == 0.99, "it may have been whole before"
        assert answer.status == 201 or "Retry-After" in answer.headers
        again = client.upload(data)
        assert again.status == 201
        store.start()
        assert until(lambda: settled(server), 60), server.metrics()
        assert originals_on_disk(server) == []
        assert hashlib.sha256(client.get(media(again.json["key"])).body).digest() == hashlib.sha256(data).digest()
        listed = client.get("/api/assets").json
        assert len(listed["assets"]) == (2 if answer.status == 201 else 1)


def test_debts_outlive_the_death_of_the_service_within_an_outage(store: ObjectStore, tmp_path: Path) -> None:
    with store, RunningServer(tmp_path / "server", store.settings()) as server:
        with People(server) as people:
            people.go_on()
            store.kill()
            people.go_on()
            people.dying = True
            server.kill()
        store.start()
        server.start()
        assert people.wrong == []
        assert until(lambda: settled(server), 60), server.metrics()
        assert what_is_left(server, people) == []


def test_what_was_removed_while_the_store_was_away_is_gone_from_it_when_it_is_back(store: ObjectStore, tmp_path: Path) -> None:
    with store, RunningServer(tmp_path / "server", store.settings()) as server:
        client = server.client("u")
        keys = [client.stored(pictures.jpeg(8, 8))["key"] for _ in range(10)]
        store.kill()
        for key in keys[:5]:
            assert client.delete(media(key)).status == 204
        for _ in range(3):
            assert [client.get(media(key)).status for key in keys] == [404] * 5 + [503] * 5
        store.start()
        assert until(lambda: settled(server), 60)
        assert [client.get(media(key)).status for key in keys] == [404] * 5 + [200] * 5


@pytest.mark.slow
@pytest.mark.parametrize(("fall", "seconds"), [(killed, 0.5), (silent, 3.0)])
def test_the_first_switch_is_quick_and_the_others_are_not_noticed(
    store: ObjectStore, tmp_path: Path, fall: Callable[[ObjectStore], Callable[[], object]], seconds: float
) -> None:
    with store, RunningServer(tmp_path / "server", store.settings()) as server:
        client = server.client("u")
        photo = pictures.jpeg(8, 8)
        client.stored(photo)
        healthy = min(timed(lambda: client.stored(photo)) for _ in range(5))
        come_back = fall(store)
        first = timed(lambda: client.stored(photo))
        for _ in range(3):
            client.stored(photo)
        then = min(timed(lambda: client.stored(photo)) for _ in range(5))
        come_back()
        began = time.monotonic()
        assert until(lambda: server.metric("media_store_up", store="minio") == 1, 30)
        back = time.monotonic() - began
        print(f"healthy {healthy:.3f} s, first {first:.3f} s, then {then:.3f} s, back after {back:.1f} s")
        assert first < healthy + seconds
        assert then < healthy + 0.05
        assert back < 10


def timed(work: Callable[[], object]) -> float:
    """How many seconds *work* takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began

"""Processes are killed at random moments of uploads: no acknowledged byte is asked for again, and nothing is lost or doubled."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

import pytest

from tests import pictures
from tests.kit.client import Answer, Client
from tests.kit.files import padded
from tests.kit.raw import Wire
from tests.kit.server import RunningServer
from tests.kit.tus import BYTES, TUS
from tests.kit.waiting import until

PHOTO = pictures.jpeg(320, 240)
UPLOADERS = 4
SEED = 20261123


class Phone:
    """Uploads one file after the other over a bad line, until told to stop; the one under way it brings to its end."""

    def __init__(self, server: RunningServer, number: int) -> None:
        self._server = server
        self._chance = random.Random(SEED + number)
        self._client = server.client("u7")
        self._open: list[Wire] = []
        self.finished: dict[str, str] = {}
        self.faults: list[str] = []
        self.stop = threading.Event()

    def run(self) -> None:
        """The work of its thread."""
        try:
            while not self.stop.is_set():
                self._upload(padded(PHOTO, self._chance.randrange(50_000, 3_000_000)))
        except Exception as error:
            self.faults.append(repr(error))
        finally:
            for wire in self._open:
                wire.close()

    def _upload(self, data: bytes) -> None:
        created = self._asked("POST", "/api/uploads", {**TUS, "Upload-Length": str(len(data))})
        path, acknowledged = created.headers["Location"], 0
        while True:
            head = self._asked("HEAD", path, TUS)
            if head.status != 200:
                self.faults.append(f"HEAD {head.status}")
                return
            at = int(head.headers["Upload-Offset"])
            if at < acknowledged:
                self.faults.append(f"{acknowledged} were acknowledged, and then {at}")
                return
            acknowledged = at
            if at == len(data):
                self._check(head, data)
                return
            piece = data[at : at + self._chance.randrange(1, 1_000_000)]
            if self._chance.random() < 0.3:
                self._leave_half_open(path, at, piece)
                continue
            answer = self._tried("PATCH", path, {**BYTES, "Upload-Offset": str(at)}, piece)
            if answer is not None and answer.status == 204:
                acknowledged = int(answer.headers["Upload-Offset"])
            elif answer is not None and answer.status not in {409, 423, 503}:
                self.faults.append(f"PATCH {answer}")
                return

    def _check(self, head: Answer, data: bytes) -> None:
        place = head.headers["Content-Location"]
        if hashlib.sha256(self._asked("GET", place, {}).body).digest() != hashlib.sha256(data).digest():
            self.faults.append(f"{place} has other bytes")
        self.finished[head.headers["X-Media-Key"]] = place

    def _leave_half_open(self, path: str, at: int, piece: bytes) -> None:
        try:
            wire = self._server.wire()
            self._open.append(wire)
            headers = {**BYTES, "Upload-Offset": str(at), "Authorization": f"Bearer {self._server.token('u7')}"}
            wire.request("PATCH", path, headers | {"Content-Length": str(len(piece))})
            wire.send(piece[: self._chance.randrange(len(piece))])
        except OSError:
            return
        if len(self._open) > 5:
            self._open.pop(0).close()

    def _asked(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        """Again until there is an answer that is one."""
        found: list[Answer] = []

        def answered() -> bool:
            answer = self._tried(method, path, headers)
            if answer is not None and answer.status not in {423, 500, 502, 503}:
                found.append(answer)
            return bool(found)

        assert until(answered), f"{method} {path} is not answered"
        return found[0]

    def _tried(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> Answer | None:
        try:
            return Client(self._server.url, self._client.token, timeout_s=20).request(method, path, headers, body)
        except (OSError, HTTPException):
            return None


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_no_kill_costs_an_acknowledged_byte(serve: Callable[..., RunningServer], tmp_path: Path, kills: int) -> None:
    server = serve(MEDIA_WORKERS="2")
    chance = random.Random(SEED)
    phones = [Phone(server, number) for number in range(UPLOADERS)]
    threads = [threading.Thread(target=phone.run, daemon=True) for phone in phones]
    for thread in threads:
        thread.start()
    pause = threading.Event()
    for _ in range(kills):
        assert until(lambda: len(server.process.children()) == 3, 60), "the keeper and two processes"
        pause.wait(chance.uniform(0.05, 0.6))
        (*_, one, other) = sorted(server.process.children(), key=lambda child: child.pid)
        chance.choice([one, other]).kill()
        if any(phone.faults for phone in phones):
            break
    for phone in phones:
        phone.stop.set()
    for thread in threads:
        thread.join(90)
    assert [phone.faults for phone in phones] == [[]] * UPLOADERS
    assert not any(thread.is_alive() for thread in threads)
    finished = {key for phone in phones for key in phone.finished}
    assert len(finished) > kills // 2, "hardly anything was uploaded: this proves nothing"
    client = server.client("u7")
    keys: list[str] = []
    cursor = ""
    while True:
        page = client.get(f"/api/assets?limit=200{cursor}").json
        keys += [asset["key"] for asset in page["assets"]]
        if page["nextCursor"] is None:
            break
        cursor = f"&cursor={page['nextCursor']}"
    assert len(keys) == len(set(keys))
    assert finished == set(keys), "an object for each, and none besides"

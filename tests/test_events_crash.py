"""SIGKILL while objects are stored, confirmed and deleted: records, objects and delivered events agree, after one sweep."""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.client import HTTPException

import pytest

from proxy import maintenance
from proxy.app import token_maker
from proxy.settings import Settings
from proxy.sweep import Found
from tests import pictures
from tests.kit.client import Answer, Client, media
from tests.kit.files import padded
from tests.kit.promises import confirm, offer, sent
from tests.kit.receiver import Receiver, hooked, listening
from tests.kit.server import RunningServer
from tests.kit.waiting import until

WRITERS = 4
KILLS = 200
SEED = 20261123
PHOTO = pictures.jpeg(8, 8)
LONG_S = 180.0
"""What a killed process has claimed is taken up by others after a while, and what was sent and not confirmed after a minute."""


class Writer:
    """Stores objects in both ways and removes some, until the server is gone; knows what it was told."""

    def __init__(self, server: RunningServer, number: int) -> None:
        self.owner = f"writer{number}"
        self._server = server
        self._chance = random.Random(SEED + number)
        self.stored: dict[str, str] = {}
        self.removed: set[str] = set()
        self.unsure: set[str] = set()
        """removed without an answer"""
        self.wrong: list[Answer] = []

    def run(self) -> None:
        """Until the server does not answer any more."""
        client = self._server.client(self.owner)
        try:
            while True:
                data = padded(PHOTO, self._chance.choice([2_000, 60_000, 400_000]) + self._chance.randrange(1000))
                answer = self._confirmed(client, data) if self._chance.random() < 0.5 else client.upload(data)
                if answer.status not in {200, 201}:
                    self.wrong.append(answer)
                    return
                key = answer.json["key"]
                self.stored[key] = hashlib.sha256(data).hexdigest()
                if self._chance.random() < 0.4:
                    self._remove(client, key)
        except (OSError, HTTPException):
            return

    def _confirmed(self, client: Client, data: bytes) -> Answer:
        offered = offer(client, contentType="image/jpeg", size=len(data))
        answer = sent(client, offered, data)
        return confirm(client, offered["key"]) if answer.status == 200 else answer

    def _remove(self, client: Client, key: str) -> None:
        self.unsure.add(key)
        if client.delete(media(key)).status == 204:
            self.unsure.discard(key)
            self.removed.add(key)
            del self.stored[key]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with listening(Receiver()) as one:
        yield one


def sweep(server: RunningServer, *, is_dry: bool = False) -> list[Found]:
    """What ``media-proxy sweep`` finds, of whatever age."""
    settings = Settings.from_env(server.env)
    tokens, _ = token_maker(settings)

    async def found() -> list[Found]:
        return [one async for one in maintenance.swept(settings, tokens, timedelta(0), is_dry=is_dry)]

    return asyncio.run(found())


def disagreements(server: RunningServer, writers: list[Writer], receiver: Receiver) -> list[str]:
    """What records, objects, events and the writers say of each other that is not true."""
    records = {asset["key"]: asset for writer in writers for asset in server.client(writer.owner).assets()}
    reader = server.client()
    wrong = []
    for key, record in records.items():
        answer = reader.get(media(key))
        if answer.status != 200 or hashlib.sha256(answer.body).hexdigest() != record["sha256"]:
            wrong.append(f"{key} is not what its record says: {answer.status}")
        if receiver.once(key) != ["asset.stored"]:
            wrong.append(f"{key} stands, and its events are {receiver.once(key)}")
    for key in set(receiver.keys) - records.keys():
        if receiver.once(key) != ["asset.stored", "asset.removed"]:
            wrong.append(f"{key} has no record, and its events are {receiver.once(key)}")
    for writer in writers:
        for key, digest in writer.stored.items():
            standing = records.get(key)
            if (standing is None and key not in writer.unsure) or (standing is not None and standing["sha256"] != digest):
                wrong.append(f"{key} was acknowledged, and is {standing}")
        wrong += [f"{key} was removed, and is back" for key in writer.removed & records.keys()]
    return wrong


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_after_two_hundred_kills_records_objects_and_events_agree(serve: Callable[..., RunningServer], receiver: Receiver) -> None:
    server = serve(**hooked(receiver, MEDIA_WEBHOOK_PAUSES=" ".join(["0.2"] * 500)))
    writers = [Writer(server, number) for number in range(WRITERS)]
    chance, pause = random.Random(SEED), threading.Event()
    for _ in range(KILLS):
        threads = [threading.Thread(target=writer.run, daemon=True) for writer in writers]
        for thread in threads:
            thread.start()
        pause.wait(chance.uniform(0.05, 0.8))
        server.kill()
        for thread in threads:
            thread.join(60)
        server.start()
        assert [writer.wrong for writer in writers] == [[]] * WRITERS
    sweep(server)
    assert sum(len(writer.stored) for writer in writers) > 200, "hardly anything was stored: this proves nothing"
    assert sum(len(writer.removed) for writer in writers) > 50
    until(lambda: disagreements(server, writers, receiver) == [], LONG_S)
    assert disagreements(server, writers, receiver) == []
    assert sweep(server, is_dry=True) == []
    assert receiver.wrong == []

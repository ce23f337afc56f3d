"""The simple chunk API: chunks in any order, each as often as the network wants, and one object at the end."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests import pictures
from tests.conftest import Harmless
from tests.kit.client import Answer, Client, media
from tests.kit.doors import Door, doors
from tests.kit.files import padded
from tests.kit.server import RunningServer
from tests.kit.waiting import until

PHOTO = padded(pictures.jpeg(640, 480), 400_000)
SIZE = 1 << 16
COUNT = -(-len(PHOTO) // SIZE)
PIECES = [PHOTO[at : at + SIZE] for at in range(0, len(PHOTO), SIZE)]
PREFIX = "/api/upload/chunked"
JSON = {"Content-Type": "application/json"}


def started(client: Client | Door, **wish: Any) -> str:
    document = {"filename": "a.jpg", "size": len(PHOTO), "chunkSize": SIZE, **wish}
    answer = client.request("POST", PREFIX, JSON, json.dumps(document).encode())
    assert answer.status == 201, answer
    assert answer.headers["Location"] == f"{PREFIX}/{answer.json['sessionId']}"
    return str(answer.json["sessionId"])


def put(client: Client | Door, session: str, number: int, data: bytes | None = None) -> Answer:
    return client.request("PUT", f"{PREFIX}/{session}/{number}", {}, PIECES[number] if data is None else data)


def complete(client: Client | Door, session: str) -> Answer:
    return client.request("POST", f"{PREFIX}/{session}/complete", {}, b"")


def test_chunks_in_any_order_become_one_object(client: Client, server: RunningServer) -> None:
    session = started(client)
    order = random.Random(3).sample(range(COUNT), COUNT)
    received = 0
    for done, number in enumerate(order, 1):
        progress = put(client, session, number).json
        received += len(PIECES[number])
        assert (progress["receivedBytes"], progress["totalBytes"]) == (received, len(PHOTO))
        assert progress["percent"] == pytest.approx(100 * received / len(PHOTO), abs=0.01)
        assert progress["missing"] == sorted(set(range(COUNT)) - set(order[:done]))
    record = complete(client, session)
    assert (record.status, record.json["filename"], record.json["sha256"]) == (200, "a.jpg", hashlib.sha256(PHOTO).hexdigest())
    assert client.get(record.headers["Location"]).body == PHOTO
    assert complete(client, session).json == record.json
    told = client.get(f"{PREFIX}/{session}").json
    assert (told["state"], told["key"]) == ("done", record.json["key"])
    assert len(client.assets()) == 1
    assert not (server.data / "uploads" / session).exists()


def test_the_service_says_how_large_chunks_are(client: Client) -> None:
    answer = client.request("POST", PREFIX, JSON, json.dumps({"size": 100 << 20}).encode()).json
    assert (answer["chunkSize"], answer["chunks"]) == (5 << 20, 20)
    assert answer.keys() == {"sessionId", "chunkSize", "chunks", "expiresAt"}


def test_the_same_chunk_again_counts_once_and_with_other_bytes_it_is_refused(client: Client) -> None:
    session = started(client)
    first = put(client, session, 2).json
    assert put(client, session, 2).json == first | {"expiresAt": first["expiresAt"]}
    other = bytes(reversed(PIECES[2]))
    assert (put(client, session, 2, other).status, put(client, session, 2, other).code) == (409, "conflict")
    for number in range(COUNT):
        assert put(client, session, number).status == 200
    assert client.get(complete(client, session).headers["Location"]).body == PHOTO
    assert (put(client, session, 2).status, put(client, session, 2, other).status) == (200, 409), "also when it is an object"


def test_a_hole_is_named_and_the_upload_goes_on(client: Client) -> None:
    session = started(client)
    for number in range(1, COUNT - 1):
        put(client, session, number)
    refused = complete(client, session)
    assert (refused.status, refused.code, refused.json["missing"], refused.json["missingCount"]) == (
        409, "incomplete", [0, COUNT - 1], 2,
    )  # fmt: skip
    put(client, session, 0)
    put(client, session, COUNT - 1)
    assert client.get(complete(client, session).headers["Location"]).body == PHOTO


@pytest.mark.parametrize(("number", "size", "status"), [
    (0, SIZE - 1, 400), (0, 0, 400), (0, SIZE + 1, 413), (COUNT - 1, SIZE, 413), (COUNT, 10, 400), (999_999_999, 10, 400),
])  # fmt: skip
def test_a_chunk_of_another_size_is_refused(client: Client, number: int, size: int, status: int) -> None:
    session = started(client)
    assert put(client, session, number, b"x" * size).status == status
    assert client.get(f"{PREFIX}/{session}").json["receivedBytes"] == 0


def test_a_chunk_that_breaks_off_counts_for_nothing_and_can_come_again(client: Client, server: RunningServer, owner: str) -> None:
    session = started(client)
    path = f"{PREFIX}/{session}/0"
    taken = server.metric("media_received_bytes_total", route="upload-chunk")
    with server.wire() as wire:
        wire.request("PUT", path, {"Authorization": f"Bearer {server.token(owner)}", "Content-Length": str(SIZE)}, PIECES[0][:5000])
        assert until(lambda: server.metric("media_received_bytes_total", route="upload-chunk") == taken + 5000)
        again = put(client, session, 0)  # while the old request stands still
        assert (again.status, again.json["receivedBytes"]) == (200, SIZE)
        assert wire.answer().status == 423


@pytest.mark.parametrize("wish", [
    {"size": 0}, {"size": -1}, {"size": "10"}, {"size": True}, {}, {"size": 10, "userId": "u1"}, {"size": 10, "filename": 3},
    {"size": 10, "chunkSize": 1}, {"size": 10, "chunkSize": 1 << 30}, {"size": 10, "chunkSize": "5M"},
    {"size": 4 << 30, "chunkSize": 65_536},
])  # fmt: skip
def test_a_start_that_makes_no_sense_is_refused(harmless: Harmless, client: Client, wish: dict[str, Any]) -> None:
    with harmless(400, "bad-request") as bad:
        bad.answer = client.request("POST", PREFIX, JSON, json.dumps(wish).encode())


def test_what_is_too_large_is_refused_at_the_start(client: Client) -> None:
    for wish in ({"size": 6 << 30}, {"size": 65 << 20, "contentType": "image/jpeg"}):
        assert client.request("POST", PREFIX, JSON, json.dumps(wish).encode()).status == 413


def test_nobody_else_finds_a_session(client: Client, server: RunningServer, stranger: Client) -> None:
    session = started(client)
    other = server.client("somebody-else")
    for who, status in ((other, 404), (stranger, 401)):
        assert who.get(f"{PREFIX}/{session}").status == status
        assert put(who, session, 0).status == status
        assert complete(who, session).status == status
        assert who.delete(f"{PREFIX}/{session}").status == status
    assert client.request("HEAD", f"/api/uploads/{session}", {"Tus-Resumable": "1.0.0"}).status == 404, "it is none of tus"
    assert client.get(f"{PREFIX}/{session}").json["receivedBytes"] == 0


def test_a_session_can_be_given_up(client: Client, server: RunningServer) -> None:
    session = started(client)
    put(client, session, 0)
    assert client.delete(f"{PREFIX}/{session}").status == 204
    assert {put(client, session, 1).status, complete(client, session).status, client.get(f"{PREFIX}/{session}").status} == {404}
    assert not (server.data / "uploads" / session).exists()


def test_what_is_no_file_is_refused_at_the_end_and_the_reason_is_remembered(client: Client) -> None:
    session = started(client, size=100)
    assert put(client, session, 0, b"no picture" * 10).status == 200
    refused = complete(client, session)
    assert (refused.status, refused.code) == (415, "unsupported-type")
    assert (complete(client, session).status, complete(client, session).code) == (415, "unsupported-type")
    told = client.get(f"{PREFIX}/{session}").json
    assert (told["state"], told["refusal"]["code"]) == ("failed", "unsupported-type")


def test_chunks_and_ends_at_the_same_time_at_two_processes_give_one_object(serve: Callable[..., RunningServer]) -> None:
    server = serve(MEDIA_WORKERS="2")
    with doors(server, "u7") as (one, other):
        session = started(one)
        client = server.client("u7")
        with ThreadPoolExecutor(8) as pool:  # each chunk twice
            answers = list(pool.map(lambda number: put(client, session, number % COUNT), range(2 * COUNT)))
            assert {answer.status for answer in answers} <= {200, 423}, answers
            assert client.get(f"{PREFIX}/{session}").json["missing"] == []
            records = list(pool.map(lambda _: complete(client, session), range(8)))
        assert {record.status for record in records} <= {200, 423}, records
        keys = {record.json["key"] for record in records if record.status == 200}
        assert len(keys) == 1
        assert complete(other, session).json["key"] == complete(one, session).json["key"]
        assert other.get(media(keys.pop())).body == PHOTO
    assert len(server.client("u7").assets()) == 1


def test_chunks_outlive_a_kill(serve: Callable[..., RunningServer]) -> None:
    server = serve()
    session = started(server.client("u7"))
    for number in (5, 1, 3):
        put(server.client("u7"), session, number)
    server.kill()
    server.start()
    client = server.client("u7")
    missing = client.get(f"{PREFIX}/{session}").json["missing"]
    assert missing == sorted(set(range(COUNT)) - {1, 3, 5})
    for number in missing:
        put(client, session, number)
    assert client.get(complete(client, session).headers["Location"]).body == PHOTO

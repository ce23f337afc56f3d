"""What happens to assets is told: to a back end at least once and in order, and to owners as it happens."""

from __future__ import annotations

import base64
import http.client
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from proxy.auth import LEEWAY_S
from proxy.progress import Progress
from tests import pictures
from tests.kit.client import FilePart, form, form_type, media
from tests.kit.doors import doors
from tests.kit.files import padded
from tests.kit.ports import free_port
from tests.kit.receiver import WHSEC, Receiver, hooked, listening
from tests.kit.server import KEPT_VARIABLES, REPOSITORY, RunningServer
from tests.kit.sse import Stream
from tests.kit.tus import MIB, begun, metadata
from tests.kit.waiting import until

PAGE = (REPOSITORY / "docs" / "events.md").read_text(encoding="utf-8")
PHOTO = pictures.jpeg(64, 48)
PRIVATE = ("[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "169.254.169.254")
LISTENER_BYTES = 100 * 1024
"""what a listener may take, with its connection"""
Serve = Callable[..., RunningServer]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with listening(Receiver()) as one:
        yield one


def command(server: RunningServer, *words: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name in KEPT_VARIABLES if (value := os.environ.get(name)) is not None}
    env = kept | {"PYTHONPATH": str(REPOSITORY), "MEDIA_DATA_DIR": str(server.data)}
    return subprocess.run(
        [sys.executable, "-m", "proxy", "events", *words], env=env, capture_output=True, text=True, timeout=60, check=False
    )


# -- to a back end ----------------------------------------------------------------------------------------------------------


def test_a_back_end_is_told_of_what_is_stored_and_removed(serve: Serve, receiver: Receiver) -> None:
    client = serve(**hooked(receiver, MEDIA_PUBLIC_URL="https://media.example")).client("u7")
    record = client.upload(PHOTO, "image/jpeg").json
    assert until(lambda: len(receiver.taken) == 1)
    event = receiver.taken[0]
    assert event["type"] == "asset.stored"
    told = event["data"]
    for name in ("key", "contentType", "size", "sha256", "etag", "width", "height", "createdAt", "filename", "url"):
        assert told[name] == record[name], name
    assert told["owner"] == "u7"
    assert client.delete(media(record["key"])).status == 204
    assert until(lambda: len(receiver.taken) == 2)
    assert receiver.types(record["key"]) == ["asset.stored", "asset.removed"]
    assert receiver.wrong == []
    assert len(set(receiver.ids)) == 2


def test_what_is_refused_is_no_event(serve: Serve, receiver: Receiver) -> None:
    client = serve(**hooked(receiver)).client("u7")
    assert client.upload(b"no picture", "image/jpeg").status == 415
    key = client.stored(PHOTO)["key"]
    assert until(lambda: receiver.taken)
    assert [event["data"]["key"] for event in receiver.taken] == [key]


def test_what_was_not_taken_comes_again_with_the_same_id_and_in_order(serve: Serve, receiver: Receiver) -> None:
    receiver.answers = [500, 302, 204, 503]
    client = serve(**hooked(receiver)).client("u7")
    key = client.stored(PHOTO)["key"]
    assert client.delete(media(key)).status == 204
    assert until(lambda: len(receiver.taken) == 2)
    assert receiver.types(key) == ["asset.stored", "asset.removed"]
    assert len(receiver.tried) == 5
    assert receiver.tried[0] == receiver.tried[1] == receiver.tried[2] != receiver.tried[3] == receiver.tried[4]


def test_one_key_waits_for_its_own_events_alone(serve: Serve, receiver: Receiver) -> None:
    client = serve(**hooked(receiver, MEDIA_WEBHOOK_PAUSES="1000")).client("u7")
    receiver.answers = [500]
    late = client.stored(PHOTO)["key"]
    assert until(lambda: len(receiver.tried) == 1)
    assert client.delete(media(late)).status == 204
    other = client.stored(PHOTO)["key"]
    assert until(lambda: receiver.types(other) == ["asset.stored"])
    assert receiver.types(late) == [], "what was removed is not told before what was stored"


def test_a_back_end_that_is_away_for_a_while_gets_everything(serve: Serve, tmp_path: Path) -> None:
    receiver = Receiver()
    with listening(receiver):
        pass
    port = receiver.url  # nobody listens there now
    pauses = " ".join(["0.2"] * 100)
    server = serve(**hooked(receiver, MEDIA_WEBHOOK_URL=port, MEDIA_WEBHOOK_PAUSES=pauses))
    client = server.client("u7")
    keys = {client.stored(PHOTO)["key"] for _ in range(5)}
    assert until(lambda: any(line.get("event") == "event.not_taken" for line in server.log_lines()))
    server.kill()
    with listening(receiver):
        server.env["MEDIA_WEBHOOK_URL"] = receiver.url
        server.start()
        assert until(lambda: {event["data"]["key"] for event in receiver.taken} == keys, 90), "also after a kill"
    assert receiver.wrong == []


def test_one_event_that_is_taken_slowly_keeps_no_other_key_waiting(serve: Serve, receiver: Receiver) -> None:
    receiver.answers = ["late"]
    client = serve(**hooked(receiver)).client("u7")
    try:
        late = client.stored(PHOTO)["key"]
        assert until(lambda: len(receiver.tried) == 1)
        others = [client.stored(PHOTO)["key"] for _ in range(20)]
        assert until(lambda: sorted(receiver.keys) == sorted(others))
    finally:
        receiver.go.set()
    assert until(lambda: receiver.types(late) == ["asset.stored"])


def test_an_answer_that_was_lost_brings_the_event_again_and_one_that_comes_twice_stands_for_no_other(
    serve: Serve, receiver: Receiver
) -> None:
    receiver.answers = ["lost", "twice", "twice"]
    client = serve(**hooked(receiver)).client("u7")
    keys = []
    for number in range(4):
        keys.append(client.stored(PHOTO)["key"])
        assert until(lambda wanted=number + 2: len(receiver.tried) == wanted)  # type: ignore[misc]
    assert receiver.keys == [keys[0], *keys]
    assert receiver.ids[0] == receiver.ids[1]
    assert len(set(receiver.ids)) == 4


def test_dead_events_are_listed_and_can_be_replayed(serve: Serve, receiver: Receiver) -> None:
    receiver.answers = [500] * 4
    server = serve(**hooked(receiver))
    key = server.client("u7").stored(PHOTO)["key"]
    assert until(lambda: len(receiver.tried) == 4)
    assert until(lambda: "1 dead, 0 on their way" in command(server, "dead").stderr)
    listed = command(server, "dead").stdout
    assert re.fullmatch(rf"{receiver.tried[0]} \S+ asset\.stored {key} \(it answered 500\)\n", listed)
    assert command(server, "replay").returncode == 2
    assert command(server, "replay", "evt_nobody").returncode == 2
    again = command(server, "replay", receiver.tried[0])
    assert (again.returncode, "1 on their way again" in again.stderr) == (0, True)
    assert until(lambda: receiver.types(key) == ["asset.stored"])
    assert len(set(receiver.tried)) == 1


def test_both_secrets_sign_while_one_takes_the_others_place(serve: Serve, receiver: Receiver) -> None:
    new = f"whsec_{base64.b64encode(b'another secret of thirty-two bytes').decode()}"
    serve(**hooked(receiver, MEDIA_WEBHOOK_SECRET=f"{new} {WHSEC}")).client("u7").stored(PHOTO)
    assert until(lambda: receiver.taken)
    assert receiver.wrong == []


@pytest.mark.parametrize("host", [
    "127.0.0.1", "localhost", *(pytest.param(host, marks=pytest.mark.slow) for host in PRIVATE),
])  # fmt: skip
def test_a_private_network_is_not_called(serve: Serve, receiver: Receiver, host: str) -> None:
    address = receiver.url.replace("127.0.0.1", host)
    server = serve(**hooked(receiver, MEDIA_WEBHOOK_URL=address, MEDIA_WEBHOOK_ALLOW_PRIVATE="false"))
    server.client("u7").stored(PHOTO)
    assert until(lambda: any(line.get("reason") == "the address is of a private network" for line in server.log_lines()))
    assert receiver.tried == []


@pytest.mark.parametrize("env", [
    {"MEDIA_WEBHOOK_SECRET": None}, {"MEDIA_WEBHOOK_SECRET": "hunter2"}, {"MEDIA_WEBHOOK_SECRET": "whsec_AAAA"},
    {"MEDIA_WEBHOOK_URL": "ftp://x"},
])  # fmt: skip
def test_what_cannot_be_signed_does_not_start(tmp_path: Path, receiver: Receiver, env: dict[str, str | None]) -> None:
    server = RunningServer(tmp_path, hooked(receiver) | env)
    server.launch()
    assert server.wait() != 0
    assert "MEDIA_WEBHOOK_" in server.output.text
    assert "hunter2" not in server.output.text
    assert "Traceback" not in server.output.text


@pytest.mark.parametrize("language", ["python", "js"])
def test_the_receivers_in_the_docs_take_what_is_signed_and_nothing_else(serve: Serve, tmp_path: Path, language: str) -> None:
    program = {"python": sys.executable, "js": shutil.which("node")}[language]
    if program is None:
        assert os.environ.get("CI") != "true", "Node must be there in CI"
        pytest.skip("Node is not installed")
    script = tmp_path / f"receiver.{'py' if language == 'python' else 'cjs'}"
    script.write_text(PAGE.partition(f"```{language}\n")[2].partition("```")[0])
    port = free_port()
    env = {**os.environ, "WEBHOOK_SECRET": WHSEC, "PORT": str(port)}
    with subprocess.Popen([program, script], env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        try:
            settings = hooked(Receiver(url=f"http://127.0.0.1:{port}/"), MEDIA_WEBHOOK_PAUSES=" ".join(["0.2"] * 100))
            key = serve(**settings).client("u7").stored(PHOTO)["key"]
            assert running.stdout is not None
            assert running.stdout.readline() == f"asset.stored {key}\n"
            forged = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            headers = {"webhook-id": "evt_1", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}
            forged.request("POST", "/", body=b"{}", headers=headers)
            assert forged.getresponse().status == 401
            forged.close()
        finally:
            running.kill()


# -- to an owner --------------------------------------------------------------------------------------------------------------


def test_owners_hear_of_their_own_objects_and_of_what_they_have_missed(server: RunningServer, owner: str) -> None:
    client = server.client(owner)
    with Stream(server, owner) as stream, Stream(server, "somebody-else") as other:
        assert (stream.answer.status, stream.answer.headers["Content-Type"]) == (200, "text/event-stream")
        key = client.stored(PHOTO)["key"]
        assert until(lambda: len(stream.events) == 1)
        first = stream.events[0][0]
        assert (stream.events[0][1], stream.events[0][2]["data"]["key"]) == ("asset.stored", key)
        assert other.events == []
    assert client.delete(media(key)).status == 204
    with Stream(server, owner, first) as stream:
        assert until(lambda: len(stream.events) == 1)
        assert (stream.events[0][1], stream.events[0][2]["data"]["key"]) == ("asset.removed", key)


def test_an_owner_sees_an_upload_grow(server: RunningServer, owner: str) -> None:
    with Stream(server, owner) as stream:
        upload = begun(server.client(owner), 2 * MIB, {"Upload-Metadata": metadata(filename="film.mp4")})
        assert upload.append(b"x" * MIB).status == 204
        sizes = {"receivedBytes": MIB, "totalBytes": 2 * MIB}
        progress = {"type": "upload.progress", "id": upload.id, "filename": "film.mp4", **sizes}
        assert until(lambda: (None, "upload.progress", progress) in stream.events)


def test_a_listener_is_let_go_when_the_token_ends(server: RunningServer, owner: str) -> None:
    now = int(time.time())
    token = server.token(owner, iat=now - 100, exp=now - LEEWAY_S + 2)
    with Stream(server, owner, token=token) as stream:
        server.client(owner).stored(PHOTO)
        assert until(lambda: len(stream.events) == 1)
        assert stream.ended.wait(30)
    with Stream(server, owner, token=token) as stream:
        assert stream.answer.status == 401


@pytest.mark.parametrize("way", ["body", "form"])
def test_an_owner_sees_an_upload_in_one_request_grow(server: RunningServer, owner: str, way: str) -> None:
    photo = padded(PHOTO, 8 * MIB)
    body = photo if way == "body" else form(FilePart(photo, "slow.jpg", "image/jpeg"))
    headers = {"Authorization": f"Bearer {server.token(owner)}", "Idempotency-Key": "mine", "Content-Length": str(len(body))}
    headers["Content-Type"] = "image/jpeg" if way == "body" else form_type()
    told: list[dict[str, Any]] = []
    with Stream(server, owner) as stream, server.wire() as wire:
        wire.request("POST", "/api/upload?filename=slow.jpg", headers)
        sent = 0

        def sees_it_grow() -> bool:
            nonlocal sent
            wire.send(body[sent : sent + 2048])
            sent += 2048
            told[:] = [data for _, kind, data in stream.events if kind == "upload.progress"]
            return bool(told)

        assert until(sees_it_grow)
        first = told[0]
        assert (first["id"], first["filename"], first["totalBytes"]) == ("mine", "slow.jpg", len(body))
        assert 0 < first["receivedBytes"] <= sent
        wire.send(body[sent:])
        assert wire.answer("POST").status == 201
        last = {"type": "upload.progress", "id": "mine", "filename": "slow.jpg"}
        assert until(lambda: (None, "upload.progress", last | {"receivedBytes": 8 * MIB, "totalBytes": 8 * MIB}) in stream.events)


async def test_an_upload_in_one_request_is_told_of_when_it_lasts_and_then_twice_a_second() -> None:
    now, told = 0.0, []

    async def passes(owner: str, moment: dict[str, Any]) -> None:
        told.append((owner, now, moment["receivedBytes"], moment["totalBytes"]))

    async def body(chunks: int) -> AsyncIterator[bytes]:
        nonlocal now
        for _ in range(chunks):
            now += 0.2
            yield b"0123456789"

    progress = Progress(passes, lambda: now)
    assert [chunk async for chunk in progress.told("u7", None, None, None, body(2))] == [b"0123456789"] * 2
    assert told == [], "0.4 seconds"
    now = 0.0
    async for _ in progress.told("u7", None, None, 60, body(6)):
        pass
    assert [(owner, round(at, 1), *sizes) for owner, at, *sizes in told] == [
        ("u7", 0.6, 30, 60),
        ("u7", 1.2, 60, 60),
        ("u7", 1.2, 60, 60),
    ]


def test_a_listener_at_one_process_hears_of_what_happens_at_another(serve: Serve) -> None:
    server = serve(MEDIA_WORKERS="2")
    with doors(server, "u7") as (one, other), Stream(server, "u7") as stream:
        keys = [door.stored(PHOTO, "image/jpeg") for door in (one, other)]
        assert until(lambda: [event[2]["data"]["key"] for event in stream.events] == keys)


def test_listeners_do_not_keep_a_stop_waiting_and_nobody_without_a_token_listens(serve: Serve) -> None:
    server = serve()
    assert server.client().get("/api/events").status == 401
    with Stream(server, "u7") as stream:
        server.terminate()
        assert stream.ended.wait(20)
        assert server.wait(20) == 0
    assert not any(line.get("event") == "drain.cut" for line in server.log_lines())


def test_there_is_an_end_to_how_many_listen(serve: Serve) -> None:
    server = serve()
    streams = [Stream(server, "u7") for _ in range(50)]
    try:
        refused = server.client("u7").get("/api/events")
        assert (refused.status, refused.code) == (429, "rate-limited")
        with Stream(server, "u8") as stream:
            assert stream.answer.status == 200
    finally:
        for one in streams:
            one.__exit__()
    assert until(lambda: server.metric("media_event_listeners") == 0)


def test_five_hundred_listen_in_bounded_memory_and_those_who_do_not_read_keep_nobody_waiting(serve: Serve) -> None:
    server = serve()
    owners = [f"owner{number}" for number in range(10)]
    server.client(owners[0]).stored(PHOTO)
    before = server.rss()
    with ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        readers = [stack.enter_context(Stream(server, owner)) for owner in owners for _ in range(5)]
        wires = [(owner, stack.enter_context(server.wire())) for owner in owners for _ in range(45)]
        for owner, wire in wires:
            wire.request("GET", "/api/events", {"Authorization": f"Bearer {server.token(owner)}"})
        assert until(lambda: server.metric("media_event_listeners") == 500)
        assert server.client(owners[0]).get("/api/events").status == 429

        def upload(owner: str) -> list[str]:
            return [server.client(owner).stored(PHOTO)["key"] for _ in range(10)]

        stored = dict(zip(owners, pool.map(upload, owners), strict=True))
        for number, reader in enumerate(readers):
            wanted = stored[owners[number // 5]]
            assert until(lambda reader=reader, wanted=wanted: [told["data"]["key"] for _, _, told in reader.events] == wanted)  # type: ignore[misc]
        assert server.rss() - before < 500 * LISTENER_BYTES
    assert until(lambda: server.metric("media_event_listeners") == 0)

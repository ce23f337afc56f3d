"""What one owner may have, through every door that uploads come in by."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests import pictures
from tests.kit.client import Answer, Client, FilePart, media
from tests.kit.promises import confirm, offer, sent
from tests.kit.raw import upload_head
from tests.kit.server import RunningServer
from tests.kit.tus import TUS, begun
from tests.kit.waiting import until

JSON = {"Content-Type": "application/json"}
PDF = b"%PDF-1.7\n1 0 obj <<>> endobj\ntrailer <<>>\n%%EOF\n"
QUOTA = 100_000


def pdf(size: int) -> bytes:
    """A document of *size* bytes."""
    return PDF.ljust(size, b"\n")


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with RunningServer(tmp_path_factory.mktemp("quota"), {"MEDIA_QUOTA_BYTES": str(QUOTA), "MEDIA_QUOTA_OBJECTS": "4"}) as running:
        yield running


def usage(client: Client) -> tuple[int, int, int, int]:
    """Bytes and objects, those there are and those set aside."""
    told = client.get("/api/usage").json
    assert told["quota"] == {"bytes": QUOTA, "objects": 4}
    return told["bytes"], told["objects"], told["reserved"]["bytes"], told["reserved"]["objects"]


def refused(answer: Answer) -> bool:
    """Whether *answer* is for want of quota."""
    return (answer.status, answer.code) == (413, "quota-exceeded") and answer.json["quotaBytes"] == QUOTA


def test_an_upload_beyond_the_quota_is_refused_and_a_deletion_makes_room(bounded: RunningServer, owner: str) -> None:
    client = bounded.client(owner)
    assert usage(client) == (0, 0, 0, 0)
    key = client.stored(pdf(60_000))["key"]
    answer = client.upload(pdf(40_001))
    assert refused(answer)
    assert (answer.json["usedBytes"], answer.json["usedObjects"]) == (60_000, 1)
    assert usage(client) == (60_000, 1, 0, 0)
    client.stored(pdf(40_000))
    assert client.delete(media(key)).status == 204
    assert usage(client) == (40_000, 1, 0, 0)
    client.stored(pdf(60_000))
    assert bounded.client(f"{owner}x").upload(pdf(QUOTA)).status == 201


def test_a_body_of_unknown_size_is_counted_at_its_end(bounded: RunningServer, owner: str) -> None:
    client = bounded.client(owner)
    assert refused(client.upload_form(FilePart(pdf(QUOTA + 1), "a.pdf")))
    assert client.upload_form(FilePart(pdf(QUOTA), "a.pdf")).status == 201
    assert usage(client) == (QUOTA, 1, 0, 0)


def test_a_body_of_unknown_size_is_refused_before_its_end_when_it_is_far_beyond(
    serve: Callable[..., RunningServer], owner: str
) -> None:
    server = serve(MEDIA_QUOTA_BYTES="1M")
    with server.wire() as wire:
        wire.send(upload_head(server.token(owner), "Content-Type: application/pdf", "Transfer-Encoding: chunked"))
        for piece in (PDF, *[bytes(1 << 20)] * 9):  # and no end
            wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        answer = wire.answer("POST")
    assert answer.status == 413
    assert b"quota-exceeded" in answer.body
    assert until(lambda: server.client(owner).get("/api/usage").json["reserved"] == {"bytes": 0, "objects": 0})


def test_objects_are_counted_too_and_what_fails_counts_no_more(bounded: RunningServer, owner: str) -> None:
    client = bounded.client(owner)
    for _ in range(3):
        client.stored(pdf(100))
        assert client.upload(b"neither a picture nor a document").status == 415
    assert client.upload(pictures.jpeg(64, 64)[:200]).status == 422
    client.stored(pdf(100))
    assert refused(client.upload(pdf(100)))
    assert usage(client) == (400, 4, 0, 0)


def test_a_resumable_upload_takes_its_room_when_it_begins_and_once(bounded: RunningServer, owner: str) -> None:
    client = bounded.client(owner)
    upload = begun(client, 70_000)
    assert usage(client) == (0, 0, 70_000, 1)
    assert refused(client.request("POST", "/api/uploads", {**TUS, "Upload-Length": "30001"}))
    assert refused(client.upload(pdf(30_001)))
    assert upload.append(pdf(70_000)[:50_000], 0).status == 204
    assert usage(client) == (0, 0, 70_000, 1)
    assert upload.append(pdf(70_000)[50_000:], 50_000).status == 204
    assert usage(client) == (70_000, 1, 0, 0)
    other = begun(client, 30_000)
    assert client.request("DELETE", other.path, TUS).status == 204
    assert usage(client) == (70_000, 1, 0, 0)


def test_parts_count_as_the_one_object_that_they_become(bounded: RunningServer, owner: str) -> None:
    client = bounded.client(owner)
    data = pdf(60_000)
    parts = [begun(client, 30_000, {"Upload-Concat": "partial"}) for _ in range(2)]
    assert usage(client) == (0, 0, 60_000, 0)
    for number, part in enumerate(parts):
        assert part.append(data[number * 30_000 : (number + 1) * 30_000], 0).status == 204
    final = client.request("POST", "/api/uploads", {**TUS, "Upload-Concat": f"final;{' '.join(part.path for part in parts)}"})
    assert final.status == 201, final
    assert usage(client) == (60_000, 1, 0, 0)


def test_chunks_take_their_room_at_the_start_and_give_it_back_when_they_are_aborted(bounded: RunningServer, owner: str) -> None:
    client = bounded.client(owner)
    wish = json.dumps({"size": 80_000, "contentType": "application/pdf"}).encode()
    start = client.post("/api/upload/chunked", wish, {"Content-Type": "application/json"})
    assert start.status == 201, start
    assert usage(client) == (0, 0, 80_000, 1)
    assert refused(client.post("/api/upload/chunked", wish, {"Content-Type": "application/json"}))
    assert client.delete(f"/api/upload/chunked/{start.json['sessionId']}").status == 204
    assert usage(client) == (0, 0, 0, 0)


def test_an_address_takes_its_room_when_it_is_made_and_becomes_the_object(bounded: RunningServer, owner: str) -> None:
    client = bounded.client(owner)
    offered = offer(client, contentType="application/pdf", size=90_000)
    assert usage(client) == (0, 0, 90_000, 1)
    wish = json.dumps({"contentType": "application/pdf", "size": 10_001}).encode()
    assert refused(client.post("/api/upload/presigned", wish, {"Content-Type": "application/json"}))
    assert sent(client, offered, pdf(90_000)).status == 200
    assert confirm(client, offered["key"]).status == 200
    assert usage(client) == (90_000, 1, 0, 0)
    taken_back = offer(client, contentType="application/pdf", size=10_000)
    assert client.delete(f"/api/upload/presigned/{taken_back['key']}").status == 204
    assert usage(client) == (90_000, 1, 0, 0)


def test_an_address_without_a_size_waits_until_there_is_room_for_what_came(bounded: RunningServer, owner: str) -> None:
    client = bounded.client(owner)
    offered = offer(client, contentType="application/pdf")
    key = client.stored(pdf(60_000))["key"]
    assert sent(client, offered, pdf(50_000)).status == 200
    assert refused(confirm(client, offered["key"]))
    assert client.delete(media(key)).status == 204
    assert confirm(client, offered["key"]).status == 200
    assert usage(client) == (50_000, 1, 0, 0)


def test_a_token_for_one_upload_takes_its_room_and_is_used_for_it(bounded: RunningServer, owner: str) -> None:
    client = bounded.client(owner)
    wish = json.dumps({"contentType": "application/pdf", "size": 90_000}).encode()
    token = client.post("/api/upload/tokens", wish, {"Content-Type": "application/json"}).json
    assert usage(client) == (0, 0, 90_000, 1)
    holder = Client(bounded.url, token["token"])
    assert holder.upload(pdf(90_000), "application/pdf").status == 201
    assert usage(client) == (90_000, 1, 0, 0)


def test_a_kill_in_the_middle_gives_the_room_of_a_finished_object_back_once(
    serve: Callable[..., RunningServer], owner: str
) -> None:
    server = serve(MEDIA_QUOTA_BYTES=str(QUOTA))
    client = server.client(owner)
    client.stored(pdf(50_000))
    upload = begun(client, 40_000)
    assert upload.append(pdf(40_000)[:10_000], 0).status == 204
    server.kill()
    server.start()
    client = server.client(owner)
    assert client.get("/api/usage").json["reserved"] == {"bytes": 40_000, "objects": 1}
    upload.client = client
    assert upload.append(pdf(40_000)[10_000:]).status == 204
    assert until(lambda: client.get("/api/usage").json["bytes"] == 90_000)
    assert client.get("/api/usage").json["reserved"] == {"bytes": 0, "objects": 0}


def test_usage_is_the_callers_own_and_needs_a_token(server: RunningServer, owner: str) -> None:
    client = server.client(owner)
    client.stored(PDF)
    told = client.get("/api/usage")
    assert told.json["objects"] == 1
    assert told.json["quota"] == {"bytes": None, "objects": None}
    assert told.headers["Cache-Control"] == "private, no-store"
    assert server.client(f"{owner}x").get("/api/usage").json["objects"] == 0
    assert Client(server.url).get("/api/usage").status == 401


def test_admins_see_who_has_most(server: RunningServer, owner: str) -> None:
    for number in range(3):
        server.client(f"{owner}-{number}").stored(pdf((50 + number) << 20 if number == 2 else 9_000))
    boss = server.client("boss", scope="media:admin")
    first, *others = boss.get("/api/usage/owners?limit=2").json["owners"]
    assert first == {"owner": f"{owner}-2", "bytes": 52 << 20, "objects": 1}
    assert len(others) == 1
    everybody = boss.get("/api/usage/owners?limit=200").json["owners"]
    assert [one["bytes"] for one in everybody] == sorted((one["bytes"] for one in everybody), reverse=True)
    assert {f"{owner}-0", f"{owner}-1"} <= {one["owner"] for one in everybody}
    refused = server.client(owner).get("/api/usage/owners")
    assert (refused.status, refused.code) == (403, "forbidden")
    for limit in ("0", "201", "x", "-1"):
        assert boss.get(f"/api/usage/owners?limit={limit}").code == "bad-request"


def test_uploads_are_counted_by_the_way_they_came(server: RunningServer, owner: str) -> None:
    client = server.client(owner)

    def counted() -> dict[str, tuple[float, float]]:
        return {
            way: (
                server.metric("media_uploads_total", way=way, outcome="stored"),
                server.metric("media_uploaded_bytes_total", way=way),
            )
            for way in ("body", "form", "tus", "chunks", "promise")
        }

    before = counted()
    client.stored(pdf(500))
    client.upload_form(FilePart(pdf(600)))
    begun(client, 700).append(pdf(700), 0)
    told = client.post("/api/upload/chunked", json.dumps({"size": 800, "chunkSize": 1 << 16}).encode(), JSON).json
    client.request("PUT", f"/api/upload/chunked/{told['sessionId']}/0", {}, pdf(800))
    client.post(f"/api/upload/chunked/{told['sessionId']}/complete")
    offered = offer(client, contentType="application/pdf")
    sent(client, offered, pdf(900))
    confirm(client, offered["key"])
    grown = {way: tuple(now - then for now, then in zip(after, before[way], strict=True)) for way, after in counted().items()}
    assert grown == {"body": (1, 500), "form": (1, 600), "tus": (1, 700), "chunks": (1, 800), "promise": (1, 900)}

"""tus 1.0 on the wire: what is acknowledged stays, whoever breaks off, and the last byte makes one object."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from proxy.auth import LEEWAY_S
from tests import pictures
from tests.conftest import Harmless
from tests.kit.client import Client, media
from tests.kit.doors import doors
from tests.kit.files import padded
from tests.kit.raw import Wire
from tests.kit.server import RunningServer
from tests.kit.tus import BYTES, MIB, TUS, Upload, begun, metadata
from tests.kit.waiting import until
from tests.kit.workers import held

PHOTO = pictures.jpeg(640, 480)


def checksum(data: bytes, algorithm: str = "sha1") -> dict[str, str]:
    return {"Upload-Checksum": f"{algorithm} {base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"}


# -- from the first byte to the object --------------------------------------------------------------------------------


def test_an_upload_in_pieces_becomes_an_object_and_every_answer_from_then_on_says_which(client: Client, owner: str) -> None:
    upload = begun(client, len(PHOTO), {"Upload-Metadata": metadata(filename="ein Bild.jpg", filetype="image/jpeg")})
    assert upload.head().headers["Upload-Offset"] == "0"
    assert upload.append(PHOTO[:1000]).headers["Upload-Offset"] == "1000"
    between = upload.head()
    assert (between.status, between.headers["Upload-Length"], between.headers["Cache-Control"]) == (
        200,
        str(len(PHOTO)),
        "no-store",
    )
    assert "Content-Location" not in between.headers
    last = upload.append(PHOTO[1000:])
    assert (last.status, last.headers["Upload-Offset"]) == (204, str(len(PHOTO)))
    place = last.headers["Content-Location"]
    key = last.headers["X-Media-Key"]
    assert (place, key.startswith(f"{owner}/"), key.endswith(".jpg")) == (media(key), True, True)
    assert client.get(place).body == PHOTO
    (record,) = client.assets()
    assert (record["key"], record["filename"]) == (key, "ein Bild.jpg")
    later = upload.head()
    assert (later.headers["Content-Location"], later.headers["Upload-Offset"]) == (place, str(len(PHOTO)))
    assert upload.append(b"").headers["Content-Location"] == place, "the lost answer is given again"


def test_the_first_bytes_may_come_with_the_creation(client: Client) -> None:
    answer = client.request("POST", "/api/uploads", {**BYTES, "Upload-Length": str(len(PHOTO))}, PHOTO[:777])
    assert (answer.status, answer.headers["Upload-Offset"]) == (201, "777")
    upload = Upload(client, answer.headers["Location"])
    assert upload.append(PHOTO[777:], 777).status == 204
    whole = client.request("POST", "/api/uploads", {**BYTES, "Upload-Length": str(len(PHOTO))}, PHOTO)
    assert client.get(whole.headers["Content-Location"]).body == PHOTO


def test_the_length_may_be_said_later_and_once(client: Client) -> None:
    upload = begun(client, None)
    assert upload.head().headers["Upload-Defer-Length"] == "1"
    assert "Upload-Length" not in upload.head().headers
    assert upload.append(PHOTO[:100]).status == 204
    assert upload.append(PHOTO[100:200], 100, {"Upload-Length": str(len(PHOTO))}).status == 204
    assert upload.head().headers["Upload-Length"] == str(len(PHOTO))
    assert "Upload-Defer-Length" not in upload.head().headers
    assert upload.append(PHOTO[200:300], 200, {"Upload-Length": "999999"}).status == 400
    assert client.get(upload.append(PHOTO[200:], 200).headers["Content-Location"]).body == PHOTO


def test_parts_that_came_side_by_side_are_put_together(client: Client, server: RunningServer) -> None:
    cut = len(PHOTO) // 3
    pieces = [PHOTO[:cut], PHOTO[cut : 2 * cut], PHOTO[2 * cut :]]
    parts = [begun(client, len(piece), {"Upload-Concat": "partial"}) for piece in pieces]
    unfinished = f"final;{' '.join(part.path for part in parts)}"
    assert client.request("POST", "/api/uploads", {**TUS, "Upload-Concat": unfinished}).status == 409
    with ThreadPoolExecutor(3) as pool:
        assert {answer.status for answer in pool.map(lambda part, piece: part.append(piece), parts, pieces)} == {204}
    assert parts[0].head().headers["Upload-Concat"] == "partial"
    assert "Content-Location" not in parts[0].head().headers
    # Addresses may be absolute, as tus-js-client sends them.
    final = f"final;{server.url}{parts[0].path} {parts[1].path} {parts[2].path}"
    answer = client.request(
        "POST", "/api/uploads", {**TUS, "Upload-Concat": final, "Upload-Metadata": metadata(filename="whole.jpg")}
    )
    assert answer.status == 201, answer
    upload = Upload(client, answer.headers["Location"])
    head = upload.head()
    assert client.get(head.headers["Content-Location"]).body == PHOTO
    assert head.headers["Upload-Concat"] == f"final;{' '.join(part.path for part in parts)}"
    assert head.headers["Upload-Length"] == head.headers["Upload-Offset"] == str(len(PHOTO))
    assert upload.append(b"x", len(PHOTO)).status == 403
    assert [asset["filename"] for asset in client.assets()] == ["whole.jpg"]
    assert parts[0].head().status == 404


def test_what_was_sent_with_a_wrong_checksum_is_thrown_away(client: Client) -> None:
    upload = begun(client, len(PHOTO))
    assert upload.append(PHOTO[:500], 0, checksum(PHOTO[:500])).status == 204
    wrong = upload.append(PHOTO[500:900], 500, checksum(b"something else", "sha256"))
    assert (wrong.status, wrong.code, "Upload-Offset" in wrong.headers) == (460, "checksum-mismatch", False)
    assert upload.offset() == 500
    assert upload.append(PHOTO[500:], 500, checksum(PHOTO[500:], "sha256")).status == 204
    assert client.get(upload.head().headers["Content-Location"]).body == PHOTO


@pytest.mark.parametrize(
    "value", ["md5 1B2M2Y8AsgTpgAmY7PhCfg==", "sha1", "sha1 ???", "sha1 AAAA", "", "SHA1 2jmj7l5rSw0yVb/vlWAYkK/YBwk="]
)
def test_a_checksum_that_cannot_be_checked_is_refused(client: Client, value: str) -> None:
    upload = begun(client, 10)
    assert upload.append(b"12345", 0, {"Upload-Checksum": value}).status == 400
    assert upload.offset() == 0


def test_an_upload_can_be_ended(client: Client, server: RunningServer) -> None:
    upload = begun(client, len(PHOTO))
    upload.append(PHOTO[:100])
    assert client.request("DELETE", upload.path, TUS).status == 204
    assert (upload.head().status, upload.append(PHOTO[100:], 100).status) == (404, 404)
    assert not (server.data / "uploads" / upload.path.rpartition("/")[2]).exists()
    assert client.request("DELETE", upload.path, TUS).status == 404


def test_clients_that_can_send_no_other_method_use_post(client: Client) -> None:
    upload = begun(client, len(PHOTO))
    headers = {**BYTES, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    assert client.request("POST", upload.path, headers, PHOTO[:10]).headers["Upload-Offset"] == "10"
    refused = client.request("POST", upload.path, {**TUS, "X-HTTP-Method-Override": "HEAD"})
    assert (refused.status, "PATCH" in refused.headers["Allow"]) == (405, True)
    assert client.request("POST", upload.path, {**TUS, "X-HTTP-Method-Override": "DELETE"}).status == 204
    assert upload.head().status == 404


def test_what_is_spoken_is_said_without_a_token(stranger: Client, server: RunningServer) -> None:
    for path in ("/api/uploads", "/api/uploads/1"):
        told = stranger.request("OPTIONS", path)
        assert (told.status, told.headers["Tus-Version"], told.headers["Tus-Max-Size"]) == (204, "1.0.0", str(5 << 30))
        assert told.headers["Tus-Checksum-Algorithm"] == "sha1,sha256"
        assert " " not in told.headers["Tus-Extension"], "TUSKit splits at the commas and keeps the blanks"
        assert {"creation", "termination", "concatenation"} < set(told.headers["Tus-Extension"].split(","))


def test_pages_of_other_origins_may_ask(serve_once: RunningServer) -> None:
    client = serve_once.client("u7")
    preflight = {"Origin": "https://app.example", "Access-Control-Request-Method": "PATCH"}
    preflight |= {"Access-Control-Request-Headers": "authorization,content-type,tus-resumable,upload-offset"}
    allowed = client.request("OPTIONS", "/api/uploads/1", preflight)
    assert (allowed.status, "PATCH" in allowed.headers["Access-Control-Allow-Methods"]) == (200, True)
    told = client.request("OPTIONS", "/api/uploads", {"Origin": "https://app.example"})
    assert told.headers["Tus-Version"] == "1.0.0"
    answer = client.request("POST", "/api/uploads", {**TUS, "Upload-Length": "10", "Origin": "https://app.example"})
    exposed = answer.headers["Access-Control-Expose-Headers"].split(",")
    assert {"Location", "Content-Location", "X-Media-Key", "Upload-Offset", "Upload-Length", "Upload-Expires"} <= set(exposed)
    assert answer.headers["Location"].startswith("https://media.example/api/uploads/"), "absolute where MEDIA_PUBLIC_URL is set"


@pytest.fixture(scope="module")
def serve_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    env = {"MEDIA_CORS_ORIGINS": "https://app.example", "MEDIA_PUBLIC_URL": "https://media.example"}
    with RunningServer(tmp_path_factory.mktemp("cors"), env) as running:
        yield running


# -- what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"Upload-Length": "ten"}, 400),
        ({"Upload-Length": "-1"}, 400),
        ({"Upload-Length": "１０"}, 400),
        ({"Upload-Length": "10", "Upload-Defer-Length": "1"}, 400),
        ({"Upload-Defer-Length": "2"}, 400),
        ({"Upload-Length": str((5 << 30) + 1)}, 413),
        ({"Upload-Length": "99999999", "Upload-Metadata": f"filetype {base64.b64encode(b'image/jpeg').decode()}"}, 413),
        ({"Upload-Length": "10", "Upload-Metadata": "filename ???"}, 400),
        ({"Upload-Length": "10", "Upload-Metadata": "a YQ==,a YQ=="}, 400),
        ({"Upload-Length": "10", "Upload-Metadata": "a " + "YWFh" * 2000}, 400),
        ({"Upload-Length": "10", "Upload-Concat": "half"}, 400),
        ({"Upload-Length": "10", "Upload-Concat": "final;/api/uploads/1"}, 400),
        ({"Upload-Concat": "final;"}, 400),
        ({"Upload-Concat": "final;/api/uploads/00000000000000000000000000000000"}, 404),
        ({"Upload-Concat": "final;/etc/passwd"}, 404),
    ],
)
def test_a_creation_that_makes_no_sense_is_refused(
    harmless: Harmless, client: Client, headers: dict[str, str], status: int
) -> None:
    with harmless(status) as bad:
        sent = {name: value.encode().decode("latin-1") for name, value in headers.items()}
        bad.answer = client.request("POST", "/api/uploads", {**TUS, **sent})
    assert bad.answer is not None
    assert "Upload-Offset" not in dict(bad.answer.headers)


def test_bytes_for_another_place_are_refused_and_nothing_moves(client: Client) -> None:
    upload = begun(client, 1000)
    upload.append(b"x" * 100)
    for offset in ("0", "99", "101", "1000"):
        refused = upload.append(b"y" * 10, offset)
        assert (refused.status, refused.code, "Upload-Offset" in refused.headers) == (409, "offset-mismatch", False)
    assert upload.append(b"y" * 10, "+100").status == 400
    assert upload.append(b"y" * 901, 100).status == 413
    assert client.request("PATCH", upload.path, {**TUS, "Upload-Offset": "100", "Content-Type": "image/jpeg"}, b"y").status == 415
    gzipped = {**BYTES, "Upload-Offset": "100", "Content-Encoding": "gzip"}
    assert client.request("PATCH", upload.path, gzipped, b"y").status == 415
    assert client.request("PATCH", upload.path, BYTES, b"y").status == 400
    assert upload.offset() == 100


def test_more_than_the_length_is_refused_also_when_it_was_not_declared(server: RunningServer, client: Client, owner: str) -> None:
    upload = begun(client, 100)
    with server.wire() as wire:
        headers = {**BYTES, "Upload-Offset": "0", "Authorization": f"Bearer {server.token(owner)}"}
        wire.request("PATCH", upload.path, headers | {"Transfer-Encoding": "chunked"})
        wire.send(b"50\r\n" + b"x" * 80 + b"\r\n50\r\n" + b"x" * 80 + b"\r\n0\r\n\r\n")
        assert wire.answer().status == 413
    assert upload.offset() in {0, 80}, "as it came: in one piece, or in two"


@pytest.mark.parametrize("version", [None, "0.2.2", "1.0", "2.0.0"])
def test_another_version_of_tus_is_told_which_is_spoken(client: Client, version: str | None) -> None:
    headers = {} if version is None else {"Tus-Resumable": version}
    answer = client.request("POST", "/api/uploads", {**headers, "Upload-Length": "10"})
    assert (answer.status, answer.headers["Tus-Version"], answer.headers["Tus-Resumable"]) == (412, "1.0.0", "1.0.0")


def test_nobody_else_finds_an_upload(client: Client, server: RunningServer, stranger: Client) -> None:
    upload = begun(client, 1000)
    part = begun(client, 10, {"Upload-Concat": "partial"})
    part.append(b"x" * 10)
    other = server.client("somebody-else")
    unknown = "/api/uploads/" + "0" * 32
    for method in ("HEAD", "GET", "PATCH", "DELETE"):
        headers = BYTES | {"Upload-Offset": "0"}
        assert other.request(method, upload.path, headers).status == other.request(method, unknown, headers).status == 404
        assert stranger.request(method, upload.path, headers).status == 401
    assert other.request("POST", "/api/uploads", {**TUS, "Upload-Concat": f"final;{part.path}"}).status == 404
    for odd in ("..", "%2e%2e", "home", "locks", "A" * 32, "1" * 500):
        assert client.request("HEAD", f"/api/uploads/{odd}", TUS).status == 404
    assert upload.offset() == 0


def test_a_body_that_is_no_file_that_is_taken_is_refused_and_the_reason_is_remembered(client: Client) -> None:
    upload = begun(client, 1000)
    refused = upload.append(b"no picture " * 90 + b"x" * 10)
    assert (refused.status, refused.code, "Upload-Offset" in refused.headers) == (415, "unsupported-type", False)
    assert upload.head().status == 404, "which makes every client start anew"
    status = client.get(upload.path).json
    assert (status["state"], status["refusal"]["code"]) == ("failed", "unsupported-type")
    claimed = begun(client, len(PHOTO), {"Upload-Metadata": metadata(filetype="video/mp4")})
    assert claimed.append(PHOTO).status == 415
    assert client.assets() == []


def test_an_empty_upload_is_refused(client: Client) -> None:
    assert client.request("POST", "/api/uploads", {**TUS, "Upload-Length": "0"}).status in {400, 415}


# -- who breaks off -------------------------------------------------------------------------------------------------------


@contextmanager
def half_sent(server: RunningServer, owner: str, upload: Upload, data: bytes, at: int = 0, rest: int = MIB) -> Iterator[Wire]:
    """A request that has sent *data* at *at*, says that *rest* more come, and stands still; some of it is in the file."""
    with server.wire() as wire:
        headers = {**BYTES, "Upload-Offset": str(at), "Authorization": f"Bearer {server.token(owner)}"}
        wire.request("PATCH", upload.path, headers | {"Content-Length": str(len(data) + rest)})
        wire.send(data)
        file = server.data / "uploads" / upload.id
        assert until(lambda: file.stat().st_size > at)
        yield wire


@pytest.mark.parametrize("kind", ["fin", "rst"])
def test_what_came_before_the_cut_is_kept(server: RunningServer, client: Client, owner: str, kind: str) -> None:
    data = padded(PHOTO, 3 * MIB)
    upload = begun(client, len(data))
    before = server.metric("media_received_bytes_total", route="tus-upload")
    with half_sent(server, owner, upload, data[: 2 * MIB]) as wire:
        if kind == "fin":
            wire.close()
        else:
            wire.reset()
        assert until(lambda: client.get(upload.path).json["offset"] > 0)
    offset = upload.offset()
    assert offset == 2 * MIB or (kind == "rst" and 0 < offset < 2 * MIB), "what RST overtakes is lost; nothing else is"
    assert client.get(upload.append(data[offset:], offset).headers["Content-Location"]).body == data
    assert server.metric("media_received_bytes_total", route="tus-upload") - before == len(data)


def test_a_client_that_comes_back_stops_its_old_request_and_has_every_byte(
    server: RunningServer, client: Client, owner: str
) -> None:
    data = padded(PHOTO, 3 * MIB)
    upload = begun(client, len(data))
    with half_sent(server, owner, upload, data[:MIB]) as wire:
        assert upload.offset() == MIB
        assert wire.answer().status == 423, "which makes clients that still live ask again"
    assert client.get(upload.append(data[MIB:], MIB).headers["Content-Location"]).body == data


def test_an_upload_that_is_ended_stops_at_once(server: RunningServer, client: Client, owner: str) -> None:
    upload = begun(client, 3 * MIB)
    with half_sent(server, owner, upload, PHOTO * 10) as wire:
        assert client.request("DELETE", upload.path, TUS).status == 204
        assert wire.answer().status in {404, 423}
    assert upload.head().status == 404
    assert not (server.data / "uploads" / upload.id).exists()


@pytest.mark.parametrize(
    ("rounds", "senders"), [(5, 20), pytest.param(100, 50, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_of_many_who_send_the_same_bytes_at_once_one_does(server: RunningServer, client: Client, rounds: int, senders: int) -> None:
    data = padded(PHOTO, 200_000)
    for _ in range(rounds):
        upload = begun(client, len(data) + 10)
        with ThreadPoolExecutor(senders) as pool:
            answers = list(pool.map(lambda _: upload.append(data, 0), range(senders)))  # noqa: B023
        statuses = [answer.status for answer in answers]
        assert set(statuses) <= {204, 409, 423}, statuses
        assert statuses.count(204) <= 1
        at = upload.offset()
        whole = data + b"0123456789"
        answer = upload.append(whole[at:], at)
        assert client.get(answer.headers["Content-Location"]).body == whole


def test_bytes_that_come_too_slowly_are_kept_all_the_same(serve: Callable[..., RunningServer]) -> None:
    server = serve(MEDIA_IDLE_TIMEOUT="1")
    client = server.client("u7")
    upload = begun(client, 3 * MIB)
    with half_sent(server, "u7", upload, b"x" * MIB) as wire:
        assert wire.answer().status == 408
    assert upload.offset() == MIB


def test_an_upload_goes_on_at_another_process(serve: Callable[..., RunningServer]) -> None:
    server = serve(MEDIA_WORKERS="2")
    data = padded(PHOTO, 3 * MIB)
    with doors(server, "u7") as (one, other):
        upload = begun(one, len(data))
        assert upload.append(data[:1000]).status == 204
        elsewhere = Upload(other, upload.path)
        with half_sent(server, "u7", upload, data[1000:MIB], 1000) as wire:
            assert {upload.offset(), elsewhere.offset()} == {MIB}
            assert wire.answer().status == 423
        last = elsewhere.append(data[MIB:], MIB)
        assert upload.head().headers["Content-Location"] == last.headers["Content-Location"]
        assert one.get(last.headers["Content-Location"]).body == data
        assert begun(one, 3 * MIB).client is one
        ended = begun(one, 3 * MIB)
        with half_sent(server, "u7", ended, data[:MIB]) as wire:
            statuses = {door.request("DELETE", ended.path, TUS).status for door in (one, other)}
            assert statuses == {204, 404}
            assert wire.answer().status in {404, 423}


def test_what_was_acknowledged_outlives_a_kill(serve: Callable[..., RunningServer]) -> None:
    server = serve()
    client = server.client("u7")
    data = padded(PHOTO, 40 * MIB)
    upload = begun(client, len(data))
    assert upload.append(data[:MIB]).status == 204
    with half_sent(server, "u7", upload, data[MIB : 36 * MIB], MIB):
        assert until(lambda: client.get(upload.path).json["offset"] > MIB), "a long request is made durable as it goes"
        acknowledged = client.get(upload.path).json["offset"]
        server.kill()
    server.start()
    upload.client = client = server.client("u7")
    offset = upload.offset()
    assert acknowledged <= offset < 36 * MIB
    assert client.get(upload.append(data[offset:], offset).headers["Content-Location"]).body == data


def test_what_is_whole_becomes_an_object_though_everybody_left_and_the_process_was_killed(
    serve: Callable[..., RunningServer],
) -> None:
    server = serve(MEDIA_RENDER_WORKERS="1")
    client = server.client("u7")
    client.stored(PHOTO)  # so that a worker is there
    upload = begun(client, len(PHOTO))
    with held(server):
        with server.wire() as wire:
            headers = {**BYTES, "Upload-Offset": "0", "Authorization": f"Bearer {server.token('u7')}"}
            wire.request("PATCH", upload.path, headers, PHOTO)
            assert until(lambda: client.get(upload.path).json["state"] == "committing")
        server.kill()
    server.start()
    client = server.client("u7")
    assert until(lambda: len(client.assets()) == 2), "nobody asks, and it is finished"
    upload.client = client
    head = upload.head()
    assert client.get(head.headers["Content-Location"]).body == PHOTO
    assert [name for name in server.files() if name.startswith("uploads/") and name not in {"uploads/home", "uploads/locks"}] == []


def test_a_client_that_leaves_at_the_last_byte_has_its_object(server: RunningServer, client: Client, owner: str) -> None:
    upload = begun(client, len(PHOTO))
    with server.wire() as wire:
        headers = {**BYTES, "Upload-Offset": "0", "Authorization": f"Bearer {server.token(owner)}"}
        wire.request("PATCH", upload.path, headers, PHOTO)
        wire.close()
    assert until(lambda: client.get(upload.path).json["offset"] > 0)
    assert client.get(upload.head().headers["Content-Location"]).body == PHOTO
    assert len(client.assets()) == 1


# -- how long, how many, for whom -------------------------------------------------------------------------------------------


def test_an_upload_that_nobody_goes_on_with_is_dropped(serve: Callable[..., RunningServer]) -> None:
    server = serve(MEDIA_UPLOAD_LIFETIME="1")
    upload = begun(server.client("u7"), 1000)
    assert until(lambda: upload.head().status == 404)
    assert until(lambda: not (server.data / "uploads" / upload.id).exists())


def test_beyond_the_room_for_uploads_no_further_one_begins(serve: Callable[..., RunningServer]) -> None:
    client = serve(MEDIA_INCOMING_BYTES="1M").client("u7")
    upload = begun(client, 900_000)
    refused = client.request("POST", "/api/uploads", {**TUS, "Upload-Length": "200000"})
    assert (refused.status, refused.code, refused.headers["Retry-After"]) == (507, "storage-full", "60")
    assert client.request("DELETE", upload.path, TUS).status == 204
    begun(client, 200_000)


def test_a_login_that_ends_in_the_middle_is_renewed_and_the_upload_goes_on(server: RunningServer, owner: str) -> None:
    short = Client(server.url, server.token(owner, iat=int(time.time()) - 60, lifetime_s=5 - LEEWAY_S))
    data = padded(PHOTO, 300_000)
    upload = begun(short, len(data))
    with server.wire() as wire:
        headers = {**BYTES, "Upload-Offset": "0", "Authorization": f"Bearer {short.token}", "Content-Length": "200000"}
        wire.request("PATCH", upload.path, headers)
        wire.send(data[:100_000])
        assert until(lambda: short.get("/api/assets").status == 401)
        wire.send(data[100_000:200_000])
        assert wire.answer().status == 204, "who was let in may finish the request"
    assert (upload.append(data[200_000:], 200_000).status, upload.head().status) == (401, 401)
    upload.client = server.client(owner)
    assert server.client(owner).get(upload.append(data[200_000:]).headers["Content-Location"]).body == data


def test_a_token_for_one_upload_is_good_for_its_key_alone(server: RunningServer, client: Client, stranger: Client) -> None:
    wish = json.dumps({"contentType": "image/jpeg", "size": len(PHOTO)}).encode()
    minted = client.request("POST", "/api/upload/tokens", {"Content-Type": "application/json"}, wish).json
    phone = Client(server.url, minted["token"])
    assert phone.request("POST", "/api/uploads", {**TUS, "Upload-Length": "9"}).status == 400, "another size was promised"
    upload = begun(phone, len(PHOTO))
    assert upload.append(PHOTO[:1000]).status == 204
    mine = begun(client, len(PHOTO))
    assert phone.request("HEAD", mine.path, TUS).status == 404, "uploads that began with the login are none of the token's"
    assert upload.append(PHOTO[1000:]).headers["X-Media-Key"] == minted["key"]
    assert stranger.get(media(minted["key"])).body == PHOTO
    assert phone.request("POST", "/api/uploads", {**TUS, "Upload-Length": str(len(PHOTO))}).code == "already-uploaded"


def test_a_token_that_is_taken_back_ends_its_upload(server: RunningServer, client: Client) -> None:
    wish = json.dumps({"contentType": "image/jpeg"}).encode()
    minted = client.request("POST", "/api/upload/tokens", {"Content-Type": "application/json"}, wish).json
    upload = begun(Client(server.url, minted["token"]), len(PHOTO))
    assert upload.append(PHOTO[:1000]).status == 204
    assert client.delete(f"/api/upload/tokens/{minted['key']}").status == 204
    assert (upload.head().status, upload.append(PHOTO[1000:], 1000).status) == (401, 401)
    assert client.assets() == []


@pytest.mark.parametrize(("uploads", "cuts"), [(6, 5), pytest.param(200, 5, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_a_phone_in_a_tunnel_comes_to_its_end(server: RunningServer, owner: str, uploads: int, cuts: int) -> None:
    """Cut at random, asked for the offset, gone on, until it is whole."""

    def carried(number: int) -> bool:
        chance, client = random.Random(number), server.client(owner)
        data = padded(PHOTO, chance.randrange(100_000, 2 * MIB))
        upload = begun(client, len(data))
        lowest = 0

        def offset() -> int:
            heads = iter(upload.head, None)
            return next(int(head.headers["Upload-Offset"]) for head in itertools.islice(heads, 50) if head.status != 423)

        for _ in range(cuts):
            at = offset()
            assert at >= lowest
            lowest = at
            size = min(chance.randrange(1, 400_000), len(data) - at - 1)
            with server.wire() as wire:
                headers = {**BYTES, "Upload-Offset": str(at), "Authorization": f"Bearer {server.token(owner)}"}
                wire.request("PATCH", upload.path, headers | {"Content-Length": str(len(data) - at)})
                wire.send(data[at : at + size])
                (wire.reset if chance.random() < 0.5 else wire.close)()
        # What was cut a moment ago may still come to its turn: then this is told so, and asks again.
        for _ in range(50):
            at = offset()
            if (answer := upload.append(data[at:], at)).status not in {409, 423}:
                break
        return client.get(answer.headers["Content-Location"]).body == data

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(carried, range(uploads)))

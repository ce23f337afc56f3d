"""Tokens that are good for one upload, through HTTP: what they let, how they end, and that they are good for nothing else."""

from __future__ import annotations

import json
import threading
from typing import Any
from urllib.parse import quote

import jwt
import pytest

from tests import pictures
from tests.conftest import Harmless
from tests.kit.client import Answer, Client, FilePart, media
from tests.kit.server import SECRET, RunningServer
from tests.kit.waiting import until

PHOTO = pictures.jpeg(64, 48)
PNG = pictures.png(32, 32)


def minted(client: Client, **wish: Any) -> dict[str, Any]:
    answer = client.post("/api/upload/tokens", json.dumps(wish).encode(), {"Content-Type": "application/json"})
    assert answer.status == 201, answer
    found = answer.json
    assert isinstance(found, dict)
    assert answer.headers["Location"] == f"/api/upload/tokens/{quote(found['key'])}"
    return found


def holder(server: RunningServer, token: dict[str, Any]) -> Client:
    return Client(server.url, token["token"])


def revoked(client: Client, token: dict[str, Any]) -> Answer:
    return client.delete(f"/api/upload/tokens/{quote(token['key'])}")


def test_a_token_takes_its_one_upload_and_then_no_other(server: RunningServer, client: Client, owner: str) -> None:
    token = minted(client, filename="a.jpg", contentType="image/jpeg", size=len(PHOTO), expiresIn=3600)
    assert token.keys() == {"token", "key", "expiresIn"}
    assert token["key"].startswith(f"{owner}/")
    stored = holder(server, token).upload(PHOTO, "image/jpeg")
    assert (stored.status, stored.json["key"], stored.json["filename"]) == (201, token["key"], "a.jpg")
    assert client.get(media(token["key"])).body == PHOTO
    assert holder(server, token).upload(PHOTO, "image/jpeg").code == "already-uploaded"
    assert len(client.assets()) == 1


def test_a_token_lives_longer_than_a_login_may(server: RunningServer, client: Client) -> None:
    week = 7 * 86_400
    token = minted(client, contentType="image/jpeg", expiresIn=week)
    claims = jwt.decode(token["token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == pytest.approx(week, abs=2)
    too_long = json.dumps({"contentType": "image/jpeg", "expiresIn": week + 1}).encode()
    assert client.post("/api/upload/tokens", too_long, {"Content-Type": "application/json"}).status == 400
    assert holder(server, token).upload_form(FilePart(PHOTO)).status == 201


WRONG = {
    "another type": ("image/png", PNG, 415),
    "other bytes than it says": ("image/jpeg", PNG, 415),
    "more bytes": ("image/jpeg", PHOTO + b"x", 413),
    "fewer bytes": ("image/jpeg", PHOTO[:-1], 400),
}


@pytest.mark.parametrize("what", sorted(WRONG))
def test_a_token_takes_only_what_it_was_made_for(server: RunningServer, client: Client, harmless: Harmless, what: str) -> None:
    content_type, body, status = WRONG[what]
    size = len(PHOTO) if what.endswith("bytes") else len(body)
    token = minted(client, contentType="image/jpeg", size=size)
    with harmless(status) as bad:
        bad.answer = holder(server, token).upload(body, content_type)
    with harmless(status) as bad:
        bad.answer = holder(server, token).upload_form(FilePart(body, content_type=content_type))


def test_a_token_of_an_upload_is_good_for_nothing_else(server: RunningServer, client: Client) -> None:
    token = minted(client, contentType="image/jpeg")
    key = client.stored(PHOTO)["key"]
    bearer = holder(server, token)
    refused = [
        bearer.get("/api/assets"),
        bearer.get(f"/api/assets/{key}"),
        bearer.delete(media(key)),
        bearer.post("/api/upload/tokens", b'{"contentType": "image/jpeg"}', {"Content-Type": "application/json"}),
        bearer.post("/api/upload/presigned", b'{"contentType": "image/jpeg"}', {"Content-Type": "application/json"}),
        bearer.post("/api/upload/confirm", json.dumps({"key": key}).encode(), {"Content-Type": "application/json"}),
        revoked(bearer, token),
    ]
    assert [answer.status for answer in refused] == [401] * len(refused)
    assert bearer.upload(PHOTO).status == 201


def test_a_login_that_calls_itself_an_upload_token_is_none(server: RunningServer, client: Client) -> None:
    token = minted(client, contentType="image/jpeg")
    claims = jwt.decode(token["token"], options={"verify_signature": False})
    forged = [
        jwt.encode(claims, SECRET, "HS256", headers={"typ": "upload+jwt"}),
        jwt.encode(claims, None, "none", headers={"typ": "upload+jwt"}),
        token["token"][:-3] + "AAA",
    ]
    answers = [Client(server.url, one).upload(PHOTO, "image/jpeg") for one in forged]
    assert [answer.status for answer in answers] == [401] * len(answers)
    assert client.assets() == []


def test_only_the_owner_takes_a_token_back_and_then_it_is_good_for_nothing(
    server: RunningServer, client: Client, harmless: Harmless
) -> None:
    token = minted(client, contentType="image/jpeg")
    assert revoked(server.client("somebody-else"), token).status == 404
    assert revoked(server.client(), token).status == 401
    assert revoked(client, token).status == 204
    assert revoked(client, token).status == 204
    with harmless(401) as bad:
        bad.answer = holder(server, token).upload(PHOTO, "image/jpeg")


def test_a_token_that_is_taken_back_during_its_upload_stores_nothing(server: RunningServer, client: Client) -> None:
    token = minted(client, contentType="image/jpeg")
    rest = threading.Event()

    def slowly() -> Any:
        yield PHOTO[:500]
        assert rest.wait(30)
        yield PHOTO[500:]

    answers: list[Answer] = []
    chunked = {"Content-Type": "image/jpeg", "Transfer-Encoding": "chunked"}
    sender = threading.Thread(target=lambda: answers.append(holder(server, token).post("/api/upload", slowly(), chunked)))
    received = server.metric("media_received_bytes_total", route="upload")
    sender.start()
    assert until(lambda: server.metric("media_received_bytes_total", route="upload") > received)
    assert holder(server, token).upload(PHOTO, "image/jpeg").status == 409
    assert revoked(client, token).status == 204
    rest.set()
    sender.join(30)
    assert [answer.status for answer in answers] == [401]
    assert client.get(media(token["key"])).status == 404
    assert client.assets() == []

"""Addresses of ours that take one upload, through HTTP: what they let, what they refuse, and what confirming makes of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest

from proxy.errors import BadSignature, ExpiredAddress
from proxy.keys import Key
from proxy.tickets import Ticket, Tickets
from tests import pictures
from tests.conftest import Harmless
from tests.kit.client import Client, FilePart, form, form_type, media
from tests.kit.doors import doors
from tests.kit.promises import confirm, offer, path_of, sent
from tests.kit.server import RunningServer

PHOTO = pictures.jpeg(64, 48)
PNG = pictures.png(32, 32)


def staged(server: RunningServer) -> set[str]:
    return {name for name in server.files() if name.startswith("incoming/objects")}


def test_what_was_sent_to_an_address_becomes_an_object_when_it_is_confirmed(client: Client, stranger: Client, owner: str) -> None:
    wish = {"filename": "holiday.jpg", "contentType": "image/jpeg", "size": len(PHOTO), "expiresIn": 600}
    offered = offer(client, **wish)
    assert offered.keys() == {"uploadUrl", "key", "expiresIn", "method", "headers"}
    assert (offered["method"], offered["expiresIn"]) == ("PUT", 600)
    assert offered["key"].startswith(f"{owner}/")
    assert offered["key"].endswith(".jpg")
    assert confirm(client, offered["key"]).code == "not-uploaded"
    assert stranger.get(media(offered["key"])).status == 404

    assert sent(stranger, offered, PHOTO).status == 200
    assert stranger.get(media(offered["key"])).status == 404
    assert client.assets() == []

    confirmed = confirm(client, offered["key"])
    assert confirmed.status == 200, confirmed
    assert (confirmed.json["key"], confirmed.json["filename"]) == (offered["key"], "holiday.jpg")
    assert (confirmed.json["width"], confirmed.json["size"]) == (64, len(PHOTO))
    assert stranger.get(media(offered["key"])).body == PHOTO
    assert confirm(client, offered["key"]).json == confirmed.json
    assert len(client.assets()) == 1


def test_nothing_is_left_of_what_was_sent_when_it_is_confirmed(server: RunningServer, client: Client) -> None:
    before = staged(server)
    offered = offer(client, contentType="image/jpeg")
    assert sent(client, offered, PHOTO).status == 200
    assert staged(server) > before
    assert confirm(client, offered["key"]).status == 200
    assert staged(server) == before


def test_confirming_at_the_same_time_gives_one_object(client: Client) -> None:
    offered = offer(client, contentType="image/jpeg", size=len(PHOTO))
    assert sent(client, offered, PHOTO).status == 200
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: confirm(client, offered["key"]), range(8)))
    assert {answer.status for answer in answers} == {200}, answers
    assert len({answer.json["etag"] for answer in answers}) == 1
    assert [asset["key"] for asset in client.assets()] == [offered["key"]]


def test_an_address_is_good_once(client: Client, stranger: Client) -> None:
    offered = offer(client, contentType="image/jpeg")
    assert sent(stranger, offered, PHOTO).status == 200
    assert sent(stranger, offered, PHOTO).code == "already-uploaded"
    assert confirm(client, offered["key"]).status == 200
    again = sent(stranger, offered, pictures.jpeg(16, 16))
    assert (again.status, again.code) == (409, "already-uploaded")
    assert stranger.get(media(offered["key"])).body == PHOTO


CHANGES = {
    "another key": lambda url: url.replace(".jpg", ".png", 1),
    "a longer life": lambda url: url.replace("exp=", "exp=9"),
    "another type": lambda url: url.replace("image%2Fjpeg", "image%2Fpng"),
    "more bytes": lambda url: url.replace("size=", "size=9"),
    "something added": lambda url: url + "&more=1",
    "a value twice": lambda url: url + "&exp=99999999999",
    "no signature": lambda url: url.partition("&s=")[0],
    "another signature": lambda url: url[:-4] + "AAAA",
    "nothing signed": lambda url: url.partition("?")[0],
    "a plus for a space": lambda url: url.replace("%20", "+"),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_an_address_that_was_changed_takes_nothing(client: Client, harmless: Harmless, change: str) -> None:
    offered = offer(client, filename="a b.jpg", contentType="image/jpeg", size=len(PHOTO))
    changed = CHANGES[change](path_of(offered))
    if change == "a plus for a space":
        changed = changed.replace("a+b", "a+b+")
    with harmless(403, "bad-signature") as bad:
        bad.answer = client.request("PUT", changed, {"Content-Type": "image/jpeg"}, PHOTO)


def test_an_address_for_one_method_takes_no_other(client: Client) -> None:
    offered = offer(client, contentType="image/jpeg")
    assert client.post(path_of(offered), form(FilePart(PHOTO)), {"Content-Type": form_type()}).code == "bad-signature"


REFUSED: dict[str, tuple[dict[str, str], bytes, int, str]] = {
    "another type": ({"Content-Type": "image/png"}, PHOTO, 415, "unsupported-type"),
    "too many bytes": ({"Content-Type": "image/jpeg"}, PHOTO + b"x", 413, "too-large"),
    "too few bytes": ({"Content-Type": "image/jpeg"}, PHOTO[:-1], 400, "bad-request"),
    "an encoding": ({"Content-Type": "image/jpeg", "Content-Encoding": "gzip"}, PHOTO, 415, "unsupported-type"),
}


@pytest.mark.parametrize("what", sorted(REFUSED))
def test_what_is_not_as_it_was_promised_is_refused_by_its_head_and_may_be_sent_again(
    server: RunningServer, client: Client, what: str
) -> None:
    headers, body, status, code = REFUSED[what]
    offered = offer(client, contentType="image/jpeg", size=len(PHOTO))
    with server.wire() as wire:
        lines = {"Content-Length": str(len(body)), "Expect": "100-continue", **headers}
        answer = wire.request("PUT", path_of(offered), lines).answer()
    assert (answer.status, json.loads(answer.body)["code"], answer.interim) == (status, code, ())
    assert sent(client, offered, PHOTO).status == 200
    assert confirm(client, offered["key"]).status == 200


def test_a_body_of_undeclared_length_may_not_have_more_or_fewer_bytes_than_promised(client: Client) -> None:
    offered = offer(client, contentType="image/jpeg", size=len(PHOTO))
    chunked = {"Content-Type": "image/jpeg", "Transfer-Encoding": "chunked"}
    for wrong in (PHOTO + b"x", PHOTO[:-1]):
        answer = client.request("PUT", path_of(offered), chunked, iter([wrong]))
        assert answer.status in {400, 413}, answer
    assert client.request("PUT", path_of(offered), chunked, iter([PHOTO])).status == 200
    assert confirm(client, offered["key"]).status == 200


def test_what_came_is_judged_by_its_bytes_and_the_judgement_stands(server: RunningServer, client: Client) -> None:
    cases = {"image/jpeg": (PNG, 415, "unsupported-type"), "image/png": (PNG[: len(PNG) // 2], 422, "undecodable")}
    for content_type, (body, status, code) in cases.items():
        before = staged(server)
        offered = offer(client, contentType=content_type)
        assert sent(client, offered, body).status == 200
        first, second = confirm(client, offered["key"]), confirm(client, offered["key"])
        assert (first.status, first.code) == (second.status, second.code) == (status, code)
        assert first.json["detail"] == second.json["detail"]
        assert client.get(media(offered["key"])).status == 404
        assert staged(server) == before
        assert sent(client, offered, PHOTO).code == "already-uploaded"


def test_a_form_takes_the_file_with_the_fields_before_it(client: Client, stranger: Client) -> None:
    offered = offer(client, contentType="image/jpeg", size=len(PHOTO), mode="post")
    assert offered["method"] == "POST"
    assert offered.keys() == {"uploadUrl", "key", "expiresIn", "method", "fields"}
    file = FilePart(PHOTO, content_type="image/jpeg")
    heads = {"Content-Type": form_type()}
    assert stranger.post(path_of(offered), form(file), heads).status == 400
    assert stranger.post(path_of(offered), form(("Content-Type", "image/png"), file), heads).status == 415
    assert stranger.post(path_of(offered), form(*offered["fields"].items(), FilePart(PHOTO + b"x")), heads).status == 413
    assert sent(stranger, offered, PHOTO).status == 200
    assert confirm(client, offered["key"]).json["size"] == len(PHOTO)


def test_only_the_owner_confirms_and_withdraws(client: Client, server: RunningServer, owner: str) -> None:
    other, reader = server.client("somebody-else"), server.client(owner, scope="media:read")
    offered = offer(client, contentType="image/jpeg")
    assert sent(client, offered, PHOTO).status == 200
    assert confirm(other, offered["key"]).status == 404
    assert confirm(reader, offered["key"]).status == 403
    assert confirm(server.client(), offered["key"]).status == 401
    assert other.delete(urlsplit(path_of(offered)).path).status == 404
    assert confirm(client, f"{owner}/nothing.jpg").status == 404
    assert confirm(client, offered["key"]).status == 200


def test_what_was_withdrawn_takes_nothing_and_becomes_nothing(client: Client, server: RunningServer) -> None:
    before = staged(server)
    unused, used = offer(client, contentType="image/jpeg"), offer(client, contentType="image/jpeg")
    assert sent(client, used, PHOTO).status == 200
    for offered in (unused, used):
        assert client.delete(urlsplit(path_of(offered)).path).status == 204
        assert client.delete(urlsplit(path_of(offered)).path).status == 204
        assert sent(client, offered, PHOTO).status == 403
        assert confirm(client, offered["key"]).status == 404
    assert staged(server) == before
    kept = offer(client, contentType="image/jpeg")
    assert sent(client, kept, PHOTO).status == 200
    assert confirm(client, kept["key"]).status == 200
    assert client.delete(urlsplit(path_of(kept)).path).code == "already-uploaded"


WISHES: dict[str, tuple[dict[str, Any], int]] = {
    "no type": ({}, 400),
    "a type that is not taken": ({"contentType": "text/html"}, 415),
    "a size of none": ({"contentType": "image/jpeg", "size": 0}, 400),
    "a size that is no number": ({"contentType": "image/jpeg", "size": "12"}, 400),
    "a size beyond the limit": ({"contentType": "image/jpeg", "size": 65 << 20}, 413),
    "no end": ({"contentType": "image/jpeg", "expiresIn": 0}, 400),
    "an end too far": ({"contentType": "image/jpeg", "expiresIn": 86_401}, 400),
    "another mode": ({"contentType": "image/jpeg", "mode": "patch"}, 400),
    "a name that is none": ({"contentType": "image/jpeg", "filename": 5}, 400),
    "something unknown": ({"contentType": "image/jpeg", "key": "user123/a.jpg"}, 400),
}


@pytest.mark.parametrize("wish", sorted(WISHES))
def test_a_wish_that_is_not_right_promises_nothing(client: Client, harmless: Harmless, wish: str) -> None:
    document, status = WISHES[wish]
    with harmless(status) as bad:
        bad.answer = client.post("/api/upload/presigned", json.dumps(document).encode(), {"Content-Type": "application/json"})


def test_to_be_promised_an_upload_one_needs_the_right_to_write(server: RunningServer, owner: str) -> None:
    body, heads = b'{"contentType": "image/jpeg"}', {"Content-Type": "application/json"}
    assert server.client().post("/api/upload/presigned", body, heads).status == 401
    assert server.client(owner, scope="media:read").post("/api/upload/presigned", body, heads).status == 403


def test_an_address_holds_wherever_the_secret_is_and_is_absolute_where_the_public_name_is_known(serve: Any, client: Client) -> None:
    other = serve(MEDIA_PUBLIC_URL="https://media.example/base")
    offered = offer(client, contentType="image/jpeg", size=len(PHOTO), filename="a.jpg")
    assert sent(other.client(), offered, PHOTO).status == 200
    owner = other.client(offered["key"].partition("/")[0])
    confirmed = confirm(owner, offered["key"])
    assert (confirmed.status, confirmed.json["filename"]) == (200, "a.jpg")
    assert offer(owner, contentType="image/jpeg")["uploadUrl"].startswith("https://media.example/base/api/upload/presigned/")


def test_an_address_under_another_secret_holds_only_while_that_is_known() -> None:
    ticket = Ticket("PUT", Key("me/a b.jpg"), "image/jpeg", 5, 10, 2_000, "ä & b.jpg")
    query = Tickets([b"old"]).address(ticket).partition("?")[2]
    assert Tickets([b"new", b"old"]).read("PUT", ticket.key, query, 1_999) == ticket
    with pytest.raises(BadSignature):
        Tickets([b"new"]).read("PUT", ticket.key, query, 1_999)
    with pytest.raises(ExpiredAddress):
        Tickets([b"old"]).read("PUT", ticket.key, query, 2_000)


def test_several_processes_keep_one_promise_and_one_of_them_takes_it_back_for_all(serve: Any) -> None:
    service = serve(MEDIA_WORKERS="2")
    json_type = {"Content-Type": "application/json"}
    with doors(service, "me") as (one, other), ThreadPoolExecutor(2) as pool:
        wish = b'{"contentType": "image/jpeg"}'
        offered = json.loads(one.request("POST", "/api/upload/presigned", json_type, wish).body)
        assert other.request("PUT", path_of(offered), offered["headers"], PHOTO).status == 200
        assert one.request("PUT", path_of(offered), offered["headers"], PHOTO).code == "already-uploaded"
        wanted = json.dumps({"key": offered["key"]}).encode()
        both = list(pool.map(lambda door: door.request("POST", "/api/upload/confirm", json_type, wanted), (one, other)))
        assert [answer.status for answer in both] == [200, 200]
        assert both[0].json == both[1].json
        token = json.loads(one.request("POST", "/api/upload/tokens", json_type, wish).body)
        assert one.request("DELETE", f"/api/upload/tokens/{token['key']}").status == 204
        bearer = {"Authorization": f"Bearer {token['token']}", "Content-Type": "image/jpeg"}
        assert other.request("POST", "/api/upload", bearer, PHOTO).status == 401
    assert len(service.client("me").assets()) == 1


def test_there_is_room_for_so_much_and_what_has_come_is_there_after_a_kill(serve: Any) -> None:
    server = serve(MEDIA_INCOMING_BYTES=str(len(PHOTO) + 10))
    client = server.client("me")
    first, second = offer(client, contentType="image/jpeg"), offer(client, contentType="image/jpeg")
    assert sent(client, first, PHOTO).status == 200
    assert sent(client, second, PHOTO).code == "storage-full"
    server.kill()
    client = server.start().client("me")
    assert sent(client, first, PHOTO).code == "already-uploaded"
    assert confirm(client, first["key"]).status == 200
    assert sent(client, second, PHOTO).status == 200


def test_curl_needs_the_address_and_the_headers_alone(client: Client, server: RunningServer, tmp_path: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    file = tmp_path / "photo.jpg"
    file.write_bytes(PHOTO)
    offered = offer(client, contentType="image/jpeg", size=len(PHOTO))
    heads = [part for name, value in offered["headers"].items() for part in ("-H", f"{name}: {value}")]
    done = subprocess.run(
        [curl, "-sS", "-f", "-T", str(file), *heads, urljoin(server.url, offered["uploadUrl"])],
        capture_output=True, timeout=30, check=False, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert confirm(client, offered["key"]).status == 200

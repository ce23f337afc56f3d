"""The service on PostgreSQL: what it does there, and what goes on while the database is paused, killed, and back."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests import pictures
from tests.kit.client import Answer, Client, media
from tests.kit.postgres import PostgresServer, provided
from tests.kit.promises import confirm, offer, sent
from tests.kit.server import RunningServer
from tests.kit.stores import ObjectStore
from tests.kit.tus import begun
from tests.kit.waiting import until

PHOTO = pictures.jpeg(64, 48)
PDF = b"%PDF-1.7\n1 0 obj <<>> endobj\ntrailer <<>>\n%%EOF\n"


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server that a test may kill."""
    with provided() as server:
        yield server


def refused(answer: Answer) -> bool:
    """Whether *answer* says that the catalogue is away, and when to come again."""
    return (answer.status, answer.code) == (503, "unavailable") and int(answer.headers["Retry-After"]) > 0


def writes(client: Client, key: str) -> list[Answer]:
    """One answer for each way to change something, or to read what only the catalogue knows."""
    return [
        client.upload(PHOTO),
        client.delete(media(key)),
        client.post("/api/upload/presigned", b'{"contentType": "image/jpeg"}', {"Content-Type": "application/json"}),
        client.request("POST", "/api/uploads", {"Tus-Resumable": "1.0.0", "Upload-Length": "5"}),
        client.get("/api/assets"),
        client.get(f"/api/assets/{key}"),
    ]


def test_every_way_of_uploading_listing_and_removing_works(serve: Callable[..., RunningServer], postgres_url: str) -> None:
    server = serve(DATABASE_URL=postgres_url)
    client = server.client("me")
    record = client.stored(PHOTO, filename="holiday \N{SUN BEHIND CLOUD}.jpg", headers={"Idempotency-Key": "once"})
    assert client.stored(PHOTO, headers={"Idempotency-Key": "once"})["key"] == record["key"]
    resumable = begun(client, len(PDF))
    assert resumable.append(PDF[:10], 0).status == 204
    whole = resumable.append(PDF[10:], 10)
    assert whole.status == 204
    offered = offer(client, contentType="image/jpeg", size=len(PHOTO))
    assert sent(client, offered, PHOTO).status in {200, 201, 204}
    assert confirm(client, offered["key"]).status in {200, 201}
    listed = client.get("/api/assets").json["assets"]
    assert [one["contentType"] for one in listed] == ["image/jpeg", "application/pdf", "image/jpeg"]
    assert client.get(f"/api/assets/{record['key']}").json["filename"] == "holiday \N{SUN BEHIND CLOUD}.jpg"
    assert client.get(f"{media(record['key'])}?w=20").status == 200
    for one in listed:
        assert client.delete(media(one["key"])).status == 204
    assert client.get("/api/assets").json["assets"] == []
    assert not any(name.endswith("catalogue.sqlite") for name in (path.name for path in server.data.iterdir()))


def test_reads_go_on_and_writes_are_refused_while_the_database_stands_still_or_is_gone(
    serve: Callable[..., RunningServer], own_postgres: PostgresServer
) -> None:
    server = serve(DATABASE_URL=own_postgres.url(), MEDIA_DATABASE_DEADLINE="1")
    client = server.client("me")
    key = client.stored(PHOTO)["key"]
    width = iter(range(10, 60))
    for away, back in ((own_postgres.pause, own_postgres.resume), (own_postgres.kill, own_postgres.start)):
        away()
        reader = Client(server.url)
        for path in (media(key), f"{media(key)}?w={next(width)}", f"{media(key)}?w={next(width)}&h=9&fit=cover"):
            answer = reader.get(path)
            assert answer.status == 200, answer
        assert [answer for answer in writes(client, key) if not refused(answer)] == []
        assert reader.get("/api/health/ready").status == 200
        assert reader.get("/api/health").json["parts"]["catalogue"]["status"] == "failing"
        assert server.metric("media_catalogue_up") == 0
        assert reader.get(media("u7/nothing.jpg")).status == 404
        back()
        assert until(lambda: client.upload(PHOTO).status == 201), "it does not come back by itself"
        assert client.get(f"/api/assets/{key}").status == 200
        assert server.metric("media_catalogue_up") == 1
    assert client.delete(media(key)).status == 204


def test_who_reads_does_not_wait_for_a_database_that_others_wait_for(
    serve: Callable[..., RunningServer], own_postgres: PostgresServer
) -> None:
    server = serve(DATABASE_URL=own_postgres.url(), MEDIA_DATABASE_DEADLINE="60")
    client = server.client("me")
    key = client.stored(PHOTO)["key"]
    with ThreadPoolExecutor(1) as pool:
        own_postgres.pause()
        try:
            upload = pool.submit(client.upload, PHOTO)
            for width in range(10, 30):
                assert Client(server.url).get(f"{media(key)}?w={width}&h=9&fit=cover").status == 200
                assert Client(server.url).get(media(key)).status == 200
            assert not upload.done()
        finally:
            own_postgres.resume()
        assert upload.result(60).status == 201, "it was only kept waiting"


def test_a_service_that_starts_before_its_database_reads_at_once_and_writes_when_that_comes(
    serve: Callable[..., RunningServer], own_postgres: PostgresServer
) -> None:
    server = serve(DATABASE_URL=own_postgres.url())
    key = server.client("me").stored(PHOTO)["key"]
    server.stop()
    own_postgres.kill()
    server.start()
    client = server.client("me")
    assert client.get(media(key)).status == 200
    assert refused(client.upload(PHOTO))
    own_postgres.start()
    assert until(lambda: client.upload(PHOTO).status == 201)
    assert len(client.get("/api/assets").json["assets"]) >= 2


def test_several_processes_share_it_and_each_is_back_by_itself(
    serve: Callable[..., RunningServer], own_postgres: PostgresServer
) -> None:
    server = serve(DATABASE_URL=own_postgres.url(), MEDIA_WORKERS="2", MEDIA_RENDER_WORKERS="1")
    client = server.client("me")
    keys = {client.stored(PHOTO)["key"] for _ in range(4)}
    own_postgres.kill()
    assert all(Client(server.url).get(media(key)).status == 200 for key in keys)
    own_postgres.start()
    assert until(lambda: all(client.get("/api/assets").status == 200 for _ in range(8)))
    assert {asset["key"] for asset in client.get("/api/assets").json["assets"]} == keys


@pytest.mark.parametrize("wrong", ["secret", "database", "user"])
def test_what_is_wrong_with_the_address_stops_the_start_with_a_sentence_and_no_secret(
    serve: Callable[..., RunningServer], postgres_server: PostgresServer, tmp_path: object, wrong: str
) -> None:
    url = {
        "secret": postgres_server.url().replace(postgres_server.password, "no-such-word"),
        "database": postgres_server.url("nothing"),
        "user": postgres_server.url().replace("//postgres:", "//nobody:"),
    }[wrong]
    with pytest.raises(AssertionError) as failure:
        serve(DATABASE_URL=url)
    assert "DATABASE_URL" in str(failure.value)
    assert "Traceback" not in str(failure.value)
    assert postgres_server.password not in str(failure.value)
    assert "no-such-word" not in str(failure.value)


def test_another_machines_unfinished_work_is_left_alone_at_the_start(
    serve: Callable[..., RunningServer], postgres_url: str, postgres_server: PostgresServer
) -> None:
    server = serve(DATABASE_URL=postgres_url)
    key = server.client("me").stored(PHOTO)["key"]
    database = postgres_url.rpartition("/")[2]
    postgres_server.query(f"UPDATE assets SET state = 'pending', etag = 'of another write' WHERE key = '{key}'", database)
    server.restart()
    assert postgres_server.query("SELECT state FROM assets", database) == ["pending"]
    assert server.client("me").get(media(key)).status == 200


def test_the_library_is_not_loaded_where_records_are_in_sqlite(server: RunningServer) -> None:
    code = "import sys, proxy.app; print('asyncpg' in sys.modules)"
    command = [*server.command[:1], "-c", code]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, env=server.env, timeout=60)
    assert shown.stdout.split() == ["False"]


def test_two_machines_with_one_database_and_one_bucket_are_one_service(
    serve: Callable[..., RunningServer], postgres_url: str, versitygw: ObjectStore
) -> None:
    shared = {**versitygw.settings(), "DATABASE_URL": postgres_url, "MEDIA_LOCAL_STORE": "off"}
    one, other = serve(**shared), serve(**shared)
    here, there = one.client("me"), other.client("me")
    key = here.stored(PHOTO, headers={"Idempotency-Key": "once"})["key"]
    assert there.stored(PHOTO, headers={"Idempotency-Key": "once"})["key"] == key
    assert Client(other.url).get(f"{media(key)}?w=20").status == 200
    assert [asset["key"] for asset in there.get("/api/assets").json["assets"]] == [key]
    offered = offer(here, contentType="image/jpeg", size=len(PHOTO))
    assert sent(here, offered, PHOTO).status in {200, 201, 204}
    assert confirm(there, offered["key"]).status == 200
    assert confirm(here, offered["key"]).status == 200
    assert there.delete(media(key)).status == 204
    assert until(lambda: Client(one.url).get(media(key)).status == 404)
    assert [asset["key"] for asset in here.get("/api/assets").json["assets"]] == [offered["key"]]
    assert here.get("/api/usage").json["objects"] == there.get("/api/usage").json["objects"] == 1

"""POST /api/hooks/minio: what others put into a bucket gets a record, and what they take out of it loses theirs."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

from tests import pictures
from tests.kit.aftereffects import harmless, own_lines
from tests.kit.client import Answer, Client, media
from tests.kit.ports import free_port
from tests.kit.promises import offer, sent
from tests.kit.server import RunningServer
from tests.kit.sse import Stream
from tests.kit.stores import ObjectStore, provided, shared
from tests.kit.waiting import until

PHOTO = pictures.jpeg(64, 48)
TOKEN = "a-token-that-only-the-store-knows-1a2b3c"
OTHER = "another-token-for-a-while-0123456789abc"
HOSTILE = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script><rect width="9" height="9"/></svg>'
)
Serve = Callable[..., RunningServer]


@dataclass
class Told:
    """A media proxy that its MinIO tells of everything, and a client of that which is not ours."""

    server: RunningServer
    store: Any
    bucket: str

    def put(self, key: str, data: bytes, content_type: str = "image/jpeg") -> None:
        self.store.put_object(Bucket=self.bucket, Key=key, Body=data, ContentType=content_type)

    def remove(self, key: str) -> None:
        self.store.delete_object(Bucket=self.bucket, Key=key)

    def record(self, key: str) -> Answer:
        return self.server.client(key.partition("/")[0]).get(f"/api/assets/{key}")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    folder: Path = tmp_path_factory.mktemp("told")
    store, port = provided("minio", folder), free_port()
    env = store.settings() | {"MINIO_PUBLIC_ENDPOINT": store.endpoint, "MEDIA_PORT": str(port), "MEDIA_HOOK_TOKEN": TOKEN}
    store.more = {
        "MINIO_NOTIFY_WEBHOOK_ENABLE_media": "on",
        "MINIO_NOTIFY_WEBHOOK_ENDPOINT_media": f"http://127.0.0.1:{port}/api/hooks/minio",
        "MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_media": f"Bearer {TOKEN}",
        "MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_media": str(folder / "queue"),
    }
    with store, RunningServer(folder, env) as server:
        client = store.client()
        events = {"QueueArn": f"arn:minio:sqs:{store.region}:media:webhook", "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}
        for name in ("MINIO_BUCKET_NAME", "MINIO_TEMP_BUCKET_NAME"):
            client.put_bucket_notification_configuration(
                Bucket=env[name], NotificationConfiguration={"QueueConfigurations": [events]}
            )
        yield Told(server, client, env["MINIO_BUCKET_NAME"])


# -- told by a real MinIO ---------------------------------------------------------------------------------------------------


def test_what_is_put_into_the_bucket_becomes_an_asset_and_what_is_taken_out_is_gone(told: Told) -> None:
    key = "owner1/straße/a + b 100%.jpg"
    with Stream(told.server, "owner1") as stream:
        told.put(key, PHOTO)
        assert until(lambda: len(stream.events) == 1)
        data = stream.events[0][2]["data"]
        assert (data["key"], data["width"], data["sha256"]) == (key, 64, hashlib.sha256(PHOTO).hexdigest())
        reader, owner = told.server.client(), told.server.client("owner1")
        assert [(asset["key"], asset["contentType"]) for asset in owner.assets()] == [(key, "image/jpeg")]
        assert owner.get("/api/usage").json["bytes"] == len(PHOTO)
        assert (reader.get(media(key)).body, reader.get(media(key, "w=16")).status) == (PHOTO, 200)

        told.remove(key)
        assert until(lambda: len(stream.events) == 2)
        assert (stream.events[1][1], stream.events[1][2]["data"]["key"]) == ("asset.removed", key)
        assert [reader.get(media(key, query)).status for query in ("", "w=16")] == [404, 404]
        assert (owner.assets(), owner.get("/api/usage").json["bytes"]) == ([], 0)


def test_an_object_in_parts_and_a_copy_are_recorded_too(told: Told) -> None:
    upload = told.store.create_multipart_upload(Bucket=told.bucket, Key="owner2/parts.jpg", ContentType="image/jpeg")["UploadId"]
    of = {"Bucket": told.bucket, "Key": "owner2/parts.jpg", "UploadId": upload}
    part = told.store.upload_part(**of, PartNumber=1, Body=PHOTO)
    told.store.complete_multipart_upload(**of, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    told.store.copy_object(Bucket=told.bucket, Key="owner2/copy.jpg", CopySource=f"{told.bucket}/owner2/parts.jpg")
    owner = told.server.client("owner2")
    assert until(lambda: {asset["key"] for asset in owner.assets()} == {"owner2/parts.jpg", "owner2/copy.jpg"})


def test_an_object_is_given_out_under_the_type_that_it_has_and_a_drawing_without_what_could_act(told: Told) -> None:
    told.put("owner3/photo", PHOTO, "binary/octet-stream")
    told.put("owner3/drawing.svg", HOSTILE, "image/svg+xml")
    owner = told.server.client("owner3")
    assert until(lambda: len(owner.assets()) == 2)
    photo, drawing = owner.get(media("owner3/photo")), owner.get(media("owner3/drawing.svg"))
    assert (photo.headers["Content-Type"], photo.body) == ("image/jpeg", PHOTO)
    assert (b"rect" in drawing.body, b"script" in drawing.body) == (True, False)
    records = {asset["key"]: asset for asset in owner.assets()}
    assert records["owner3/drawing.svg"]["sha256"] == hashlib.sha256(drawing.body).hexdigest()
    assert until(lambda: told.server.metric("media_notifications_total", outcome="unchanged") >= 2), "what we have mended ourselves"


def test_what_an_upload_would_be_refused_with_is_quarantined_until_it_is_overwritten(told: Told) -> None:
    bad = {"owner4/text.jpg": b"no picture at all", "owner4/half.jpg": PHOTO[: len(PHOTO) // 2], "owner4/empty.jpg": b""}
    for key, data in bad.items():
        told.put(key, data)
    admin, reader = told.server.client("boss", scope="media:admin"), told.server.client()
    for key in bad:
        assert until(lambda key=key: admin.get(f"/api/assets/{key}").status == 200)  # type: ignore[misc]
        assert admin.get(f"/api/assets/{key}").json["state"] == "quarantined"
        assert told.record(key).status == 404
        assert until(lambda key=key: reader.get(media(key)).status == 404)  # type: ignore[misc]
    for key in bad:
        told.put(key, PHOTO)
    for key in bad:
        assert until(lambda key=key: told.record(key).status == 200)  # type: ignore[misc]
        assert until(lambda key=key: reader.get(media(key)).body == PHOTO)  # type: ignore[misc]


def test_an_object_that_is_overwritten_is_shown_as_it_is_now(told: Told) -> None:
    key, other = "owner5/a.jpg", pictures.jpeg(320, 100)
    told.put(key, PHOTO)
    reader = told.server.client()
    assert until(lambda: told.record(key).status == 200)
    assert reader.get(media(key, "w=16&format=png")).status == 200
    told.put(key, other)
    assert until(lambda: told.record(key).json["width"] == 320)
    assert reader.get(media(key)).body == other
    assert reader.get(media(key, "w=16&format=png")).body != reader.get(media(key, "w=17&format=png")).body
    assert told.server.client("owner5").get("/api/usage").json == {
        **told.server.client("owner5").get("/api/usage").json, "bytes": len(other), "objects": 1,
    }  # fmt: skip


def test_a_presigned_upload_is_confirmed_by_the_store_itself(told: Told) -> None:
    owner = told.server.client("owner6")
    offered = offer(owner, contentType="image/jpeg", size=len(PHOTO))
    assert sent(owner, offered, PHOTO).status == 200
    assert until(lambda: told.record(offered["key"]).status == 200)
    assert told.server.client().get(media(offered["key"])).body == PHOTO


def test_what_the_service_stores_itself_is_not_looked_at_again(told: Told) -> None:
    before = told.server.metric("media_notifications_total", outcome="unchanged")
    with Stream(told.server, "owner7") as stream:
        key = told.server.client("owner7").stored(PHOTO)["key"]
        assert until(lambda: told.server.metric("media_notifications_total", outcome="unchanged") > before)
        assert told.server.client("owner7").delete(media(key)).status == 204
        assert until(lambda: told.server.metric("media_notifications_total", outcome="unchanged") > before + 1)
        assert [kind for _, kind, _ in stream.events] == ["asset.stored", "asset.removed"]


@pytest.mark.slow
def test_of_an_object_with_versions_the_newest_counts_and_one_that_comes_back_is_recorded_again(told: Told) -> None:
    key, other = "owner8/a.jpg", pictures.jpeg(40, 30)
    at = {"Bucket": told.bucket, "Key": key}
    told.store.put_bucket_versioning(Bucket=told.bucket, VersioningConfiguration={"Status": "Enabled"})
    try:
        told.put(key, PHOTO)
        assert until(lambda: told.record(key).status == 200)
        told.put(key, other)
        assert until(lambda: told.record(key).json["width"] == 40)
        marker = told.store.delete_object(**at)["VersionId"]
        assert until(lambda: told.record(key).status == 404)
        assert told.server.client().get(media(key)).status == 404
        told.store.delete_object(**at, VersionId=marker)
        assert until(lambda: told.record(key).status == 200)
        assert told.server.client().get(media(key)).body == other
        newest = told.store.head_object(**at)["VersionId"]
        told.store.delete_object(**at, VersionId=newest)
        assert until(lambda: told.record(key).json.get("width") == 64)
        assert told.server.client().get(media(key)).body == PHOTO
    finally:
        told.store.put_bucket_versioning(Bucket=told.bucket, VersioningConfiguration={"Status": "Suspended"})


def test_versitygw_tells_with_the_token_as_the_password_of_its_address(serve: Serve, tmp_path: Path) -> None:
    with provided("versitygw", tmp_path / "store") as store:
        server = serve(**store.settings(), MEDIA_HOOK_TOKEN=TOKEN)
        store.stop()
        store.more = {"VGW_EVENT_WEBHOOK_URL": f"http://store:{TOKEN}@127.0.0.1:{server.port}/api/hooks/minio"}
        store.start()
        bucket, client, owner = server.env["MINIO_BUCKET_NAME"], store.client(), server.client("o")
        assert until(lambda: server.metric("media_store_up", store="minio") == 1)
        names = ["o/straße/a + b 100%.jpg", "o/a%20b.jpg", "o/plain.jpg"]
        for name in names:
            client.put_object(Bucket=bucket, Key=name, Body=PHOTO, ContentType="image/jpeg")
        assert until(lambda: {asset["key"] for asset in owner.assets()} == set(names))
        client.delete_object(Bucket=bucket, Key=names[2])
        client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": name} for name in names[:2]]})
        assert until(lambda: owner.assets() == [])


# -- told by anybody --------------------------------------------------------------------------------------------------------


def record(bucket: str, key: str, event: str = "s3:ObjectCreated:Put") -> dict[str, Any]:
    return {"eventName": event, "s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key)}}}


def hook(client: Client, document: Any, token: str | None = TOKEN) -> Answer:
    headers = {"Content-Type": "application/json"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return client.post("/api/hooks/minio", body, headers)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, ObjectStore]]:
    """A media proxy and its store, which tells it nothing."""
    store = shared("versitygw")
    with RunningServer(tmp_path_factory.mktemp("gateway"), store.settings() | {"MEDIA_HOOK_TOKEN": f"{OTHER} {TOKEN}"}) as one:
        yield one, store


def test_in_whatever_order_and_how_often_it_is_told_records_are_what_the_bucket_has(
    gateway: tuple[RunningServer, ObjectStore],
) -> None:
    server, store = gateway
    client, bucket = store.client(), server.env["MINIO_BUCKET_NAME"]
    names = [f"many/{number}.jpg" for number in range(60)]
    told: list[dict[str, Any]] = []
    chance = random.Random(20261123)

    def step(picture: bytes, share: float) -> None:
        for name in names:
            if chance.random() < share:
                client.put_object(Bucket=bucket, Key=name, Body=picture, ContentType="image/jpeg")
                told.append(record(bucket, name))
            if chance.random() < 0.4:
                client.delete_object(Bucket=bucket, Key=name)
                told.append(record(bucket, name, "s3:ObjectRemoved:Delete"))

    def tell(records: list[dict[str, Any]]) -> set[int]:
        shuffled = chance.sample(records * 2, 2 * len(records))
        batches = [shuffled[at : at + 7] for at in range(0, len(shuffled), 7)]
        with ThreadPoolExecutor(6) as pool:
            return {answer.status for answer in pool.map(lambda batch: hook(server.client(), {"Records": batch}), batches)}

    with Stream(server, "many") as stream:
        for picture, share in ((PHOTO, 0.9), (pictures.jpeg(20, 20), 0.5)):
            step(picture, share)
            assert tell(told) == {200}
            there = {one["Key"]: one["Size"] for one in client.list_objects_v2(Bucket=bucket, Prefix="many/")["Contents"]}
            assert {asset["key"]: asset["size"] for asset in server.client("many").assets()} == there
        assert len(told) > 100
        usage = server.client("many").get("/api/usage").json
        assert (usage["objects"], usage["bytes"]) == (len(there), sum(there.values()))
        said = len(stream.events)
        assert tell(told) == {200}
        assert len(stream.events) == said, "nothing happens by being told again"


def test_a_notification_that_holds_nothing_for_us_is_taken_and_changes_nothing(gateway: tuple[RunningServer, ObjectStore]) -> None:
    server, _ = gateway
    bucket, client = server.env["MINIO_BUCKET_NAME"], server.client()
    assert hook(client, {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": bucket}).json == {}
    assert hook(client, {"Records": [record(bucket, "a/b.jpg", "s3:ObjectAccessed:Get")]}).json == {}
    strange = [
        record("another", "a/b.jpg"),
        record(bucket, "nobody.jpg"),
        record(bucket, "a/../b"),
        record(bucket, ".media-proxy/a"),
    ]
    assert hook(client, {"Records": strange}).json == {"ignored": 4}
    assert hook(client, {"Records": [record(bucket, "a/not-there.jpg")]}).json == {"unchanged": 1}
    assert hook(client, {"EventName": "s3:ObjectRemoved:Delete", "Key": "x", "Records": []}).json == {}


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("wrong", 401), ("", 401), ("é", 401), (TOKEN, 200), (OTHER, 200)])
def test_only_who_has_a_token_may_tell(gateway: tuple[RunningServer, ObjectStore], token: str | None, status: int) -> None:
    assert hook(gateway[0].client(), {"Records": []}, token).status == status


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(("headers", "status"), [
    ({"Authorization": basic(f"anybody:{TOKEN}")}, 200), ({"Authorization": basic(f":{OTHER}")}, 200),
    ({"Authorization": f"bearer  {TOKEN} "}, 200), ({"Authorization": basic(f"{TOKEN}:")}, 401),
    ({"Authorization": basic("")}, 401),
    ({"Authorization": "Basic !"}, 401), ({"Authorization": f"Basic {TOKEN}"}, 401), ({"Authorization": TOKEN}, 401),
    ({"Authorization": f"Token {TOKEN}"}, 401), ({"Authorization": "Bearer " + "x" * 4000}, 401), ({}, 401),
])  # fmt: skip
def test_whether_anybody_is_there_is_told_to_who_has_a_token(
    gateway: tuple[RunningServer, ObjectStore], headers: dict[str, str], status: int
) -> None:
    client = gateway[0].client()
    told = client.post("/api/hooks/minio", b"", headers)
    assert (told.status, told.code) == (status, None if status == 200 else "unauthorized")
    assert client.head("/api/hooks/minio", headers).status == (204 if status == 200 else status)


def test_two_tokens_at_once_are_none(gateway: tuple[RunningServer, ObjectStore]) -> None:
    with gateway[0].wire() as wire:
        wire.send(
            b"POST /api/hooks/minio HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n"
            + f"Authorization: Bearer {TOKEN}\r\nAuthorization: Bearer {OTHER}\r\n\r\n".encode()
        )
        assert wire.answer().status == 401


def test_events_come_by_eventbridge_as_well(gateway: tuple[RunningServer, ObjectStore]) -> None:
    server, store = gateway
    bucket, key = server.env["MINIO_BUCKET_NAME"], "bridge/a + b%20c.jpg"

    def event(kind: str, name: Any = key) -> dict[str, Any]:
        return {
            "version": "0",
            "source": "aws.s3",
            "detail-type": kind,
            "detail": {"bucket": {"name": bucket}, "object": {"key": name}},
        }

    store.client().put_object(Bucket=bucket, Key=key, Body=PHOTO, ContentType="image/jpeg")
    assert hook(server.client(), event("Object Created")).json == {"recorded": 1}
    assert hook(server.client(), event("Object Tags Added")).json == {}
    store.client().delete_object(Bucket=bucket, Key=key)
    assert hook(server.client(), event("Object Deleted")).json == {"removed": 1}
    for broken in ({"detail-type": "Object Created"}, event("Object Created", 7), event("Object Created") | {"detail": []}):
        assert hook(server.client(), broken).code == "bad-request"
    assert hook(server.client(), {"detail-type": []}).json == {}


def test_an_envelope_of_sns_is_refused_with_what_to_do(gateway: tuple[RunningServer, ObjectStore]) -> None:
    headers = {
        "Authorization": f"Bearer {TOKEN}",
        "Content-Type": "text/plain",
        "x-amz-sns-message-type": "SubscriptionConfirmation",
    }
    answer = gateway[0].client().post("/api/hooks/minio", b'{"Type": "SubscriptionConfirmation"}', headers)
    assert (answer.code, "EventBridge" in answer.json["detail"]) == ("bad-request", True)


@pytest.mark.parametrize(("document", "code"), [
    (b"[]", "bad-request"), (b"null", "bad-request"), (b"\xff\xfe", "bad-request"), (b'{"Records": [', "bad-request"),
    (b"[" * 100_000, "bad-request"), (b'{"Records": ' + b'[' * 50_000 + b']' * 50_000 + b"}", "bad-request"),
    (b'{"Records": [' + b"9" * 5_000 + b"]}", "bad-request"), (b'{"Records": [null]}', "bad-request"),
    (b'{"Records": [{"eventName": "x", "s3": {"bucket": "b", "object": "o"}}]}', "bad-request"),
    (b'{"Records": [{"eventName": NaN, "s3": {"bucket": {"name": null}, "object": {"key": null}}}]}', "bad-request"),
    (b'{"detail-type": "Object Created", "detail": null}', "bad-request"),
 (b"{}", "bad-request"), ({"Records": 1}, "bad-request"),
    ({"Records": [1]}, "bad-request"),
    ({"Records": [{"eventName": "s3:ObjectCreated:Put"}]}, "bad-request"),
    ({"Records": [{"eventName": 1, "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}}}]}, "bad-request"),
    ({"Records": [{"eventName": "x", "s3": {"bucket": {"name": "b"}, "object": {"key": ["k"]}}}]}, "bad-request"),
    ({"Records": [{}] * 1001}, "bad-request"), (b'{"Records": "' + b"x" * (1 << 20), "too-large"),
    ({"Type": "Notification", "Message": "{}"}, "bad-request"),
])  # fmt: skip
def test_what_is_no_notification_is_refused(gateway: tuple[RunningServer, ObjectStore], document: Any, code: str) -> None:
    with harmless(gateway[0], (400, 413), code) as bad:
        bad.answer = hook(gateway[0].client(), document)


@pytest.mark.parametrize(("headers", "code"), [
    ({"Content-Type": "text/plain"}, "unsupported-type"), ({"Content-Encoding": "gzip"}, "unsupported-type"),
    ({"Content-Length": "5"}, "bad-request"),
])  # fmt: skip
def test_what_comes_in_no_form_of_ours_is_refused(
    gateway: tuple[RunningServer, ObjectStore], headers: dict[str, str], code: str
) -> None:
    given = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"} | headers
    with harmless(gateway[0], (400, 415), code) as bad:
        bad.answer = gateway[0].client().request("POST", "/api/hooks/minio", given, b'{"Records": []}')


def test_strange_names_are_left_alone(gateway: tuple[RunningServer, ObjectStore]) -> None:
    server, _ = gateway
    bucket = server.env["MINIO_BUCKET_NAME"]
    names = [
        "", "/", "a/", "/a", "a//b", "a/./b", "a/%2e%2e/b", "a/\x00", "a/\ud800", "a/\\b", "a/" + "x" * 1100, "x" * 200 + "/b",
        "a/%ff", "%", "a", "a/%00", "a%2f..%2fb", ".media-proxy/a", "a/.media-proxy", "A/.Media-Proxy.x", "a/\n", "a/\u0085",
    ]  # fmt: skip
    records = [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": {"key": name}}} for name in names]
    mark = server.output.mark
    found = hook(server.client(), {"Records": records})
    assert (found.status, set(found.json) - {"ignored", "unchanged"}) == (200, set())
    assert found.json["ignored"] >= len(names) - 4, "a percent sign that escapes nothing stands for itself"
    assert server.client("a").assets() == []
    assert [line for line in own_lines(server, mark) if "object." in line or "Traceback" in line] == []


@pytest.mark.slow
def test_a_thousand_at_once_are_taken_and_a_thousand_repeats_are_one(gateway: tuple[RunningServer, ObjectStore]) -> None:
    server, store = gateway
    bucket, client = server.env["MINIO_BUCKET_NAME"], server.client()
    store.client().put_object(Bucket=bucket, Key="crowd/one.jpg", Body=PHOTO, ContentType="image/jpeg")
    with Stream(server, "crowd") as stream:
        assert hook(client, {"Records": [record(bucket, "crowd/one.jpg")] * 1_000}).json == {"recorded": 1}
        crowd = [record(bucket, f"crowd/{number}.jpg", "s3:ObjectRemoved:Delete") for number in range(999)]
        told = {"Records": [*crowd, record(bucket, "crowd/one.jpg")]}
        assert until(lambda: hook(client, told).json.get("unchanged") == 1_000, 120), "a busy machine may need to be told again"
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: hook(server.client(), {"Records": [record(bucket, "crowd/one.jpg")]}), range(100)))
        assert {str(answer.json) for answer in answers} == {"{'unchanged': 1}"}
        assert len(stream.events) == 1


def test_without_a_token_in_the_settings_there_is_no_hook(server: RunningServer) -> None:
    assert hook(server.client(), {"Records": []}).status == 404


def test_what_would_be_more_than_the_owner_may_have_is_not_recorded(serve: Serve) -> None:
    store = shared("versitygw")
    server = serve(**store.settings(), MEDIA_HOOK_TOKEN=TOKEN, MEDIA_QUOTA_OBJECTS="1")
    bucket, client = server.env["MINIO_BUCKET_NAME"], store.client()
    for name in ("o/1.jpg", "o/2.jpg"):
        client.put_object(Bucket=bucket, Key=name, Body=PHOTO, ContentType="image/jpeg")
    assert hook(server.client(), {"Records": [record(bucket, "o/1.jpg")]}).json == {"recorded": 1}
    assert hook(server.client(), {"Records": [record(bucket, "o/2.jpg")]}).json == {"refused": 1}
    client.put_object(Bucket=bucket, Key="o/1.jpg", Body=pictures.jpeg(8, 8), ContentType="image/jpeg")
    assert hook(server.client(), {"Records": [record(bucket, "o/1.jpg")]}).json == {"replaced": 1}


def test_while_the_store_is_away_it_is_to_be_told_again(serve: Serve, tmp_path: Path) -> None:
    with provided("versitygw", tmp_path / "store") as store:
        server = serve(**store.settings(), MEDIA_HOOK_TOKEN=TOKEN, MEDIA_LOCAL_STORE="off")
        bucket = server.env["MINIO_BUCKET_NAME"]
        store.client().put_object(Bucket=bucket, Key="o/1.jpg", Body=PHOTO, ContentType="image/jpeg")
        told = {"Records": [record(bucket, "o/1.jpg")]}
        store.kill()
        refused = hook(server.client(), told)
        assert (refused.status, "Retry-After" in refused.headers) == (503, True)
        store.start()
        assert until(lambda: hook(server.client(), told).status == 200)
        assert server.client("o").get("/api/assets/o/1.jpg").status == 200

"""Uploads by addresses that real stores take, and what is left when those stores are away: the same client code on each."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests import pictures
from tests.kit.client import media
from tests.kit.minio_admin import account
from tests.kit.promises import confirm, offer, sent
from tests.kit.server import RunningServer
from tests.kit.stores import ObjectStore, provided, shared
from tests.kit.waiting import until

pytestmark = pytest.mark.stack

PHOTO = pictures.jpeg(64, 48)
PNG = pictures.png(32, 32)
Serve = Callable[..., RunningServer]


def staged(store: ObjectStore, env: dict[str, str]) -> dict[str, int]:
    """What lies in the bucket of uploads in progress."""
    listed = store.client().list_objects_v2(Bucket=env["MINIO_TEMP_BUCKET_NAME"])
    return {entry["Key"]: entry["Size"] for entry in listed.get("Contents", [])}


def is_ours(offered: dict[str, Any]) -> bool:
    return str(offered["uploadUrl"]).startswith("/api/upload/presigned/")


@pytest.mark.parametrize("profile", ["minio", "versitygw"])
def test_a_store_takes_uploads_by_itself_and_only_as_they_were_promised(serve: Serve, tmp_path: Path, profile: str) -> None:
    store = shared(profile)
    env = store.settings() | {"MINIO_PUBLIC_ENDPOINT": store.endpoint}
    writer = upload_key(store, env)
    server = serve(**env, **writer)
    client = server.client("me")
    assert ("presigned.main_key" in server.output.text) is not bool(writer)

    offered = offer(client, contentType="image/jpeg", size=len(PHOTO))
    assert offered["uploadUrl"].startswith(f"{store.endpoint}/{env['MINIO_TEMP_BUCKET_NAME']}/presigned/me/")
    assert offered["headers"]["Content-Length"] == str(len(PHOTO))
    for headers, body in (({"Content-Type": "image/png"}, PHOTO), ({"Content-Length": str(len(PHOTO) - 1)}, PHOTO[:-1])):
        assert sent(client, {**offered, "headers": offered["headers"] | headers}, body).status == 403
    assert confirm(client, offered["key"]).code == "not-uploaded"
    assert sent(client, offered, PHOTO).status == 200
    assert staged(store, env) == {f"presigned/{offered['key']}": len(PHOTO)}
    assert client.get(media(offered["key"])).status == 404
    confirmed = confirm(client, offered["key"])
    assert (confirmed.status, confirmed.json["width"]) == (200, 64)
    assert client.get(media(offered["key"])).body == PHOTO
    assert confirm(client, offered["key"]).json == confirmed.json
    assert staged(store, env) == {}

    if shutil.which("curl") is not None:
        by_curl = offer(client, contentType="image/png", size=len(PNG))
        (tmp_path / "a.png").write_bytes(PNG)
        heads = [part for name, value in by_curl["headers"].items() for part in ("-H", f"{name}: {value}")]
        subprocess.run(["curl", "-sSf", "-T", tmp_path / "a.png", *heads, by_curl["uploadUrl"]], timeout=30, check=True)
        assert confirm(client, by_curl["key"]).status == 200

    form = offer(client, contentType="image/jpeg", size=len(PHOTO), mode="post")
    assert form["uploadUrl"].startswith(store.endpoint)
    assert sent(client, form, PHOTO + b"x").status == 400
    assert sent(client, {**form, "fields": form["fields"] | {"Content-Type": "image/png"}}, PHOTO).status == 403
    assert sent(client, {**form, "fields": form["fields"] | {"key": "presigned/other"}}, PHOTO).status == 403
    assert sent(client, form, PHOTO).status == 204
    assert confirm(client, form["key"]).status == 200

    wrong = offer(client, contentType="image/jpeg", size=len(PNG))
    assert sent(client, wrong, PNG).status == 200
    assert [confirm(client, wrong["key"]).code for _ in range(2)] == ["unsupported-type"] * 2
    assert staged(store, env) == {}

    unsized = offer(client, contentType="image/jpeg")  # of which versitygw would keep what came before it was cut
    assert unsized["uploadUrl"].startswith(store.endpoint) is (profile == "minio")
    assert sent(client, unsized, PHOTO).status == 200
    assert staged(store, env) == {f"presigned/{unsized['key']}": len(PHOTO)}
    assert sent(client, unsized, PHOTO).status == (412 if profile == "minio" else 409)
    assert confirm(client, unsized["key"]).status == 200

    if writer:
        assert store.access_key not in json.dumps([offered, form])
        check_can_only_write(store.client(*writer.values()), env, offered["key"])


def upload_key(store: ObjectStore, env: dict[str, str]) -> dict[str, str]:
    """An account that may put uploads into their bucket and nothing else, where the test knows how to make one."""
    if store.profile != "minio":
        return {}
    place = f"arn:aws:s3:::{env['MINIO_TEMP_BUCKET_NAME']}/presigned/*"
    access_key, secret_key = account(store, {"Action": ["s3:PutObject"], "Resource": [place]})
    return {"MINIO_UPLOAD_ACCESS_KEY": access_key, "MINIO_UPLOAD_SECRET_KEY": secret_key}


def check_can_only_write(thief: Any, env: dict[str, str], key: str) -> None:
    """Try what the holder of the key must not do, since every address shows it."""
    original, temp = {"Bucket": env["MINIO_BUCKET_NAME"], "Key": key}, {"Bucket": env["MINIO_TEMP_BUCKET_NAME"]}
    thief.put_object(**temp, Key="presigned/thief", Body=b"")
    tries: list[tuple[str, dict[str, str]]] = [
        *((operation, original) for operation in ("put_object", "get_object", "delete_object")),
        *((operation, temp | {"Key": "presigned/thief"}) for operation in ("get_object", "delete_object")),
        ("put_object", temp | {"Key": "elsewhere"}), ("list_objects_v2", temp),
    ]  # fmt: skip
    for operation, parameters in tries:
        with pytest.raises(ClientError) as refused:
            getattr(thief, operation)(**parameters)
        assert refused.value.response["Error"]["Code"] == "AccessDenied", operation


def test_a_store_that_is_away_is_waited_for_or_done_without(serve: Serve, tmp_path: Path) -> None:
    store = provided("minio", tmp_path / "minio").start()
    try:
        env = store.settings() | {"MINIO_PUBLIC_ENDPOINT": store.endpoint}
        server = serve(**env)
        client = server.client("me")
        offered = offer(client, contentType="image/jpeg", size=len(PHOTO))
        assert sent(client, offered, PHOTO).status == 200
        store.kill()
        assert confirm(client, offered["key"]).status == 503
        assert until(lambda: confirm(client, offered["key"]).status == 503 and is_ours(offer(client, contentType="image/jpeg")), 20)

        meanwhile = offer(client, contentType="image/jpeg", size=len(PHOTO))
        assert is_ours(meanwhile)
        assert sent(client, meanwhile, PHOTO).status == 200
        assert confirm(client, meanwhile["key"]).status == 200
        assert client.get(media(meanwhile["key"])).body == PHOTO

        store.start()
        assert until(lambda: confirm(client, offered["key"]).status == 200, 30)
        assert client.get(media(offered["key"])).body == PHOTO
        assert sorted(asset["key"] for asset in client.assets()) == sorted([offered["key"], meanwhile["key"]])
    finally:
        store.kill()

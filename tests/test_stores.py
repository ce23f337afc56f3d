"""The service on real object stores, through HTTP: where objects lie, what others put there, how a start says what is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiobotocore.session import get_session

from proxy import keys
from tests import pictures
from tests.kit.client import FilePart, media
from tests.kit.ports import free_port
from tests.kit.server import RunningServer
from tests.kit.stores import ObjectStore, shared
from tests.kit.waiting import until

Serve = Callable[..., RunningServer]


@pytest.fixture(scope="module", params=["versitygw", "minio"])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    return shared(request.param)


@pytest.fixture(scope="module")
def settings(store: ObjectStore) -> dict[str, str]:
    return store.settings()


@pytest.fixture(scope="module")
def far(store: ObjectStore, settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A service whose home is *store*, with a preset whose renditions are kept there."""
    presets = tmp_path_factory.mktemp("presets") / "presets.toml"
    presets.write_text('[thumb]\nquery = "w=50"\nstore = true\n')
    with RunningServer(tmp_path_factory.mktemp("far"), {**settings, "MEDIA_PRESETS": str(presets)}) as running:
        yield running


def listed(store: ObjectStore, bucket: str, folder: Path) -> set[str]:
    """The names in *bucket*."""

    async def names() -> set[str]:
        async with store.backend(folder, bucket=bucket) as backend:
            return {found.key async for found in backend.list()}

    return asyncio.run(names())


def test_objects_and_renditions_lie_in_their_buckets_and_leave_them_together(
    far: RunningServer, store: ObjectStore, settings: dict[str, str], tmp_path: Path
) -> None:
    client = far.client("me")
    photo = pictures.jpeg(400, 300)
    record = client.stored(photo)
    path = media(record["key"])
    whole = client.get(path)
    assert (whole.body, whole.headers["ETag"]) == (photo, f'"{record["etag"]}"')
    part = client.get(path, {"Range": "bytes=-7", "If-Range": whole.headers["ETag"]})
    assert (part.status, part.body) == (206, photo[-7:])
    assert client.get(path, {"Range": "bytes=0-9", "If-Range": '"another"'}).body == photo
    assert client.get(path, {"Range": f"bytes={len(photo)}-"}).headers["Content-Range"] == f"bytes */{len(photo)}"
    assert client.get(path, {"If-None-Match": whole.headers["ETag"]}).status == 304
    assert client.head(path).headers["Content-Length"] == str(len(photo))
    assert client.get(f"{path}?preset=thumb").status == 200
    far.settle()
    assert listed(store, settings["MINIO_BUCKET_NAME"], tmp_path) == {record["key"]}
    assert len(listed(store, settings["MINIO_THUMBNAILS_BUCKET_NAME"], tmp_path)) == 1
    lies = {name for name in far.files() if not name.endswith("store.json")} - {"uploads/home", "uploads/locks"}
    assert lies == set(), "something lies on this machine"
    assert client.delete(path).status == 204
    assert client.get(path).status == 404
    assert listed(store, settings["MINIO_BUCKET_NAME"], tmp_path) == set()
    assert listed(store, settings["MINIO_THUMBNAILS_BUCKET_NAME"], tmp_path) == set()


@pytest.mark.parametrize("as_form", [False, True])
def test_a_film_of_many_parts_comes_back_whole(far: RunningServer, as_form: bool) -> None:
    film = pictures.mp4(64, 48)
    film += (20 << 20).to_bytes(4, "big") + b"free" + bytes((20 << 20) - 8)
    client = far.client("me")
    answer = client.upload_form(FilePart(film, "film.mp4", "video/mp4")) if as_form else client.upload(film, "video/mp4")
    assert answer.status == 201, answer
    assert (answer.json["size"], answer.json["width"], answer.json["height"]) == (len(film), 64, 48)
    path = media(answer.json["key"])
    assert client.get(path).body == film
    assert client.get(f"{path}?w=20").status == 200
    assert client.delete(path).status == 204


def test_what_is_refused_leaves_nothing_in_the_bucket(
    far: RunningServer, store: ObjectStore, settings: dict[str, str], tmp_path: Path
) -> None:
    client = far.client("me")
    torn = pictures.jpeg(400, 300)[:-3000]
    assert client.upload(torn, "image/jpeg").status == 422
    assert client.upload_form(FilePart(torn, "x.jpg", "image/jpeg")).status == 422
    assert client.upload(pictures.pdf(), "image/png").status == 415
    assert listed(store, settings["MINIO_BUCKET_NAME"], tmp_path) == set()
    assert client.get("/api/assets").json["assets"] == []


def test_what_others_put_into_the_bucket_is_served_all_the_same(
    far: RunningServer, store: ObjectStore, settings: dict[str, str], tmp_path: Path
) -> None:
    photo = pictures.jpeg(300, 200)
    key = keys.parse("somebody/else.jpg")

    async def put() -> None:
        others = get_session().create_client(
            "s3", endpoint_url=store.endpoint, region_name=store.region, aws_access_key_id=store.access_key,
            aws_secret_access_key=store.secret_key,
        )  # fmt: skip
        async with others as client:
            await client.put_object(Bucket=settings["MINIO_BUCKET_NAME"], Key=key, Body=photo, ContentType="image/jpeg")

    asyncio.run(put())
    answer = far.client().get(media(key))
    assert (answer.status, answer.body) == (200, photo)
    assert far.client().get(media(key), {"If-None-Match": answer.headers["ETag"]}).status == 304
    assert far.client().get(f"{media(key)}?w=30").status == 200
    assert far.client("somebody").delete(media(key)).status == 204
    assert far.client().get(media(key)).status == 404


def test_health_tells_each_store_and_its_breaker(far: RunningServer) -> None:
    document = far.client().get("/api/health").json
    assert document["status"] == "ok"
    assert {name: document["parts"][name]["breaker"] for name in ("store.minio", "store.local")} == {
        "store.minio": "closed", "store.local": "closed",
    }  # fmt: skip
    assert far.metric("media_store_up", store="minio") == 1
    assert far.metric("media_store_debts", store="minio") == 0


WRONG = {
    "MINIO_SECRET_KEY": ("not-the-secret-of-this-key", "MINIO_SECRET_KEY"),
    "MINIO_ACCESS_KEY": ("nobody", "MINIO_ACCESS_KEY"),
    "MINIO_USE_SSL": ("true", "MINIO_USE_SSL"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_start_with_a_wrong_setting_of_a_store_ends_in_a_sentence_that_names_it(
    store: ObjectStore, tmp_path: Path, name: str
) -> None:
    value, named = WRONG[name]
    server = RunningServer(tmp_path, {**store.settings(), name: value})
    server.launch()
    assert server.wait(30) != 0
    assert named in server.output.text
    assert "Traceback" not in server.output.text
    assert store.secret_key not in server.output.text


def test_a_start_does_not_wait_for_a_store_that_is_away(serve: Serve) -> None:
    server = serve(**away())
    client = server.client("me")
    assert "MINIO_ENDPOINT" in server.output.text
    path = media(client.stored(pictures.jpeg(30, 20))["key"])
    assert client.get("/api/health/ready").status == 200
    assert client.get("/api/health").json["status"] == "degraded"
    assert client.get(path).status == 200
    assert server.metric("media_store_debts", store="minio") == 1
    server.restart()
    assert server.metric("media_store_debts", store="minio") == 1
    assert server.client().get(path).status == 200


def test_without_a_disk_to_fall_back_on_a_write_is_refused_and_readiness_says_so(serve: Serve) -> None:
    server = serve(**away(), MEDIA_LOCAL_STORE="false")
    answer = server.client("me").upload(pictures.jpeg(30, 20))
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert until(lambda: server.client().get("/api/health/ready").status == 503)
    assert server.client().get("/api/media/me/anything.jpg").status == 503
    assert server.client().get("/api/health/live").status == 200


def away() -> dict[str, str]:
    """The settings of a store that nobody serves."""
    return {"MINIO_ENDPOINT": "127.0.0.1", "MINIO_PORT": str(free_port()), "MINIO_ACCESS_KEY": "a", "MINIO_SECRET_KEY": "b" * 20}

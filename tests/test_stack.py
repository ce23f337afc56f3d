"""The whole of docker-compose.media.yml as plain processes, with the files as they are shipped: what clients do with it, and what
they notice when parts of it die."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests import pictures
from tests.kit import films
from tests.kit.clamd import BAD_WORD
from tests.kit.client import Client, FilePart, media
from tests.kit.files import padded
from tests.kit.promises import confirm, offer, sent
from tests.kit.sse import Stream
from tests.kit.stack import PROXIES, Stack
from tests.kit.tus import MIB, Upload, begun
from tests.kit.waiting import until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]
JSON = {"Content-Type": "application/json"}
PHOTO = pictures.jpeg(1600, 1200)
LARGE = padded(pictures.jpeg(640, 480), 9 * MIB + 17)
SETTLED_S = 90.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    films.provided()
    with Stack(tmp_path_factory.mktemp("stack"), "postgres", "edge", "clamav") as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def home(stack: Stack) -> str:
    """The proxy to which nginx leads whoever comes from this machine, as long as that proxy lives."""
    return holder(stack, begun(stack.client("ann"), 1))


@pytest.fixture
def ann(stack: Stack) -> Client:
    return stack.client("ann")


@pytest.fixture
def anybody(stack: Stack) -> Client:
    return stack.client()


def by_body(client: Client) -> str:
    return str(client.stored(LARGE, "image/jpeg", "large.jpg")["key"])


def by_form(client: Client) -> str:
    answer = client.upload_form(FilePart(LARGE))
    assert answer.status == 201, answer
    return str(answer.json["key"])


def by_tus(client: Client) -> str:
    upload = begun(client, len(LARGE))
    assert upload.append(LARGE[: 4 * MIB], 0).headers["Upload-Offset"] == str(4 * MIB)
    return upload.append(LARGE[4 * MIB :], 4 * MIB).headers["X-Media-Key"]


def by_chunks(client: Client) -> str:
    size = 5 * MIB
    told = client.post("/api/upload/chunked", json.dumps({"size": len(LARGE), "chunkSize": size}).encode(), JSON).json
    session = f"/api/upload/chunked/{told['sessionId']}"
    for number in reversed(range(told["chunks"])):
        assert client.request("PUT", f"{session}/{number}", {}, LARGE[number * size : (number + 1) * size]).status == 200
    return str(client.post(f"{session}/complete").json["key"])


def by_promise(client: Client) -> str:
    offered = offer(client, contentType="image/jpeg", size=len(LARGE))
    assert sent(client, offered, LARGE).status == 200
    answer = confirm(client, offered["key"])
    assert answer.status == 200, answer
    return str(offered["key"])


def made(stack: Stack) -> float:
    """How many jobs the processor has done."""
    there = Client(f"http://{stack.address['processor']}:10030")
    told = there.get("/metrics", {"Authorization": f"Bearer {stack.values['PROCESSOR_TOKEN']}"}).text
    return sum(float(line.rpartition(" ")[2]) for line in told.splitlines() if line.startswith("media_processor_seconds_count"))


def settled(stack: Stack) -> bool:
    """Whether both proxies say that all is well."""
    return all(stack.client("ops", at).get("/api/health").json["status"] == "ok" for at in PROXIES)


@pytest.mark.parametrize("name", [*PROXIES, "worker"])
def test_the_doctor_finds_nothing(stack: Stack, name: str) -> None:
    told = stack[name].run("media-proxy", "doctor")
    assert told.returncode == 0, told.stdout + told.stderr


def test_the_store_is_prepared_as_often_as_one_likes(stack: Stack) -> None:
    stack["minio-init"].start()


@pytest.mark.parametrize("at", ["nginx", *PROXIES])
def test_what_is_infected_is_refused(stack: Stack, at: str) -> None:
    client = stack.client("ida", at)
    for answer in (client.upload(PHOTO + BAD_WORD), client.upload_form(FilePart(LARGE + BAD_WORD))):
        assert (answer.status, answer.code) == (422, "infected"), answer
    assert client.assets() == []


@pytest.mark.parametrize("upload", [by_body, by_form, by_tus, by_chunks, by_promise])
def test_what_is_uploaded_in_any_way_goes_out_in_slices_that_nginx_keeps(stack: Stack, upload: object) -> None:
    assert callable(upload)
    key = upload(stack.client("ann"))
    anybody = stack.client()
    for cached in ("MISS", "HIT"):
        whole = anybody.get(media(key))
        assert (whole.status, whole.body, whole.headers["X-Cache"]) == (200, LARGE, cached)
    part = anybody.get(media(key), {"Range": "bytes=4194300-4194309"})
    assert (part.status, part.body, part.headers["X-Cache"]) == (206, LARGE[4194300:4194310], "HIT")
    for at in PROXIES:
        assert stack.client(at=at).get(media(key)).body == LARGE


def test_a_rendition_is_made_by_the_processor_once_for_all_proxies(stack: Stack, ann: Client, anybody: Client) -> None:
    path = media(ann.stored(PHOTO)["key"], "w=320&format=webp")
    before = made(stack)
    first = anybody.get(path)
    assert (first.status, first.headers["Content-Type"], first.headers["X-Cache"]) == (200, "image/webp", "MISS")
    assert made(stack) == before + 1
    assert anybody.get(path).headers["X-Cache"] == "HIT"
    for at in PROXIES:
        assert stack.client(at=at).get(path).body == first.body
    assert made(stack) == before + 1


def test_what_others_put_into_the_bucket_gets_a_record(stack: Stack, ann: Client) -> None:
    store = stack.bucket("media-proxy", stack.values["MINIO_SECRET_KEY"])
    store.put_object(Bucket="sav3-media", Key="ann/by-others.jpg", Body=PHOTO, ContentType="image/jpeg")
    assert until(lambda: any(record["key"] == "ann/by-others.jpg" for record in ann.assets()), SETTLED_S)
    store.delete_object(Bucket="sav3-media", Key="ann/by-others.jpg")
    assert until(lambda: all(record["key"] != "ann/by-others.jpg" for record in ann.assets()), SETTLED_S)


def test_who_signs_addresses_may_write_into_one_folder_and_read_nothing(stack: Stack, ann: Client) -> None:
    key = ann.stored(PHOTO)["key"]
    store = stack.bucket("media-uploads", stack.values["MINIO_UPLOAD_SECRET_KEY"])
    for refused in (
        lambda: store.get_object(Bucket="sav3-media", Key=key),
        lambda: store.put_object(Bucket="sav3-media", Key="ann/own.jpg", Body=PHOTO),
        lambda: store.put_object(Bucket="sav3-temp", Key="elsewhere", Body=PHOTO),
        lambda: store.list_objects_v2(Bucket="sav3-temp"),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            refused()


def order(client: Client, key: str) -> str:
    answer = client.post(f"/api/assets/{key}/jobs", json.dumps({"profile": "360p"}).encode(), JSON)
    assert answer.status == 202, answer
    return str(answer.json["id"])


def test_a_film_is_turned_by_the_worker_and_told_on_the_way(stack: Stack, ann: Client, anybody: Client) -> None:
    with Stream(stack, "ann") as stream:
        film = ann.stored(pictures.mp4(640, 480, seconds=8), "video/mp4")["key"]
        job = order(ann, film)
        assert until(lambda: ann.get(f"/api/jobs/{job}").json["state"] == "done", SETTLED_S), ann.get(f"/api/jobs/{job}")
        (result,) = ann.get(f"/api/jobs/{job}").json["results"]
        assert until(lambda: any(result["key"] in json.dumps(event) for event in stream.events), SETTLED_S)
    assert anybody.get(media(result["key"]), {"Range": "bytes=0-99"}).status == 206
    assert anybody.get(media(film, "at=1&w=200")).headers["Content-Type"].startswith("image/")


def test_owners_have_lists_and_usage_and_what_they_remove_is_gone(stack: Stack) -> None:
    eve = stack.client("eve")
    keys = [eve.stored(pictures.jpeg(40 + n, 40))["key"] for n in range(3)]
    assert [record["key"] for record in eve.assets()] == keys[::-1]
    assert eve.get("/api/usage").json["objects"] == 3
    assert eve.delete(media(keys[0])).status == 204
    for at in PROXIES:
        assert stack.client(at=at).get(media(keys[0])).status == 404
    assert eve.get("/api/usage").json["objects"] == 2


# -- what dies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROXIES)
def test_a_proxy_may_die_and_clients_of_nginx_see_nothing_of_it(stack: Stack, ann: Client, anybody: Client, name: str) -> None:
    key = ann.stored(PHOTO)["key"]
    stack[name].kill()
    widths = range(100, 130) if name == PROXIES[0] else range(200, 230)
    assert {anybody.get(media(key, f"w={width}")).status for width in widths} == {200}
    assert {ann.upload(pictures.jpeg(width, 20)).status for width in widths} == {201}
    stack[name].start()
    assert until(lambda: settled(stack), SETTLED_S)


def holder(stack: Stack, upload: Upload) -> str:
    """The proxy that has the bytes of *upload*."""
    (name,) = (name for name in PROXIES if Upload(stack.client("ann", name), upload.path).head().status == 200)
    return name


def test_an_upload_whose_proxy_died_goes_on_when_that_is_back(stack: Stack, ann: Client, home: str) -> None:
    # After what the last test did, nginx may still lead this client to the other one, where it would not look again.
    assert until(lambda: holder(stack, begun(ann, 1)) == home, SETTLED_S)
    upload = begun(ann, len(LARGE))
    assert upload.append(LARGE[: 4 * MIB], 0).status == 204
    stack[home].kill()
    away = upload.head()
    assert (away.status, "Retry-After" in away.headers) == (503, True)
    stack[home].start()
    assert until(lambda: upload.head().status == 200, SETTLED_S)
    last = upload.append(LARGE[4 * MIB :], 4 * MIB)
    assert ann.get(media(last.headers["X-Media-Key"])).body == LARGE


def test_a_proxy_that_is_told_to_stop_ends_in_order(stack: Stack) -> None:
    service = stack[PROXIES[1]]
    service.terminate()
    assert service.wait() == 0
    service.start()


def test_without_the_processor_what_is_kept_goes_out(stack: Stack, ann: Client) -> None:
    key = ann.stored(PHOTO)["key"]
    direct = stack.client(at=PROXIES[0])
    kept = direct.get(media(key, "w=333"))
    stack["processor"].kill()
    assert direct.get(media(key, "w=333")).body == kept.body
    assert direct.get(media(key)).body == PHOTO
    refused = direct.get(media(key, "w=334"))
    assert (refused.status, "Retry-After" in refused.headers) == (503, True)
    stack["processor"].start()
    assert until(lambda: direct.get(media(key, "w=334")).status == 200, SETTLED_S)
    assert until(lambda: settled(stack), SETTLED_S)


def test_without_redis_everything_goes_on(stack: Stack, ann: Client) -> None:
    key = ann.stored(PHOTO)["key"]
    stack["redis"].kill()
    for at in PROXIES:
        client = stack.client("ann", at)
        assert client.get(media(key, "w=400")).status == 200
        assert client.upload(PHOTO).status == 201
        assert until(lambda client=client: client.get("/api/health").json["status"] == "degraded", SETTLED_S)  # type: ignore[misc]
    stack["redis"].start()
    assert until(lambda: settled(stack), SETTLED_S)


def test_without_the_scanner_nothing_comes_in_and_all_that_is_there_goes_out(stack: Stack, ann: Client) -> None:
    key = ann.stored(PHOTO)["key"]
    stack["clamav"].kill()
    refused = ann.upload(PHOTO)
    assert (refused.status, refused.code, "Retry-After" in refused.headers) == (503, "unavailable", True)
    assert ann.get(media(key, "w=410")).status == 200
    stack["clamav"].start()
    assert until(lambda: ann.upload(PHOTO).status == 201, SETTLED_S)
    assert until(lambda: settled(stack), SETTLED_S)


def test_without_the_store_nothing_is_lost_and_what_nginx_keeps_goes_out(stack: Stack, ann: Client, anybody: Client) -> None:
    direct = stack.client("ann", PROXIES[0])
    record = direct.stored(PHOTO)
    kept = anybody.get(media(record["key"], "w=444"))
    assert kept.status == 200
    upload = begun(direct, len(LARGE))
    assert upload.append(LARGE[: 4 * MIB], 0).status == 204
    stack["minio"].kill()
    again = anybody.get(media(record["key"], "w=444"))
    assert (again.headers["X-Cache"], again.body) == ("HIT", kept.body)
    refused = direct.upload(PHOTO)
    assert (refused.status, refused.code, "Retry-After" in refused.headers) == (503, "unavailable", True)
    assert direct.get(f"/api/assets/{record['key']}").json["sha256"] == record["sha256"]
    # The last byte is taken: it is the commit that waits for the store.
    last = upload.append(LARGE[4 * MIB :], 4 * MIB)
    stack["minio"].start()
    assert until(lambda: "X-Media-Key" in upload.head().headers, SETTLED_S), (last, upload.head())
    assert direct.get(media(upload.head().headers["X-Media-Key"])).body == LARGE
    assert until(lambda: ann.upload(PHOTO).status == 201, SETTLED_S)
    assert until(lambda: settled(stack), SETTLED_S)


def test_a_worker_that_dies_in_a_job_leaves_it_to_the_next(stack: Stack, ann: Client, tmp_path: Path) -> None:
    film = ann.stored(films.long(tmp_path), "video/mp4")["key"]
    job = order(ann, film)
    assert until(lambda: ann.get(f"/api/jobs/{job}").json["state"] == "running", SETTLED_S)
    stack["worker"].kill()
    stack["worker"].start()
    assert until(lambda: ann.get(f"/api/jobs/{job}").json["state"] == "done", 180), ann.get(f"/api/jobs/{job}")
    assert len(ann.get(f"/api/jobs/{job}").json["results"]) == 1

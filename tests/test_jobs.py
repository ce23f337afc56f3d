"""Films and sound turned into others: /api/assets/{key}/jobs and /api/jobs, against the real server and the real FFmpeg."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from tests import pictures
from tests.conftest import Harmless
from tests.kit import films
from tests.kit.client import Answer, Client, media
from tests.kit.server import RunningServer
from tests.kit.sse import Stream
from tests.kit.waiting import until

JSON = {"Content-Type": "application/json"}
PATIENCE_S = 90.0
NOBODY = "/api/jobs/job_" + 30 * "0"
SLOW = '[slow]\ncontainer = "webm"\nheight = 720\nquality = 10\n[quick]\ncontainer = "mp4"\nheight = 360\n'


@pytest.fixture(scope="module", autouse=True)
def _ffmpeg() -> None:
    films.provided()


@pytest.fixture(scope="module")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return films.long(tmp_path_factory.mktemp("films"))


@pytest.fixture
def slow(tmp_path: Path, serve: Callable[..., RunningServer]) -> Callable[..., RunningServer]:
    """Starts servers with a profile that takes long."""
    path = tmp_path / "profiles.toml"
    path.write_text(SLOW)
    return lambda **env: serve(MEDIA_PROFILES=str(path), MEDIA_JOB_THREADS="1", **env)


def order(client: Client, key: str, profile: str, **headers: str) -> Answer:
    return client.post(f"/api/assets/{key}/jobs", json.dumps({"profile": profile}).encode(), JSON | headers)


def begun(client: Client, key: str, profile: str) -> dict[str, Any]:
    answer = order(client, key, profile)
    assert answer.status == 202, answer
    found = answer.json
    assert isinstance(found, dict)
    return found


def state(client: Client, job: dict[str, Any]) -> str:
    return str(client.get(f"/api/jobs/{job['id']}").json["state"])


def ended(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    assert until(lambda: state(client, job) not in {"waiting", "running"}, PATIENCE_S), client.get(f"/api/jobs/{job['id']}")
    found = client.get(f"/api/jobs/{job['id']}").json
    assert isinstance(found, dict)
    return found


def programs(server: RunningServer) -> list[psutil.Process]:
    """What runs for jobs of *server*: FFmpeg, and the sandbox around it."""
    return [child for child in server.children() if named(child) in {"ffmpeg", "bwrap"}]


def named(process: psutil.Process) -> str:
    try:
        return process.name() if process.status() != psutil.STATUS_ZOMBIE else ""
    except psutil.NoSuchProcess:
        return ""


def works(server: RunningServer) -> bool:
    return any(named(one) == "ffmpeg" for one in programs(server))


def command(server: RunningServer, *words: str) -> subprocess.CompletedProcess[str]:
    """What `media-proxy jobs` says beside *server*."""
    program = [sys.executable, "-m", "proxy", "jobs", *words]
    return subprocess.run(program, env=server.env, cwd=server.folder, capture_output=True, text=True, timeout=60, check=False)


def left(server: RunningServer) -> list[str]:
    """Files of jobs below the data folder."""
    return [name for _, _, names in os.walk(server.data / "jobs") for name in names]


def test_a_film_is_turned_into_a_smaller_one_that_begins_to_play_at_once(client: Client, tmp_path: Path) -> None:
    source = client.stored(pictures.mp4(1280, 960, seconds=2), "video/mp4", "holiday.mp4")
    answer = order(client, source["key"], "360p")
    assert answer.headers["Location"] == f"/api/jobs/{answer.json['id']}"
    job = ended(client, answer.json)
    assert (job["state"], job["percent"], job["problem"]) == ("done", 100.0, None)
    (made,) = job["results"]
    assert made["key"].startswith(source["key"] + "/360p-")
    record = client.get(f"/api/assets/{made['key']}").json
    assert (record["source"], record["contentType"], record["height"], record["width"]) == (source["key"], "video/mp4", 360, 480)
    data = client.get(made["url"]).body
    assert data.index(b"moov") < data.index(b"mdat")
    film = films.look(data, tmp_path)
    assert [(one["codec_name"], one["pix_fmt"]) for one in film["streams"]] == [("h264", "yuv420p")]
    assert abs(float(film["format"]["duration"]) - 2) < 0.2


def test_a_film_is_never_made_larger_and_stays_upright(client: Client) -> None:
    source = client.stored(pictures.mp4(320, 240, rotated=90), "video/mp4")
    (made,) = ended(client, begun(client, source["key"], "1080p"))["results"]
    record = client.get(f"/api/assets/{made['key']}").json
    assert (record["width"], record["height"]) == (240, 320)


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_a_film_in_high_dynamic_range_is_toned_down_like_its_stills(client: Client, tmp_path: Path, transfer: str) -> None:
    # 58 % of PQ is the white of a page, 75 % of HLG.
    luma = round(64 + 876 * {"smpte2084": 0.58, "arib-std-b67": 0.75}[transfer])
    source = client.stored(pictures.hdr(transfer, (luma, 512, 512)), "video/mp4")
    (made,) = ended(client, begun(client, source["key"], "360p"))["results"]
    (picture, *_) = films.look(client.get(made["url"]).body, tmp_path)["streams"]
    assert [picture[f"color_{name}"] for name in ("transfer", "primaries", "space")] == ["bt709"] * 3
    greys = []
    for key in (source["key"], made["key"]):
        with Image.open(io.BytesIO(client.get(media(key, "w=64&format=png&time=0")).body)) as still:
            greys.append(still.convert("L").getpixel((32, 24)))
    assert greys[0] == pytest.approx(greys[1], abs=25)
    assert min(greys) > 150


@pytest.mark.parametrize(("profile", "content_type", "codec"), [("aac", "audio/mp4", "aac"), ("opus", "audio/ogg", "opus")])
def test_sound_is_turned_into_other_sound(client: Client, tmp_path: Path, profile: str, content_type: str, codec: str) -> None:
    source = client.stored(pictures.wav(2), "audio/wav")
    (made,) = ended(client, begun(client, source["key"], profile))["results"]
    answer = client.get(made["url"])
    assert answer.headers["Content-Type"] == content_type
    assert [one["codec_name"] for one in films.look(answer.body, tmp_path)["streams"]] == [codec]


def test_what_is_made_counts_for_its_owner_and_goes_with_its_source(client: Client) -> None:
    source = client.stored(pictures.mp4(), "video/mp4")
    (made,) = ended(client, begun(client, source["key"], "360p"))["results"]
    size = client.get(f"/api/assets/{made['key']}").json["size"]
    usage = client.get("/api/usage").json
    assert (usage["objects"], usage["bytes"]) == (2, source["size"] + size)
    assert client.delete(media(source["key"])).status == 204
    assert client.get(made["url"]).status == client.get(f"/api/assets/{made['key']}").status == 404
    usage = client.get("/api/usage").json
    assert (usage["objects"], usage["bytes"]) == (0, 0)


def test_the_same_is_made_once_and_again_when_it_is_gone(client: Client) -> None:
    source = client.stored(pictures.mp4(), "video/mp4")
    job = begun(client, source["key"], "360p")
    assert begun(client, source["key"], "360p")["id"] == job["id"]
    (made,) = ended(client, job)["results"]
    assert begun(client, source["key"], "360p")["id"] == job["id"]
    assert client.delete(media(made["key"])).status == 204
    again = begun(client, source["key"], "360p")
    assert again["id"] != job["id"]
    assert ended(client, again)["state"] == "done"


def test_an_idempotency_key_stands_for_one_job(client: Client) -> None:
    source = client.stored(pictures.mp4(), "video/mp4")
    first = order(client, source["key"], "360p", **{"Idempotency-Key": "mine"})
    again = order(client, source["key"], "360p", **{"Idempotency-Key": "mine"})
    assert (first.status, first.json["id"]) == (again.status, again.json["id"])
    other = order(client, source["key"], "480p", **{"Idempotency-Key": "mine"})
    assert (other.status, other.code) == (422, "idempotency-key-reused")


def test_jobs_are_their_owners_alone(server: RunningServer, client: Client, stranger: Client, owner: str) -> None:
    source = client.stored(pictures.mp4(), "video/mp4")
    job = begun(client, source["key"], "360p")
    other = server.client(f"{owner}x")
    assert order(other, source["key"], "360p").status == 404
    for method in ("GET", "DELETE"):
        theirs, nobodys = (other.request(method, path) for path in (f"/api/jobs/{job['id']}", NOBODY))
        assert theirs.status == nobodys.status == 404
        assert theirs.json["detail"] == nobodys.json["detail"]
        assert stranger.request(method, f"/api/jobs/{job['id']}").status == 401
    assert other.get("/api/jobs").json == {"jobs": [], "nextCursor": None}
    assert stranger.get("/api/jobs").status == order(stranger, source["key"], "360p").status == 401
    assert order(server.client(owner, scope="media:read"), source["key"], "360p").status == 403
    assert [one["id"] for one in client.get(f"/api/jobs?key={source['key']}").json["jobs"]] == [job["id"]]
    assert ended(client, job)["state"] == "done"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"profile": "nothing"}', 400, "bad-request"),
        (b'{"profile": 7}', 400, "bad-request"),
        (b'{"profile": "360p", "args": "-i /etc/passwd"}', 400, "bad-request"),
        (b"{}", 400, "bad-request"),
        (b"nonsense", 400, "bad-request"),
    ],
)
def test_an_order_that_is_not_understood_leaves_nothing(
    client: Client, harmless: Harmless, body: bytes, status: int, code: str
) -> None:
    source = client.stored(pictures.mp4(), "video/mp4")
    with harmless(status, code) as bad:
        bad.answer = client.post(f"/api/assets/{source['key']}/jobs", body, JSON)
    assert client.get("/api/jobs").json["jobs"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "cursor=nonsense", "state=x", "owner=x", "key=../x"])
def test_a_list_that_is_not_understood_is_refused(client: Client, query: str) -> None:
    assert client.get(f"/api/jobs?{query}").status == 400


def test_what_cannot_be_made_of_a_thing_is_said_at_once(client: Client) -> None:
    picture, sound = client.stored(pictures.jpeg(), "image/jpeg"), client.stored(pictures.wav(), "audio/wav")
    for key in (picture["key"], sound["key"]):
        assert order(client, key, "360p").code == "unsupported-type"
    assert order(client, f"{picture['key']}x", "360p").status == 404


def test_what_can_be_made_is_listed(client: Client, stranger: Client) -> None:
    def names(query: str) -> set[str]:
        return set(client.get(f"/api/profiles{query}").json["profiles"])

    sound = {"aac", "opus"}
    assert names("?type=video/mp4") == names("") == {"1080p", "720p", "480p", "360p", "hls", "webm"} | sound
    assert names("?type=audio/wav") == sound
    assert names("?type=image/jpeg") == names("?type=nonsense") == names("?type=") == set()
    assert stranger.get("/api/profiles").status == 401


def test_a_film_that_is_cut_short_ends_its_job_with_a_reason_and_leaves_nothing(
    server: RunningServer, client: Client, tmp_path: Path
) -> None:
    whole = films.long(tmp_path, 4)
    source = client.stored(whole[: len(whole) // 2], "video/mp4")
    job = ended(client, begun(client, source["key"], "360p"))
    assert (job["state"], job["problem"]["code"], job["attempts"]) == ("failed", "undecodable", 1)
    assert left(server) == []
    assert len(client.get("/api/assets").json["assets"]) == 1


def test_a_cancelled_job_ends_its_program_and_leaves_nothing(slow: Callable[..., RunningServer], long_film: bytes) -> None:
    server = slow()
    client = server.client("u7")
    source = client.stored(long_film, "video/mp4")
    job = begun(client, source["key"], "slow")
    assert until(lambda: works(server))
    assert client.delete(f"/api/jobs/{job['id']}").status == 204
    assert client.delete(f"/api/jobs/{job['id']}").status == 204
    assert state(client, job) == "canceled"
    assert until(lambda: programs(server) == [] and left(server) == [])
    assert [asset["key"] for asset in client.get("/api/assets").json["assets"]] == [source["key"]]


@pytest.mark.parametrize(
    ("bound", "profile"), [({"MEDIA_JOB_DEADLINE": "1"}, "slow"), ({"MEDIA_JOB_BYTES": "10K"}, "quick")], ids=["deadline", "bytes"]
)
def test_work_beyond_a_bound_fails_and_leaves_nothing(
    slow: Callable[..., RunningServer], long_film: bytes, bound: dict[str, str], profile: str
) -> None:
    server = slow(**bound)
    client = server.client("u7")
    job = ended(client, begun(client, client.stored(long_film, "video/mp4")["key"], profile))
    assert (job["state"], job["problem"]["code"], job["attempts"]) == ("failed", "too-costly", 1)
    assert until(lambda: programs(server) == [] and left(server) == [])


def test_a_removed_source_ends_what_is_made_of_it(slow: Callable[..., RunningServer], long_film: bytes) -> None:
    server = slow()
    client = server.client("u7")
    source = client.stored(long_film, "video/mp4")
    job = begun(client, source["key"], "slow")
    assert until(lambda: works(server))
    assert client.delete(media(source["key"])).status == 204
    assert state(client, job) == "canceled"
    assert until(lambda: programs(server) == [] and left(server) == [])


def test_a_stop_hands_work_back_and_a_kill_ends_its_programs(slow: Callable[..., RunningServer], long_film: bytes) -> None:
    server = slow()
    client = server.client("u7")
    job = begun(client, client.stored(long_film, "video/mp4")["key"], "slow")
    assert until(lambda: works(server))
    assert server.stop() == 0
    server.start()
    client = server.client("u7")
    assert until(lambda: works(server))
    assert client.get(f"/api/jobs/{job['id']}").json["attempts"] == 1
    running = programs(server)
    server.process.kill()
    assert until(lambda: all(named(one) == "" for one in running))


def test_an_owner_is_told_as_it_happens(server: RunningServer, client: Client, owner: str) -> None:
    source = client.stored(pictures.mp4(seconds=2), "video/mp4")
    with Stream(server, owner) as stream:
        job = ended(client, begun(client, source["key"], "360p"))
        assert until(lambda: {"asset.processed", "asset.stored", "job.progress"} <= {kind for _, kind, _ in stream.events})
        told = [data for _, kind, data in stream.events if kind == "asset.processed"]
        moments = [data for _, kind, data in stream.events if kind == "job.progress"]
    assert told[0]["data"]["results"] == [made["key"] for made in job["results"]]
    assert (moments[-1]["id"], moments[-1]["state"], moments[-1]["percent"]) == (job["id"], "done", 100.0)


def test_automatic_profiles_are_made_of_each_upload_that_they_suit(serve: Callable[..., RunningServer], tmp_path: Path) -> None:
    (tmp_path / "profiles.toml").write_text('[small]\ncontainer = "mp4"\nheight = 120\nautomatic = true\n')
    client = serve(MEDIA_PROFILES=str(tmp_path / "profiles.toml")).client("u7")
    client.stored(pictures.jpeg(), "image/jpeg")
    source = client.stored(pictures.mp4(), "video/mp4")
    assert until(lambda: [one["state"] for one in client.get("/api/jobs").json["jobs"]] == ["done"], PATIENCE_S)
    assert client.get("/api/jobs").json["jobs"][0]["key"] == source["key"]


def test_an_upload_that_was_acknowledged_has_its_automatic_jobs(serve: Callable[..., RunningServer], tmp_path: Path) -> None:
    (tmp_path / "profiles.toml").write_text('[small]\ncontainer = "mp4"\nheight = 120\nautomatic = true\n')
    client = serve(MEDIA_PROFILES=str(tmp_path / "profiles.toml"), MEDIA_JOB_WORKERS="0").client("u7")
    key = client.stored(pictures.mp4(), "video/mp4")["key"]
    assert [(one["key"], one["profile"]) for one in client.get("/api/jobs").json["jobs"]] == [(key, "small")]


def test_what_has_failed_is_listed_and_done_again(serve: Callable[..., RunningServer]) -> None:
    server = serve(MEDIA_JOB_BYTES="10K", MEDIA_JOB_WORKERS="1")
    client = server.client("u7")
    source = client.stored(pictures.mp4(640, 480, seconds=2), "video/mp4")
    job = ended(client, begun(client, source["key"], "360p"))
    assert job["state"] == "failed"
    assert [one["id"] for one in client.get("/api/jobs?state=failed").json["jobs"]] == [job["id"]]
    assert client.get("/api/jobs?state=done").json["jobs"] == []
    again = client.post(f"/api/jobs/{job['id']}/retry")
    assert (again.status, again.json["profile"], again.headers["Location"]) == (202, "360p", f"/api/jobs/{again.json['id']}")
    assert ended(client, again.json)["state"] == "failed"
    assert command(server, "list").stdout.count("too-costly") == 2
    retried = command(server, "retry", job["id"])
    assert ended(client, {"id": retried.stdout.strip()})["state"] == "failed"
    assert client.post(f"/api/jobs/{begun(client, client.stored(pictures.wav(2))['key'], 'opus')['id']}/retry").status == 409
    assert command(server, "retry", "job_unknown").returncode == 2


def test_a_result_beyond_the_quota_is_not_kept(serve: Callable[..., RunningServer]) -> None:
    client = serve(MEDIA_QUOTA_OBJECTS="1").client("u7")
    job = ended(client, begun(client, client.stored(pictures.mp4(), "video/mp4")["key"], "360p"))
    assert (job["state"], job["problem"]["code"]) == ("failed", "quota-exceeded")
    assert client.get("/api/usage").json["objects"] == 1


def test_without_ffmpeg_the_service_says_so(serve: Callable[..., RunningServer], tmp_path: Path) -> None:
    client = serve(PATH=str(tmp_path)).client("u7")
    source = client.stored(pictures.mp4(), "video/mp4")
    answer = order(client, source["key"], "360p")
    assert (answer.status, answer.code) == (501, "not-provided")
    assert client.get("/api/profiles").json == {"profiles": []}


def test_profiles_that_are_not_usable_stop_the_start(serve: Callable[..., RunningServer], tmp_path: Path) -> None:
    (tmp_path / "profiles.toml").write_text('[x]\ncontainer = "avi"\n')
    with pytest.raises(AssertionError, match=r"(?s)exit status 2.*x: container is one of mp4"):
        serve(MEDIA_PROFILES=str(tmp_path / "profiles.toml"))

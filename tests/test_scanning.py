"""clamd looks at uploads on their way in: what is infected is never there, and what it could not look at nobody gets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from proxy.settings import Settings
from tests import pictures
from tests.kit.aftereffects import harmless
from tests.kit.clamd import BAD_WORD, FOUND_WORD, Clamd, provided
from tests.kit.client import UNKNOWN, Answer, Client, FilePart, media
from tests.kit.commands import command
from tests.kit.doors import doors
from tests.kit.ports import free_port
from tests.kit.promises import confirm, offer, sent
from tests.kit.server import SECRET, RunningServer
from tests.kit.tus import begun
from tests.kit.waiting import until

PHOTO = pictures.jpeg(64, 48)
INFECTED = PHOTO + BAD_WORD
LIMIT = 1 << 20
JSON = {"Content-Type": "application/json"}
Way = Callable[[Client, bytes], tuple[Answer, str | None]]


@pytest.fixture(scope="module")
def clamd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clamd]:
    with provided(tmp_path_factory.mktemp("clamd")) as running:
        yield running


@pytest.fixture(scope="module")
def scanning(clamd: Clamd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that asks clamd, and refuses what is not scanned."""
    env = {"CLAMAV_URL": clamd.url, "MEDIA_SCAN_LIMIT": str(LIMIT)}
    with RunningServer(tmp_path_factory.mktemp("scanning"), env) as running:
        yield running


@pytest.fixture(scope="module")
def lenient(clamd: Clamd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One that stores what is not scanned where nobody gets it."""
    env = {"CLAMAV_URL": clamd.socket_url, "MEDIA_SCAN_LIMIT": str(LIMIT), "MEDIA_SCAN_POLICY": "quarantine"}
    with RunningServer(tmp_path_factory.mktemp("lenient"), env) as running:
        yield running


@pytest.fixture
def client(scanning: RunningServer, owner: str) -> Client:
    return scanning.client(owner)


# -- the ways in: what the last request of each answers, and the key if that was told before ----------------------------------


def by_body(client: Client, data: bytes) -> tuple[Answer, str | None]:
    return client.upload(data), None


def by_body_of_unknown_length(client: Client, data: bytes) -> tuple[Answer, str | None]:
    pieces = (data[at : at + 1000] for at in range(0, len(data), 1000))
    return client.post("/api/upload", pieces, {"Content-Type": UNKNOWN, "Transfer-Encoding": "chunked"}), None


def by_form(client: Client, data: bytes) -> tuple[Answer, str | None]:
    return client.upload_form(FilePart(data)), None


def by_tus(client: Client, data: bytes) -> tuple[Answer, str | None]:
    upload = begun(client, len(data))
    assert upload.append(data[:100]).status == 204
    return upload.append(data[100:]), None


def by_resumption(client: Client, data: bytes) -> tuple[Answer, str | None]:
    return client.upload(data, headers={"Upload-Complete": "?1", "Upload-Draft-Interop-Version": "8"}), None


def by_chunks(client: Client, data: bytes) -> tuple[Answer, str | None]:
    wish = {"filename": "a.jpg", "size": len(data), "chunkSize": 1 << 16}
    session = client.post("/api/upload/chunked", json.dumps(wish).encode(), JSON).json["sessionId"]
    assert client.request("PUT", f"/api/upload/chunked/{session}/0", {}, data).status == 200
    return client.post(f"/api/upload/chunked/{session}/complete"), None


def by_promise(client: Client, data: bytes) -> tuple[Answer, str | None]:
    offered = offer(client, contentType="image/jpeg")
    sent(client, offered, data)
    return confirm(client, offered["key"]), offered["key"]


WAYS: tuple[Way, ...] = (by_body, by_body_of_unknown_length, by_form, by_tus, by_resumption, by_chunks, by_promise)


def keys_of(client: Client) -> list[str]:
    return [asset["key"] for asset in client.assets()]


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
def test_what_is_infected_is_stored_by_no_way(scanning: RunningServer, client: Client, way: Way) -> None:
    answer, _ = way(client, PHOTO)
    assert answer.status in {200, 201, 204}, answer
    (key,) = keys_of(client)
    assert Client(scanning.url).get(media(key)).body == PHOTO
    with harmless(scanning, 422, "infected", lines=8) as bad:
        bad.answer, promised = way(client, INFECTED)
    assert bad.problem is not None
    assert (bad.problem["signature"], bad.problem["title"]) == (FOUND_WORD, "The file is infected")
    assert keys_of(client) == [key]
    assert promised is None or client.get(media(promised)).status == 404
    assert client.get("/api/usage").json["bytes"] == len(PHOTO)
    assert scanning.metric("media_scan_seconds_count", outcome="infected") >= 1
    assert scanning.metric("media_scan_seconds_count", outcome="clean") >= 1


@pytest.mark.parametrize("begin", [by_tus, by_chunks, by_promise])
def test_an_upload_that_was_found_infected_says_so_again(scanning: RunningServer, client: Client, begin: Way) -> None:
    files = scanning.files()
    if begin is by_tus:
        upload = begun(client, len(INFECTED))
        assert upload.append(INFECTED, 0).code == "infected"
        assert client.get(upload.path).json["refusal"]["code"] == "infected"
    elif begin is by_chunks:
        wish = {"filename": "a.jpg", "size": len(INFECTED), "chunkSize": 1 << 16}
        session = client.post("/api/upload/chunked", json.dumps(wish).encode(), JSON).json["sessionId"]
        client.request("PUT", f"/api/upload/chunked/{session}/0", {}, INFECTED)
        answers = [client.post(f"/api/upload/chunked/{session}/complete") for _ in range(2)]
        assert [(answer.status, answer.code) for answer in answers] == [(422, "infected")] * 2
    else:
        offered = offer(client, contentType="image/jpeg")
        sent(client, offered, INFECTED)
        assert [confirm(client, offered["key"]).code for _ in range(2)] == ["infected"] * 2
    assert until(lambda: scanning.files() <= files), scanning.files() - files


def test_parts_of_which_the_whole_is_infected_are_gone_with_it(scanning: RunningServer, client: Client) -> None:
    files, half = scanning.files(), len(INFECTED) - 10
    parts = []
    for piece in (INFECTED[:half], INFECTED[half:]):
        part = begun(client, len(piece), {"Upload-Concat": "partial"})
        assert part.append(piece, 0).status == 204
        parts.append(part.path)
    answer = client.post("/api/uploads", headers={"Tus-Resumable": "1.0.0", "Upload-Concat": f"final;{' '.join(parts)}"})
    assert (answer.status, answer.code) == (422, "infected")
    assert until(lambda: scanning.files() <= files), scanning.files() - files
    assert keys_of(client) == []


def test_what_the_scanner_would_not_see_to_its_end_is_refused(scanning: RunningServer, client: Client) -> None:
    large = PHOTO + bytes(LIMIT)
    for way in (by_body, by_body_of_unknown_length, by_form):
        with harmless(scanning, 413, "too-large") as bad:
            bad.answer, _ = way(client, large)
        assert bad.problem is not None
        assert bad.problem["maxBytes"] == LIMIT
    assert keys_of(client) == []


def test_health_and_metrics_tell_of_the_scanner(scanning: RunningServer) -> None:
    health = Client(scanning.url).get("/api/health").json
    assert health["parts"]["scanner"]["status"] == "ok"
    assert scanning.metric("media_scanner_up") == 1


def test_nothing_is_taken_while_the_scanner_is_away(clamd: Clamd, scanning: RunningServer, client: Client) -> None:
    kept = client.stored(PHOTO)["key"]
    clamd.kill()
    try:
        for way in (by_body, by_form):
            with harmless(scanning, 503, "unavailable", lines=3) as bad:
                bad.answer, _ = way(client, PHOTO)
            assert isinstance(bad.answer, Answer)
            assert int(bad.answer.headers["Retry-After"]) > 0
        # What came by pieces stays, and becomes an object later.
        upload = begun(client, len(PHOTO))
        assert upload.append(PHOTO, 0).status == 503
        assert until(lambda: Client(scanning.url).get("/api/health").json["parts"]["scanner"]["status"] != "ok")
        health = Client(scanning.url).get("/api/health")
        assert (health.status, health.json["status"]) == (200, "degraded")
        assert client.get(media(kept)).body == PHOTO
    finally:
        clamd.start()
    assert until(lambda: client.upload(PHOTO).status == 201)
    assert until(lambda: upload.append(b"", len(PHOTO)).status == 204)
    assert len(keys_of(client)) == 3


def test_a_scanner_that_dies_in_the_middle_of_a_body_lets_nothing_through(clamd: Clamd, tmp_path: Path) -> None:
    with RunningServer(tmp_path, {"CLAMAV_URL": clamd.url}) as server:
        client = server.client("me")

        def pieces() -> Iterator[bytes]:
            yield PHOTO + bytes(200_000)
            assert until(lambda: clamd.spooled() != []), "clamd has got nothing"
            clamd.kill()
            yield bytes(200_000)

        try:
            answer = client.post("/api/upload", pieces(), {"Content-Type": UNKNOWN, "Transfer-Encoding": "chunked"})
        finally:
            clamd.start()
        assert (answer.status, answer.code) == (503, "unavailable")
        assert keys_of(client) == []


@pytest.mark.slow  # a scanner that stands still is given its time
def test_a_scanner_that_stands_still_is_found_out(clamd: Clamd, scanning: RunningServer, client: Client) -> None:
    scanning.warm()
    clamd.pause()
    try:
        with harmless(scanning, 503, "unavailable", lines=3) as bad:
            bad.answer = client.upload(PHOTO)
    finally:
        clamd.resume()
    assert until(lambda: client.upload(PHOTO).status == 201)
    assert len(keys_of(client)) == 1


# -- quarantined until it is scanned ------------------------------------------------------------------------------------------


def test_what_is_too_large_for_the_scanner_is_stored_and_withheld(lenient: RunningServer, owner: str) -> None:
    client, large = lenient.client(owner), PHOTO + bytes(LIMIT)
    answer = client.upload(large)
    assert (answer.status, answer.json["state"]) == (201, "quarantined")
    key = answer.json["key"]
    boss = lenient.client("boss", scope="media:admin")
    assert [one.get(media(key)).status for one in (client, boss, Client(lenient.url))] == [404] * 3
    assert client.get(media(key, "w=20")).status == 404
    assert keys_of(client) == []
    assert boss.get(f"/api/assets/{key}").json["state"] == "quarantined"
    assert client.get("/api/usage").json["bytes"] == len(large)
    assert client.upload(INFECTED).code == "infected"
    assert "state" not in client.stored(PHOTO)


def test_a_repeated_upload_of_what_waits_gives_it_again(lenient: RunningServer, owner: str) -> None:
    client, once = lenient.client(owner), {"Idempotency-Key": "once"}
    first, second = (client.upload(PHOTO + bytes(LIMIT), headers=once) for _ in range(2))
    assert (first.status, second.status) == (201, 201)
    assert first.json["key"] == second.json["key"]


@pytest.mark.slow  # patrols are seconds apart
def test_what_came_while_the_scanner_was_away_is_shown_when_it_is_clean(clamd: Clamd, lenient: RunningServer, owner: str) -> None:
    client = lenient.client(owner)
    clamd.kill()
    try:
        records = [client.stored(data) for data in (PHOTO, INFECTED)]
        _, promised = by_promise(client, PHOTO)
        assert [record["state"] for record in records] == ["quarantined"] * 2
        clean, infected = (record["key"] for record in records)
        assert client.get(media(clean)).status == client.get(media(str(promised))).status == 404
        assert lenient.metric("media_scanner_up") == 0
        lenient.kill()
        lenient.start()
        assert lenient.client(owner).get(media(clean)).status == 404
    finally:
        clamd.start()
    client = lenient.client(owner)
    assert until(lambda: client.get(media(clean)).status == client.get(media(str(promised))).status == 200, 60)
    assert client.get(media(infected)).status == 404
    assert set(keys_of(client)) == {clean, promised}
    assert until(lambda: lenient.metric("media_scan_waiting") == 0, 60)


@pytest.mark.slow  # nobody finds it until every process must have looked
def test_no_process_gives_what_another_has_stored_unscanned(tmp_path: Path) -> None:
    env = {"CLAMAV_URL": f"tcp://127.0.0.1:{free_port()}", "MEDIA_SCAN_POLICY": "quarantine", "MEDIA_WORKERS": "2"}
    with RunningServer(tmp_path, env) as server, doors(server, "me") as each:
        for door in each:
            stored = door.request("POST", "/api/upload", {"Content-Type": UNKNOWN}, PHOTO)
            assert (stored.status, stored.json["state"]) == (201, "quarantined")
            assert [one.get(media(stored.json["key"])).status for one in each] == [404, 404]
            assert [one.get(media(stored.json["key"], "w=9")).status for one in each] == [404, 404]


# -- what was there before ----------------------------------------------------------------------------------------------------


def test_what_was_stored_before_is_scanned_by_a_command(clamd: Clamd, tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        client = server.client("me")
        clean = [client.stored(PHOTO + bytes(number))["key"] for number in range(6)]
        bad = [client.stored(INFECTED + bytes(number))["key"] for number in range(2)]
        env = server.env | {"CLAMAV_URL": clamd.url}
        dry = command(env, "scan", "--dry-run", "--json")
        assert dry.returncode == 1, dry.stderr
        *found, sums = map(json.loads, dry.stdout.splitlines())
        assert {one["key"]: one["what"] for one in found} == dict.fromkeys(bad, "infected")
        assert sums["sums"]["clean"] == len(clean)
        assert client.get(media(bad[0])).body == INFECTED

        done = command(env, "scan")
        assert done.returncode == 1, done.stderr
        assert [line.split() for line in done.stdout.splitlines()[:-1]] == [["infected", key] for key in sorted(bad)]
        assert done.stdout.splitlines()[-1] == "6 clean, 2 infected."
        assert until(lambda: [client.get(media(key)).status for key in bad] == [404, 404])
        assert set(keys_of(client)) == set(clean)
        again = command(env, "scan", "--after", sorted(clean)[2])
        assert (again.returncode, again.stdout) == (0, "3 clean.\n")
        clamd.kill()
        try:
            away = command(env, "scan")
        finally:
            clamd.start()
        assert away.returncode == 3
        assert "scanner does not answer" in away.stderr


def examined(url: str, folder: Path, limit: str = "1M") -> tuple[dict[str, str], str]:
    """What the doctor says of the scanner: the state of each check, and all of it."""
    done = command(
        {"MEDIA_DATA_DIR": str(folder / "media"), "JWT_SECRET": SECRET, "CLAMAV_URL": url, "MEDIA_SCAN_LIMIT": limit}, "doctor"
    )
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("scanner ")]
    return {row[1]: row[2] for row in rows}, done.stdout


def test_the_doctor_tries_what_the_scanner_finds_and_how_far_it_looks(clamd: Clamd, tmp_path: Path) -> None:
    states, said = examined(clamd.url, tmp_path)
    assert states == {"reach": "ok", "eicar": "ok", "signatures": "warning", "limit": "ok", "alerts": "ok"}, said
    states, said = examined(clamd.socket_url, tmp_path, "3M")
    assert states["limit"] == "broken"
    assert "raise StreamMaxLength, MaxFileSize" in said
    clamd.kill()
    try:
        states, said = examined(clamd.url, tmp_path)
    finally:
        clamd.start()
    assert states == {"reach": "broken", "eicar": "skipped", "signatures": "skipped", "limit": "skipped", "alerts": "skipped"}
    with provided(tmp_path / "other", "AlertExceedsMax no") as silent:
        states, said = examined(silent.url, tmp_path)
    assert states["alerts"] == "broken"
    assert "AlertExceedsMax yes" in said


def test_a_scan_without_a_scanner_says_what_to_do(tmp_path: Path) -> None:
    done = command({"MEDIA_DATA_DIR": str(tmp_path), "JWT_SECRET": SECRET}, "scan")
    assert (done.returncode, done.stdout) == (2, "")
    assert "CLAMAV_URL is not set" in done.stderr


@pytest.mark.parametrize("url", ["clamd:3310", "http://clamd:3310", "tcp://", "unix://relative/ctl", "tcp://clamd:99999"])
def test_an_address_that_is_none_is_refused_with_those_that_are(url: str) -> None:
    with pytest.raises(ValidationError, match=r"is one of tcp://host:3310, or unix:///run/clamav"):
        Settings(jwt_secret=SECRET, clamav_url=url)  # type: ignore[arg-type]

"""Finding one's records and saying something of them: filters and sorts, metadata, and changes that do not overwrite others'."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests import pictures
from tests.conftest import Harmless
from tests.kit.client import Answer, Client, media
from tests.kit.server import RunningServer
from tests.kit.sse import Stream
from tests.kit.waiting import until


def listed(client: Client, **query: str) -> list[str]:
    """The keys on all pages of two."""
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = client.get("/api/assets?" + urlencode({"limit": "2", **query, **cursor})).json
        found += [asset["key"] for asset in page["assets"]]
        if page["nextCursor"] is None:
            return found
        cursor = {"cursor": page["nextCursor"]}


def patch(client: Client, key: str, document: Any, etag: str | None = None) -> Answer:
    headers = {"Content-Type": "application/merge-patch+json"} | ({} if etag is None else {"If-Match": etag})
    return client.request("PATCH", f"/api/assets/{quote(key)}", headers, json.dumps(document).encode())


@pytest.fixture
def key(client: Client) -> str:
    return str(client.stored(pictures.png(16, 12))["key"])


# -- finding ------------------------------------------------------------------------------------------------------------------


def test_records_are_found_by_type_time_and_folder_in_every_order(client: Client, owner: str) -> None:
    records = [client.stored(data, type) for data, type in (
        (pictures.png(8, 8), "image/png"), (pictures.jpeg(300, 200), "image/jpeg"), (pictures.wav(), "audio/wav"),
        (pictures.png(9, 9), "image/png"), (pictures.pdf(), "application/pdf"),
    )]  # fmt: skip
    keys = [record["key"] for record in records]
    assert listed(client, type="image/png") == [keys[3], keys[0]]
    assert listed(client, type="image/*", sort="created") == [keys[0], keys[1], keys[3]]
    assert listed(client, type="video/*") == listed(client, type="image/x-nothing") == []
    assert listed(client, sort="size") == [one["key"] for one in sorted(records, key=lambda one: (one["size"], one["key"]))]
    assert listed(client, sort="-key", prefix=f"{owner}/") == sorted(keys, reverse=True)
    assert listed(client, prefix=keys[2][:-6]) == [keys[2]]
    assert listed(client, prefix="another/") == []
    moment = datetime.fromisoformat(records[3]["createdAt"])
    assert listed(client, since=records[3]["createdAt"]) == [keys[4], keys[3]]
    zoned = moment.astimezone().replace(microsecond=0) + timedelta(hours=1)
    assert listed(client, since=zoned.isoformat()) == []


@pytest.mark.parametrize("query", [
    "type=png", "type=*/*", "type=image/", "since=yesterday", "since=2026-11-23", "since=2026-11-23T10:00:00",
    "since=0001-01-01T00:00:00Z",
    "sort=name", "sort=--key", "sort=", "state=gone", "prefix=", "prefix=a/../b", "prefix=/a", "owner=",
])  # fmt: skip
def test_what_cannot_be_looked_for_is_said(client: Client, harmless: Harmless, query: str) -> None:
    with harmless(403 if query == "owner=" else 400) as bad:
        bad.answer = client.get(f"/api/assets?{query}")


def test_a_cursor_goes_on_in_its_own_query_alone(client: Client) -> None:
    for n in range(3):
        client.stored(pictures.png(4 + n, 4))
    cursor = quote(client.get("/api/assets?limit=1&sort=size").json["nextCursor"], safe="")
    assert client.get(f"/api/assets?limit=1&sort=size&cursor={cursor}").status == 200
    refused = client.get(f"/api/assets?limit=1&sort=-size&cursor={cursor}")
    assert (refused.status, refused.json["param"]) == (400, "cursor")


def test_other_owners_and_states_are_for_admins(server: RunningServer, client: Client, owner: str, key: str) -> None:
    admin = server.client("boss", scope="media:admin")
    assert listed(admin, owner=owner) == [key]
    assert listed(admin, owner=owner, state="quarantined") == []
    for query in (f"owner={owner}", "state=quarantined"):
        assert server.client("another").get(f"/api/assets?{query}").status == 403
    assert client.get(f"/api/assets?owner={owner}&state=ready").status == 200


# -- saying something -----------------------------------------------------------------------------------------------------------


def test_metadata_is_merged_shown_everywhere_and_told(server: RunningServer, client: Client, owner: str, key: str) -> None:
    with Stream(server, owner) as stream:
        assert patch(client, key, {"metadata": {"album": "Été", "stars": 4, "old": True}}).json["metadata"] == {
            "album": "Été", "stars": 4, "old": True,
        }  # fmt: skip
        changed = patch(client, key, {"metadata": {"old": None, "stars": 4.5}, "focal": [0.5, 0.25]})
        assert (changed.json["metadata"], changed.json["focal"]) == ({"album": "Été", "stars": 4.5}, [0.5, 0.25])
        assert until(lambda: len(stream.events) == 2)
    assert [(kind, told["data"]["metadata"].get("stars")) for _, kind, told in stream.events] == [
        ("asset.changed", 4), ("asset.changed", 4.5),
    ]  # fmt: skip
    assert client.get(f"/api/assets/{key}").json == changed.json == client.assets()[0] | {"embedded": {"private": {}}}


def test_saying_the_same_again_changes_nothing(client: Client, key: str) -> None:
    first = patch(client, key, {"metadata": {"a": 1}})
    again = patch(client, key, {"metadata": {"a": 1, "b": None}})
    assert (again.json, again.headers["ETag"]) == (first.json, first.headers["ETag"])


@pytest.mark.parametrize("document", [
    {}, {"metadata": None}, {"metadata": []}, {"metadata": {"": 1}}, {"metadata": {"a b": 1}}, {"metadata": {"1a": 1}},
    {"metadata": {"a" * 65: 1}}, {"metadata": {"a": []}}, {"metadata": {"a": {}}}, {"metadata": {"a": "\x00"}},
    {"metadata": {"a": "\ud800"}}, {"metadata": {"a": 1e301}}, {"metadata": {"a": "x" * 8200}},
    {"metadata": {f"n{n}": n for n in range(51)}}, {"filename": "b.png"}, {"metadata": {"a": 1}, "size": 1},
])  # fmt: skip
def test_metadata_that_cannot_be_kept_is_refused_and_changes_nothing(
    client: Client, key: str, harmless: Harmless, document: dict[str, Any]
) -> None:
    before = patch(client, key, {"metadata": {"kept": "yes"}})
    with harmless(400) as bad:
        bad.answer = patch(client, key, document)
    assert client.get(f"/api/assets/{key}").json == before.json


def test_metadata_is_bounded_however_it_comes(client: Client, key: str) -> None:
    for at in (0, 25):
        assert patch(client, key, {"metadata": {f"n{n}": n for n in range(at, at + 25)}}).status == 200
    assert patch(client, key, {"metadata": {"one": 1}}).status == 400
    assert patch(client, key, {"metadata": {"one": 1, "n0": None}}).status == 200


def test_numbers_beyond_json_are_refused(client: Client, key: str) -> None:
    for text in (b'{"metadata": {"a": NaN}}', b'{"metadata": {"a": Infinity}}', b'{"metadata": {"a": 1e999}}'):
        answer = client.request("PATCH", f"/api/assets/{key}", {"Content-Type": "application/json"}, text)
        assert answer.status == 400, text


def test_an_owner_says_nothing_of_anothers_objects(server: RunningServer, key: str) -> None:
    assert patch(server.client("another"), key, {"metadata": {"a": 1}}).status == 404


# -- versions -----------------------------------------------------------------------------------------------------------------


def test_a_record_has_a_version_that_changes_with_it(client: Client, key: str) -> None:
    first = client.get(f"/api/assets/{key}")
    same = client.get(f"/api/assets/{key}", {"If-None-Match": first.headers["ETag"]})
    assert (same.status, same.body, same.headers["ETag"]) == (304, b"", first.headers["ETag"])
    changed = patch(client, key, {"metadata": {"a": 1}}, first.headers["ETag"])
    assert changed.headers["ETag"] != first.headers["ETag"]
    assert client.get(f"/api/assets/{key}", {"If-None-Match": first.headers["ETag"]}).json == changed.json
    late = patch(client, key, {"metadata": {"a": 2}}, first.headers["ETag"])
    assert (late.status, late.code) == (412, "precondition-failed")
    assert patch(client, key, {"metadata": {"a": 3}}, "*").json["metadata"] == {"a": 3}


def test_of_many_who_change_the_same_version_one_does_and_without_versions_all_do(client: Client, key: str) -> None:
    etag = client.get(f"/api/assets/{key}").headers["ETag"]
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda n: patch(client, key, {"metadata": {"who": n}}, etag).status, range(8)))
        assert sorted(statuses) == [200] + [412] * 7
        answers = list(pool.map(lambda n: patch(client, key, {"metadata": {f"n{n}": n}}), range(8)))
    assert {answer.status for answer in answers} <= {200, 409}
    kept = client.get(f"/api/assets/{key}").json["metadata"]
    assert {name for name in kept if name != "who"} == {f"n{n}" for n, answer in enumerate(answers) if answer.status == 200}


def test_what_was_said_goes_with_the_object(client: Client, key: str) -> None:
    assert patch(client, key, {"metadata": {"a": 1}}).status == 200
    assert client.delete(media(key)).status == 204
    assert patch(client, key, {"metadata": {"a": 1}}).status == 404

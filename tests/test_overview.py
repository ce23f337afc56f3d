"""media-proxy health and usage: what an operator sees, and what a script can go by."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from proxy import keys
from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.records import SqlRecords
from proxy.ports import Asset, State
from tests import pictures
from tests.kit.commands import command
from tests.kit.databases import Open
from tests.kit.ports import free_port
from tests.kit.server import SECRET, RunningServer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def test_usage_is_by_owner_store_type_and_day(database: Open) -> None:
    opened = database()
    async with SqlCatalogue(opened) as catalogue:
        one = Asset(keys.parse("u7/a.jpg"), "u7", None, "image/jpeg", 100, "", "e", NOW, "local", state=State.READY)
        await catalogue.add(one)
        await catalogue.add(replace(one, key=keys.parse("u7/b.pdf"), content_type="application/pdf", size=30))
        await catalogue.add(replace(one, key=keys.parse("u8/c.jpg"), owner="u8", store="minio", created=NOW - timedelta(days=1)))
        await catalogue.add(replace(one, key=keys.parse("u8/pending.jpg"), owner="u8", state=State.PENDING))
        found = await SqlRecords(opened).usage()
    assert found["owner"] == [{"owner": "u7", "bytes": 130, "objects": 2}, {"owner": "u8", "bytes": 100, "objects": 1}]
    assert {row["store"]: row["bytes"] for row in found["store"]} == {"local": 130, "minio": 100}
    assert {row["type"]: row["objects"] for row in found["type"]} == {"image/jpeg": 2, "application/pdf": 1}
    day = (NOW - datetime(1970, 1, 1, tzinfo=UTC)).days
    assert [(row["day"], row["bytes"]) for row in found["day"]] == [(day, 130), (day - 1, 100)]


def test_the_commands_tell_of_a_running_service(serve: Callable[..., RunningServer]) -> None:
    server = serve()
    photo = pictures.jpeg(64, 48)
    server.client("me").stored(photo)
    told = json.loads(command(server.env, "usage", "--json").stdout)
    assert (told["objects"], told["bytes"], told["owner"][0]["owner"]) == (1, len(photo), "me")
    well = command(server.env, "health", "--url", server.url)
    assert (well.returncode, f"{server.url}: ok" in well.stdout, "catalogue" in well.stdout) == (0, True, True), well.stdout


def test_a_service_that_does_not_answer_is_said(tmp_path: Path) -> None:
    env = {"MEDIA_DATA_DIR": str(tmp_path), "JWT_SECRET": SECRET}
    done = command(env, "health", "--url", f"http://127.0.0.1:{free_port()}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "No media proxy answers" in done.stderr

"""media-proxy sweep: records and stores that were set apart come together again, and nothing else is touched."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy import keys
from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.local import LocalBackend
from proxy.adapters.memory import MemoryBackend
from proxy.adapters.promises import SqlPromises
from proxy.adapters.quotas import SqlQuotas
from proxy.adapters.sqlite import SqliteDatabase
from proxy.errors import Unavailable
from proxy.keys import Key
from proxy.ports import Asset, Backend, State
from proxy.promises import Promise, Stage, Way
from proxy.sweep import PAGE, Suspicious, Sweep
from tests import pictures
from tests.contracts.bodies import body
from tests.kit.client import media
from tests.kit.databases import Open
from tests.kit.faulty import Faulty
from tests.kit.server import KEPT_VARIABLES, REPOSITORY, SECRET, RunningServer
from tests.kit.stores import ObjectStore

PHOTO = pictures.jpeg(64, 48)
AGE = timedelta(hours=1)
KEEP = timedelta(days=1)
LATER = timedelta(hours=2)
PDF = b"%PDF-1.7\n"
COLUMNS = "key, owner, content_type, size, sha256, etag, created, store, state"


@dataclass
class Shop:
    """Stores and records, and sweeps of them."""

    catalogue: SqlCatalogue
    store: Backend
    staged: Backend

    def __post_init__(self) -> None:
        self.book = SqlPromises(self.catalogue)
        self.quotas = SqlQuotas(self.catalogue)

    async def put(self, name: str, data: bytes = PDF, owner: str = "u7") -> Asset:
        """An object, and the record that it would have."""
        key = keys.parse(f"{owner}/{name}.pdf")
        meta = await self.store.put(key, body(data), "application/pdf")
        return Asset(
            key, owner, None, "application/pdf", len(data), meta.sha256 or "", meta.etag, datetime.now(UTC), meta.store,
            state=State.READY,
        )  # fmt: skip

    def begun(self, later: timedelta = LATER, *, is_dry: bool = False) -> Sweep:
        """A sweep that takes place so much *later* than now."""
        now = datetime.now(UTC) + later
        return Sweep(self.store, self.staged, self.catalogue, self.book, self.quotas, now, AGE, KEEP, is_dry=is_dry)

    async def sweep(self, later: timedelta = LATER, *, is_dry: bool = False) -> list[tuple[str, str, bool]]:
        """What it finds."""
        return [(str(found.what), found.name, found.is_mended) async for found in self.begun(later, is_dry=is_dry).run()]


@pytest.fixture
async def shop(tmp_path: Path, database: Open) -> AsyncIterator[Shop]:
    async with (
        SqlCatalogue(database()) as catalogue,
        LocalBackend(tmp_path / "media", durable=False) as store,
        LocalBackend(tmp_path / "incoming", name="incoming", durable=False) as staged,
    ):
        yield Shop(catalogue, Faulty(store), staged)


async def test_what_is_in_order_is_left_as_it_is(shop: Shop) -> None:
    assets = [await shop.put(str(number)) for number in range(5)]
    for asset in assets:
        await shop.catalogue.add(asset)
    await shop.catalogue.mark(assets[0].key, State.QUARANTINED)
    assert await shop.sweep() == []
    assert await shop.catalogue.get(assets[1].key) == assets[1]


async def test_an_object_without_a_record_gets_one(shop: Shop) -> None:
    asset = await shop.put("lost", b"%PDF-1.7 of somebody", "u8")
    assert await shop.sweep(is_dry=True) == [("unrecorded", asset.key, False)]
    assert await shop.catalogue.get(asset.key) is None
    assert await shop.sweep() == [("unrecorded", asset.key, True)]
    found = await shop.catalogue.get(asset.key)
    assert found is not None
    assert replace(found, created=asset.created) == asset
    assert (await shop.quotas.usage("u8", datetime.now(UTC))).bytes == asset.size
    assert await shop.sweep() == []


async def test_a_record_without_its_object_goes(shop: Shop) -> None:
    kept, lost = await shop.put("kept"), await shop.put("lost")
    for asset in (kept, lost):
        await shop.catalogue.add(asset)
    await shop.store.delete(lost.key)
    assert await shop.sweep(is_dry=True) == [("missing", lost.key, False)]
    assert await shop.catalogue.get(lost.key) == lost
    assert await shop.sweep() == [("missing", lost.key, True)]
    assert await shop.catalogue.get(lost.key) is None
    assert await shop.catalogue.get(kept.key) == kept
    assert (await shop.quotas.usage("u7", datetime.now(UTC))).objects == 1


async def test_nothing_that_is_young_is_touched(shop: Shop) -> None:
    await shop.put("without a record")
    lost = await shop.put("lost")
    for asset in (lost, replace(lost, key=keys.parse("u7/pending.pdf"), state=State.PENDING)):
        await shop.catalogue.add(asset)
    await shop.store.delete(lost.key)
    await shop.staged.put(keys.parse("presigned/u7/x.pdf"), body(PDF), "application/pdf")
    assert await shop.sweep(AGE / 2) == []
    assert [what for what, _, _ in await shop.sweep()] == ["unfinished", "missing", "unrecorded"]


async def test_what_a_process_left_in_the_middle_is_finished_where_no_store_must_change(shop: Shop) -> None:
    whole, gone, deleted, half = [await shop.put(name) for name in ("whole", "gone", "deleted", "half")]
    for asset in (whole, gone):
        await shop.catalogue.add(replace(asset, state=State.PENDING))
    for asset in (deleted, half):
        await shop.catalogue.add(asset)
        await shop.catalogue.mark(asset.key, State.DELETED)
    for asset in (gone, deleted):
        await shop.store.delete(asset.key)
    assert {name: mended for _, name, mended in await shop.sweep()} == {
        whole.key: True, gone.key: True, deleted.key: True, half.key: False,
    }  # fmt: skip
    found = [await shop.catalogue.get(asset.key) for asset in (whole, gone, deleted, half)]
    assert [None if asset is None else asset.state for asset in found] == [State.READY, None, None, State.DELETED]
    assert (await shop.store.head(half.key)).size == half.size


async def test_uploads_that_nobody_can_confirm_go_and_those_that_somebody_can_stay(shop: Shop) -> None:
    now = datetime.now(UTC)
    waiting = Promise(keys.parse("u7/a.pdf"), "u7", "application/pdf", None, 99, Way.OURS, now + timedelta(days=9), now)
    ended = replace(waiting, key=keys.parse("u7/b.pdf"), expires=now)
    withdrawn = replace(waiting, key=keys.parse("u7/c.pdf"))
    for promise in (waiting, ended, withdrawn):
        await shop.book.add(promise)
    await shop.book.move(withdrawn.key, [Stage.OPEN], Stage.WITHDRAWN, now)
    names = [Key(f"presigned/u7/{name}.pdf") for name in "abcd"]
    for name in names:
        await shop.staged.put(name, body(PDF), "application/pdf")
    assert await shop.sweep(KEEP - AGE) == []
    assert sorted(name for _, name, _ in await shop.sweep(KEEP + AGE)) == names[1:]
    assert [found.key async for found in shop.staged.list("presigned/")] == names[:1]


async def test_usage_that_is_wrong_is_counted_anew(shop: Shop) -> None:
    for number in range(3):
        await shop.catalogue.add(await shop.put(str(number), b"%PDF-1.7 123", f"u{number}"))
    async with shop.catalogue.begun() as connection:
        await connection.exec_driver_sql("UPDATE usage SET bytes = 999 WHERE owner = 'u0'")
        await connection.exec_driver_sql("DELETE FROM usage WHERE owner = 'u1'")
        await connection.exec_driver_sql("INSERT INTO usage (owner, bytes, objects) VALUES ('u9', 5, 1)")
    wrong = [("miscounted", owner) for owner in ("u0", "u1", "u9")]
    assert await shop.sweep(is_dry=True) == [(*row, False) for row in wrong]
    assert await shop.sweep() == [(*row, True) for row in wrong]
    assert await shop.sweep() == []
    told = [await shop.quotas.usage(owner, datetime.now(UTC)) for owner in ("u0", "u1", "u9")]
    assert [(usage.bytes, usage.objects) for usage in told] == [(12, 1), (12, 1), (0, 0)]


async def test_a_store_that_does_not_answer_costs_no_record(shop: Shop) -> None:
    asset = await shop.put("a")
    await shop.catalogue.add(asset)
    assert isinstance(shop.store, Faulty)
    shop.store.down = True
    sweep = shop.begun().run()
    first = await anext(sweep)
    assert (first.what, first.name, first.is_mended) == ("unsure", asset.key, False)
    with pytest.raises(Unavailable):  # there is no list either
        await anext(sweep)
    assert await shop.catalogue.get(asset.key) == asset


async def test_an_empty_store_in_the_place_of_the_right_one_costs_no_record(shop: Shop) -> None:
    asset = await shop.put("a")
    for number in range(50):
        await shop.catalogue.add(replace(asset, key=keys.parse(f"u7/{number}.pdf")))
    with pytest.raises(Suspicious):
        await shop.sweep()
    assert len((await shop.catalogue.page("u7", 100)).assets) == 50


class Full(MemoryBackend):
    """Has whatever is asked for, but for one in a hundred."""

    async def head(self, key: Key) -> Any:
        return await super().head(keys.parse("u7/a.pdf") if not key.endswith("00") else key)


async def test_what_is_more_than_a_page_is_all_looked_through(shop: Shop) -> None:
    shop.store = Full()
    await shop.catalogue.add(await shop.put("a"))
    count = 2 * PAGE + 7
    async with shop.catalogue.begun() as connection:
        rows = ", ".join(f"('u7/{n:05}', 'u7', 'a/b', 1, '', '', 0, '', 'ready')" for n in range(count))
        await connection.exec_driver_sql(f"INSERT INTO assets ({COLUMNS}) VALUES {rows}")
    found = [what for what, _, _ in await shop.sweep(is_dry=True)]
    assert found.count("missing") == count // 100 + 1


async def test_it_works_on_a_bucket(tmp_path: Path, versitygw: ObjectStore) -> None:
    async with (
        SqlCatalogue(SqliteDatabase(tmp_path / "catalogue.sqlite")) as catalogue,
        versitygw.backend(tmp_path) as store,
        LocalBackend(tmp_path / "incoming", name="incoming") as staged,
    ):
        shop = Shop(catalogue, store, staged)
        kept, unrecorded, lost = [await shop.put(name) for name in ("kept", "unrecorded", "lost")]
        for asset in (kept, lost):
            await shop.catalogue.add(asset)
        await shop.store.delete(lost.key)
        assert await shop.sweep() == [("missing", lost.key, True), ("unrecorded", unrecorded.key, True)]
        assert await shop.sweep() == []
        found = await shop.catalogue.get(unrecorded.key)
        assert found is not None
        assert (found.sha256, found.content_type) == (hashlib.sha256(PDF).hexdigest(), "application/pdf")


# -- the command ------------------------------------------------------------------------------------------------------


def sweep(env: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """``media-proxy sweep`` on the given variables and no others."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    command = [sys.executable, "-m", "proxy", "sweep", *options]
    environ = kept | {"PYTHONPATH": str(REPOSITORY), **env}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def rows(done: subprocess.CompletedProcess[str]) -> list[Any]:
    """What it printed as JSON."""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_it_runs_beside_the_service_and_mends_what_an_old_backup_left(serve: Callable[..., RunningServer]) -> None:
    server = serve()
    client = server.client("me")
    lost, kept = [client.stored(PHOTO)["key"] for _ in range(2)]
    assert client.delete(media(lost)).status == 204
    with closing(sqlite3.connect(server.data / "catalogue.sqlite")) as database, database:
        database.execute(f"INSERT INTO assets ({COLUMNS}) VALUES (?, 'me', 'image/jpeg', 1, '', '', 0, 'local', 'ready')", (lost,))
    dry = sweep(server.env, "--json", "--dry-run")
    expected = [{"what": "missing", "name": lost, "mended": False}, {"what": "miscounted", "name": "me", "mended": False}]
    assert rows(dry)[:-1] == expected
    assert dry.returncode == 0
    done = sweep(server.env, "--json")
    assert (done.returncode, rows(done)[0]) == (0, {"what": "missing", "name": lost, "mended": True})
    assert rows(done)[-1]["sums"]["missing"] == 1
    assert rows(done)[-1]["problem"] is None
    assert [asset["key"] for asset in client.get("/api/assets").json["assets"]] == [kept]
    assert sweep(server.env).stdout == "Everything is in order.\n"
    assert client.upload(PHOTO).status == 201


def test_it_works_with_several_stores_and_postgresql(tmp_path: Path, versitygw: ObjectStore, postgres_url: str) -> None:
    with RunningServer(tmp_path, {**versitygw.settings(), "DATABASE_URL": postgres_url}) as server:
        server.client("me").stored(PHOTO)
        done = sweep(server.env)
        assert (done.returncode, done.stdout) == (0, "Everything is in order.\n"), done.stderr


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    done = sweep({"MEDIA_DATA_DIR": str(tmp_path / "nothing"), "JWT_SECRET": SECRET})
    assert (done.returncode, done.stdout) == (2, "")
    assert "MEDIA_DATA_DIR" in done.stderr

"""media-proxy backup and restore: what was acknowledged comes back byte for byte, also out of a backup under load."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy import keys, snapshots
from proxy.adapters.catalogue import Database, SqlCatalogue
from proxy.adapters.folder import FolderBackend
from proxy.adapters.index import Index
from proxy.adapters.local import LocalBackend
from proxy.adapters.quotas import SqlQuotas
from proxy.adapters.records import SqlRecords
from proxy.adapters.sqlite import SqliteDatabase
from proxy.backup import Backup, Verification, chosen, pruned
from proxy.errors import NotFound, StartError, Unavailable
from proxy.keys import Key
from proxy.ports import Asset, Backend, Body, State
from proxy.restoration import Restoration
from tests import pictures
from tests.contracts.bodies import body
from tests.kit.client import media
from tests.kit.commands import begun, command
from tests.kit.databases import Open, made_at
from tests.kit.faulty import Faulty
from tests.kit.server import SECRET, RunningServer
from tests.kit.stores import ObjectStore
from tests.kit.waiting import until

PHOTO = pictures.jpeg(64, 48)
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass
class Shop:
    """Stores and records of one service, backups of them, and what those complained of."""

    catalogue: SqlCatalogue
    database: Database
    media: Backend
    vault: FolderBackend
    folder: Path
    troubles: list[tuple[str, str]] = field(default_factory=list)
    runs: int = 0
    at_once: int = 4

    async def put(self, name: str, data: bytes, owner: str = "u7") -> Asset:
        """An upload, as `ingest` has it in the end."""
        key = keys.parse(f"{owner}/{name}.pdf")
        meta = await self.media.put(key, body(data), "application/pdf")
        sha256 = hashlib.sha256(data).hexdigest()
        asset = Asset(
            key, owner, f"{name}.pdf", "application/pdf", len(data), sha256, meta.etag, NOW, meta.store, state=State.READY,
            details={"pages": 3}, metadata={"title": "Übung"},
        )  # fmt: skip
        await self.catalogue.add(asset)
        return asset

    def index(self) -> Index:
        self.runs += 1
        run = self.folder / f"run{self.runs}"
        run.mkdir(parents=True)
        return Index(run / "memory")

    @property
    def here(self) -> Path:
        return self.folder / f"run{self.runs}"

    def note(self, kind: str, key: str) -> None:
        self.troubles.append((kind, key))

    async def back_up(self, now: datetime = NOW) -> tuple[snapshots.Summary, Backup]:
        """A snapshot."""
        with self.index() as index:
            taken = Backup(
                self.media, self.catalogue, SqlRecords(self.database), self.vault, index, self.here, self.at_once, self.note
            )
            return await taken.run(now), taken

    async def verify(self, id: str) -> None:
        with self.index() as index:
            await Verification(self.vault, index, self.here, 4, self.note).run(id)

    async def restore(self, media: Backend, database: Database, id: str | None = None, *, partial: bool = False) -> Restoration:
        """Put it back elsewhere."""
        with self.index() as index:
            records = SqlRecords(database)
            putting = Restoration(self.vault, media, records, index, self.here, 4, self.note, partial=partial)
            await putting.run(await chosen(self.vault, id))
            return putting


@pytest.fixture
async def shop(tmp_path: Path, database: Open) -> AsyncIterator[Shop]:
    opened = database()
    async with (
        SqlCatalogue(opened) as catalogue,
        LocalBackend(tmp_path / "media", durable=False) as store,
        FolderBackend(tmp_path / "vault") as vault,
    ):
        yield Shop(catalogue, opened, Faulty(store), vault, tmp_path / "runs")


@pytest.fixture
async def elsewhere(tmp_path: Path) -> AsyncIterator[tuple[LocalBackend, SqliteDatabase]]:
    """An empty store, and an empty database."""
    async with (
        LocalBackend(tmp_path / "elsewhere" / "media", name="elsewhere", durable=False) as store,
        SqliteDatabase(tmp_path / "elsewhere" / "catalogue.sqlite") as database,
    ):
        yield store, database


Elsewhere = tuple[LocalBackend, SqliteDatabase]


async def bytes_of(store: Backend, key: Key) -> bytes:
    async with await store.open(key) as reader:
        return b"".join([chunk async for chunk in reader])


async def test_everything_comes_back_as_it_was(shop: Shop, elsewhere: Elsewhere) -> None:
    contents = {f"{n}": os.urandom(n * 50_000) for n in range(6)}
    assets = {name: await shop.put(name, data, f"u{int(name) % 2}") for name, data in contents.items()}
    await shop.catalogue.mark(assets["3"].key, State.QUARANTINED)
    told, _ = await shop.back_up()
    assert (told.objects, told.records["assets"], told.left_out, shop.troubles) == (6, 6, 0, [])
    store, database = elsewhere
    await shop.restore(store, database)
    back = SqlCatalogue(database)
    for name, data in contents.items():
        found, was = await back.get(assets[name].key), await shop.catalogue.get(assets[name].key)
        assert found is not None
        assert was is not None
        assert (found.etag, found.created, found.details, found.metadata, found.state) == (
            was.etag, was.created, was.details, was.metadata, was.state,
        )  # fmt: skip
        assert found.store == "elsewhere"
        assert await bytes_of(store, found.key) == data
        meta = await store.head(found.key)
        assert (meta.etag, meta.content_type, meta.sha256) == (was.etag, "application/pdf", was.sha256)
    usage = await SqlQuotas(back).usage("u1", datetime.now(UTC))
    assert (usage.bytes, usage.objects) == (sum(len(contents[name]) for name in "135"), 3)


async def test_a_second_backup_copies_what_is_new_alone(shop: Shop) -> None:
    await shop.put("a", b"%PDF-a")
    _, first = await shop.back_up()
    await shop.put("twin", b"%PDF-a")
    await shop.put("b", b"%PDF-b")
    told, second = await shop.back_up(NOW + timedelta(hours=1))
    assert (first.progress.copied, second.progress.copied, told.objects) == (1, 1, 3)


async def test_what_others_put_into_the_store_is_in_it_too(shop: Shop, elsewhere: Elsewhere) -> None:
    key = keys.parse("u7/unrecorded.pdf")
    await shop.media.put(key, body(b"%PDF-x"), "application/pdf")
    await shop.back_up()
    await shop.restore(*elsewhere)
    assert await bytes_of(elsewhere[0], key) == b"%PDF-x"
    assert await SqlRecords(elsewhere[1]).count() == 0


async def test_a_record_whose_object_is_gone_or_damaged_is_left_out_and_told(shop: Shop, elsewhere: Elsewhere) -> None:
    gone, bad, good = [await shop.put(name, name.encode() * 100) for name in ("gone", "bad", "good")]
    await shop.media.delete(gone.key)
    async with shop.catalogue.begun() as connection:
        await connection.exec_driver_sql(f"UPDATE assets SET sha256 = '{'0' * 64}' WHERE key = '{bad.key}'")
    told, _ = await shop.back_up()
    assert sorted(shop.troubles) == [("damaged", bad.key), ("missing", gone.key)]
    assert (told.objects, told.records["assets"], told.left_out) == (1, 1, 2)
    await shop.restore(*elsewhere)
    assert await SqlCatalogue(elsewhere[1]).recorded([gone.key, bad.key, good.key]) == {good.key}


async def test_damage_in_the_backup_is_found_and_never_restored_as_if_it_were_whole(shop: Shop, elsewhere: Elsewhere) -> None:
    kept, hit, lost = [await shop.put(name, name.encode() * 100) for name in ("kept", "hit", "lost")]
    told, _ = await shop.back_up()
    path = shop.vault.root / snapshots.object_name(hit.sha256)
    path.write_bytes(b"x" * path.stat().st_size)
    (shop.vault.root / snapshots.object_name(lost.sha256)).unlink()
    await shop.verify(told.id)
    expected = [("damaged", hit.key), ("missing", lost.key)]
    assert sorted(shop.troubles) == expected
    with pytest.raises(StartError, match="--partial"):
        await shop.restore(*elsewhere)
    assert await SqlRecords(elsewhere[1]).count() == 0
    with pytest.raises(NotFound):
        await elsewhere[0].head(hit.key)
    await shop.restore(*elsewhere, partial=True)
    assert await SqlCatalogue(elsewhere[1]).recorded([kept.key, hit.key, lost.key]) == {kept.key}


@pytest.mark.parametrize("part", [snapshots.MANIFEST, snapshots.CATALOGUE])
async def test_a_damaged_snapshot_is_not_restored(shop: Shop, elsewhere: Elsewhere, part: str) -> None:
    await shop.put("a", b"%PDF")
    told, _ = await shop.back_up()
    path = shop.vault.root / snapshots.part_name(told.id, part)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(StartError, match="damaged"):
        await shop.restore(*elsewhere)


class Broken(FolderBackend):
    """Takes so many objects and then no more."""

    left = 3

    async def put(self, key: Key, body: Body, content_type: str, *args: Any, **options: Any) -> Any:
        if key.startswith(snapshots.OBJECTS):
            self.left -= 1
            if self.left < 0:
                raise Unavailable
        return await super().put(key, body, content_type, *args, **options)


async def test_a_backup_that_breaks_off_is_no_snapshot_and_the_next_one_goes_on(shop: Shop) -> None:
    for number in range(9):
        await shop.put(str(number), os.urandom(1000))
    shop.at_once = 1  # what is on its way beside the one that fails is dropped
    whole, shop.vault = shop.vault, Broken(shop.vault.root)
    with pytest.raises(Unavailable):
        await shop.back_up()
    shop.vault = whole
    assert await snapshots.whole(whole) == []
    told, taken = await shop.back_up()
    assert (told.objects, taken.progress.copied) == (9, 6)


async def test_a_restore_that_breaks_off_goes_on_where_it_was(shop: Shop, elsewhere: Elsewhere) -> None:
    for number in range(9):
        await shop.put(str(number), os.urandom(1000))
    told, _ = await shop.back_up()
    store, database = elsewhere
    first = next(iter(snapshots.entries(shop.vault.root / snapshots.part_name(told.id, snapshots.MANIFEST))))
    data = await bytes_of(shop.vault, snapshots.object_name(first.sha256))
    await store.put(first.key, body(data), first.content_type, etag=first.etag)
    assert (await shop.restore(store, database)).progress.copied == 8
    with pytest.raises(StartError, match="has 9 records"):
        await shop.restore(store, database)


async def test_retention_keeps_the_newest_and_what_they_name(shop: Shop) -> None:
    a = await shop.put("a", b"%PDF-a")
    old, _ = await shop.back_up(NOW - timedelta(days=3))
    await shop.put("b", b"%PDF-b")
    await shop.catalogue.remove(a.key)
    await shop.media.delete(a.key)
    await shop.put("c", b"%PDF-c")
    new, _ = await shop.back_up(NOW)
    later = datetime.now(UTC) + timedelta(days=2)
    with shop.index() as index:
        assert await pruned(shop.vault, index, shop.here, 2, 0, later) == (0, 0)
    with shop.index() as index:
        assert await pruned(shop.vault, index, shop.here, 1, 0, later) == (1, 1)
    assert await snapshots.whole(shop.vault) == [new.id] != [old.id]
    await shop.verify(new.id)
    assert shop.troubles == []


async def test_every_record_of_a_backup_under_load_has_its_bytes(shop: Shop, elsewhere: Elsewhere) -> None:
    """Uploads, overwrites and deletes go on all the while; each snapshot is of one moment or a little later, and consistent."""
    chance = random.Random(7)
    for number in range(60):
        await shop.put(str(number), os.urandom(2000))
    stop = False

    async def busy(worker: int) -> int:
        changes = 0
        while not stop:
            changes += 1
            name = str(chance.randrange(80))
            key = keys.parse(f"u7/{name}.pdf")
            before = await shop.catalogue.get(key)
            if before is None:
                await shop.put(name, os.urandom(2000))
            elif chance.random() < 0.5:
                await shop.catalogue.mark(key, State.DELETED)
                await shop.media.delete(key)
                await shop.catalogue.remove(key)
            else:
                data = os.urandom(2000)
                meta = await shop.media.put(key, body(data), "application/pdf")
                sha256 = hashlib.sha256(data).hexdigest()
                await shop.catalogue.remove(key)
                await shop.catalogue.add(
                    Asset(key, "u7", None, "application/pdf", 2000, sha256, meta.etag, NOW, meta.store, state=State.READY)
                )
        return changes

    load = asyncio.create_task(busy(0))
    summaries = [(await shop.back_up(NOW + timedelta(hours=n)))[0] for n in range(3)]
    stop = True
    assert await load > 3
    for told in summaries:
        await shop.verify(told.id)
    assert [trouble for trouble in shop.troubles if trouble[0] != "unsettled"] == []
    await shop.restore(*elsewhere)
    back = SqlCatalogue(elsewhere[1])
    page = await back.kept(500)
    assert len(page) == summaries[-1].records["assets"] > 10
    for asset in page:
        assert hashlib.sha256(await bytes_of(elsewhere[0], asset.key)).hexdigest() == asset.sha256


async def test_a_snapshot_of_older_tables_is_migrated_as_it_is_restored(shop: Shop, elsewhere: Elsewhere) -> None:
    asset = await shop.put("a", b"%PDF-a")
    await made_at(lambda: elsewhere[1], "0011")
    old = {"key": asset.key, "owner": "u7", "content_type": "a/b", "size": 6, "sha256": asset.sha256, "etag": asset.etag}
    row = old | {"created": 0, "store": "local", "state": "ready"}
    await SqlRecords(elsewhere[1]).load("0001", iter([("assets", row)]))
    found = await SqlCatalogue(elsewhere[1]).get(asset.key)
    assert found is not None
    assert (found.size, found.revision) == (6, 0)
    with pytest.raises(StartError, match="newer version"):
        await SqlRecords(elsewhere[1]).load("9999", iter([]))


async def test_names_lead_out_of_no_folder(tmp_path: Path) -> None:
    async with FolderBackend(tmp_path / "folder") as folder:
        (tmp_path / "secret").write_text("s")
        (tmp_path / "folder" / "link").symlink_to(tmp_path / "secret")
        for name in ("../secret", "link", "/etc/passwd", "a//b", ""):
            with pytest.raises((NotFound, Exception)):
                await folder.open(Key(name))
        assert [found.key async for found in folder.list()] == []


# -- the commands -----------------------------------------------------------------------------------------------------


def wiped(server: RunningServer) -> None:
    shutil.rmtree(server.data)


@pytest.mark.slow
def test_backup_wipe_restore_with_a_real_bucket_and_sqlite_then_postgresql(
    tmp_path: Path, versitygw: ObjectStore, postgres_url: str
) -> None:
    settings = versitygw.settings()
    vault = f"minio://{versitygw.bucket()}/kept"
    with RunningServer(tmp_path / "first", settings) as server:
        client = server.client("me")
        photos = [pictures.jpeg(64 + n, 48) for n in range(5)]
        stored = {client.stored(photo)["key"]: photo for photo in photos}
        first = command(server.env, "backup", "--to", vault, "--json")
        assert first.returncode == 0, first.stderr
        told = json.loads(first.stdout)
        assert (told["objects"], told["copied"], told["left_out"]) == (5, 5, 0)
        again = json.loads(command(server.env, "backup", "--to", vault, "--json").stdout)
        assert (again["objects"], again["copied"]) == (5, 0)
        refused = command(server.env, "restore", "--from", vault)
        assert (refused.returncode, "another media-proxy uses the folder" in refused.stderr) == (2, True)
    wiped(server)
    new = versitygw.settings()
    env = {**server.env, **new, "DATABASE_URL": postgres_url}
    assert command(env, "backup", "--to", vault, "--verify").returncode == 0
    done = command(env, "restore", "--from", vault)
    assert done.returncode == 0, done.stderr
    with RunningServer(tmp_path / "first", {**new, "DATABASE_URL": postgres_url}) as server:
        client = server.client("me")
        assert {asset["key"] for asset in client.get("/api/assets").json["assets"]} == stored.keys()
        for key, photo in stored.items():
            assert client.get(media(key)).body == photo
        assert command(server.env, "sweep").stdout == "Everything is in order.\n"
        client.stored(PHOTO)


@pytest.mark.slow
def test_a_backup_that_is_killed_holds_nobody_up(tmp_path: Path, serve: Callable[..., RunningServer]) -> None:
    server = serve()
    for n in range(4):
        server.client("me").stored(pictures.jpeg(64 + n, 48))
    vault = tmp_path / "vault"
    running = begun(server.env, "backup", "--to", f"local:{vault}")
    assert until(lambda: (vault / "lock").exists() or running.poll() is not None, 60)
    running.send_signal(signal.SIGKILL)
    running.communicate(timeout=60)
    done = command(server.env, "backup", "--to", f"local:{vault}")
    assert done.returncode == 0, done.stderr
    assert not (vault / "lock").exists()
    assert "4 objects" in command(server.env, "backup", "--to", f"local:{vault}", "--list").stdout.splitlines()[-1]


def test_what_is_wrong_is_said_in_a_sentence(tmp_path: Path) -> None:
    env = {"MEDIA_DATA_DIR": str(tmp_path / "data"), "JWT_SECRET": SECRET}
    (tmp_path / "data").mkdir()
    (tmp_path / "bad").write_text("what is this\n")
    for words, said in (
        (("backup", "--to", f"local:{tmp_path}/v", "--env", f"{tmp_path}/bad"), "NAME=value"),
        (("backup", "--to", f"local:{tmp_path}/v"), "no catalogue"),
    ):
        done = command(env, *words)
        assert (done.returncode, done.stdout) == (2, ""), words
        assert said in done.stderr
        assert done.stderr.startswith("media-proxy: ")


def test_the_catalogue_of_a_backup_can_be_read_by_anybody(tmp_path: Path, serve: Callable[..., RunningServer]) -> None:
    server = serve()
    key = server.client("me").stored(PHOTO)["key"]
    assert command(server.env, "backup", "--to", f"local:{tmp_path}/v").returncode == 0
    (snapshot,) = (tmp_path / "v" / "snapshots").iterdir()
    rows = [line["row"] for line in snapshots.lines(snapshot / snapshots.CATALOGUE) if line["table"] == "assets"]
    with closing(sqlite3.connect(server.data / "catalogue.sqlite")) as database:
        database.row_factory = sqlite3.Row
        assert rows == [dict(row) for row in database.execute("SELECT * FROM assets")]
    assert rows[0]["key"] == key

"""media-proxy migrate: what another store has becomes ours, each object once, whole, and on from where it was killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.exchange import Exchange
from proxy.adapters.folder import FolderBackend
from proxy.adapters.index import Index
from proxy.adapters.memory import MemoryBackend
from proxy.adapters.sqlite import SqliteDatabase
from proxy.keys import Key
from proxy.mapping import Mapping
from proxy.migration import Migration, Report
from proxy.ports import Body, ObjectMeta
from tests import pictures
from tests.contracts.bodies import body
from tests.kit.client import media
from tests.kit.commands import begun, command
from tests.kit.server import SECRET, RunningServer
from tests.kit.stores import ObjectStore
from tests.kit.waiting import until

PDF = b"%PDF-1.7\n"


class Counting(MemoryBackend):
    """Counts what is put into it."""

    def __init__(self) -> None:
        super().__init__()
        self.puts = 0

    async def put(self, key: Key, body: Body, content_type: str, *args: Any, **options: Any) -> ObjectMeta:
        meta = await super().put(key, body, content_type, *args, **options)
        self.puts += 1
        return meta


@dataclass
class Move:
    """From a folder into memory."""

    folder: Path
    target: Counting = field(default_factory=Counting)

    def write(self, name: str, data: bytes) -> None:
        path = self.folder / "old" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    async def run(self, *rules: str, owner: str | None = None, **options: Any) -> Report:
        async with FolderBackend(self.folder / "old") as old:
            with Index(self.folder / "state", lasting=True) as state:
                mapped = Mapping.parse(rules, owner)
                return await Migration(Exchange(old), Exchange(self.target), mapped, state, 4, **options).run()


@pytest.fixture
def move(tmp_path: Path) -> Move:
    return Move(tmp_path)


async def read(store: Any, key: str) -> bytes:
    async with await store.open(Key(key)) as reader:
        return b"".join([chunk async for chunk in reader])


async def test_objects_come_whole_and_once(move: Move) -> None:
    contents = {f"u{n % 3}/a/{n}.pdf": PDF + os.urandom(1000 * n) for n in range(20)}
    for name, data in contents.items():
        move.write(name, data)
    first = await move.run()
    assert (first.copied, first.copied_bytes, first.is_good) == (20, sum(map(len, contents.values())), True)
    assert {name: await read(move.target, name) for name in contents} == contents
    move.write("u1/new.pdf", PDF)
    second = await move.run()
    assert (second.before, second.copied, move.target.puts) == (20, 1, 21)


async def test_a_file_that_changed_is_copied_again(move: Move) -> None:
    move.write("u/a.pdf", PDF)
    await move.run()
    move.write("u/a.pdf", PDF + b"more")
    assert (await move.run()).copied == 1
    assert await read(move.target, "u/a.pdf") == PDF + b"more"


async def test_what_was_put_and_not_remembered_is_not_copied_twice(move: Move) -> None:
    move.write("u/a.pdf", PDF)
    await move.run()
    with Index(move.folder / "state", lasting=True) as state:
        state._file.execute("DELETE FROM entries WHERE map = 'done'")
    report = await move.run()
    assert (report.outcomes, move.target.puts) == ({"there": 1}, 1)


async def test_an_object_of_somebody_else_is_never_overwritten(move: Move) -> None:
    await move.target.put(Key("u/a.pdf"), body(PDF + b"theirs"), "application/pdf")
    move.write("u/a.pdf", PDF)
    report = await move.run()
    assert (report.outcomes, report.is_good) == ({"clash": 1}, False)
    assert await read(move.target, "u/a.pdf") == PDF + b"theirs"


async def test_rules_say_which_key_a_name_becomes(move: Move) -> None:
    for name in ("users/7/photos/a.pdf", "users/8/b.pdf", "cache/x.pdf", "other.pdf"):
        move.write(name, PDF)
    rules = ("# old names", "", "skip ^cache/", r"^users/(\d+)/(?:photos/)? -> u\1/", "^ -> lost/")
    report = await move.run(*rules)
    assert report.outcomes == {"copied": 3, "skipped": 1}
    assert sorted([found.key async for found in move.target.list()]) == ["lost/other.pdf", "u7/a.pdf", "u8/b.pdf"]


async def test_two_names_that_become_one_key_are_told(move: Move) -> None:
    for name in ("a/x.pdf", "b/x.pdf"):
        move.write(name, PDF + name.encode())
    report = await move.run("^[ab]/ -> u/")
    assert report.outcomes == {"copied": 1, "clash": 1}
    assert report.troubles[0]["reason"].endswith("becomes it too")


async def test_what_no_upload_may_be_is_refused(move: Move) -> None:
    move.write("u/page.jpg", b"<html><script>alert(1)</script>")
    move.write("u/drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>')
    move.write("u/a.bin", PDF)
    report = await move.run()
    assert report.outcomes == {"copied": 1, "refused": 2}
    assert (await move.target.head(Key("u/a.bin"))).content_type == "application/pdf"
    assert (await move.run(any_type=True)).copied == 2


async def test_a_dry_run_copies_nothing(move: Move) -> None:
    move.write("a.pdf", PDF)
    planned: list[tuple[str, str]] = []
    await move.run(owner="u7", is_dry=True, planned=lambda name, key: planned.append((name, key)))
    assert (planned, move.target.puts) == ([("a.pdf", "u7/a.pdf")], 0)


async def test_records_come_with_their_owner(move: Move) -> None:
    move.write("photos/a.pdf", PDF)
    async with SqlCatalogue(SqliteDatabase(move.folder / "catalogue.sqlite")) as catalogue:
        for _ in range(2):
            await move.run(owner="u7", catalogue=catalogue)
            (asset,) = (await catalogue.page("u7", 10)).assets
            assert (asset.key, asset.filename, asset.sha256) == ("u7/photos/a.pdf", "a.pdf", hashlib.sha256(PDF).hexdigest())
            move.write("photos/a.pdf", PDF)


@pytest.mark.parametrize("rule", ["nothing", "( -> x", r"a -> \2", "skip ["])
def test_a_rule_that_is_none_is_said(rule: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        Mapping.parse([rule])


async def test_buckets_keep_type_time_and_metadata(tmp_path: Path, versitygw: ObjectStore) -> None:
    client, old = versitygw.client(), versitygw.bucket()
    client.create_bucket(Bucket=old)
    for name in ("in/a.pdf", "in/c.pdf", "in/deep/b.pdf"):
        client.put_object(Bucket=old, Key=name, Body=PDF, ContentType="application/pdf", Metadata={"camera": "Leica"})
    async with (
        versitygw.backend(tmp_path / "from", bucket=old) as source,
        versitygw.backend(tmp_path / "to") as target,
    ):
        with Index(tmp_path / "state") as state:
            rules = Mapping.parse(["^c -> u//c", "^ -> u/"])
            report = await Migration(Exchange(source, "in/"), Exchange(target), rules, state, 4).run()
        assert report.outcomes == {"copied": 2, "unnamed": 1}
        meta, was = await target.head(Key("u/a.pdf")), await source.head(Key("in/a.pdf"))
        assert (meta.content_type, meta.metadata, meta.modified) == ("application/pdf", {"camera": "Leica"}, was.modified)
        assert await read(target, "u/deep/b.pdf") == PDF


def test_a_folder_comes_into_a_running_service(tmp_path: Path, serve: Callable[..., RunningServer]) -> None:
    server = serve()
    photo = pictures.jpeg(64, 48)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "holiday.jpg").write_bytes(photo)
    words = ("migrate", "--from", f"local:{tmp_path}/old", "--owner", "me", "--record", "--json")
    done = command(server.env, *words)
    assert (done.returncode, json.loads(done.stdout)["copied"]) == (0, 1), done.stderr
    assert server.client("me").get(media("me/holiday.jpg")).body == photo
    assert [asset["filename"] for asset in server.client("me").get("/api/assets").json["assets"]] == ["holiday.jpg"]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_ten_thousand_objects_survive_kills(tmp_path: Path, minio: ObjectStore, versitygw: ObjectStore) -> None:
    """From one store to another, killed and begun again until all is there: every digest right, nothing done copied again."""
    count, size, kills = 10_000, 2_000, 5
    digests: dict[str, str] = {}
    source, old = minio.client(), minio.bucket()
    source.create_bucket(Bucket=old)

    def put(number: int) -> None:
        data, name = PDF + number.to_bytes(4, "big") + os.urandom(size), f"u{number % 50}/{number}.pdf"
        source.put_object(Bucket=old, Key=name, Body=data, ContentType="application/pdf")
        digests[name] = hashlib.sha256(data).hexdigest()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(count)))
    bucket, state = versitygw.bucket(), tmp_path / "state"
    for name, store in (("from", minio), ("to", versitygw)):
        (tmp_path / name).write_text("".join(f"{setting}={value}\n" for setting, value in store.settings().items()))
    versitygw.client().create_bucket(Bucket=bucket)
    env = {"MEDIA_DATA_DIR": str(tmp_path / "data"), "JWT_SECRET": SECRET}
    words = (
        *("migrate", "--from", f"minio://{old}", "--to", f"minio://{bucket}", "--state", str(state), "--json"),
        *("--from-env", str(tmp_path / "from"), "--to-env", str(tmp_path / "to")),
    )

    def done() -> int:
        if not state.exists():
            return 0
        with Index(state, lasting=True) as index:
            return index.count("done")

    for kill in range(kills):
        running = begun(env, *words)
        wanted = (kill + 1) * count // (kills + 2)
        assert until(lambda wanted=wanted, running=running: done() >= wanted or running.poll() is not None, 300)
        running.send_signal(signal.SIGKILL)
        running.communicate(timeout=60)
    before = done()
    assert 0 < before < count
    last = command(env, *words)
    assert last.returncode == 0, last.stderr
    told = json.loads(last.stdout)
    assert (told["total"], told["before"]) == (count, before)
    assert told["copied"] + told["outcomes"].get("there", 0) == count - before
    client = versitygw.client()
    for name, digest in digests.items():
        assert hashlib.sha256(client.get_object(Bucket=bucket, Key=name)["Body"].read()).hexdigest() == digest
    again = json.loads(command(env, *words).stdout)
    assert (again["before"], again["copied"]) == (count, 0)


def test_an_old_store_stays_readable_while_its_objects_come(
    tmp_path: Path, versitygw: ObjectStore, serve: Callable[..., RunningServer]
) -> None:
    photo, client, old = pictures.jpeg(64, 48), versitygw.client(), versitygw.bucket()
    client.create_bucket(Bucket=old)
    for name in ("me/a.jpg", "me/b.jpg"):
        client.put_object(Bucket=old, Key=name, Body=photo, ContentType="image/jpeg")
    new = versitygw.settings()
    behind = {
        "S3_BUCKET_NAME": old, "S3_ENDPOINT_URL": versitygw.endpoint, "AWS_REGION": versitygw.region, "S3_PROFILE": "versitygw",
        "AWS_ACCESS_KEY_ID": versitygw.access_key, "AWS_SECRET_ACCESS_KEY": versitygw.secret_key,
    }  # fmt: skip
    server = serve(**new, **behind, MEDIA_LOCAL_STORE="off")
    reader = server.client()
    assert [reader.get(media(name)).body for name in ("me/a.jpg", "me/b.jpg")] == [photo, photo]
    done = command(server.env, "migrate", "--from", f"s3://{old}", "--to", f"minio://{new['MINIO_BUCKET_NAME']}", "--json")
    assert (done.returncode, json.loads(done.stdout)["copied"]) == (0, 2), done.stderr
    for name in ("me/a.jpg", "me/b.jpg"):
        client.delete_object(Bucket=old, Key=name)
    assert until(lambda: [reader.get(media(name)).body for name in ("me/a.jpg", "me/b.jpg")] == [photo, photo])

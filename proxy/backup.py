"""A backup of all objects and records while the service runs, into a folder or a bucket; and what is done with backups later."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from proxy import snapshots, streams
from proxy.errors import NotFound, StartError
from proxy.keys import Key
from proxy.ports import Backend, Body, Catalogue, ObjectMeta, ObjectReader
from proxy.snapshots import CATALOGUE, MANIFEST, Entry, Records, Row, Summary, Writer
from proxy.workforce import worked

MOVES = 5
"""How often an object that changes while it is read is looked at again."""
PAUSE_S = 0.2
PAGE = 500
ORPHANED = timedelta(days=1)


class Memory(Protocol):
    """Maps by the million (`adapters.index`)."""

    def put(self, map: str, name: str, value: str = "") -> None: ...

    def get(self, map: str, name: str) -> str | None: ...

    def count(self, map: str) -> int: ...


@dataclass(slots=True)
class Progress:
    """How far it is. *left_out* are records whose object could not be had as it should be."""

    total: int = 0
    done: int = 0
    copied: int = 0
    copied_bytes: int = 0
    bytes: int = 0
    left_out: int = 0


class _Moved(Exception):
    """The object is of another write than the record."""


class _Damaged(Exception):
    """The bytes that came have another digest than they should."""


class Backup:
    """Takes snapshots of *media* and *records* into *vault*; *at_once* objects at one time, none of them held in memory.

    The records are taken first, of one moment; then the bytes of each, unless the vault has them. An object that was removed
    since then leaves the snapshot, one that was overwritten is in it with the record of today. So every record of a snapshot has
    its bytes in the vault. *told* hears a kind and a key of what a person must look at: ``missing``, ``damaged``, ``unsettled``.
    """

    def __init__(
        self,
        media: Backend,
        catalogue: Catalogue,
        records: Records,
        vault: Backend,
        memory: Memory,
        folder: Path,
        at_once: int,
        told: Callable[[str, str], None],
    ) -> None:
        self.progress = Progress()
        self._media = media
        self._catalogue = catalogue
        self._records = records
        self._vault = vault
        self._memory = memory
        self._folder = folder
        self._at_once = at_once
        self._told = told

    async def run(self, now: datetime) -> Summary:
        """A new snapshot. Whatever breaks it off leaves only objects that the next one finds there."""
        id = snapshots.new_id(now)
        first, last = Writer(self._folder / "first"), Writer(self._folder / CATALOGUE)
        async for found in self._vault.list(snapshots.OBJECTS):
            if (digest := snapshots.digest_of(found.key)) is not None:
                self._memory.put("held", digest, str(found.size))
        with first:
            revision = await self._records.export(lambda table, row: first.write({"table": table, "row": row}))
        for line in snapshots.lines(first.path):
            if line["table"] == "assets":
                self.progress.total += 1
                self.progress.bytes += line["row"]["size"]
        manifest = Writer(self._folder / MANIFEST)
        with manifest:
            self._manifest = manifest
            await worked(self._recorded(first.path), self._secure, self._at_once)
            await worked(self._unrecorded(), self._secure_unrecorded, self._at_once)
        counts: dict[str, int] = {}
        with last:
            for line in snapshots.lines(first.path):
                kept = self._kept(line["table"], line["row"])
                if kept is not None:
                    last.write({"table": line["table"], "row": kept})
                    counts[line["table"]] = counts.get(line["table"], 0) + 1
        for writer, part in ((manifest, MANIFEST), (last, CATALOGUE)):
            await snapshots.keep(self._vault, snapshots.part_name(id, part), writer.path)
        summary = Summary(
            id, snapshots.FORMAT, revision, datetime.now(UTC).isoformat(timespec="seconds"), manifest.lines,
            sum(entry.size for entry in snapshots.entries(manifest.path)), counts, manifest.sha256, last.sha256,
            self.progress.left_out,
        )  # fmt: skip
        await snapshots.finish(self._vault, summary)
        return summary

    async def _recorded(self, path: Path) -> AsyncGenerator[Row, None]:
        for line in snapshots.lines(path):
            if line["table"] == "assets":
                self._memory.put("seen", line["row"]["key"])
                yield line["row"]

    async def _secure(self, row: Row) -> None:
        """See that the vault has the bytes of the asset *row*, or that the snapshot has no such asset."""
        key = Key(row["key"])
        trouble = ""
        for _ in range(MOVES):
            try:
                entry = await self._had(key, row)
            except _Moved:
                trouble = "unsettled"
            except _Damaged:
                trouble = "damaged"
            except NotFound:
                trouble = "missing"
            else:
                self._manifest.write(asdict(entry))
                self.progress.done += 1
                return
            today = await self._records.row(key)
            if today is None:  # removed since
                self._memory.put("dropped", key)
                self.progress.total -= 1
                return
            if today["etag"] != row["etag"]:
                row = today
                self._memory.put("rows", key, json.dumps(today))
            elif trouble == "damaged":
                break
            else:
                await asyncio.sleep(PAUSE_S)  # the record of a write comes a moment after its bytes
        self._memory.put("dropped", key)
        self.progress.left_out += 1
        self._told(trouble, key)

    async def _had(self, key: Key, row: Row) -> Entry:
        sha256 = row["sha256"] if snapshots.is_digest(row["sha256"]) else None
        entry = Entry(key, row["store"], row["size"], row["etag"], sha256 or "", row["content_type"], _time(row), {}, recorded=True)
        if sha256 is not None and self._memory.get("held", sha256) == str(row["size"]):
            return entry
        async with await self._media.open(key) as reader:
            if reader.meta.etag != row["etag"]:
                raise _Moved
            if sha256 is None:
                sha256 = await self._taken_by_digest(reader)
            else:
                await self._taken(reader, sha256)
            return replace(entry, sha256=sha256, size=reader.meta.size, metadata=dict(reader.meta.metadata))

    async def _taken(self, reader: ObjectReader, sha256: str) -> None:
        """Put it into the vault, if it has that digest."""
        digest = streams.Digest()

        async def checked() -> Body:
            async for chunk in digest.through(reader.chunks):
                yield chunk
            if digest.hex != sha256:
                raise _Damaged

        meta = reader.meta
        await self._vault.put(snapshots.object_name(sha256), checked(), "application/octet-stream", size=meta.size)
        self._held(sha256, meta)

    async def _taken_by_digest(self, reader: ObjectReader) -> str:
        """Put it into the vault under the digest that it turns out to have: by way of a file."""
        path, digest = self._folder / uuid4().hex, streams.Digest()
        try:
            with path.open("wb") as file:
                async for chunk in digest.through(reader.chunks):
                    file.write(chunk)
            if self._memory.get("held", digest.hex) is None:
                await snapshots.keep(self._vault, snapshots.object_name(digest.hex), path)
                self._held(digest.hex, reader.meta)
        finally:
            path.unlink(missing_ok=True)
        return digest.hex

    def _held(self, sha256: str, meta: ObjectMeta) -> None:
        self._memory.put("held", sha256, str(meta.size))
        self.progress.copied += 1
        self.progress.copied_bytes += meta.size

    async def _unrecorded(self) -> AsyncGenerator[Key, None]:
        """What others have put into the stores, and nobody has recorded; not what has come since the records were taken."""
        page: list[Key] = []
        async for found in self._media.list():
            if self._memory.get("seen", found.key) is None:
                page.append(found.key)
            if len(page) == PAGE:
                for key in await self._without_record(page):
                    yield key
                page = []
        for key in await self._without_record(page):
            yield key

    async def _without_record(self, page: list[Key]) -> list[Key]:
        recorded = await self._catalogue.recorded(page) if page else set()
        return [key for key in page if key not in recorded]

    async def _secure_unrecorded(self, key: Key) -> None:
        try:
            async with await self._media.open(key) as reader:
                meta, sha256 = reader.meta, reader.meta.sha256
                if sha256 is None:
                    sha256 = await self._taken_by_digest(reader)
                elif self._memory.get("held", sha256) is None:
                    await self._taken(reader, sha256)
        except NotFound:
            return  # removed since
        except _Damaged:
            self.progress.left_out += 1
            self._told("damaged", key)
            return
        self._manifest.write(
            asdict(
                Entry(
                    key, meta.store, meta.size, meta.etag, sha256, meta.content_type, meta.modified.isoformat(),
                    dict(meta.metadata), recorded=False,
                )
            )
        )  # fmt: skip

    def _kept(self, table: str, row: Row) -> Row | None:
        """The row as the snapshot has it; None if it leaves with its object."""
        if table == "events":
            return row
        if self._memory.get("dropped", row["key"]) is not None:
            return None
        if table == "assets" and (newer := self._memory.get("rows", row["key"])) is not None:
            found: Row = json.loads(newer)
            return found
        return row


def _time(row: Row) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=row["created"])).isoformat()


async def pruned(vault: Backend, memory: Memory, folder: Path, keep: int, keep_days: int, now: datetime) -> tuple[int, int]:
    """Remove snapshots beyond the newest *keep* that are older than *keep_days*, torn ones, and the objects that no other names.

    How many of each. Nothing younger than a day goes that no snapshot names: it may be somebody's at this moment.
    """
    ids = await snapshots.whole(vault)
    old = {id for id in ids[: max(0, len(ids) - max(1, keep))] if snapshots.began(id) < now - timedelta(days=keep_days)}
    for id in sorted(set(ids) - old):
        told = await snapshots.summary(vault, id)
        for entry in snapshots.entries(await snapshots.fetch(vault, id, MANIFEST, told.manifest_sha256, folder)):
            memory.put("named", entry.sha256)
    for id in sorted(old):
        await vault.delete(snapshots.part_name(id, snapshots.SUMMARY))
    async for id, part in snapshots.parts(vault):
        if id in old or (id not in ids and snapshots.began(id) < now - ORPHANED):
            await vault.delete(snapshots.part_name(id, part))
    removed = 0
    async for found in vault.list(snapshots.OBJECTS):
        digest = snapshots.digest_of(found.key)
        if digest is not None and memory.get("named", digest) is None and found.modified < now - ORPHANED:
            await vault.delete(found.key)
            removed += 1
    return len(old), removed


class Verification:
    """Reads a snapshot of *vault* back, byte for byte; *told* hears of each object that is ``missing`` or ``damaged``."""

    def __init__(self, vault: Backend, memory: Memory, folder: Path, at_once: int, told: Callable[[str, str], None]) -> None:
        self.progress = Progress()
        self._vault = vault
        self._memory = memory
        self._folder = folder
        self._at_once = at_once
        self._told = told

    async def run(self, id: str) -> Summary:
        """Go through all of it; raises StartError where its own files are not what they should be."""
        told = await snapshots.summary(self._vault, id)
        manifest = await snapshots.fetch(self._vault, id, MANIFEST, told.manifest_sha256, self._folder)
        catalogue = await snapshots.fetch(self._vault, id, CATALOGUE, told.catalogue_sha256, self._folder)
        for entry in snapshots.entries(manifest):
            if entry.recorded:
                self._memory.put("entries", entry.key, f"{entry.etag} {entry.sha256}")
        for line in snapshots.lines(catalogue):
            if line["table"] == "assets":
                self._check(line["row"])
        self.progress.total, self.progress.bytes = told.objects, told.bytes
        await worked(_entries(manifest), self._read, self._at_once)
        return told

    def _check(self, row: dict[str, Any]) -> None:
        found = (self._memory.get("entries", row["key"]) or "").split(" ")
        digest = row["sha256"] if snapshots.is_digest(row["sha256"]) else found[-1]
        if found != [row["etag"], digest]:
            self._fault("missing", row["key"])

    async def _read(self, entry: Entry) -> None:
        known = self._memory.get("checked", entry.sha256)
        if known is None:
            known = await self._state(entry)
            self._memory.put("checked", entry.sha256, known)
        if known != "good":
            self._fault(known, entry.key)
        self.progress.done += 1

    async def _state(self, entry: Entry) -> str:
        digest = streams.Digest()
        try:
            async with await self._vault.open(snapshots.object_name(entry.sha256)) as reader:
                await streams.drained(digest.through(reader.chunks))
                size = reader.meta.size
        except NotFound:
            return "missing"
        self.progress.copied_bytes += size
        return "good" if (digest.hex, size) == (entry.sha256, entry.size) else "damaged"

    def _fault(self, kind: str, key: str) -> None:
        self.progress.left_out += 1
        self._told(kind, key)


async def _entries(path: Path) -> AsyncGenerator[Entry, None]:
    for entry in snapshots.entries(path):
        yield entry


async def chosen(vault: Backend, id: str | None) -> str:
    """The snapshot that is meant: the newest one that is whole, or *id*; raises StartError."""
    if id is not None:
        return id
    ids = await snapshots.whole(vault)
    if not ids:
        raise StartError("there is no whole snapshot: is this the place of a backup?")
    return ids[-1]

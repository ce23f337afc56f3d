"""A snapshot of a backup, put back into empty records and whatever stores the service has now."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Iterator
from datetime import datetime
from pathlib import Path

from proxy import generations, snapshots, streams
from proxy.backup import Memory, Progress
from proxy.errors import NotFound, StartError
from proxy.ports import Backend, Body, ObjectMeta
from proxy.snapshots import CATALOGUE, MANIFEST, Entry, Records, Row, Summary
from proxy.workforce import worked


class _Damaged(Exception):
    """The backup's bytes have another digest than their name."""


class Restoration:
    """Puts snapshots of *vault* into *media* and *records*, *at_once* objects at one time, each digest checked before it is seen.

    The objects come first, then all records in one transaction: one that is broken off is begun again, and finds the objects
    that it has put back. A write keeps its generation, so that addresses, etags and dates are as they were; an object that had
    none, because another program had put it there, gets one. *told* hears of objects that are ``missing`` or ``damaged`` in the
    vault: then the records are not put back, unless *partial*, which leaves out those of such objects.
    """

    def __init__(
        self,
        vault: Backend,
        media: Backend,
        records: Records,
        memory: Memory,
        folder: Path,
        at_once: int,
        told: Callable[[str, str], None],
        *,
        partial: bool = False,
    ) -> None:
        self.progress = Progress()
        self._vault = vault
        self._media = media
        self._records = records
        self._memory = memory
        self._folder = folder
        self._at_once = at_once
        self._told = told
        self._partial = partial

    async def run(self, id: str) -> Summary:
        """Put *id* back; raises StartError."""
        if count := await self._records.count():
            raise StartError(f"the catalogue has {count} records, and a restore begins with an empty one: move it away first")
        told = await snapshots.summary(self._vault, id)
        manifest = await snapshots.fetch(self._vault, id, MANIFEST, told.manifest_sha256, self._folder)
        catalogue = await snapshots.fetch(self._vault, id, CATALOGUE, told.catalogue_sha256, self._folder)
        self.progress.total, self.progress.bytes = told.objects, told.bytes
        await worked(_entries(manifest), self._restore, self._at_once)
        if self.progress.left_out and not self._partial:
            raise StartError(
                f"{self.progress.left_out} objects of the snapshot are damaged or missing, so no records were put back: "
                "take another snapshot, or leave these out with --partial"
            )
        await self._records.load(told.revision, self._rows(catalogue))
        return told

    async def _restore(self, entry: Entry) -> None:
        etag = entry.etag if generations.is_generation(entry.etag) else _generation(entry)
        try:
            meta = await self._there(entry, etag) or await self._carried(entry, etag)
        except _Damaged:
            self._fault("damaged", entry)
        except NotFound:
            self._fault("missing", entry)
        else:
            self._memory.put("restored", entry.key, json.dumps([entry.etag, meta.etag, meta.store, entry.sha256]))
            self.progress.done += 1

    async def _there(self, entry: Entry, etag: str) -> ObjectMeta | None:
        """The object, if a restore that was broken off has put it back."""
        try:
            meta = await self._media.head(entry.key)
        except NotFound:
            return None
        is_it = meta.etag == etag and meta.size == entry.size and meta.sha256 in {None, entry.sha256}
        return meta if is_it else None

    async def _carried(self, entry: Entry, etag: str) -> ObjectMeta:
        digest = streams.Digest()
        async with await self._vault.open(snapshots.object_name(entry.sha256)) as reader:
            if reader.meta.size != entry.size:
                raise _Damaged

            async def checked() -> Body:
                async for chunk in digest.through(reader.chunks):
                    yield chunk
                if digest.hex != entry.sha256:
                    raise _Damaged

            meta = await self._media.put(entry.key, checked(), entry.content_type, size=entry.size, etag=etag)
        self.progress.copied += 1
        self.progress.copied_bytes += entry.size
        return meta

    def _fault(self, kind: str, entry: Entry) -> None:
        self.progress.left_out += 1
        self._told(kind, entry.key)

    def _rows(self, catalogue: Path) -> Iterator[tuple[str, Row]]:
        for line in snapshots.lines(catalogue):
            table, row = line["table"], line["row"]
            if table == "events":
                yield table, row
                continue
            restored = self._memory.get("restored", row["key"])
            if restored is None:
                continue
            before, etag, store, sha256 = json.loads(restored)
            if row.get("etag") == before:
                row["etag"] = etag
            if table == "assets":
                row |= {"store": store, "sha256": sha256}
            yield table, row


async def _entries(path: Path) -> AsyncGenerator[Entry, None]:
    for entry in snapshots.entries(path):
        yield entry


def _generation(entry: Entry) -> str:
    """The same one each time that the same object is put back: of when it came, and of its bytes."""
    since = datetime.fromisoformat(entry.modified) - generations.EPOCH
    return generations.of(since, entry.sha256)

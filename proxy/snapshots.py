"""What a backup is made of: the names in it, the lines of its manifest, and the port of the records. docs/backup.md tells it all.

Bytes lie once for each SHA-256, below ``objects``; a snapshot says which keys had which of them, and has the records. What says
that a snapshot is whole, ``snapshot.json``, is written last: before that there is nothing but objects that nobody names.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from proxy.errors import NotFound, StartError
from proxy.keys import Key
from proxy.ports import Backend, Body

FORMAT = 1
OBJECTS = "objects/"
SNAPSHOTS = "snapshots/"
SUMMARY, MANIFEST, CATALOGUE = "snapshot.json", "objects.jsonl.gz", "catalogue.jsonl.gz"
BLOCK_BYTES = 1 << 20
SUMMARY_MAX_BYTES = 1 << 16
LINE_MAX_BYTES = 1 << 22
_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

Row = dict[str, Any]


def new_id(now: datetime) -> str:
    """The name of a snapshot that begins *now*: names sort as their times."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def began(id: str) -> datetime:
    """When the snapshot began."""
    return datetime.strptime(id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def object_name(sha256: str) -> Key:
    """Where the bytes with this digest lie."""
    return Key(f"{OBJECTS}{sha256[:2]}/{sha256}")


def digest_of(name: str) -> str | None:
    """The digest of which *name* is the name; None where it is none."""
    digest = name.rpartition("/")[2]
    return digest if _SHA256.fullmatch(digest) and name == object_name(digest) else None


def is_digest(text: str | None) -> bool:
    """Whether *text* is a SHA-256 as it is written here."""
    return text is not None and _SHA256.fullmatch(text) is not None


def part_name(id: str, part: str) -> Key:
    """Where a part of a snapshot lies."""
    return Key(f"{SNAPSHOTS}{id}/{part}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a snapshot: *bucket* is the name of the store that had it, *sha256* leads to its bytes."""

    key: Key
    bucket: str
    size: int
    etag: str
    sha256: str
    content_type: str
    modified: str
    metadata: Mapping[str, str]
    """what the store held beside its type, where the object was read for this"""
    recorded: bool
    """whether the catalogue of the snapshot has it too"""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a snapshot is, once it is whole: sums, and the digests of its two other files."""

    id: str
    format: int
    revision: str
    """of the catalogue's tables, by Alembic"""
    ended: str
    objects: int
    bytes: int
    records: Mapping[str, int]
    manifest_sha256: str
    catalogue_sha256: str
    left_out: int
    """records whose object could not be had as it should be"""


class Records(Protocol):
    """The catalogue as rows, whatever database it is in."""

    async def export(self, take: Callable[[str, Row], None]) -> str:
        """Give each row of each table to *take*, all of one moment; the result is the revision of the tables."""
        ...

    async def row(self, key: Key) -> Row | None:
        """The row of one asset, as it is now."""
        ...

    async def count(self) -> int:
        """How many assets there are."""
        ...

    async def load(self, revision: str, rows: Iterator[tuple[str, Row]]) -> None:
        """Fill empty tables with rows that were exported at *revision*, all or none."""
        ...


class Writer:
    """Lines of JSON into the file *path*, compressed; *sha256* afterwards is the file's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sha256 = ""
        self.lines = 0

    def __enter__(self) -> Self:
        self._file = gzip.GzipFile(self.path, "wb", compresslevel=6, mtime=0)
        return self

    def write(self, line: Mapping[str, Any]) -> None:
        """One line."""
        self._file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        self.lines += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        if kind is None:
            with self.path.open("rb") as file:
                self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()


def lines(path: Path) -> Iterator[Row]:
    """The lines of such a file; raises StartError where it is not one."""
    try:
        with gzip.open(path, "rb") as file:
            while line := file.readline(LINE_MAX_BYTES):
                yield json.loads(line)
    except (OSError, EOFError, ValueError) as error:
        raise StartError("a file of the snapshot is damaged: restore another snapshot") from error


def entries(path: Path) -> Iterator[Entry]:
    """What a manifest names."""
    for line in lines(path):
        try:
            entry = Entry(**line)
        except TypeError as error:
            raise StartError("the manifest of the snapshot is of another version") from error
        if not is_digest(entry.sha256):
            raise StartError("the manifest of the snapshot is damaged: restore another snapshot")
        yield entry


async def whole(vault: Backend) -> list[str]:
    """The names of the snapshots that are whole, the oldest first."""
    return sorted([id for id, part in [part async for part in parts(vault)] if part == SUMMARY])


async def parts(vault: Backend) -> AsyncIterator[tuple[str, str]]:
    """What there is of all snapshots, whole or not: names and parts."""
    async for found in vault.list(SNAPSHOTS):
        id, _, part = found.key.removeprefix(SNAPSHOTS).partition("/")
        if _ID.fullmatch(id):
            yield id, part


async def summary(vault: Backend, id: str) -> Summary:
    """What the snapshot *id* says of itself; raises StartError."""
    try:
        async with await vault.open(part_name(id, SUMMARY)) as reader:
            if reader.meta.size > SUMMARY_MAX_BYTES:
                raise ValueError
            found = Summary(**json.loads(b"".join([chunk async for chunk in reader])))
    except NotFound:
        raise StartError(f"the backup has no whole snapshot {id}: `media-proxy backup --list` names those that it has") from None
    except (ValueError, TypeError) as error:
        raise StartError(f"the snapshot {id} is damaged, or of another version") from error
    if found.format != FORMAT:
        raise StartError(f"the snapshot {id} has the format {found.format}, this version reads {FORMAT}")
    return found


async def fetch(vault: Backend, id: str, part: str, sha256: str, folder: Path) -> Path:
    """A part of the snapshot as a file in *folder*, of the digest that it should have; raises StartError."""
    path = folder / f"{id}-{part}"
    digest = hashlib.sha256()
    try:
        async with await vault.open(part_name(id, part)) as reader:
            with path.open("wb") as file:
                async for chunk in reader:
                    digest.update(chunk)
                    file.write(chunk)
    except NotFound as error:
        raise StartError(f"{part} of the snapshot {id} is gone: take another snapshot") from error
    if digest.hexdigest() != sha256:
        raise StartError(f"{part} of the snapshot {id} is damaged: take another snapshot")
    return path


async def contents(path: Path) -> Body:
    """The bytes of a file of this machine."""
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block


async def keep(vault: Backend, name: Key, path: Path) -> None:
    """Put the file *path* there."""
    await vault.put(name, contents(path), "application/octet-stream", size=path.stat().st_size)


async def finish(vault: Backend, told: Summary) -> None:
    """Write down that the snapshot is whole."""
    data = json.dumps(asdict(told), indent=1).encode() + b"\n"

    async def body() -> Body:
        yield data

    await vault.put(part_name(told.id, SUMMARY), body(), "application/json", size=len(data))

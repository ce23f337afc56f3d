"""The steps that a local store takes on a disk, and how an object's record is written down."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from proxy import generations
from proxy.keys import Key
from proxy.ports import ObjectMeta

READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
MAKING = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_GENERATION = re.compile("[0-9a-f]{32}")
_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)
_NO_FULL_SYNC = frozenset({errno.ENOTSUP, errno.EINVAL, errno.ENOTTY})


class Damaged(Exception):
    """What lies on the disk is not what was put there. The text says what is wrong, for the log."""


class Steps:
    """Everything that changes the disk, one system call a method: a crash falls between two of them, and so can a test.

    With *durable* off nothing is synced.
    """

    def __init__(self, *, durable: bool) -> None:
        self.durable = durable

    def create(self, path: Path) -> BinaryIO:
        """A new file, private to us."""
        return os.fdopen(os.open(path, MAKING, 0o600), "w+b", buffering=0)

    def write(self, file: BinaryIO, data: bytes | bytearray) -> None:
        """Add all of *data*: an unbuffered write may take less."""
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]

    def sync(self, file: BinaryIO) -> None:
        """Make the file's bytes durable."""
        if self.durable:
            _flush(file.fileno())

    def sync_folder(self, path: Path) -> None:
        """Make the names in a folder durable."""
        if self.durable:
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _flush(folder)
            finally:
                os.close(folder)

    def make_folder(self, path: Path) -> None:
        """A folder, private to us; nothing happens if it is there."""
        path.mkdir(mode=0o700, exist_ok=True)

    def rename(self, source: Path, target: Path) -> None:
        """Put *source* in the place of *target*, at once."""
        source.rename(target)

    def link(self, source: Path, target: Path) -> None:
        """A second name for a file."""
        os.link(source, target)

    def unlink(self, path: Path) -> None:
        """Remove a name; nothing happens if it is gone."""
        path.unlink(missing_ok=True)


def _flush(descriptor: int) -> None:
    if _FULL_SYNC is not None:  # macOS: fsync alone leaves the bytes in the drive's cache
        try:
            fcntl.fcntl(descriptor, _FULL_SYNC)
            return
        except OSError as error:
            if error.errno not in _NO_FULL_SYNC:
                raise
    os.fsync(descriptor)


@dataclass(frozen=True, slots=True)
class Record:
    """What stands in an object's ``.json``. *generation* is of this store: 16 hex digits that only grow, then 16 that are random.

    *etag* is the generation of the write, which copies of it on other stores have too.
    """

    generation: str
    key: str
    size: int
    sha256: str
    content_type: str
    etag: str

    def meta(self, store: str) -> ObjectMeta:
        """The same for the port, of the store that is called *store*."""
        return ObjectMeta(Key(self.key), self.size, self.content_type, self.etag, generations.began(self.etag), self.sha256, store)

    @property
    def order(self) -> int:
        """The growing part of the generation."""
        return int(self.generation[:16], 16)

    def encoded(self) -> bytes:
        """For the disk."""
        return json.dumps(asdict(self)).encode()


def read_record(path: Path) -> Record:
    """The record in the file *path*, whose name is the digest of its key; raises FileNotFoundError and Damaged."""
    with os.fdopen(os.open(path, READING), "rb") as file:
        data = file.read()
    try:
        record = Record(**json.loads(data))
        texts = (record.generation, record.key, record.sha256, record.content_type)
        sound = all(isinstance(text, str) for text in texts) and all(texts) and record.size >= 0 and len(record.sha256) == 64
        if sound and _GENERATION.fullmatch(record.generation) and generations.is_generation(record.etag):
            return record
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise Damaged(f"the record {path.name} cannot be read") from error
    raise Damaged(f"the record {path.name} makes no sense")

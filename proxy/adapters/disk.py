"""What a local store does to the disk, step by step and blocking: `local.LocalBackend` runs it in threads.

Below the root: ``objects/<hh>/<digest of the key's first segment>/`` holds, under the digest of the key, a record (``.json``:
generation, key, size, SHA-256, type, time) and the data (``.<generation>``). The record is the commit: it is renamed into
place when the data is durable, and names the generation that counts. ``tmp`` holds what is not committed, and beside it,
before anything is replaced, a note of which generation will be garbage; a start clears both, so its cost depends on the
work that was open, not on the number of objects.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from proxy.errors import StartError, Unavailable
from proxy.keys import Key
from proxy.ports import ObjectMeta

FORMAT = 1
MARKER = "store.json"
LOCK = "lock"
ENSURED = 50_000


class Steps:
    """The steps that a crash can fall between, each its own method, so that a test can stand between them too."""

    def __init__(self, *, durable: bool) -> None:
        self._durable = durable

    def create(self, path: Path) -> BinaryIO:
        """A new file, private to us."""
        return os.fdopen(
            os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "w+b", buffering=0
        )

    def write(self, file: BinaryIO, data: bytes) -> None:
        """All of *data*: an unbuffered write may take less."""
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]

    def sync(self, file: BinaryIO) -> None:
        """Make the file's bytes durable."""
        if self._durable:
            os.fsync(file.fileno())

    def sync_folder(self, path: Path) -> None:
        """Make the names in a folder durable."""
        if self._durable:
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def rename(self, source: Path, target: Path) -> None:
        """Put *source* in the place of *target*, at once."""
        source.rename(target)

    def unlink(self, path: Path) -> None:
        """Remove a name; nothing happens if it is gone."""
        path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Record:
    """What stands in an object's ``.json``."""

    generation: str
    key: str
    size: int
    sha256: str
    content_type: str
    modified_ns: int

    @property
    def meta(self) -> ObjectMeta:
        """The same for the port; the etag is of the bytes, so equal on every store that holds them."""
        modified = datetime.fromtimestamp(self.modified_ns / 1e9, UTC)
        return ObjectMeta(Key(self.key), self.size, self.content_type, self.sha256[:32], modified, self.sha256)


class Folder:
    """The folder of one store. Its methods raise OSError as the disk does, FileNotFoundError where there is no such object."""

    def __init__(self, root: Path, steps: Steps) -> None:
        self._root = root
        self._objects = root / "objects"
        self._tmp = root / "tmp"
        self._steps = steps
        self._latest = 0
        self._lock: int | None = None
        self._making = threading.Lock()
        self._ensured: set[Path] = set()

    def stop(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            os.close(self._lock)

    def stage(self) -> tuple[str, BinaryIO, Path]:
        """A new generation and its file, which nobody sees."""
        # Ordered by time and never twice, also when the clock goes back; the random tail keeps two processes' apart.
        self._latest = max(time.time_ns(), self._latest + 1)
        generation = f"{self._latest:016x}{secrets.token_hex(4)}"
        path = self._tmp / generation
        return generation, self._steps.create(path), path

    def write(self, file: BinaryIO, data: bytes) -> None:
        """Add *data* to a staged file."""
        self._steps.write(file, data)

    def sync(self, file: BinaryIO) -> None:
        """Make a staged file durable."""
        self._steps.sync(file)

    def unstage(self, file: BinaryIO, path: Path) -> None:
        """Close a staged file; what was not committed is gone."""
        file.close()
        self._steps.unlink(path)

    def probe(self) -> None:
        """Write a byte and take it away."""
        _, file, path = self.stage()
        try:
            self._steps.write(file, b"\0")
        finally:
            self.unstage(file, path)

    def start(self) -> None:
        """Lock the root, check that it is ours, clear what the last process left open; raises StartError."""
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self._root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._check_marker()
            for folder in (self._objects, self._tmp):
                folder.mkdir(mode=0o700, exist_ok=True)
            self._steps.sync_folder(self._root)
            for leftover in self._tmp.iterdir():
                self._clear(leftover)
        except BlockingIOError:
            raise StartError(f"another media-proxy uses the folder {self._root}: stop it or set MEDIA_DATA_DIR") from None
        except OSError as error:
            raise StartError(f"the folder {self._root} cannot be used: {error.strerror}; set MEDIA_DATA_DIR to another") from error

    def _check_marker(self) -> None:
        marker = self._root / MARKER
        if not marker.exists():
            unfinished = self._root / f"{MARKER}.new"
            if {path.name for path in self._root.iterdir()} - {LOCK, unfinished.name}:
                raise StartError(f"the folder {self._root} holds something else: set MEDIA_DATA_DIR to an empty or a new one")
            self._steps.unlink(unfinished)
            with self._steps.create(unfinished) as file:
                self._steps.write(file, json.dumps({"format": FORMAT}).encode())
                self._steps.sync(file)
            self._steps.rename(unfinished, marker)
            return
        try:
            version = json.loads(marker.read_bytes())["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise StartError(f"{MARKER} in {self._root} is damaged: restore the folder from a backup") from error
        if version != FORMAT:
            raise StartError(f"the folder {self._root} was written by another version (format {version!r}): use that version")

    def _clear(self, leftover: Path) -> None:
        # A note, or the record of a commit that did not come to its end, names data that counts only if the live record says so.
        if leftover.suffix in {".garbage", ".json"}:
            with contextlib.suppress(ValueError, TypeError):
                record = Record(**json.loads(leftover.read_bytes()))
                if self._live_generation(Key(record.key)) != record.generation:
                    self._steps.unlink(self._data(record))
        self._steps.unlink(leftover)

    def _live_generation(self, key: Key) -> str | None:
        try:
            return self.read(key).generation
        except (FileNotFoundError, Unavailable):
            return None

    def open(self, key: Key) -> tuple[Record, BinaryIO, Path]:
        """The object as it is now: its record, its open data and the name of that."""
        generation = ""
        while True:
            record = self.read(key)
            path = self._data(record)
            try:
                file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0)
                break
            except FileNotFoundError as error:
                if record.generation == generation:
                    raise Unavailable("the data of a stored object is missing") from error
                generation = record.generation  # overwritten between the two reads: look again
        if os.fstat(file.fileno()).st_size != record.size:
            file.close()
            raise Unavailable("the stored object is not as long as its record says")
        return record, file, path

    def commit(self, record: Record) -> None:
        """Make the staged generation of *record* the one that counts, durably; raises and leaves the old one if that fails."""
        folder = self._folder(record.key.partition("/")[0])
        self._ensure(folder)
        live = folder / f"{_digest(record.key)}.json"
        staged, staged_record, data = self._tmp / record.generation, self._tmp / f"{record.generation}.json", self._data(record)
        old = live.read_bytes() if live.exists() else None
        garbage = None if old is None else self._note(Record(**json.loads(old)))
        self._write_record(staged_record, record)
        try:
            self._steps.rename(staged, data)
            if old is not None:  # else a power cut could keep the new record and lose the new name of its data
                self._steps.sync_folder(folder)
            self._steps.rename(staged_record, live)
            self._steps.sync_folder(folder)
        except BaseException:
            self._undo(live, old, data, staged_record)
            raise
        if garbage is not None:
            self._steps.unlink(self._data(Record(**json.loads(old or b""))))
            self._steps.unlink(garbage)

    def _undo(self, live: Path, old: bytes | None, data: Path, staged_record: Path) -> None:
        # What could not be made durable must not stay visible, nor be synced again and acknowledged.
        if old is None:
            live.unlink(missing_ok=True)
        elif live.read_bytes() != old:
            restored = staged_record.with_suffix(".restored")
            restored.write_bytes(old)
            restored.rename(live)
        for path in (data, staged_record):
            path.unlink(missing_ok=True)

    def remove(self, key: Key) -> None:
        """Remove the record, then the data; nothing happens if there is none."""
        try:
            record = self.read(key)
        except FileNotFoundError:
            return
        folder = self._folder(key.partition("/")[0])
        garbage = self._note(record)
        self._steps.unlink(folder / f"{_digest(key)}.json")
        self._steps.sync_folder(folder)
        self._steps.unlink(self._data(record))
        self._steps.unlink(garbage)

    def _note(self, record: Record) -> Path:
        path = self._tmp / f"{record.generation}.garbage"
        self._steps.unlink(path)
        self._write_record(path, record)
        return path

    def _write_record(self, path: Path, record: Record) -> None:
        with self._steps.create(path) as file:
            self._steps.write(file, json.dumps(asdict(record)).encode())
            self._steps.sync(file)

    def _ensure(self, folder: Path) -> None:
        # Under a lock: who finds the folder there must not acknowledge before who made it has synced its name.
        with self._making:
            if folder in self._ensured:
                return
            for made in (folder.parent, folder):
                made.mkdir(mode=0o700, exist_ok=True)
                self._steps.sync_folder(made.parent)
            if len(self._ensured) >= ENSURED:
                self._ensured.clear()
            self._ensured.add(folder)

    def read(self, key: Key) -> Record:
        """The record that counts."""
        return _record_at(self._folder(key.partition("/")[0]) / f"{_digest(key)}.json")

    def records(self, prefix: str) -> Iterator[Record]:
        """All with *prefix*; one that holds a whole first segment reads the folder of that segment alone."""
        segment, slash, _ = prefix.partition("/")
        for folder in [self._folder(segment)] if slash else self._objects.glob("*/*"):
            if folder.is_dir():
                for entry in os.scandir(folder):
                    if entry.name.endswith(".json"):
                        with contextlib.suppress(FileNotFoundError):
                            record = _record_at(Path(entry.path))
                            if record.key.startswith(prefix):
                                yield record

    def _folder(self, segment: str) -> Path:
        digest = _digest(segment)[:32]
        return self._objects / digest[:2] / digest

    def _data(self, record: Record) -> Path:
        return self._folder(record.key.partition("/")[0]) / f"{_digest(record.key)}.{record.generation}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _record_at(path: Path) -> Record:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        try:
            return Record(**json.loads(file.read()))
        except (ValueError, TypeError) as error:
            raise Unavailable("the record of a stored object is damaged") from error

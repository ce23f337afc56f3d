"""What lies where in a local store, and how it changes: blocking; `local.LocalBackend` runs it in threads.

Below the root, ``objects/<hh>/<digest of the key's first segment>/`` holds a record, ``<digest of the key>.json``, and the
data, ``<digest of the key>.<generation>``. The record is the commit: it gets its name when the data is durable, and names the
generation that counts. ``tmp`` holds what is staged, and notes: records under a name that says whose they are and which
generation may be garbage. A start goes through ``tmp`` alone, so its cost depends on the work that was open.

A rename that is not synced yet may be lost in a power cut, and another one, later, kept. Where that would matter to an
object that was acknowledged, a sync stands between the two; otherwise the next start puts it right.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from errno import ELOOP
from pathlib import Path
from typing import BinaryIO, TypeVar

import structlog

from proxy.adapters.disk import READING, Damaged, Record, Steps, read_record
from proxy.keys import Key

T = TypeVar("T")

GUARDS = 64
KNOWN_FOLDERS = 4_096
RENAMES = 3
STAGED = re.compile(r"([0-9a-f]{32})\.([0-9a-f]{64})\.([0-9a-f]{16})")
NOTE = re.compile(r"([0-9a-f]{32})\.([0-9a-f]{64})\.([0-9a-f]{32})\.json")

log = structlog.get_logger(__name__)


class Abandoned(Exception):
    """Nobody waits for this commit any more, and it has been undone."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key's files lie: in *folder*, under names that begin with *digest*."""

    folder: Path
    digest: str

    @property
    def live(self) -> Path:
        """The record that counts."""
        return self.folder / f"{self.digest}.json"

    def data(self, generation: str) -> Path:
        """The bytes of one generation."""
        return self.folder / f"{self.digest}.{generation}"


@dataclass(slots=True)
class Staged:
    """A new object on its way. Its steps wait for each other, so that none is cleaned away under another that is slow."""

    key: Key
    token: str
    path: Path
    file: BinaryIO
    abandoned: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)


class Objects:
    """The objects below *root*. Methods raise OSError as the disk does (FileNotFoundError: no such object) and Damaged."""

    def __init__(self, root: Path, steps: Steps) -> None:
        self._objects = root / "objects"
        self._tmp = root / "tmp"
        self._steps = steps
        self._latest = 0
        self._lock = threading.Lock()
        self._known: set[Path] = set()
        self._guards = tuple(threading.Lock() for _ in range(GUARDS))

    def stage(self, key: Key) -> Staged:
        """A new file for *key*, which nobody sees."""
        token = f"{os.getpid():08x}{secrets.token_hex(4)}"  # so that what a process leaves is known when it has ended
        place = self._place(key)
        path = self._tmp / f"{place.folder.name}.{place.digest}.{token}"
        return Staged(key, token, path, self._steps.create(path))

    def write(self, staged: Staged, data: bytes | bytearray, *, last: bool = False) -> None:
        """Add *data*; after the *last* the file is durable."""
        with staged.lock:
            self._steps.write(staged.file, data)
            if last:
                self._steps.sync(staged.file)

    def unstage(self, staged: Staged) -> None:
        """Close the file; what was not committed is gone."""
        with staged.lock:
            staged.file.close()
            try:
                self._steps.unlink(staged.path)
            except OSError as error:  # why the put failed matters more
                log.warning("store.leftover", error=error.strerror)

    def commit(self, staged: Staged, size: int, sha256: str, content_type: str, etag: str) -> Record:
        """Make the staged bytes the object, durably. Whatever this raises, Abandoned too, the key is as it was."""
        place = self._place(staged.key)
        with staged.lock, self._guard(place):
            old = self._live(place)
            generation = f"{self._order(time.time_ns(), old):016x}{staged.token}"
            record = Record(generation, staged.key, size, sha256, content_type, etag)
            try:
                self._exchange(staged, place, old, record)
                if staged.abandoned:
                    raise Abandoned
            except BaseException:
                self._undo(place, old, record)
                raise
            if old is not None:
                self._discard(place, old.generation)
            return record

    def _exchange(self, staged: Staged, place: Place, old: Record | None, record: Record) -> None:
        draft = self._note(place, record.generation)
        with self._steps.create(draft) as file:
            self._steps.write(file, record.encoded())
            self._steps.sync(file)
        if old is not None:
            self._set_aside(place, old)
        for attempt in range(RENAMES):
            self._ensure(place.folder)
            try:
                self._steps.rename(staged.path, place.data(record.generation))
                break
            except FileNotFoundError:  # a removal took the folder, which it had found empty, in this moment
                with self._lock:
                    self._known.discard(place.folder)
                if attempt == RENAMES - 1:
                    raise
        if old is not None:  # else a power cut could keep the new record, which replaces the old, and lose the name of its data
            self._steps.sync_folder(place.folder)
        self._steps.rename(draft, place.live)
        self._steps.sync_folder(place.folder)

    def _undo(self, place: Place, old: Record | None, record: Record) -> None:
        # What could not be made durable must not stay visible, nor be synced again and acknowledged.
        try:
            live = self._live(place)
            if live is not None and live.generation == record.generation:
                if old is None:
                    self._steps.rename(place.live, self._note(place, record.generation))
                else:
                    self._set_aside(place, record)
                    self._steps.rename(self._note(place, old.generation), place.live)
                self._steps.sync_folder(place.folder)
            self._discard(place, record.generation)
            if old is not None:
                self._steps.unlink(self._note(place, old.generation))
        except OSError as error:  # the data stays for whichever record a power cut keeps; the notes tell the next start
            log.warning("store.not_undone", error=error.strerror)

    def remove(self, key: Key) -> None:
        """Remove the record, then the data; nothing happens if there is none."""
        place = self._place(key)
        with self._guard(place):
            record = self._live(place)
            if record is not None:
                # The rename takes the object away and notes its garbage in one step, which works on a full disk too.
                self._steps.rename(place.live, self._note(place, record.generation))
                self._steps.sync_folder(place.folder)
                self._discard(place, record.generation)
            elif os.path.lexists(place.live):
                self._steps.unlink(place.live)
                self._steps.sync_folder(place.folder)
                for stray in place.folder.glob(f"{place.digest}.*"):
                    self._steps.unlink(stray)
        self._drop_if_empty(place.folder)

    def sweep(self) -> None:
        """Clear what the last process left in ``tmp``: half commits are finished or undone."""
        for leftover in self.leftovers(lambda process: False):
            self.settle(leftover)

    def leftovers(self, lives: Callable[[int], bool]) -> list[Path]:
        """What lies in ``tmp`` and is not staged by a process that *lives*; for `settle`."""
        found = []
        for leftover in list(self._tmp.iterdir()):
            staged = STAGED.fullmatch(leftover.name)
            if staged is None or not lives(int(staged[3][:8], 16)):
                found.append(leftover)
        return found

    def settle(self, leftover: Path) -> None:
        """Finish or undo the half commit that *leftover* is of; nothing else may change its key meanwhile."""
        if match := STAGED.fullmatch(leftover.name):
            self._finish(Place(self._folder(match[1]), match[2]), match[3], leftover)
        elif match := NOTE.fullmatch(leftover.name):
            place, generation = Place(self._folder(match[1]), match[2]), match[3]
            with contextlib.suppress(Damaged):
                live = self._live(place, strict=True)
                if live is None or live.generation != generation:
                    self._steps.unlink(place.data(generation))
        self._steps.unlink(leftover)

    def _finish(self, place: Place, token: str, path: Path) -> None:
        # A power cut kept the name of the record and lost that of the data, which lies here.
        live = self._live(place)
        if live is not None and live.generation.endswith(token) and not place.data(live.generation).exists():
            self._steps.rename(path, place.data(live.generation))
            self._steps.sync_folder(place.folder)

    def head(self, key: Key) -> Record:
        """The record of an object whose data is there."""

        def look(path: Path, size: int) -> None:
            _measure(path, os.lstat(path).st_size, size)

        return self._found(key, look)[0]

    def open(self, key: Key) -> tuple[Record, BinaryIO, Path]:
        """The object as it is now: its record, its open data and the name of that."""

        def look(path: Path, size: int) -> BinaryIO:
            file = os.fdopen(os.open(path, READING), "rb", buffering=0)
            try:
                _measure(path, os.fstat(file.fileno()).st_size, size)
            except Damaged:
                file.close()
                raise
            return file

        return self._found(key, look)

    def _found(self, key: Key, look: Callable[[Path, int], T]) -> tuple[Record, T, Path]:
        place = self._place(key)
        seen = ""
        while True:
            self._check(place.folder)
            record = read_record(place.live)
            if record.key != key:
                raise Damaged(f"the record {place.live.name} is of another key")
            path = place.data(record.generation)
            try:
                return record, look(path, record.size), path
            except FileNotFoundError as error:
                if record.generation == seen:
                    raise Damaged(f"the data {path.name} is missing") from error
                seen = record.generation  # overwritten or removed between the two: look again

    def records(self, prefix: str) -> Generator[Record, None, None]:
        """All with *prefix*; one that holds a whole first segment reads the folder of that segment alone.

        What is damaged is passed over; if there was any, this raises Damaged in the end.
        """
        segment, slash, _ = prefix.partition("/")
        damaged: Damaged | None = None
        for folder in [self._folder(_digest(segment)[:32])] if slash else sorted(self._objects.glob("*/*")):
            with contextlib.suppress(FileNotFoundError):
                self._check(folder)
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if not entry.name.endswith(".json"):
                            continue
                        try:
                            record = read_record(Path(entry.path))
                        except FileNotFoundError:
                            continue
                        except Damaged as error:
                            if self._steps.durable:
                                damaged = error
                            else:  # a power cut may leave such; what nobody can read is made again
                                self._steps.unlink(Path(entry.path))
                            continue
                        if record.key.startswith(prefix):
                            yield record
        if damaged is not None:
            raise damaged

    def last_use(self, record: Record) -> float:
        """The time of the data's file, in seconds; 0 where it is gone."""
        with contextlib.suppress(FileNotFoundError):
            return self._place(Key(record.key)).data(record.generation).stat().st_mtime
        return 0.0

    def probe(self) -> None:
        """Write a byte and take it away."""
        path = self._tmp / f"probe.{secrets.token_hex(8)}"
        with self._steps.create(path) as file:
            try:
                self._steps.write(file, b"\0")
            finally:
                self._steps.unlink(path)

    def _live(self, place: Place, *, strict: bool = False) -> Record | None:
        # A record that cannot be read is as good as none to those who replace or remove it.
        try:
            self._check(place.folder)
            return read_record(place.live)
        except FileNotFoundError:
            return None
        except Damaged:
            if strict:
                raise
            return None

    def _order(self, now_ns: int, old: Record | None) -> int:
        # Never twice and never back, also when the clock is.
        with self._lock:
            self._latest = max(now_ns, self._latest + 1, 0 if old is None else old.order + 1)
            return self._latest

    def _set_aside(self, place: Place, record: Record) -> None:
        note = self._note(place, record.generation)
        self._steps.unlink(note)
        try:
            self._steps.link(place.live, note)
        except OSError:  # a file system without hard links
            with self._steps.create(note) as file:
                self._steps.write(file, record.encoded())
                self._steps.sync(file)

    def _discard(self, place: Place, generation: str) -> None:
        # The note goes last: as long as it stands, the next start would do this.
        self._steps.unlink(place.data(generation))
        self._steps.unlink(self._note(place, generation))

    def _ensure(self, folder: Path) -> None:
        # Under a lock: who finds the folder there must not acknowledge before who made it has synced its name.
        with self._lock:
            if folder in self._known:
                return
            for made in (folder.parent, folder):
                self._steps.make_folder(made)
                self._steps.sync_folder(made.parent)
            self._check(folder)
            if len(self._known) >= KNOWN_FOLDERS:
                self._known.clear()
            self._known.add(folder)

    def _drop_if_empty(self, folder: Path) -> None:
        with self._lock, contextlib.suppress(OSError):
            folder.rmdir()
            self._known.discard(folder)

    def _check(self, folder: Path) -> None:
        # Links inside the root are not followed; of files, O_NOFOLLOW sees to it.
        if folder not in self._known:
            for level in (folder.parent, folder):
                if not stat.S_ISDIR(os.lstat(level).st_mode):
                    raise OSError(ELOOP, "a link, or no folder, where a folder should be")

    def _guard(self, place: Place) -> threading.Lock:
        return self._guards[int(place.digest[:8], 16) % GUARDS]

    def _place(self, key: Key) -> Place:
        return Place(self._folder(_digest(key.partition("/")[0])[:32]), _digest(key))

    def _folder(self, name: str) -> Path:
        return self._objects / name[:2] / name

    def _note(self, place: Place, generation: str) -> Path:
        return self._tmp / f"{place.folder.name}.{place.digest}.{generation}.json"


def _measure(path: Path, actual: int, recorded: int) -> None:
    if actual != recorded:
        raise Damaged(f"the data {path.name} has {actual} bytes, and its record says {recorded}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

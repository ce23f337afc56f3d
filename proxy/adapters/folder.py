"""A folder of plain files as a store: what people and other programs can read by themselves, such as a backup on a disk."""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from uuid import uuid4

from proxy import keys
from proxy.errors import NotFound, StartError, StorageFull, Unavailable
from proxy.keys import Key
from proxy.ports import Admit, Body, ByteRange, Listed, ObjectMeta, ObjectReader
from proxy.streams import sized

BLOCK_BYTES = 1 << 20
BATCH = 512
STAGING = f"{keys.RESERVED}-staging"
ABANDONED_S = 86_400
TYPE = "user.mime_type"
"""the attribute of freedesktop.org in which a file's type is kept, where the file system has attributes"""
FULL = frozenset({ENOSPC, EDQUOT, EFBIG})


class FolderBackend:
    """Objects as files below *root*, each under its key. One that is written is durable and whole before it has its name.

    The etag is the file's time and size. Links are not followed, and what is no plain file is left out. *makes* the folder
    where it is missing. Names are kept as they are, also those that are no keys: who reads decides.
    """

    def __init__(self, root: Path, *, name: str = "folder", makes: bool = True) -> None:
        self.name = name
        self.root = root
        self._makes = makes

    async def __aenter__(self) -> Self:
        try:
            if self._makes:
                await asyncio.to_thread(self.root.mkdir, mode=0o700, parents=True, exist_ok=True)
            elif not self.root.is_dir():
                raise StartError(f"there is no folder {self.root}")
            await asyncio.to_thread(_tidy, self.root / STAGING)
        except OSError as error:
            raise StartError(f"the folder {self.root} cannot be used: {error.strerror}") from error
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with suppress(OSError):
            (self.root / STAGING).rmdir()  # unless somebody else is at work in it

    async def head(self, key: Key) -> ObjectMeta:
        """By the file's own time and size; raises NotFound."""
        with _translated():
            return await asyncio.to_thread(self._meta, key)

    async def open(self, key: Key, span: ByteRange | None = None) -> ObjectReader:
        """The file as it is now; replacing it does not touch what is open."""
        with _translated():
            file = await asyncio.to_thread(self._opened, key)
        try:
            meta = _meta(key, os.fstat(file.fileno()), self._type(key, file.fileno()), self.name)
            got = None if span is None else span.within(meta.size)
        except BaseException:
            file.close()
            raise

        async def chunks() -> AsyncIterator[bytes]:
            at, stop = (0, meta.size) if got is None else (got.start, got.stop or 0)
            while at < stop:
                with _translated():
                    chunk = await asyncio.to_thread(os.pread, file.fileno(), min(BLOCK_BYTES, stop - at), at)
                if not chunk:
                    raise Unavailable("the file became shorter while it was read")
                at += len(chunk)
                yield chunk

        async def close() -> None:
            file.close()

        return ObjectReader(meta, chunks(), got, closing=close)

    async def put(
        self,
        key: Key,
        body: Body,
        content_type: str,
        admit: Admit | None = None,
        *,
        size: int | None = None,
        etag: str | None = None,
    ) -> ObjectMeta:
        """Write beside, sync, *admit*, rename. The *etag* cannot be kept; the digest is in the result alone."""
        staging = self.root / STAGING
        staged = staging / uuid4().hex
        digest = hashlib.sha256()
        with _translated():
            await asyncio.to_thread(staging.mkdir, mode=0o700, exist_ok=True)
            file = await asyncio.to_thread(staged.open, "xb", 0)
        try:
            with file:
                async for chunk in sized(body, size):
                    digest.update(chunk)
                    with _translated():
                        await asyncio.to_thread(_write, file, chunk)
                with _translated():
                    await asyncio.to_thread(os.fsync, file.fileno())
                _label(file.fileno(), content_type)
                taken = os.fstat(file.fileno())
            if admit is not None:
                async with await self.open(Key(f"{STAGING}/{staged.name}")) as reader:
                    await admit(reader)
            with _translated():
                await asyncio.to_thread(self._commit, staged, key)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
        return _meta(key, taken, content_type, self.name, digest.hexdigest())

    async def delete(self, key: Key) -> None:
        """Remove the file; idempotent. Folders stay."""
        with _translated():
            await asyncio.to_thread(self._path(key).unlink, missing_ok=True)

    async def list(self, prefix: str = "") -> AsyncIterator[Listed]:
        """All plain files whose names begin with *prefix*, in the order of names."""
        found = _walk(self.root, prefix)
        while True:
            with _translated():
                batch = await asyncio.to_thread(_some, found)
            for listed in batch:
                yield listed
            if len(batch) < BATCH:
                return

    async def ping(self) -> None:
        """Raise Unavailable if a write would not work now."""
        if not os.access(self.root, os.W_OK):
            raise Unavailable("the folder cannot be written")

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if any(part in {"", ".", ".."} for part in parts) or "\0" in key:
            raise NotFound("no object has this key")
        return self.root.joinpath(*parts)

    def _opened(self, key: str) -> BinaryIO:
        return os.fdopen(os.open(self._path(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")

    def _meta(self, key: Key) -> ObjectMeta:
        with self._opened(key) as file:
            return _meta(key, os.fstat(file.fileno()), self._type(key, file.fileno()), self.name)

    def _type(self, key: str, descriptor: int) -> str:
        if hasattr(os, "getxattr"):
            with suppress(OSError, UnicodeError):
                return os.getxattr(descriptor, TYPE).decode("ascii")
        return mimetypes.guess_type(key)[0] or "application/octet-stream"

    def _commit(self, staged: Path, key: str) -> None:
        path = self._path(key)
        missing = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        staged.replace(path)
        for folder in (path.parent, *(made.parent for made in missing)):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _some(found: Iterator[Listed]) -> list[Listed]:
    return [listed for _, listed in zip(range(BATCH), found, strict=False)]


def _walk(root: Path, prefix: str) -> Iterator[Listed]:
    begin = root.joinpath(*prefix.split("/")[:-1]) if "/" in prefix else root
    folders = [begin]
    while folders:
        try:
            entries = sorted(os.scandir(folders.pop()), key=lambda entry: entry.name, reverse=True)
        except FileNotFoundError:
            continue
        for entry in reversed(entries):
            if entry.is_file(follow_symlinks=False):
                name = Path(entry.path).relative_to(root).as_posix()
                if name.startswith(prefix) and not name.startswith(STAGING):
                    seen = entry.stat(follow_symlinks=False)
                    yield Listed(Key(name), seen.st_size, datetime.fromtimestamp(seen.st_mtime, UTC))
        folders += [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]


def _meta(key: Key, seen: os.stat_result, content_type: str, store: str, sha256: str | None = None) -> ObjectMeta:
    etag = f"{seen.st_mtime_ns:x}-{seen.st_size:x}"
    return ObjectMeta(key, seen.st_size, content_type, etag, datetime.fromtimestamp(seen.st_mtime, UTC), sha256, store)


def _write(file: BinaryIO, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[file.write(view) :]


def _label(descriptor: int, content_type: str) -> None:
    if hasattr(os, "setxattr"):
        with suppress(OSError):  # a file system without attributes keeps the bytes, and types are guessed by name
            os.setxattr(descriptor, TYPE, content_type.encode("ascii", "replace"))


def _tidy(staging: Path) -> None:
    """Remove what was given up long ago."""
    with suppress(FileNotFoundError):
        for path in staging.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - ABANDONED_S:
                    path.unlink()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise NotFound("no object has this key") from error
    except OSError as error:
        if error.errno in FULL:
            raise StorageFull("the folder has no room for the body") from error
        raise Unavailable(f"the folder cannot be used: {error.strerror}") from error

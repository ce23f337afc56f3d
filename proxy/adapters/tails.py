"""The bytes of uploads on their way, in a folder of this machine: a file for each, which all its processes write to."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from proxy.adapters.disk import Steps
from proxy.adapters.locks import KeyLocks, LockFile, place_of
from proxy.adapters.staging import Staging
from proxy.errors import NotFound

BLOCK_BYTES = 1 << 18
PATIENCE_S = 5.0
OLD_S = 3600.0
_ID = re.compile(r"[0-9a-f]{32}")


class FolderTails:
    """`Tails` in *folder*, which is made if it is not there. Enter it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._staging = Staging(folder)
        self._steps = Steps(durable=True)
        self._file = LockFile(folder / "locks")
        self._locks = KeyLocks(PATIENCE_S, self._file)
        self._home = ""

    async def __aenter__(self) -> Self:
        await self._staging.__aenter__()
        self._file.open()
        self._home = await self._staging.run(self._named)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._staging.__aexit__(kind, error, trace)
        self._file.close()

    @property
    def home(self) -> str:
        """The name of this folder, which it got when it was made."""
        return self._home

    def alone(self, name: str) -> AbstractAsyncContextManager[None]:
        """Hold the lock of *name*, which the kernel gives back when the process ends."""
        return self._locks.alone_at(place_of(sha256(name.encode()).hexdigest()))

    async def make(self, id: str) -> None:
        """An empty file."""
        await self._staging.run(self._made, id)

    async def write(self, id: str, at: int, pieces: Sequence[bytes]) -> None:
        """Into the page cache."""
        await self._staging.run(self._written, id, at, pieces)

    async def flush(self, id: str) -> None:
        """Onto the disk."""
        await self._staging.run(self._flushed, id)

    async def read(self, ids: Sequence[str], lengths: Sequence[int]) -> AsyncGenerator[bytes]:
        """As much of each as was asked for, in blocks of 256 KiB."""
        for id, length in zip(ids, lengths, strict=True):
            file = await self._staging.run(self._opened, id, undo=BinaryIO.close)
            try:
                left = length
                while left:
                    block = await self._staging.run(file.read, min(left, BLOCK_BYTES))
                    if not block:
                        raise NotFound("a part of the upload is not there any more")
                    left -= len(block)
                    yield block
            finally:
                file.close()

    async def remove(self, id: str) -> None:
        """Its file; who has it open reads on."""
        await self._staging.run(self._steps.unlink, self._path(id), surely=True)

    async def old(self) -> list[str]:
        """The files that have not been touched for an hour."""
        return await self._staging.run(self._untouched)

    def _path(self, id: str) -> Path:
        return self._folder / id

    def _named(self) -> str:
        # Several processes may do this at once: the first link stays.
        place = self._folder / "home"
        if not place.exists():
            draft = self._folder / f"home.{os.getpid()}"
            draft.write_text(secrets.token_hex(8))
            with suppress(FileExistsError):
                os.link(draft, place)
            draft.unlink()
            self._steps.sync_folder(self._folder)
        return place.read_text()

    def _made(self, id: str) -> None:
        self._steps.create(self._path(id)).close()
        self._steps.sync_folder(self._folder)

    def _opened(self, id: str, mode: str = "rb") -> BinaryIO:
        try:
            return self._path(id).open(mode, buffering=0)  # type: ignore[return-value]
        except FileNotFoundError:
            raise NotFound("there is no such upload") from None

    def _written(self, id: str, at: int, pieces: Sequence[bytes]) -> None:
        with self._opened(id, "r+b") as file:
            file.seek(at)
            for piece in pieces:
                self._steps.write(file, piece)

    def _flushed(self, id: str) -> None:
        with self._opened(id, "r+b") as file:
            self._steps.sync(file)

    def _untouched(self) -> list[str]:
        since = time.time() - OLD_S
        with os.scandir(self._folder) as entries:
            return [entry.name for entry in entries if _ID.fullmatch(entry.name) and entry.stat().st_mtime < since]

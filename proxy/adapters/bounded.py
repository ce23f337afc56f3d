"""A local store with a bound on its bytes, for what can be made again: what was not used for longest makes room."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from processors.errors import MediaError
from proxy.adapters.local import LocalBackend
from proxy.errors import NotFound, StorageFull
from proxy.keys import Key
from proxy.ports import Admit, Body, ByteRange, Listed, ObjectMeta, ObjectReader

BLOCK_BYTES = 4096
ENTRIES = 50_000
"""objects at most: each takes about 220 bytes of memory here"""
_VARIANT = re.compile(r"([0-9a-f]{32})/([0-9a-f]{40})")

Packed = bytes | str
"""The name of a variant is two digests: half the memory as bytes."""

log = structlog.get_logger(__name__)


class BoundedBackend:
    """A `LocalBackend` in *root* that holds at most *max_bytes*, counted as the disk counts them, and *max_entries* objects.

    The order of use survives a restart: it is the time of the files, which each use sets. After a start the objects are
    counted in the background, and nothing makes room before that has ended. *evicted* is told of each that did.

    A *shared* one is used by others, too (`UsedBackend`), whose writes it must be told of by `note`; what they have read is seen
    by the time of the files.
    """

    def __init__(
        self,
        root: Path,
        max_bytes: int,
        *,
        name: str = "variants",
        max_entries: int = ENTRIES,
        shared: bool = False,
        evicted: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._local = LocalBackend(root, name=name, durable=False, shared=shared)
        self._shared = shared
        self._used_at: dict[Packed, float] = {}
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._evicted = evicted
        self._blocks: OrderedDict[Packed, int] = OrderedDict()
        self._used = 0
        self._counting: asyncio.Task[None] | None = None
        self._is_complete = False
        self._is_stale = False

    async def __aenter__(self) -> Self:
        """Take possession of the folder; raises StartError."""
        await self._local.__aenter__()
        self._counting = asyncio.create_task(self._count())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._counting is not None
        self._counting.cancel()
        await asyncio.gather(self._counting, return_exceptions=True)
        await self._local.__aexit__(kind, error, trace)

    @property
    def is_counted(self) -> bool:
        """Whether what the last process left is counted: from now on room is made, and all that is there is known."""
        return self._counting is not None and self._counting.done() and self._is_complete

    @property
    def bytes(self) -> int:
        """What the disk holds, as far as it is counted."""
        return self._used * BLOCK_BYTES

    def __len__(self) -> int:
        return len(self._blocks)

    async def head(self, key: Key) -> ObjectMeta:
        """The record's; raises NotFound."""
        return await self._local.head(key)

    async def open(self, key: Key, span: ByteRange | None = None) -> ObjectReader:
        """The object as it is now, which thereby was the one used last. What is not there costs no look at the disk."""
        if self.is_counted and not self._shared and _packed(key) not in self._blocks:
            raise NotFound("no object has this key")
        try:
            reader = await self._local.open(key, span)
        except NotFound:
            self._drop(key)
            raise
        if _packed(key) in self._blocks:
            self._blocks.move_to_end(_packed(key))
        if reader.file is not None:
            os.utime(reader.file.fileno())
        return reader

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
        """As a local store does it, and then room is made."""
        if size is not None and _blocks(size) * BLOCK_BYTES > self._max_bytes:
            raise StorageFull("the object is larger than all that is kept")
        meta = await self._local.put(key, body, content_type, admit, size=size, etag=etag)
        await self.note(key, meta.size)
        return meta

    async def note(self, key: Key, size: int) -> None:
        """An object of *size* bytes has been put, here or by another process; room is made for it."""
        self._take(key, size)
        if self.is_counted:
            await self._make_room()

    def forget(self, key: Key) -> None:
        """The object has been removed by another process."""
        self._drop(key)

    def recount(self) -> None:
        """Others may have put or removed what we were not told of: look at all that is there."""
        self._is_stale = True
        if self._counting is not None and self._counting.done():
            self._counting = asyncio.create_task(self._count())

    async def clear(self, lives: Callable[[int], bool]) -> None:
        """As a `LocalBackend` does it."""
        await self._local.clear(lives)

    async def delete(self, key: Key) -> None:
        """Remove the object; idempotent."""
        self._drop(key)
        await self._local.delete(key)

    async def list(self, prefix: str = "") -> AsyncIterator[Listed]:
        """All with *prefix*."""
        async for listed in self._local.list(prefix):
            yield listed

    async def ping(self) -> None:
        """Raise Unavailable if a write would not work now."""
        await self._local.ping()

    def _take(self, key: Key, size: int) -> None:
        self._drop(key)
        self._blocks[_packed(key)] = _blocks(size)
        self._used += _blocks(size)
        if self._shared:
            self._used_at[_packed(key)] = time.time()

    def _drop(self, key: Key) -> None:
        self._used -= self._blocks.pop(_packed(key), 0)
        self._used_at.pop(_packed(key), None)

    async def _make_room(self) -> None:
        while self._used * BLOCK_BYTES > self._max_bytes or len(self._blocks) > self._max_entries:
            packed = next(iter(self._blocks))
            if self._shared and await self._was_used(packed):
                continue
            self._used -= self._blocks.pop(packed, 0)
            self._used_at.pop(packed, None)
            self._evicted()
            await self._local.delete(_unpacked(packed))

    async def _was_used(self, packed: Packed) -> bool:
        # Whether another process has read it since we last knew; it then goes to the end of the line.
        used = await self._local.last_use(_unpacked(packed))
        if used <= self._used_at.get(packed, 0.0) or packed not in self._blocks:
            return False
        self._used_at[packed] = used
        self._blocks.move_to_end(packed)
        return True

    async def _count(self) -> None:
        try:
            await self._look()
            while self._is_stale:
                self._is_stale = False
                known = set(self._blocks)
                for packed in known - await self._look():
                    self._used -= self._blocks.pop(packed, 0)
                    self._used_at.pop(packed, None)
            self._is_complete = True
            await self._make_room()
        except MediaError as error:
            log.warning("variants.uncounted", reason=error.slug)

    async def _look(self) -> set[Packed]:
        """Count what is there and was not known; gives all that is there."""
        found = [(used, _packed(listed.key), _blocks(listed.size)) async for used, listed in self._local.by_use()]
        found.sort(key=lambda entry: entry[0], reverse=True)
        for used, packed, blocks in found:
            if packed not in self._blocks:  # those used since the start stand behind them, where the newest are
                self._blocks[packed] = blocks
                if self._shared:
                    self._used_at[packed] = used
                self._blocks.move_to_end(packed, last=False)
                self._used += blocks
        return {packed for _, packed, _ in found}


class UsedBackend(LocalBackend):
    """The objects of a shared `BoundedBackend` as another process uses them.

    *changed* is told of each that it puts, with its size, and of each that it removes, with None.
    """

    def __init__(self, root: Path, max_bytes: int, changed: Callable[[Key, int | None], None], *, name: str = "variants") -> None:
        super().__init__(root, name=name, durable=False, shared=True)
        self._max_bytes = max_bytes
        self._changed = changed

    async def open(self, key: Key, span: ByteRange | None = None) -> ObjectReader:
        """The object as it is now, which thereby was the one used last."""
        reader = await super().open(key, span)
        if reader.file is not None:
            now = time.time_ns()  # the system's own is some milliseconds old, and the keeper compares it with its clock
            os.utime(reader.file.fileno(), ns=(now, now))
        return reader

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
        """As a local store does it."""
        if size is not None and _blocks(size) * BLOCK_BYTES > self._max_bytes:
            raise StorageFull("the object is larger than all that is kept")
        meta = await super().put(key, body, content_type, admit, size=size, etag=etag)
        self._changed(key, meta.size)
        return meta

    async def delete(self, key: Key) -> None:
        """Remove the object; idempotent."""
        await super().delete(key)
        self._changed(key, None)


def _blocks(size: int) -> int:
    # The data and its record.
    return -(-size // BLOCK_BYTES) + 1


def _packed(key: Key) -> Packed:
    match = _VARIANT.fullmatch(key)
    return key if match is None else bytes.fromhex(match[1] + match[2])


def _unpacked(packed: Packed) -> Key:
    return Key(packed if isinstance(packed, str) else f"{packed.hex()[:32]}/{packed.hex()[32:]}")

"""A file of which only those parts are there that were asked for: what the pool is given of it, and what a worker reads.

FFmpeg reads a little here and there of a film of many gigabytes. So the film stays in its store, and the worker says which bytes
it needs; they come into a file with holes that both sides know, and no more than words goes over the pipe.
"""

from __future__ import annotations

import io
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

BLOCK_BYTES = 1 << 16
MOST_AHEAD = 16
"""blocks that are asked for at once where one is read after the other"""


@dataclass(frozen=True, slots=True)
class Sparse:
    """A file at *path* that is to have *size* bytes, of which the first *there* are in it; *fill* brings those from one to another.

    What *fill* raises ends the job, and is raised to whoever has given it.
    """

    path: Path
    size: int
    there: int
    fill: Callable[[int, int], Awaitable[None]]


class CalledOff(Exception):
    """Nobody wants the job any more, or what it needs does not come."""


class Parts:
    """What a worker knows of a file with holes. *need* has bytes brought, from one to another; False when they do not come."""

    def __init__(self, size: int, there: int, need: Callable[[int, int], bool]) -> None:
        self.size = size
        self._there = set(range(there // BLOCK_BYTES if there < size else -(-size // BLOCK_BYTES)))
        self._need = need
        self._end = 0
        self._ahead = 1
        self.is_off = False
        """whether the other side has called the job off: it wants no answer"""

    def bring(self, start: int, stop: int) -> None:
        """Have the bytes from *start* to *stop*, and some more where they are read on and on; raises CalledOff."""
        last = -(-min(stop, self.size) // BLOCK_BYTES)
        for block in range(start // BLOCK_BYTES, last):
            if block not in self._there:
                self._bring(block, last)

    def _bring(self, first: int, last: int) -> None:
        # From the block *first* to *last*, and some more; up to what is there already.
        if self.is_off:
            raise CalledOff
        self._ahead = min(2 * self._ahead, MOST_AHEAD) if first == self._end else 1
        most = min(max(last, first + self._ahead), -(-self.size // BLOCK_BYTES))
        self._end = next((block for block in range(first, most) if block in self._there), most)
        self.is_off = not self._need(first * BLOCK_BYTES, min(self._end * BLOCK_BYTES, self.size))
        if self.is_off:
            raise CalledOff
        self._there.update(range(first, self._end))


class _Holed(io.RawIOBase):
    """The file, read as if it were whole."""

    def __init__(self, path: str, parts: Parts) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        self._parts = parts
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._parts.size}[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        stop = self._parts.size if size < 0 else min(self._at + size, self._parts.size)
        if stop <= self._at:
            return b""
        self._parts.bring(self._at, stop)
        data = os.pread(self._descriptor, stop - self._at, self._at)
        self._at += len(data)
        return data

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


_known: dict[str, Parts] = {}


def know(path: str, parts: Parts | None) -> None:
    """From now on `opened` reads *path* by *parts*; None: it is a whole file, or nobody reads it any more."""
    if parts is None:
        _known.pop(path, None)
    else:
        _known[path] = parts


def is_sparse(path: str) -> bool:
    """Whether `opened` may have to wait for bytes of this file."""
    return path in _known


def opened(path: str) -> BinaryIO:
    """The file, whole or with holes, without a name that a library could make another of."""
    if path in _known:
        return _Holed(path, _known[path])  # type: ignore[return-value]
    return open(os.open(path, os.O_RDONLY), "rb")  # noqa: PTH123

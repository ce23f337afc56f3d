"""The parts of an upload: how large they may be, and the files in which they wait."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from typing import BinaryIO

from proxy.adapters.staging import Staging
from proxy.errors import TooLarge, Unavailable

MIB = 1 << 20
SINGLE_MAX_BYTES = 5 * MIB
"""A body of unknown size up to this goes out by one PUT; it is the least that a part may have, too."""
PART_MIN_BYTES = 5 * MIB
PART_BYTES = 8 * MIB
PARTS_MAX = 10_000
PARTS_AIMED = 9_900
GROWS_AFTER = 1_000
"""Parts of a body of unknown size double after so many, so that 10,000 of them hold 8 TiB; S3 takes objects of 5 TiB."""


def limit(number: int, size: int | None, *, equal: bool) -> int:
    """The bytes of part *number*, but the last, of a body of *size* bytes."""
    if size is not None:
        needed = -(-size // PARTS_AIMED)
        return max(PART_BYTES, -(-needed // MIB) * MIB)
    return PART_BYTES if equal else PART_BYTES << (number - 1) // GROWS_AFTER


class Part:
    """One part in a file without a name; all its methods block."""

    def __init__(self, number: int, file: BinaryIO, max_bytes: int) -> None:
        self.number = number
        self.size = 0
        self.etag = ""
        self._file = file
        self._max_bytes = max_bytes
        self._md5 = hashlib.md5(usedforsecurity=False)

    @property
    def is_full(self) -> bool:
        """Whether no byte more belongs to it."""
        return self.size == self._max_bytes

    @property
    def md5(self) -> str:
        """Lower-case hex."""
        return self._md5.hexdigest()

    @property
    def content_md5(self) -> str:
        """The same as the header wants it (RFC 1864)."""
        return base64.b64encode(self._md5.digest()).decode()

    def write(self, view: memoryview) -> memoryview:
        """Take what belongs to this part; gives the rest."""
        mine = view[: self._max_bytes - self.size]
        self._md5.update(mine)
        left = mine
        while left:
            left = left[self._file.write(left) :]
        self.size += len(mine)
        return view[len(mine) :]

    def read(self, at: int, size: int) -> bytes:
        """Up to *size* bytes from *at*."""
        return os.pread(self._file.fileno(), size, at)

    def close(self) -> None:
        """Drop the file."""
        self._file.close()


class Parts:
    """All parts of one body. `write` and `close` block."""

    def __init__(self, staging: Staging, size: int | None, *, equal: bool) -> None:
        self.all: list[Part] = []
        self._staging = staging
        self._size = size
        self._equal = equal
        self._given = 0

    def write(self, block: bytearray) -> None:
        """Take the next bytes; raises TooLarge when there are more than S3 takes."""
        left = memoryview(block)
        while left:
            if not self.all or self.all[-1].is_full:
                number = len(self.all) + 1
                if number > PARTS_MAX:
                    raise TooLarge("the store takes no body of this size", max_bytes=sum(part.size for part in self.all))
                self.all.append(Part(number, self._staging.create_nameless(), limit(number, self._size, equal=self._equal)))
            left = self.all[-1].write(left)

    def full(self) -> Iterator[Part]:
        """The parts that have become full since it was last asked."""
        while self._given < len(self.all) and self.all[self._given].is_full:
            self._given += 1
            yield self.all[self._given - 1]

    def last(self) -> Part | None:
        """The part that is left when the body has ended; None if all were full, or the body was empty."""
        return self.all[-1] if self._given < len(self.all) else None

    def check(self, size: int) -> None:
        """Raise Unavailable unless the parts make a body of *size* bytes that S3 takes: some stores look for no gap themselves."""
        whole = sum(part.size for part in self.all) == size and all(part.etag for part in self.all)
        if not whole or any(part.size < PART_MIN_BYTES for part in self.all[:-1]):
            raise Unavailable("the parts of the upload do not make the whole")

    def close(self) -> None:
        """Drop all files."""
        for part in self.all:
            part.close()

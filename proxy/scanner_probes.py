"""Checks of a scanner: that it finds what all find, looks at as much as it is trusted with, and says what it left out."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from proxy import streams
from proxy.doctor import Trouble
from proxy.errors import Infected, Unscannable
from proxy.scanning import Scanner

HARMLESS = (b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$", b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*")
"""The test file of eicar.org: in two, so that no scanner finds it in this file."""
BLOCK_BYTES = 1 << 18
AROUND_BYTES = 4096
"""for what an archive has around its members"""
DEPTH = 120
"""of archives in archives: clamd looks at 100 at most, whatever it is told"""
OLD = timedelta(days=7)
_DATABASE = re.compile(r"ClamAV [^/]*/(\d+)/(.+)")


async def finds(scanner: Scanner) -> str:
    """Whether it finds the file that is there to be found."""
    signature = await _found(scanner, _whole(b"".join(HARMLESS)))
    if signature is None:
        raise Trouble("the scanner calls the EICAR test file clean: it has no signatures, so let freshclam fetch them")
    return signature


async def is_fresh(version: Callable[[], Awaitable[str]], now: datetime | None = None) -> str:
    """Whether its signatures are of the last days."""
    told = await version()
    known = _DATABASE.fullmatch(told)
    if known is None:
        raise Trouble("clamd has no official signatures, which freshclam fetches", works=True)
    try:
        date = parsedate_to_datetime(known[2]).replace(tzinfo=UTC)
    except ValueError:
        raise Trouble("clamd does not say of which day its signatures are", works=True) from None
    age = (now or datetime.now(UTC)) - date
    if age > OLD:
        raise Trouble(f"the signatures of clamd are {age.days} days old: does freshclam run, and reach its servers?", works=True)
    return f"signatures {known[1]}"


async def sees_all(scanner: Scanner, max_bytes: int) -> str:
    """Whether it looks at the end of a file of *max_bytes*, its limit."""
    advice = "raise StreamMaxLength, MaxFileSize and (to four times as much) MaxScanSize in clamd.conf, or lower MEDIA_SCAN_LIMIT"
    try:
        signature = await _found(scanner, _archive(max_bytes - AROUND_BYTES))
    except Unscannable as error:
        raise Trouble(f"clamd does not look at files of MEDIA_SCAN_LIMIT, {max_bytes} bytes: {advice}") from error
    if signature is None:
        raise Trouble(f"clamd calls files of MEDIA_SCAN_LIMIT, {max_bytes} bytes, clean without looking at their end: {advice}")
    return ""


async def says_what_it_left_out(scanner: Scanner) -> str:
    """Whether it says of what goes beyond its limits that it does."""
    try:
        await _found(scanner, _whole(_nested()))
    except Unscannable:
        return ""
    raise Trouble("clamd calls clean what it has not looked through: set AlertExceedsMax yes in clamd.conf")


async def _found(scanner: Scanner, body: AsyncIterator[bytes]) -> str | None:
    """What it calls that which it finds in *body*; None where it finds nothing."""
    try:
        async with scanner.watch(body) as watched:
            await streams.drained(watched)
    except Infected as error:
        return str(error.members.get("signature", ""))
    return None


async def _whole(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _archive(size: int) -> AsyncIterator[bytes]:
    """A ZIP of about *size* bytes, with nothing in it and then the test file; never all of it in memory."""
    written = _Written()
    with zipfile.ZipFile(written, "w") as archive:
        with archive.open("nothing", "w") as member:
            left = max(0, size)
            while left:
                member.write(bytes(min(left, BLOCK_BYTES)))
                left -= min(left, BLOCK_BYTES)
                yield written.taken()
        archive.writestr("eicar.com", b"".join(HARMLESS))
    yield written.taken()


class _Written(io.RawIOBase):
    """What is written to it, until it is taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        """Always; and never sought, so that an archive is written from its beginning to its end."""
        return True

    def write(self, data: object) -> int:
        """Keep *data*."""
        self._pieces.append(bytes(data))  # type: ignore[call-overload]
        return len(self._pieces[-1])

    def taken(self) -> bytes:
        """All that was written since the last time."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def _nested() -> bytes:
    data = b"nothing"
    for _ in range(DEPTH):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("again.zip", data)
        data = packed.getvalue()
    return data

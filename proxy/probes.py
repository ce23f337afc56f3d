"""Checks of a store: by the port that all of them have, and of the way to it. They leave nothing behind."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import SplitResult, urlsplit

from processors.errors import MediaError
from proxy import keys
from proxy.doctor import Trouble
from proxy.errors import NotFound, RangeNotSatisfiable, Unavailable
from proxy.keys import Key
from proxy.ports import Backend, ByteRange

CONNECT_S = 5.0
HEAD_BYTES = 1 << 14
CHUNK_BYTES = 1 << 16
SMALL_BYTES = 100_003
"""Over the blocks in which bodies go out, and no multiple of anything."""
CUT_BYTES = 1 << 20
CUT_S = 0.5
"""For the store to see that nothing more comes."""
TYPE = "application/octet-stream"
SKEW_WARNING_S = 30
SKEW_BROKEN_S = 300
"""S3 takes requests that are up to 15 minutes off; tokens have 30 seconds of leeway."""


# -- the way there ----------------------------------------------------------------------------------------------------


async def reach(url: str, setting: str, tls_setting: str) -> str:
    """Whether *url* can be connected to: name, port and TLS told apart. *setting* says where it is, *tls_setting* how."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", _port(parts)
    await _resolved(host, port, setting)
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(host, port, ssl=_context(parts), limit=HEAD_BYTES)
    except ssl.SSLCertVerificationError as error:
        raise Trouble(
            f"the certificate of {host}:{port} is not trusted ({error.verify_message}): mend it, or {tls_setting}"
        ) from error
    except ssl.SSLError as error:
        raise Trouble(f"{host}:{port} takes connections and speaks no https: change {tls_setting}") from error
    except TimeoutError as error:
        raise Trouble(f"{host}:{port} does not answer within {CONNECT_S:g} s: is {setting} right, and no wall between?") from error
    except ConnectionRefusedError as error:
        raise Trouble(f"nobody listens at {host}:{port}: start the store, or change {setting}") from error
    except OSError as error:
        if parts.scheme == "https" and isinstance(error, ConnectionResetError):
            raise Trouble(f"{host}:{port} takes connections and speaks no https: change {tls_setting}") from error
        raise Trouble(f"{host}:{port} cannot be reached ({error.strerror or error}): see {setting}") from error
    writer.close()
    with suppress(OSError, ssl.SSLError):
        await writer.wait_closed()
    return url


async def clock(url: str) -> str:
    """Whether the other machine's clock and ours agree, by the Date of an answer (RFC 9110 section 6.6.1)."""
    date = await _date(urlsplit(url))
    if date is None:
        raise Trouble("the store does not say what time it is there", works=True)
    off = abs((datetime.now(UTC) - date).total_seconds())
    if off > SKEW_WARNING_S:
        sentence = f"the clocks of this machine and of the store differ by {off:.0f} s: set them by NTP"
        raise Trouble(sentence, works=off <= SKEW_BROKEN_S)
    return ""


async def _resolved(host: str, port: int, setting: str) -> None:
    try:
        async with asyncio.timeout(CONNECT_S):
            await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError as error:
        raise Trouble(f"looking up the address of {host} takes too long: see the name server of this machine") from error
    except (OSError, UnicodeError) as error:
        raise Trouble(f"{host} has no address: see {setting} and the name server of this machine") from error


async def _date(parts: SplitResult) -> datetime | None:
    request = f"HEAD / HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(parts.hostname, _port(parts), ssl=_context(parts), limit=HEAD_BYTES)
            try:
                writer.write(request.encode())
                head = await reader.readuntil(b"\r\n\r\n")
            finally:
                writer.close()
        for line in head.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(":")
            if name.lower() == "date":
                return parsedate_to_datetime(value.strip()).astimezone(UTC)
    except (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError):
        return None
    return None


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _context(parts: SplitResult) -> ssl.SSLContext | None:
    return ssl.create_default_context() if parts.scheme == "https" else None


# -- objects ----------------------------------------------------------------------------------------------------------


def new_key() -> Key:
    """A key that nobody has; its owner is nobody's."""
    return keys.parse(f"doctor/{secrets.token_hex(12)}.bin")


class Source:
    """A body of *size* random bytes. *was_read* says whether any of it was asked for."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.was_read = False
        self._seed = secrets.token_bytes(CHUNK_BYTES)
        self._hash = hashlib.sha256()

    async def body(self) -> AsyncIterator[bytes]:
        """All of it."""
        for at in range(0, self.size, CHUNK_BYTES):
            self.was_read = True
            chunk = self._seed[: min(CHUNK_BYTES, self.size - at)]
            self._hash.update(chunk)
            yield chunk

    @property
    def sha256(self) -> str:
        """Of what was read."""
        return self._hash.hexdigest()


async def asks(backend: Backend) -> str:
    """Whether the store asks for a body (100 Continue) before it is sent, without which a store that is away costs the body."""
    source, key = Source(10), new_key()
    try:
        await backend.put(key, source.body(), TYPE, size=source.size)
    except Unavailable as error:
        if source.was_read:
            raise
        raise Trouble(
            "the store does not ask for the body of a PUT (Expect: 100-continue): look for a web server before it that keeps"
            " the header back"
        ) from error
    finally:
        await _remove(backend, key)
    return ""


async def round_trip(backend: Backend) -> str:
    """Whether an object comes back byte for byte, is listed, and is gone when it was deleted."""
    key = new_key()
    try:
        for declared in (True, False):
            source = Source(SMALL_BYTES)
            meta = await backend.put(key, source.body(), TYPE, size=SMALL_BYTES if declared else None)
            await _same(backend, key, source)
            if await backend.head(key) != meta:
                raise Trouble("the store does not keep what is said of an object (its type, its metadata)")
        if [found.key async for found in backend.list(key)] != [key]:
            raise Trouble("the store does not list what it has: backups and removals would miss objects")
        await backend.delete(key)
        if await _has(backend, key):
            raise Trouble("the store still has an object that was deleted: is the bucket locked, or a cache before it?")
    finally:
        await _remove(backend, key)
    return ""


async def ranges(backend: Backend) -> str:
    """Whether parts of an object can be read: the first bytes, the last ones, and none beyond the end."""
    key = new_key()
    try:
        await backend.put(key, _whole(b"0123456789"), TYPE, size=10)
        for span, expected in ((ByteRange(0, 1), b"0"), (ByteRange(3, 7), b"3456"), (ByteRange(-4), b"6789")):
            try:
                async with await backend.open(key, span) as reader:
                    got = b"".join([chunk async for chunk in reader])
            except Unavailable as error:
                raise Trouble("the store, or a web server before it, ignores Range: films cannot be wound") from error
            if got != expected:
                raise Trouble("the store, or a web server before it, answers other ranges than it is asked for")
        try:
            await (await backend.open(key, ByteRange(10))).aclose()
        except RangeNotSatisfiable as refused:
            if refused.members["size"] != 10:
                raise Trouble("the store gives a wrong size where a range lies beyond the end") from refused
        else:
            raise Trouble("the store answers a range beyond the end as if there were one")
    finally:
        await _remove(backend, key)
    return ""


async def cut(backend: Backend, advice: str) -> str:
    """Whether an upload that breaks off leaves nothing; *advice* says what to do with a store that keeps what came until then."""
    key = new_key()

    async def breaking() -> AsyncIterator[bytes]:
        for _ in range(0, CUT_BYTES, CHUNK_BYTES):
            yield bytes(CHUNK_BYTES)
        raise Trouble("the line broke")

    try:
        with suppress(Trouble):
            await backend.put(key, breaking(), TYPE, size=2 * CUT_BYTES)
        await asyncio.sleep(CUT_S)
        if await _has(backend, key):
            raise Trouble(f"the store keeps the first part of an upload that breaks off as if it were the whole: {advice}")
    finally:
        await _remove(backend, key)
    return ""


async def large(backend: Backend, size: int) -> str:
    """Whether a body of unknown length that takes more than one part comes back whole."""
    key, source = new_key(), Source(size)
    try:
        await backend.put(key, source.body(), TYPE)
        await _same(backend, key, source)
    finally:
        await _remove(backend, key)
    return f"{size >> 20} MiB"


async def apart(stores: Sequence[Backend]) -> str:
    """Whether each store is a place of its own: what comes home is removed where it was, which must not be the same place."""
    for store in stores:
        key = new_key()
        try:
            await store.put(key, _whole(b"apart"), TYPE, size=5)
            for other in stores:
                if other is not store and await _has(other, key):
                    raise Trouble(
                        f"{store.name} and {other.name} are one place: home-coming would remove the only copy of objects."
                        " Configure one of them only"
                    )
        finally:
            await _remove(store, key)
    return ""


async def _same(backend: Backend, key: Key, source: Source) -> None:
    seen, size = hashlib.sha256(), 0
    async with await backend.open(key) as reader:
        async for chunk in reader:
            seen.update(chunk)
            size += len(chunk)
    if size != source.size:
        raise Trouble(
            f"of {source.size} bytes {size} came back: the store keeps the framing of uploads in the object, or cuts them."
            " Do not use it before that is mended"
        )
    if seen.hexdigest() != source.sha256:
        raise Trouble("other bytes came back than were stored. Do not use the store before that is mended")


async def _has(backend: Backend, key: Key) -> bool:
    try:
        await backend.head(key)
    except NotFound:
        return False
    return True


async def _remove(backend: Backend, key: Key) -> None:
    with suppress(MediaError):
        await backend.delete(key)


async def _whole(data: bytes) -> AsyncIterator[bytes]:
    yield data

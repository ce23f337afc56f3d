"""clamd as a scanner: bodies go to it as they come, by its INSTREAM command (clamd(8)), a connection for each.

What it does not look at it calls OK: what goes beyond MaxFileSize, MaxScanSize, MaxRecursion and their like. It says so where its
configuration has ``AlertExceedsMax yes``, and of what goes beyond StreamMaxLength always. So bodies have a limit here, too.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

import structlog

from processors import tracing
from proxy.adapters.breaker import Breaker, Position
from proxy.clamd_address import Address
from proxy.errors import Infected, Unavailable, Unscannable
from proxy.ports import Body

CONNECT_S = 2.5
SEND_S = 10.0
"""for what it is given to leave us: it takes bodies as fast as its disk does, also while it scans others"""
ASK_S = 2.5
DOUBT_S = 5.0
"""without a verdict after which it is asked whether it lives"""
PLACE_S = 10.0
"""that a body waits for one of the connections"""
REPLY_BYTES = 1 << 12
FRAME_BYTES = 1 << 18
END = bytes(4)
LIMITS = "Heuristics.Limits.Exceeded"
"""what it calls that it has not looked at everything"""
_VERDICT = re.compile(r"stream: (?:(OK)|(.+) FOUND)", re.DOTALL)
_UNCLEAN = re.compile(r"[^A-Za-z0-9._:/()-]+")

log = structlog.get_logger(__name__)


class ClamavScanner:
    """The clamd at *address*. Entered, it looks whether one that did not answer is back.

    *max_bytes* is what it is trusted with, *deadline_s* what it has for a verdict behind the last byte; *connections* bounds how
    many bodies it is given at one time.
    """

    def __init__(self, address: Address, *, max_bytes: int, deadline_s: float, connections: int) -> None:
        self._address = address
        self._max_bytes = max_bytes
        self._deadline_s = deadline_s
        self._places = asyncio.Semaphore(connections)
        self._breaker = Breaker()
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._look_for_ever())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def is_there(self) -> bool:
        """Whether it is asked, or left alone until it answers again."""
        return self._breaker.closed

    @asynccontextmanager
    async def watch(self, body: Body, size: int | None = None) -> AsyncIterator[Body]:
        """*body*, given to clamd on its way."""
        if size is not None and size > self._max_bytes:
            raise self._too_large()
        async with self._place():
            if not self._breaker.closed:
                raise Unavailable("the scanner does not answer")
            line = await self._connected(b"zINSTREAM\0")
            try:
                yield self._through(body, line)
            finally:
                line.close()

    async def ping(self) -> None:
        """Raise Unavailable if clamd does not answer."""
        await self._asked(b"zPING\0")

    async def version(self) -> str:
        """What clamd says of itself: its version, and the number and date of its signatures where they are the official ones."""
        return await self._asked(b"zVERSION\0")

    async def _through(self, body: Body, line: _Line) -> AsyncIterator[bytes]:
        seen = 0
        try:
            async for chunk in body:
                seen += len(chunk)
                if seen > self._max_bytes:
                    raise self._too_large()
                for start in range(0, len(chunk), FRAME_BYTES):
                    await self._sent(line, chunk[start : start + FRAME_BYTES])
                yield chunk
            await self._sent(line, b"")
            with tracing.span("scan"):
                _judge(await self._reply(line))
        except BaseException:
            line.close()  # whoever goes on with the body may take long
            raise
        self._breaker.succeeded()

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(PLACE_S):
                await self._places.acquire()
        except TimeoutError:
            raise Unavailable("too many uploads are being scanned", retry_after_s=2) from None
        try:
            yield
        finally:
            self._places.release()

    async def _connected(self, command: bytes) -> _Line:
        began = self._breaker.now()
        try:
            async with asyncio.timeout(CONNECT_S):
                return await self._opened(command)
        except (OSError, UnicodeError) as error:  # a timeout is the first; the second is of a name that is none
            raise self._away(began, "connect") from error

    async def _opened(self, command: bytes) -> _Line:
        if self._address.path is not None:
            line = _Line(*await asyncio.open_unix_connection(self._address.path, limit=REPLY_BYTES))
        else:
            line = _Line(*await asyncio.open_connection(self._address.host, self._address.port, limit=REPLY_BYTES))
        line.put(command)
        return line

    async def _sent(self, line: _Line, chunk: bytes) -> None:
        if line.has_answered:  # before its time: of a body that it will not have
            _judge(await self._reply(line))
            raise Unavailable("the scanner has not waited for the end")
        line.put(len(chunk).to_bytes(4, "big"), chunk)
        began = self._breaker.now()
        try:
            async with asyncio.timeout(SEND_S):
                await line.drain()
        except TimeoutError as error:
            raise self._away(began, "send", silent=True) from error
        except OSError as error:  # it has hung up, and may have said why
            _judge(await self._reply(line))
            raise self._away(began, "send") from error

    async def _reply(self, line: _Line) -> str:
        # A scan may take as long as it is given; one that stands still is found out sooner.
        began = self._breaker.now()
        left_s = self._deadline_s
        while left_s > 0:
            if await line.answered(min(left_s, DOUBT_S)):
                break
            left_s -= DOUBT_S
            try:
                await self.ping()
            except Unavailable as error:
                raise self._away(began, "silent", silent=True) from error
        else:
            raise Unavailable("the scanner has come to no verdict in time", retry_after_s=30)
        reply = line.reply
        if not reply:
            raise self._away(began, "cut")
        return reply

    async def _asked(self, command: bytes) -> str:
        line: _Line | None = None
        try:
            async with asyncio.timeout(ASK_S):
                line = await self._opened(command)
                await line.answered(ASK_S)
                reply = line.reply
        except (OSError, UnicodeError) as error:
            raise Unavailable("the scanner does not answer") from error
        finally:
            if line is not None:
                line.close()
        if not reply:
            raise Unavailable("the scanner does not answer")
        return reply

    def _away(self, began: float, reason: str, *, silent: bool = False) -> Unavailable:
        was_closed = self._breaker.closed
        self._breaker.failed(began, silent=silent)
        if was_closed and not self._breaker.closed:
            log.warning("scanner.away", reason=reason)
            self._moved.set()
        return Unavailable("the scanner does not answer")

    def _too_large(self) -> Unscannable:
        return Unscannable(f"files of more than {self._max_bytes} bytes cannot be scanned", max_bytes=self._max_bytes)

    async def _look_for_ever(self) -> None:
        while True:
            if self._breaker.position is Position.CLOSED:
                self._moved.clear()
                await self._moved.wait()
                continue
            await asyncio.sleep(self._breaker.probe_in_s)
            self._breaker.probing()
            well = False
            try:
                await self.ping()
                well = True
            except Unavailable:
                log.debug("scanner.still_away")
            finally:
                self._breaker.probed(well=well)
            if well:
                log.info("scanner.back")


class _Line:
    """A connection on which one thing is asked."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        # It listens all the time: what is said before a connection breaks would be lost to who listens afterwards.
        self._hearing = asyncio.create_task(_heard(reader))

    def put(self, *pieces: bytes) -> None:
        """Send *pieces*; `drain` before more."""
        self._writer.writelines(pieces)

    async def drain(self) -> None:
        """Wait until most of what was put has left; raises OSError when the connection has broken."""
        await self._writer.drain()

    async def answered(self, seconds: float) -> bool:
        """Whether an answer came, or the end of the connection, within *seconds*."""
        done, _ = await asyncio.wait([self._hearing], timeout=seconds)
        return bool(done)

    @property
    def has_answered(self) -> bool:
        """Whether an answer is here, or the connection has ended."""
        return self._hearing.done()

    @property
    def reply(self) -> str:
        """The answer; empty where there is none."""
        return self._hearing.result() if self._hearing.done() else ""

    def close(self) -> None:
        """End it, also in the middle; further calls do nothing."""
        self._hearing.cancel()
        self._writer.transport.abort()


async def _heard(reader: asyncio.StreamReader) -> str:
    try:
        answer = await reader.readuntil(b"\0")
    except asyncio.IncompleteReadError as error:
        answer = error.partial
    except (OSError, asyncio.LimitOverrunError):
        answer = b""
    return answer.decode(errors="replace").strip("\0 \r\n")


def _judge(reply: str) -> None:
    """Return if *reply* says that nothing was found; else raise what it says."""
    verdict = _VERDICT.fullmatch(reply)
    if verdict is None:
        if "size limit exceeded" in reply:
            log.warning("scanner.limit", advice="StreamMaxLength of clamd is below MEDIA_SCAN_LIMIT")
            raise Unscannable("the scanner does not take files of this size")
        log.warning("scanner.failed", reply=reply[:200])
        raise Unavailable("the scanner could not look at it")
    if verdict[1]:
        return
    found = _UNCLEAN.sub("?", verdict[2])[:100]
    if found.startswith(LIMITS):
        raise Unscannable(
            "the file is packed too deep, or has too much in it, to be scanned", limit=found.removeprefix(LIMITS + ".")
        )
    raise Infected(f"the scanner found {found} in it", signature=found)

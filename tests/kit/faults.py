"""A TCP proxy that breaks what goes through it: slow lines, lines that stall, reset or end in the middle, ports that refuse."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

CHUNK_BYTES = 1 << 14
NO_LINGER = struct.pack("ii", 1, 0)


@dataclass
class Faults:
    """What happens to one direction of each connection. *after* counts the bytes of a connection that went that way before.

    *latency_s* delays every piece of up to 16 KiB, *rate* is in bytes a second. At *stall_after* nothing moves any more, at
    *reset_after* both ends get a RST, at *end_after* both get an orderly end.
    """

    latency_s: float = 0.0
    rate: float | None = None
    stall_after: int | None = None
    reset_after: int | None = None
    end_after: int | None = None

    def limit(self) -> int | None:
        """The bytes that still pass before the first fault."""
        return min((at for at in (self.stall_after, self.reset_after, self.end_after) if at is not None), default=None)


class _Ended(Exception):
    """The line has reached its `Faults.end_after`."""


@dataclass(eq=False)
class Line:
    """One connection through the proxy, and how many bytes went up (to the server) and down."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    up: int = 0
    down: int = 0

    def reset(self) -> None:
        """Break both ends with a RST: what was not read yet is lost."""
        for writer in (self.client, self.server):
            sock = writer.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            writer.transport.abort()

    def end(self) -> None:
        """Close both ends in order."""
        for writer in (self.client, self.server):
            writer.close()


def bound(port: int) -> socket.socket:
    """A socket that has *port*, or any if that is 0, and refuses connections."""
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.bind(("127.0.0.1", port))
    return place


class FaultProxy:
    """``async with FaultProxy("127.0.0.1", port) as proxy:`` then talk to ``proxy.port``, or to ``proxy.endpoint``.

    *up* and *down* are the faults of the two directions, read anew for every piece, so that they can be changed while
    connections are open. *faulty* is how many of the connections, from the next on, have them: None is all.
    """

    def __init__(self, host: str, port: int) -> None:
        self.up = Faults()
        self.down = Faults()
        self.faulty: int | None = None
        self.accepted = 0
        self.lines: set[Line] = set()
        self.port = 0
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._kept: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stalled = asyncio.Event()
        self._healed = asyncio.Event()

    @classmethod
    def before(cls, endpoint: str) -> FaultProxy:
        """A proxy in front of the server at *endpoint*, an address such as ``http://127.0.0.1:9000``."""
        parts = urlsplit(endpoint)
        return cls(parts.hostname or "", parts.port or 0)

    @property
    def endpoint(self) -> str:
        """Its address as a URL."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        if self._kept is not None:
            self._kept.close()

    async def listen(self) -> None:
        """Take connections, on the same port as before."""
        assert self._server is None
        place, self._kept = self._kept or bound(0), None
        self.port = place.getsockname()[1]
        self._server = await asyncio.start_server(self._accepted, sock=place, limit=CHUNK_BYTES)

    async def refuse(self) -> None:
        """Refuse connections, and break those that are open, until `listen` is called again."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        self._kept = bound(self.port)  # or somebody else may have the port until `listen`
        self.reset_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await server.wait_closed()

    def reset_all(self) -> None:
        """Break every open connection with a RST."""
        for line in self.lines:
            line.reset()

    def heal(self) -> None:
        """No faults any more; what has stalled goes on."""
        self.up, self.down, self.faulty = Faults(), Faults(), None
        self._stalled.clear()
        self._healed.set()
        self._healed = asyncio.Event()

    async def has_stalled(self, seconds: float = 30.0) -> None:
        """Return when some connection has reached its `stall_after`; raises TimeoutError."""
        async with asyncio.timeout(seconds):
            await self._stalled.wait()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.accepted += 1
        whole = self.faulty is not None and self.faulty <= 0
        if self.faulty is not None:
            self.faulty -= 1
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target, limit=CHUNK_BYTES)
        except OSError:
            Line(writer, writer).reset()
            return
        line = Line(writer, far_writer)
        self.lines.add(line)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(line, reader, far_writer, upwards=True, whole=whole))
                both.create_task(self._pump(line, far_reader, writer, upwards=False, whole=whole))
        except* _Ended:
            line.end()
        except* OSError:
            line.reset()
        finally:
            self.lines.discard(line)
            line.end()

    async def _pump(
        self, line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, upwards: bool, whole: bool
    ) -> None:
        seen = 0
        while chunk := await reader.read(CHUNK_BYTES):
            while chunk:
                faults = Faults() if whole else (self.up if upwards else self.down)
                limit = faults.limit()
                passing = chunk if limit is None else chunk[: max(0, limit - seen)]
                await asyncio.sleep(faults.latency_s + (len(passing) / faults.rate if faults.rate else 0.0))
                writer.write(passing)
                await writer.drain()
                seen += len(passing)
                chunk = chunk[len(passing) :]
                if upwards:
                    line.up = seen
                else:
                    line.down = seen
                if limit is not None and seen >= limit:
                    await self._fault(line, faults, seen)
        if writer.can_write_eof():
            writer.write_eof()

    async def _fault(self, line: Line, faults: Faults, seen: int) -> None:
        if faults.reset_after is not None and seen >= faults.reset_after:
            raise ConnectionResetError
        if faults.end_after is not None and seen >= faults.end_after:
            raise _Ended
        self._stalled.set()
        await self._healed.wait()  # or until the other direction ends the line

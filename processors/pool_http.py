"""Pools of workers on other machines, each behind a `processors.service`: asked as if they were one pool of this machine."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, WSServerHandshakeError
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from processors import conversation, formats, tracing
from processors.batch import Batch
from processors.conversation import revived
from processors.errors import Busy, MediaError, Unsupported
from processors.formats import Kind
from processors.framing import MAX_DATA_BYTES, Broken, Words
from processors.pool import File, Workers
from processors.transform import PIPELINE_REVISION
from processors.values import Cleaned, Inspected
from processors.webline import WebLine

LOOK_S = 2.0
"""how often a processor is asked how it is: so long it is left alone after a failure"""
ANSWER_S = 2.0
"""that it has to say so"""
RESOLVE_S = 10.0
CONNECT_S = 2.0
BEGIN_S = 5.0
JOB_S = 300.0
HEARTBEAT_S = 5.0
TRIES = 2
PART_BYTES = 1 << 18
MOST_ADDRESSES = 64
AWAY = "no picture processor answers"

Answer = TypeVar("Answer")
Noted = Callable[[str, str | None], None]
"""told which processor is there (None), or why it is not; once for each change"""


class Place:
    """One processor: *url*, at *address* where its name has several. Open it to begin; `look` tells how it is."""

    def __init__(self, url: str, address: str | None, token: str | None, noted: Noted) -> None:
        self.url = URL(url)
        self.address = address
        self.outstanding = 0
        self.is_up = False
        self.is_busy = False
        """whether others wait there for long already: it is asked when none is left that is not"""
        self.told: dict[str, Any] = {}
        self.status: int | None = None
        """of its last answer"""
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._noted = noted
        self._was_up: bool | None = None
        self._session: ClientSession | None = None

    def __str__(self) -> str:
        return f"{self.url.host}:{self.url.port}" + ("" if self.address is None else f" ({self.address})")

    async def open(self) -> None:
        """Make ready to connect."""
        resolver = None if self.address is None else _Known(self.address)
        self._session = ClientSession(
            connector=TCPConnector(limit=0, resolver=resolver),
            cookie_jar=DummyCookieJar(),
            timeout=ClientTimeout(total=None, connect=CONNECT_S),
            headers=self._headers,
        )

    async def close(self) -> None:
        """Let go of all connections."""
        if self._session is not None:
            await self._session.close()

    async def look(self) -> None:
        """Ask how it is."""
        assert self._session is not None
        self.status = None
        try:
            async with asyncio.timeout(ANSWER_S), self._session.get(self.url / "health", allow_redirects=False) as answer:
                self.status = answer.status
                told = await answer.json() if answer.status in (200, 503) else {}
            self.told = told if isinstance(told, dict) else {}
            why = self._why_not()
        except (ClientError, OSError, TimeoutError, ValueError) as error:
            why = type(error).__name__
        self.is_busy = self.told.get("status") == "busy"
        self._note(why)

    def _why_not(self) -> str:
        if not isinstance(self.told.get("capabilities"), dict) or not isinstance(self.told.get("places"), int):
            return f"it answers {self.status}"
        if not self.is_alike:
            return "it is of another version"
        status = self.told.get("status")
        return "" if status in ("ok", "busy") else f"it is {status}"

    @property
    def is_alike(self) -> bool:
        """Whether it makes what we would make: otherwise what it makes would be kept under the name of something else."""
        return self.told.get("pipeline") == PIPELINE_REVISION

    def lost(self) -> None:
        """It has failed: leave it alone until it says that it is well."""
        self._note("it was lost at work")

    def _note(self, why: str) -> None:
        self.is_up = not why
        if self.is_up is not self._was_up:
            self._noted(str(self), why or None)
        self._was_up = self.is_up

    @asynccontextmanager
    async def line(self) -> AsyncIterator[WebLine]:
        """A conversation with it; raises Broken, Busy."""
        assert self._session is not None
        self.outstanding += 1
        try:
            async with asyncio.timeout(JOB_S):
                try:
                    async with asyncio.timeout(BEGIN_S):
                        web = await self._session.ws_connect(
                            self.url / "work",
                            heartbeat=HEARTBEAT_S,
                            max_msg_size=MAX_DATA_BYTES + (2 << 20),
                            headers=tracing.headers(),
                        )
                except WSServerHandshakeError as error:
                    if error.status == Busy.status:
                        raise Busy("all workers are busy", retry_after_s=1) from None
                    raise Broken from error
                except (ClientError, OSError, TimeoutError) as error:
                    raise Broken from error
                try:
                    async with WebLine(web) as line:
                        yield line
                finally:
                    await web.close()
        except TimeoutError as error:
            raise Broken from error
        finally:
            self.outstanding -= 1


class FarPool:
    """The processors at *urls*, with what a `Pool` offers. Callers bring *token*.

    Work goes where least is under way; what one has lost or refuses for want of room is asked of another one, once. Then *local*
    does it, if there is one; else it is Busy. A name that has several addresses stands for a processor at each.
    *counted* hears how each attempt ended: ok, refused, busy, lost, local (this machine does it), nobody.
    """

    def __init__(
        self, urls: Sequence[str], token: str | None, local: Workers | None, counted: Callable[[str], None], noted: Noted
    ) -> None:
        self._urls = [*urls]
        self._token = token
        self._local = local
        self._counted = counted
        self._noted = noted
        self._nameless: set[str] = set()
        self._places: dict[tuple[str, str | None], Place] = {}
        self._leaving: list[Place] = []
        """whose names do not lead there any more, and where something is under way"""
        self._is_looked_at = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._watching = asyncio.create_task(self._watch())
        with suppress(TimeoutError):  # those that are there are known from the beginning
            async with asyncio.timeout(ANSWER_S):
                await self._is_looked_at.wait()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._watching is not None
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        for place in (*self._places.values(), *self._leaving):
            await place.close()

    @property
    def up(self) -> int:
        """How many processors there are that answer."""
        return sum(place.is_up for place in self._places.values())

    @property
    def places(self) -> int:
        """How many jobs there may be at one time, in work and waiting."""
        far = sum(int(place.told.get("places", 0)) for place in self._places.values() if place.is_up)
        return max(1, far + (0 if self._local is None else self._local.places))

    @property
    def is_idle(self) -> bool:
        """Whether one of them has nothing to do."""
        return any(place.is_up and place.told.get("idle") and not place.outstanding for place in self._places.values())

    async def capabilities(self) -> dict[str, Any]:
        """As `Pool.capabilities`, and which processors there are; raises Busy when nobody can render."""
        told: dict[str, Any] = next((place.told["capabilities"] for place in self._places.values() if place.is_up), {})
        if not told and self._local is None:
            raise Busy(AWAY)
        # This machine's workers are not asked: they are started when they are needed.
        return {**told, "processors": {str(place): "up" if place.is_up else "away" for place in self._places.values()}}

    async def inspect(self, path: File, whole: bool = False, *, wait_s: float | None = None) -> Inspected:
        """As `Pool.inspect`."""
        words = {"do": "inspect", "whole": whole, "wait_s": wait_s}

        async def ask(line: WebLine) -> Inspected:
            told, _ = await self._answer(line, words, path)
            return Inspected(**told["inspected"])

        return await self._asked(ask, lambda local: local.inspect(path, whole, wait_s=wait_s))

    async def clean(self, path: Path, *, wait_s: float | None = None) -> Cleaned:
        """As `Pool.clean`."""

        async def ask(line: WebLine) -> Cleaned:
            told, data = await self._answer(line, {"do": "clean", "wait_s": wait_s}, path)
            return Cleaned(data if told["cleaned"] else None)

        return await self._asked(ask, lambda local: local.clean(path, wait_s=wait_s))

    async def render(self, path: File, batch: Batch) -> None:
        """As `Pool.render`. What a processor has given before it was lost is not made again."""
        is_gathered = False

        async def ask(line: WebLine) -> None:
            nonlocal is_gathered
            await _offer(line, {"do": "render", "nice": batch.in_background}, path)
            gathered, is_gathered = is_gathered, True
            await conversation.render(line, batch, _filling(line, path), is_gathered=gathered)

        await self._asked(ask, lambda local: local.render(path, batch))

    async def _answer(self, line: WebLine, words: Words, path: File) -> tuple[Words, bytes]:
        await _offer(line, words, path)
        told, data = await conversation.answer(line, _filling(line, path))
        if "failed" in told:
            raise revived(told)
        return told, data

    async def _asked(
        self, ask: Callable[[WebLine], Awaitable[Answer]], ask_local: Callable[[Workers], Awaitable[Answer]]
    ) -> Answer:
        tried: set[Place] = set()
        refusal = Busy(AWAY)
        while len(tried) < TRIES and (place := self._next(tried)) is not None:
            tried.add(place)
            try:
                async with place.line() as line:
                    answer = await ask(line)
                self._counted("ok")
                return answer
            except Broken:
                self._counted("lost")
                place.lost()
            except Busy as busy:
                self._counted("busy")
                refusal = busy
            except MediaError:
                self._counted("refused")
                raise
        self._counted("nobody" if self._local is None else "local")
        if self._local is not None:
            return await ask_local(self._local)
        raise refusal

    def _next(self, tried: set[Place]) -> Place | None:
        up = [place for place in self._places.values() if place.is_up and place not in tried]
        random.shuffle(up)
        return min(up, key=lambda place: (place.is_busy, place.outstanding), default=None)

    async def _watch(self) -> None:
        resolve_at = 0.0
        now = asyncio.get_running_loop().time
        while True:
            if now() >= resolve_at:
                await self._resolve()
                resolve_at = now() + RESOLVE_S
            await asyncio.gather(*(place.look() for place in self._places.values()))
            self._is_looked_at.set()
            await asyncio.sleep(LOOK_S)

    async def _resolve(self) -> None:
        found: dict[tuple[str, str | None], Place] = {}
        for url in self._urls:
            known = [place for place in self._places if place[0] == url]
            addresses = await _addresses(url)
            if not addresses and url not in self._nameless:
                self._noted(url, "its name has no address")
            (self._nameless.discard if addresses else self._nameless.add)(url)
            for address in addresses or [address for _, address in known]:
                found[url, address] = self._places.get((url, address)) or Place(url, address, self._token, self._noted)
        for place in (place for name, place in found.items() if name not in self._places):
            await place.open()
        self._leaving += [place for name, place in self._places.items() if name not in found]
        self._places = found
        for place in [place for place in self._leaving if not place.outstanding]:
            self._leaving.remove(place)
            await place.close()


class _Known(AbstractResolver):
    """Leads every name to one address: certificates are still checked against the name."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        family = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        return [ResolveResult(hostname=host, host=self._address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)]

    async def close(self) -> None:
        """Nothing is held."""


async def _addresses(url: str) -> Sequence[str | None]:
    # None for what is an address itself; nothing where the name is not known just now.
    parts = URL(url)
    host = parts.host or ""
    if host.replace(".", "").isdigit() or ":" in host:
        return [None]
    try:
        async with asyncio.timeout(CONNECT_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, parts.port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError):
        return []
    return [*dict.fromkeys(str(place[4][0]) for place in found)][:MOST_ADDRESSES]


async def _offer(line: WebLine, words: Words, file: File) -> None:
    # What is to be done, and the file, or of one with holes its beginning.
    path = file if isinstance(file, Path) else file.path
    size, end = await asyncio.to_thread(_extent, file)
    with suppress(Broken):  # why, is heard
        await line.send({**words, "bytes": size})
        await _send(line, path, 0, end)
        await line.send({"here": True})


def _extent(file: File) -> tuple[int, int]:
    # How many bytes there are, and how many go along at once: of films the others are sent when they are needed.
    if not isinstance(file, Path):
        return file.size, file.there
    size = file.stat().st_size
    with file.open("rb") as opened, suppress(Unsupported):
        if formats.sniff(opened.read(formats.HEAD_BYTES)).kind in (Kind.VIDEO, Kind.AUDIO):
            return size, min(size, PART_BYTES)
    return size, size


def _filling(line: WebLine, file: File) -> conversation.Fill:
    async def fill(start: int, stop: int) -> None:
        size = file.stat().st_size if isinstance(file, Path) else file.size
        if not 0 <= start < stop <= size:
            raise Broken
        if not isinstance(file, Path):
            await file.fill(start, stop)
        await _send(line, file if isinstance(file, Path) else file.path, start, stop)

    return fill


async def _send(line: WebLine, path: Path, start: int, stop: int) -> None:
    with path.open("rb", buffering=0) as file:
        while start < stop:
            data = await asyncio.to_thread(os.pread, file.fileno(), min(PART_BYTES, stop - start), start)
            if not data:
                raise FileNotFoundError(path)
            await line.send({"part": start}, data)
            start += len(data)

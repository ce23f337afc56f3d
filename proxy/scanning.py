"""What comes in is looked at by a scanner on its way: the port, and what becomes of a body that it dislikes, or never saw."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Protocol

import structlog

from processors.errors import MediaError
from proxy.errors import Infected, Unavailable, Unscannable
from proxy.observe import Metrics
from proxy.ports import Body

log = structlog.get_logger(__name__)


class Scanner(Protocol):
    """Tells what must not be stored. Raises Infected, Unscannable, and Unavailable where it does not answer in time."""

    @property
    def is_there(self) -> bool:
        """Whether it makes sense to ask: false while it is known not to answer."""
        ...

    def watch(self, body: Body, size: int | None = None) -> AbstractAsyncContextManager[Body]:
        """*body*, unchanged, of *size* bytes if that is known; it ends when the scanner has found nothing in it.

        It is read no faster than it is scanned, and each chunk is given out before the next one is taken.
        """
        ...

    async def ping(self) -> None:
        """Raise Unavailable if it does not answer."""
        ...


class Watched:
    """A *body* on its way; *is_unscanned* says, once it has ended, whether it ended without a verdict."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.is_unscanned = False


class Scanning:
    """Has *scanner* look at bodies. Those that it could not see to their end are refused, unless we are *lenient*: then they
    pass, and who stores them must withhold them.
    """

    def __init__(self, scanner: Scanner, metrics: Metrics, *, lenient: bool) -> None:
        self._scanner = scanner
        self._lenient = lenient
        self._metrics = metrics

    @asynccontextmanager
    async def watched(self, body: Body, size: int | None) -> AsyncIterator[Watched]:
        """*body*, of *size* bytes if that is known. It raises Infected before it ends; and Unscannable and Unavailable, where
        what was not scanned is refused: at once, where that can be told at once.
        """
        source = _Source(body)
        watched = Watched(source)
        async with AsyncExitStack() as stack:
            try:
                scanned = await stack.enter_async_context(self._scanner.watch(source, size))
            except (Unavailable, Unscannable) as error:
                self._give_up(watched, source, error)
            else:
                watched.body = self._through(scanned, source, watched)
            yield watched

    async def _through(self, scanned: Body, source: _Source, watched: Watched) -> AsyncIterator[bytes]:
        try:
            async for chunk in scanned:
                source.has_gone_out()
                yield chunk
        except Infected as error:
            self._metrics.scanned(error.slug, source.waited_s)
            log.warning("scan.infected", signature=error.members.get("signature"))
            raise
        except (Unavailable, Unscannable) as error:
            if error is source.failure:  # it was not the scanner that failed
                raise
            self._give_up(watched, source, error)
        else:
            self._metrics.scanned("clean", source.waited_s)
            return
        async for chunk in source.rest():
            yield chunk

    def _give_up(self, watched: Watched, source: _Source, error: MediaError) -> None:
        self._metrics.scanned(error.slug, source.waited_s)
        if not self._lenient:
            raise error
        log.warning("scan.put_off", reason=error.slug)
        watched.is_unscanned = True


class _Source:
    """A body, of which nothing is lost when whoever reads it breaks off."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._held: bytes | None = None
        self._ended: float | None = None
        self.failure: BaseException | None = None

    @property
    def waited_s(self) -> float:
        """How long ago the body ended."""
        return 0.0 if self._ended is None else time.perf_counter() - self._ended

    def __aiter__(self) -> _Source:
        return self

    async def __anext__(self) -> bytes:
        try:
            self._held = await anext(self._body)
        except StopAsyncIteration:
            self._ended = time.perf_counter()
            raise
        except BaseException as error:
            self.failure = error
            raise
        return self._held

    def has_gone_out(self) -> None:
        """The last chunk has been given on."""
        self._held = None

    async def rest(self) -> AsyncIterator[bytes]:
        """What has not been given on."""
        if self._held is not None:
            held, self._held = self._held, None
            yield held
        if self._ended is None:
            async for chunk in self._body:
                yield chunk

"""A store that can be told to fail, around one that works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from proxy.errors import StorageFull, StoreRefused, Unavailable
from proxy.keys import Key
from proxy.ports import Admit, Backend, Body, ByteRange, Listed, ObjectMeta, ObjectReader


class Killed(BaseException):
    """Raised in place of everything that a process does not do any more once it was killed."""


class Fuse:
    """Kills a process at one of its coming steps: after *left* of them (None: never) each one raises Killed."""

    def __init__(self) -> None:
        self.left: int | None = None

    def step(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed


class Faulty:
    """*store*, which does as it is told by the attributes; they may be set at any time, and hold for what is under way too.

    *down*: it refuses connections. *silent*: it never answers. *full*: it takes bodies and has no room for them. *refusing*: it
    does not let us in. *breaks_at*: a body it gives ends in a failure behind so many bytes; *takes*: it fails behind so many
    bytes of a body that it is given; *gathers*: it takes some before it finds out that it is down. *loses_answers*: what it is
    told to write it does, and says that it failed.
    """

    def __init__(self, store: Backend, *, down: bool = False, full: bool = False, silent: bool = False) -> None:
        self.name = store.name
        self.store = store
        self.down = down
        self.silent = silent
        self.full = full
        self.refusing = False
        self.loses_answers = False
        self.breaks_at: int | None = None
        self.takes: int | None = None
        self.gathers = False
        self.asked = 0
        self.fuse = Fuse()

    async def head(self, key: Key) -> ObjectMeta:
        await self._reached()
        return await self.store.head(key)

    async def open(self, key: Key, span: ByteRange | None = None) -> ObjectReader:
        """As over a network: neither a file nor data in memory, so that the body may break."""
        await self._reached()
        reader = await self.store.open(key, span)
        return replace(reader, chunks=self._given(reader), file=None, path=None, data=None)

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
        if not self.gathers:
            await self._reached()

        async def admitted(staged: ObjectReader) -> None:
            await self._reached()
            if self.full:
                raise StorageFull("the store has no room for the body")
            if admit is not None:
                await admit(staged)
            if not self.loses_answers:
                await self._reached()

        meta = await self.store.put(key, self._taken(body), content_type, admitted, size=size, etag=etag)
        await self._answered()
        return meta

    async def delete(self, key: Key) -> None:
        await self._reached()
        await self.store.delete(key)
        await self._answered()

    async def list(self, prefix: str = "") -> AsyncIterator[Listed]:
        await self._reached()
        async for listed in self.store.list(prefix):
            await self._reached()
            yield listed

    async def ping(self) -> None:
        await self._reached()

    async def _reached(self) -> None:
        self.asked += 1
        self.fuse.step()
        if self.silent:
            await asyncio.Event().wait()
        if self.down:
            raise Unavailable("the store does not answer")
        if self.refusing:
            raise StoreRefused("the store does not let us in")

    async def _answered(self) -> None:
        self.fuse.step()
        if self.loses_answers:
            raise Unavailable("the answer was lost")

    async def _given(self, reader: ObjectReader) -> AsyncIterator[bytes]:
        given = 0
        async for chunk in reader.chunks:
            await self._reached()
            if self.breaks_at is not None and given + len(chunk) > self.breaks_at:
                yield chunk[: self.breaks_at - given]
                raise Unavailable("the connection broke")
            given += len(chunk)
            yield chunk

    async def _taken(self, body: Body) -> AsyncIterator[bytes]:
        taken = 0
        async for chunk in body:
            await self._reached()
            taken += len(chunk)
            if self.takes is not None and taken > self.takes:
                raise Unavailable("the connection broke")
            yield chunk

"""Resumable uploads: how far each is, and the ports that its state and its bytes cross."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from proxy.keys import Key


class Form(StrEnum):
    """How its bytes come: one after the other (tus); as one part of another that is put together later; as numbered chunks."""

    WHOLE = "whole"
    PART = "part"
    FINAL = "final"
    CHUNKS = "chunks"


class Phase(StrEnum):
    """RECEIVING until the last byte is durable; COMMITTING until that is an asset, again after a crash; then for good."""

    RECEIVING = "receiving"
    COMMITTING = "committing"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Session:
    """One upload of *owner*. *length* is None until it is known; *offset* counts the bytes that survive a crash.

    *fence* is raised by every change: who has an old one is not the last who wrote. *key* is what it becomes, known from the
    commit on; *promised* the key that its token is good for. *parts* are the uploads that a FINAL one is made of.
    """

    id: str
    owner: str
    form: Form
    length: int | None
    expires: datetime
    home: str
    """the machine that has the bytes"""
    filename: str | None = None
    claimed_type: str | None = None
    metadata: str | None = None
    """as the client sent it, to be said again"""
    chunk_bytes: int | None = None
    parts: tuple[str, ...] = ()
    promised: Key | None = None
    offset: int = 0
    fence: int = 0
    phase: Phase = Phase.RECEIVING
    key: Key | None = None
    refusal: Mapping[str, Any] | None = None
    """why it failed: slug, detail, members"""

    @property
    def is_whole(self) -> bool:
        """Whether all its bytes are here."""
        return self.length is not None and self.offset == self.length


@dataclass(frozen=True, slots=True)
class Chunk:
    """One that is durable; *sha256* in lower-case hex."""

    number: int
    sha256: str


class SessionBook(Protocol):
    """The durable list of uploads. Every write is committed on return. Raises Unavailable."""

    async def add(self, session: Session) -> None: ...

    async def get(self, id: str) -> Session | None: ...

    async def change(self, before: Session, after: Session) -> Session | None:
        """Put *after* in the place of *before*, with the next fence; None if something else has taken its place meanwhile."""
        ...

    async def remove(self, id: str) -> None:
        """Forget it and its chunks; idempotent."""
        ...

    async def chunks(self, id: str) -> list[Chunk]: ...

    async def chunk(self, id: str, number: int) -> Chunk | None: ...

    async def add_chunk(self, id: str, chunk: Chunk, size: int, expires: datetime) -> bool:
        """Count a chunk of *size* bytes; false if the upload has gone, and nothing happens if the chunk is counted already."""
        ...

    async def open_count(self, owner: str) -> int:
        """How many of the owner's are not at their end."""
        ...

    async def received(self, home: str) -> int:
        """Bytes that the uploads at *home* have, or will have, which have not become an asset."""
        ...

    async def ended(self, home: str, now: datetime, limit: int) -> list[Session]:
        """Up to *limit* that have expired, of those at *home*."""
        ...

    async def committing(self, home: str, limit: int) -> list[Session]:
        """Up to *limit* that are whole and not yet an asset, of those at *home*."""
        ...

    async def known(self, ids: Sequence[str]) -> set[str]:
        """Those of *ids* that there are."""
        ...


class Tails(Protocol):
    """The bytes of uploads on their way, on this machine. Raises StorageFull, Unavailable, and NotFound for what is not there."""

    @property
    def home(self) -> str:
        """The name of this machine, for as long as its data folder lives."""
        ...

    def alone(self, name: str) -> AbstractAsyncContextManager[None]:
        """Be the only one at work on *name*, of all processes of the machine; raises Unavailable if others are for some seconds."""
        ...

    async def make(self, id: str) -> None:
        """Room for an upload: nothing is in it yet."""
        ...

    async def write(self, id: str, at: int, pieces: Sequence[bytes]) -> None:
        """Put *pieces*, one after the other, at position *at*; not durable yet."""
        ...

    async def flush(self, id: str) -> None:
        """Make all that was written durable."""
        ...

    def read(self, ids: Sequence[str], lengths: Sequence[int]) -> AsyncGenerator[bytes]:
        """The first bytes of each, as many as *lengths* says, one after the other."""
        ...

    async def remove(self, id: str) -> None:
        """Idempotent."""
        ...

    async def old(self) -> list[str]:
        """The ids of all that nobody has written to for an hour."""
        ...

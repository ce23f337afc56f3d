"""Promised uploads: who may bring which bytes under which key, and how far that is. The values, and the ports that they cross."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from proxy.keys import Key


class Way(StrEnum):
    """How the bytes come: to a signed address of ours, to one of the store's, or with a token that is good for them alone."""

    OURS = "ours"
    STORE = "store"
    TOKEN = "token"  # noqa: S105


class Stage(StrEnum):
    """How far a promise is: nothing has come; all has, where nobody can read it; it is an asset; it was refused; taken back."""

    OPEN = "open"
    ARRIVED = "arrived"
    KEPT = "kept"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an upload was refused, as it is said again to who asks again."""

    slug: str
    detail: str
    members: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Promise:
    """One thing that *owner* may upload until *expires*, to become the object *key*. *size* is exact; None: up to *max_bytes*.

    *since* is when it came to its *stage*.
    """

    key: Key
    owner: str
    content_type: str
    size: int | None
    max_bytes: int
    way: Way
    expires: datetime
    since: datetime
    filename: str | None = None
    stage: Stage = Stage.OPEN
    refusal: Refusal | None = None


class PromiseBook(Protocol):
    """The durable list of promises. Every write is committed on return. Raises Unavailable."""

    async def add(self, promise: Promise) -> None:
        """Write it down; raises Conflict if there is one of this key."""
        ...

    async def get(self, key: Key) -> Promise | None: ...

    async def claim(self, key: Key, holder: str, now: datetime, until: datetime) -> bool:
        """Whether *holder* alone is at work on it until then: not if somebody else is. To claim again is to go on."""
        ...

    async def release(self, key: Key, holder: str) -> None:
        """End the work, if it is still this holder's."""
        ...

    async def reserve(self, key: Key, size: int, most_bytes: int, now: datetime) -> bool:
        """Set *size* bytes aside for what comes now, unless all that comes, or has come and waits, would exceed *most_bytes*."""
        ...

    async def move(self, key: Key, before: Sequence[Stage], stage: Stage, now: datetime, refusal: Refusal | None = None) -> bool:
        """Bring it from one of the stages *before* to *stage*; False if it was in none of them."""
        ...

    async def open_count(self, owner: str, now: datetime) -> int:
        """How many promises of the owner's are open or arrived, and not beyond their end."""
        ...

    async def ended(self, now: datetime, before: datetime, limit: int) -> list[Promise]:
        """Up to *limit* promises that came to their stage and to their end *before* then, those of longest ago first."""
        ...

    async def remove(self, key: Key) -> None:
        """Forget it; idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Address:
    """Where to send an upload: by *method* with *headers*, or as a form with *fields* before the file."""

    url: str
    method: str
    headers: Mapping[str, str]
    fields: Mapping[str, str] | None = None


class UploadSigner(Protocol):
    """A store that clients can write to by themselves, into a place that nobody reads."""

    async def presign_put(self, promise: Promise, expires_s: int) -> Address | None:
        """An address that takes the bytes of *promise* by PUT for *expires_s* seconds; None where the store does it badly."""
        ...

    async def presign_post(self, promise: Promise, expires_s: int) -> Address | None:
        """As `presign_put`, for the form of a browser."""
        ...

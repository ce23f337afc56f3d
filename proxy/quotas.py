"""What one owner may have: bytes and objects, those on their way included. The values, the port, and a body that takes its room."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from processors.errors import MediaError
from proxy.errors import QuotaExceeded
from proxy.ports import Body

STEP_BYTES = 8 << 20
"""What a body of unknown size may have brought before it is counted."""
RENEWED_S = 600.0
LIFE = timedelta(seconds=3 * RENEWED_S)
"""For which a body on its way counts after its process has died."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """Bytes and objects by store, and bytes of the owners who have most."""

    store_bytes: Mapping[str, float] = field(default_factory=dict)
    store_objects: Mapping[str, float] = field(default_factory=dict)
    owner_bytes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Quota:
    """The most that an owner may have; None: whatever there is room for."""

    bytes: int | None = None
    objects: int | None = None

    @property
    def is_set(self) -> bool:
        """Whether there is any bound."""
        return self.bytes is not None or self.objects is not None


@dataclass(frozen=True, slots=True)
class Usage:
    """What an owner has, and what is set aside for uploads of theirs that have not come to their end."""

    bytes: int = 0
    objects: int = 0
    reserved_bytes: int = 0
    reserved_objects: int = 0

    def check(self, quota: Quota, size: int = 0, objects: int = 0) -> None:
        """Raise QuotaExceeded if *size* more bytes in *objects* more objects would be beyond *quota*."""
        too_many = quota.objects is not None and self.objects + self.reserved_objects + objects > quota.objects
        if not too_many and (quota.bytes is None or self.bytes + self.reserved_bytes + size <= quota.bytes):
            return
        raise QuotaExceeded(
            f"you may have {quota.objects} objects" if too_many else f"your objects may have {quota.bytes} bytes together",
            quota_bytes=quota.bytes,
            quota_objects=quota.objects,
            used_bytes=self.bytes,
            used_objects=self.objects,
            reserved_bytes=self.reserved_bytes,
            reserved_objects=self.reserved_objects,
        )


class Quotas(Protocol):
    """Counts what owners have, over all processes. What is reserved is durable, and counts until its end if nobody ends it before.

    Without a quota nothing is reserved. Raises Unavailable.
    """

    @property
    def quota(self) -> Quota: ...

    async def usage(self, owner: str, now: datetime) -> Usage: ...

    async def largest(self, limit: int) -> Sequence[tuple[str, Usage]]:
        """Up to *limit* owners with what their objects have, who has most first; what is set aside is not counted."""
        ...

    async def reserve(self, name: str, owner: str, size: int, now: datetime, until: datetime, objects: int = 1) -> None:
        """Set *size* bytes aside for what is called *name*, in the place of what was set aside for it before.

        Raises QuotaExceeded, and then changes nothing. What is called by the id of a resumable upload counts as long as that lives.
        """
        ...

    async def release(self, names: Sequence[str]) -> None:
        """Give back what was set aside, if it was; what has become an asset is counted there."""
        ...


def of_promise(key: str) -> str:
    """What the room of a promised upload is called."""
    return f"promise:{key}"


class Room:
    """Room for a body on its way: the declared size from the start, or what has come of it, counted every 8 MiB.

    *name* is that of the room which is taken for it already, at least until *until*.
    """

    def __init__(
        self, quotas: Quotas, owner: str, length: int | None, name: str | None = None, until: datetime | None = None
    ) -> None:
        self.name = name or f"body:{secrets.token_hex(8)}"
        self._quotas = quotas
        self._owner = owner
        self._length = length
        self._until = until

    @asynccontextmanager
    async def taken(self, body: Body) -> AsyncIterator[Body]:
        """*body*, which raises QuotaExceeded where there is no room for more; what it has taken is given back at the end if it
        has not become an asset."""
        await self._reserve(self._length or 0)
        try:
            yield self._counted(body)
        except BaseException:
            with suppress(MediaError):  # then it ends by itself
                await self._quotas.release([self.name])
            raise

    async def _counted(self, body: Body) -> Body:
        seen = counted = 0
        renewed = time.monotonic()
        async for chunk in body:
            seen += len(chunk)
            is_due = time.monotonic() - renewed > RENEWED_S
            if is_due or (self._length is None and seen - counted >= STEP_BYTES):
                await self._reserve(max(seen, self._length or 0))
                counted, renewed = seen, time.monotonic()
            yield chunk

    async def _reserve(self, size: int) -> None:
        now = datetime.now(UTC)
        await self._quotas.reserve(self.name, self._owner, size, now, max(now + LIFE, self._until or now))

"""What happened to assets: told to a back end, and to their owners. The values, and the ports that they cross."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from proxy.keys import Key


class Kind(StrEnum):
    """What happened: an asset is there for everybody, or it is not any more; what is made of each upload has been made of it; its
    owner says something else of it."""

    STORED = "asset.stored"
    PROCESSED = "asset.processed"
    CHANGED = "asset.changed"
    QUARANTINED = "asset.quarantined"
    REMOVED = "asset.removed"


class Delivery(StrEnum):
    """How far an event is on its way to the back end. SILENT ones are for nobody but the owner: there was no back end."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to *key*. *id* is the same for ever; *seq* orders events, and so those of one key.

    *body* is the JSON text that is sent, the same at each attempt.
    """

    seq: int
    id: str
    kind: Kind
    key: Key
    owner: str
    body: str
    created: datetime
    delivery: Delivery
    attempts: int = 0
    reason: str | None = None
    """why the last attempt failed"""


class EventLog(Protocol):
    """The durable list of events, which the catalogue writes in one transaction with what happened. Raises Unavailable."""

    async def due(self, now: datetime, until: datetime, limit: int) -> list[Event]:
        """Up to *limit* PENDING events whose time has come, of each key the first alone; nobody else is given them *until* then."""
        ...

    async def delivered(self, event: Event) -> None: ...

    async def failed(self, event: Event, reason: str, again: datetime | None) -> None:
        """Count an attempt that failed; the next one is *again*, or there is none, and the event is DEAD."""
        ...

    async def dead(self, limit: int) -> list[Event]: ...

    async def replay(self, ids: Sequence[str] | None, now: datetime) -> int:
        """Make DEAD events PENDING again, those of *ids* or all; how many that were."""
        ...

    async def backlog(self) -> dict[Delivery, int]:
        """How many events are PENDING and how many are DEAD."""
        ...

    async def oldest(self, now: datetime) -> timedelta:
        """How long the PENDING event waits that has waited longest."""
        ...

    async def of_owner(self, owner: str, after: int, limit: int) -> list[Event]:
        """Up to *limit* events of the owner's beyond *after*, in order."""
        ...

    async def position(self, id: str | None) -> int:
        """The *seq* of an event, or of the newest one if there is none of this *id*."""
        ...

    async def tidy(self, before: datetime, limit: int) -> int:
        """Forget up to *limit* events from *before* then that are on their way to nobody; how many that were."""
        ...


class Post(Protocol):
    """Sends one event to the back end."""

    async def __call__(self, event: Event) -> str | None:
        """None when it was taken; else why not, in a few words."""
        ...

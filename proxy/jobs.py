"""Long work on assets: the values, and the port of the book in which it is written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from proxy.keys import Key

MOST_ATTEMPTS = 3
"""A job that has cost so many workers, or found something away so often, has failed."""


class Stage(StrEnum):
    """How far a job is. Only WAITING and RUNNING ones are open; the others stay for a while, to be looked at."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"


OPEN = (Stage.WAITING, Stage.RUNNING)


ASKED_FOR, AUTOMATIC = 10, 20
CLASSIFY = "classify"
"""The profile of the jobs that make nothing of an asset, and say something of it."""
"""Priorities, the lower first: what a person asked for, before what is made of each upload."""


@dataclass(frozen=True, slots=True)
class Job:
    """*profile* is to be made of version *etag* of *key*. *work* names just that, so that it is not done twice.

    *results* are the keys of what was made. *problem* says why it failed, as a problem document does: ``code`` and ``detail``.
    """

    id: str
    owner: str
    key: Key
    etag: str
    profile: str
    work: str | None
    created: datetime
    stage: Stage = Stage.WAITING
    priority: int = ASKED_FOR
    idempotency_key: str | None = None
    attempts: int = 0
    percent: float = 0.0
    results: tuple[Key, ...] = ()
    problem: Mapping[str, Any] | None = None
    started: datetime | None = None
    ended: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some jobs, newest first, and what the next page comes after (None: this was the last)."""

    jobs: list[Job]
    after: str | None


class JobBook(Protocol):
    """The durable list of jobs. A job that runs has one holder, until a moment that this one moves on; then anybody may claim it.

    Every write is committed on return, and those of a holder do nothing once it is not the holder any more. Raises Unavailable.
    """

    async def order(self, job: Job, most_open: int) -> Job:
        """Write *job* down; gives the one that has its idempotency key or does its work already, if there is one.

        Raises RateLimited when the owner has *most_open* open ones, those that classify aside: each upload has one.
        """
        ...

    async def get(self, id: str) -> Job | None: ...

    async def page(
        self, owner: str | None, limit: int, after: str | None = None, key: Key | None = None, stage: Stage | None = None
    ) -> JobPage:
        """Up to *limit* of the owner's jobs, newest first, beyond the id *after*; None: of everybody's.

        Those on *key* alone, or at *stage*, if given.
        """
        ...

    async def claim(self, holder: str, now: datetime, until: datetime, *, classifies: bool = False) -> Job | None:
        """The next job that is due, or whose holder has died, for *holder* alone until then; its attempt is counted.

        Who *classifies* gets the jobs that are to `CLASSIFY` an asset, others get all others.
        """
        ...

    async def beat(self, id: str, holder: str, until: datetime, percent: float) -> bool:
        """Hold it on until then; False if it is not this holder's any more, or was cancelled."""
        ...

    async def is_held(self, id: str, holder: str) -> bool:
        """Whether it is still this holder's; costs no write."""
        ...

    async def give_back(self, id: str, holder: str, due: datetime, *, counts: bool) -> None:
        """Let others claim it, from *due* on; an attempt that does not *count* is taken back."""
        ...

    async def finish(self, id: str, holder: str, results: Sequence[Key], now: datetime) -> bool:
        """Show the *results*, whose records are PENDING, and end the job as DONE, in one transaction and with the events.

        False, and nothing happens, if it is not this holder's any more, or if the source or a result is not there.
        """
        ...

    async def conclude(self, id: str, holder: str, labels: Mapping[str, float], by: str, now: datetime, *, withheld: bool) -> bool:
        """Put the *labels* with the asset, and *by* which classifiers, and end the job as DONE: as `finish` does.

        *withheld*: the asset is QUARANTINED from now on.
        """
        ...

    async def fail(self, id: str, holder: str, problem: Mapping[str, Any], now: datetime) -> None: ...

    async def cancel(self, id: str, now: datetime) -> bool:
        """End an open job as CANCELED; False if it is not open."""
        ...

    async def retire(self, id: str) -> None:
        """Let the work of an ended job be ordered again."""
        ...

    async def backlog(self) -> dict[Stage, int]:
        """How many jobs are WAITING and how many RUNNING."""
        ...

    async def oldest(self, now: datetime) -> timedelta:
        """How long the WAITING job that is due has waited longest; nothing if there is none."""
        ...

    async def tidy(self, before: datetime, limit: int) -> int:
        """Forget up to *limit* jobs that ended *before* then; how many that were."""
        ...

"""Long work as people ask for it: ordered, looked at, cancelled; and what is ordered for each upload."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

import structlog

from processors import formats
from processors.errors import Unsupported
from processors.formats import Kind
from proxy.auth import Principal
from proxy.claims import Clock, utc_now
from proxy.errors import BadRequest, Conflict, IdempotencyReused, NotFound, NotProvided
from proxy.flights import Errands
from proxy.jobs import ASKED_FOR, AUTOMATIC, CLASSIFY, Job, JobBook, JobPage, Stage
from proxy.keys import Key
from proxy.ports import Asset, Catalogue, State

PAGE = 500
MOST_OPEN = 1 << 31
WAITING = 256
"""words to workers that are on their way"""

log = structlog.get_logger(__name__)


class Recipe(Protocol):
    """What can be ordered: *revision* names all that is seen of the result; *automatic*, of each upload that it suits."""

    @property
    def name(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def automatic(self) -> bool: ...

    def suits(self, kind: Kind) -> bool:
        """Whether it can be made of what is of this kind."""
        ...


class Orders:
    """Takes orders for *profiles* into *book*. *ordered* hears of each. Without somebody to work they are refused.

    One owner may have *most_open* at a time.
    """

    def __init__(
        self,
        book: JobBook,
        catalogue: Catalogue,
        profiles: Mapping[str, Recipe],
        most_open: int,
        ordered: Callable[[], Awaitable[None]],
        *,
        provided: bool,
        clock: Clock = utc_now,
    ) -> None:
        self._book = book
        self._catalogue = catalogue
        self._profiles = profiles
        self._most_open = most_open
        self._ordered = ordered
        self._provided = provided
        self._clock = clock
        self._errands = Errands(WAITING)

    async def order(self, asset: Asset, name: str, idempotency_key: str | None = None) -> Job:
        """Have the profile *name* made of *asset*; what is under way or done already is not begun again."""
        profile = self._profiles.get(name)
        if profile is None:
            known = ", ".join(sorted(self._profiles))
            raise BadRequest(f"no profile has this name; there are {known}" if known else "there are no profiles", param="profile")
        format = formats.by_mime(asset.content_type)
        if format is None or not profile.suits(format.kind):
            raise Unsupported(f"{name} cannot be made of {asset.content_type}")
        if not self._provided and name != CLASSIFY:
            raise NotProvided("this service has no ffmpeg, which makes films")
        job = _job(asset, profile, self._clock(), ASKED_FOR, idempotency_key)
        found = await self._book.order(job, self._most_open)
        is_named = idempotency_key is not None and found.idempotency_key == idempotency_key
        if found.stage is Stage.DONE and not is_named and not await self._stands(found):
            await self._book.retire(found.id)
            found = await self._book.order(job, self._most_open)
        if idempotency_key is not None and (found.key, found.profile) != (job.key, job.profile):
            raise IdempotencyReused("this Idempotency-Key was used for another job: send a new one")
        if found.id == job.id:
            log.info("job.ordered", id=job.id, key=job.key, profile=name)
            await self._ordered()
        return found

    def suiting(self, content_type: str | None) -> list[str]:
        """The profiles of which something is made here of objects of this type (None: of any), in the order of their file."""
        format = formats.by_mime(content_type) if content_type is not None else None
        if not self._provided or (content_type is not None and format is None):
            return []
        known = [profile for name, profile in self._profiles.items() if name != CLASSIFY]
        return [profile.name for profile in known if format is None or profile.suits(format.kind)]

    def stored(self, key: Key, content_type: str) -> None:
        """What is made of each upload of this type was written down with its record: have it begun. Returns at once."""
        format = formats.by_mime(content_type)
        begun = (one for one in self._profiles.values() if one.automatic and (self._provided or one.name == CLASSIFY))
        if format is not None and any(one.suits(format.kind) for one in begun):
            self._errands.begin(self._ordered)

    async def get(self, principal: Principal, id: str) -> Job:
        """The job, if it is theirs; raises NotFound."""
        job = await self._book.get(id)
        if job is None or not (principal.is_admin or job.owner == principal.owner):
            raise NotFound("no job has this id")
        return job

    async def page(self, owner: str, limit: int, after: str | None, key: Key | None, stage: Stage | None) -> JobPage:
        """Up to *limit* of the owner's, newest first."""
        return await self._book.page(owner, limit, after, key, stage)

    async def retry(self, job: Job) -> Job:
        """Order again what has failed or was canceled; raises Conflict for other jobs, NotFound when its source is gone."""
        if job.stage not in (Stage.FAILED, Stage.CANCELED):
            raise Conflict(f"the job is {job.stage}: only what has failed or was canceled is done again")
        asset = await self._catalogue.get(job.key)
        if asset is None or asset.state is not State.READY:
            raise NotFound("the object is not there any more")
        return await self.order(asset, job.profile)

    async def cancel(self, job: Job) -> None:
        """End it; what works on it ends within a second. Raises Conflict if it has ended otherwise."""
        if await self._book.cancel(job.id, self._clock()):
            log.info("job.cancelled", id=job.id, key=job.key)
            return
        now = await self._book.get(job.id)
        if now is not None and now.stage is not Stage.CANCELED:
            raise Conflict(f"the job is {now.stage} already")

    async def finish(self) -> None:
        """Wait a moment for what is being written down."""
        await self._errands.finish(5.0)

    async def _stands(self, job: Job) -> bool:
        found = await self._catalogue.many(job.results)
        return len(found) == len(job.results)


def automatic(profiles: Mapping[str, Recipe], clock: Clock = utc_now) -> Callable[[Asset], list[Job]]:
    """What is ordered for each upload, to be written down in the transaction that shows it."""

    def ordered(asset: Asset) -> list[Job]:
        format = formats.by_mime(asset.content_type)
        if format is None or asset.source is not None:
            return []
        wanted = [one for one in profiles.values() if one.automatic and one.suits(format.kind)]
        return [_job(asset, profile, clock(), AUTOMATIC) for profile in wanted]

    return ordered


async def outstanding(catalogue: Catalogue, book: JobBook, recipe: Recipe, clock: Clock = utc_now) -> int:
    """Order *recipe* of every READY asset that it suits and that it has not been done to; how many those are."""
    count, after = 0, None
    while page := await catalogue.kept(PAGE, after):
        after = page[-1].key
        for asset in page:
            format = formats.by_mime(asset.content_type)
            is_due = asset.state is State.READY and asset.source is None and asset.classified != recipe.revision
            if is_due and format is not None and recipe.suits(format.kind):
                await book.order(_job(asset, recipe, clock(), AUTOMATIC), MOST_OPEN)
                count += 1
    return count


def _job(asset: Asset, profile: Recipe, now: datetime, priority: int, idempotency_key: str | None = None) -> Job:
    work = hashlib.sha256("\0".join((asset.key, asset.etag, profile.name, profile.revision)).encode()).hexdigest()
    return Job(
        _new_id(now), asset.owner, asset.key, asset.etag, profile.name, work, now,
        priority=priority, idempotency_key=idempotency_key,
    )  # fmt: skip


def _new_id(now: datetime) -> str:
    return f"job_{int(now.astimezone(UTC).timestamp() * 1_000_000):014x}{secrets.token_hex(8)}"

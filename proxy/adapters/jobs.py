"""The job book, in a table beside the assets: a lease for each job that runs, and its end in one transaction with its results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.adapters.tables import assets, jobs
from proxy.errors import RateLimited
from proxy.events import Kind
from proxy.jobs import CLASSIFY, OPEN, Job, JobPage, Stage
from proxy.keys import Key
from proxy.ports import State

if TYPE_CHECKING:
    from proxy.adapters.catalogue import SqlCatalogue

IS_OPEN = sql.text("stage IN ('waiting', 'running')")
"""As its index has it: SQLite uses that only where the same words are in the query."""
RETRY_S = 30

Insert = Callable[..., Any]


async def canceled(connection: AsyncConnection, now: datetime, which: sql.ColumnElement[bool]) -> int:
    """End the open jobs among those as CANCELED; how many that were."""
    values = {"stage": Stage.CANCELED, "work": None, "holder": None, "ended": _stamp(now)}
    return (await connection.execute(jobs.update().where(which, IS_OPEN).values(values))).rowcount


async def booked(connection: AsyncConnection, insert: Insert, ordered: Iterable[Job]) -> None:
    """Write down what is ordered for an upload; what is there already is not begun again."""
    for job in ordered:
        await connection.execute(insert(jobs).values(_row(job)).on_conflict_do_nothing())


class SqlJobs:
    """Jobs in the database of *catalogue*, which must be open."""

    def __init__(self, catalogue: SqlCatalogue) -> None:
        self._catalogue = catalogue

    async def order(self, job: Job, most_open: int) -> Job:
        """Write it down, unless it is there."""
        insert = self._catalogue.insert(jobs).values(_row(job)).on_conflict_do_nothing().returning(jobs.c.id)
        same = sql.or_(jobs.c.work == job.work, sql.and_(jobs.c.owner == job.owner, jobs.c.idempotency_key == job.idempotency_key))
        mine = jobs.c.idempotency_key == job.idempotency_key
        async with self._catalogue.begun() as connection:
            if (await connection.execute(insert)).first() is None:
                found = jobs.select().where(same).order_by(sql.case((mine, 0), else_=1)).limit(1)
                return _job((await connection.execute(found)).one())
            count = sql.select(sql.func.count()).where(jobs.c.owner == job.owner, jobs.c.profile != CLASSIFY, IS_OPEN)
            if (await connection.execute(count)).scalar_one() > most_open:
                raise RateLimited(f"{most_open} jobs of yours are open already", headers={"Retry-After": str(RETRY_S)})
        return job

    async def get(self, id: str) -> Job | None:
        """It, however far it is."""
        async with self._catalogue.begun() as connection:
            row = (await connection.execute(jobs.select().where(jobs.c.id == id))).first()
        return None if row is None else _job(row)

    async def page(
        self, owner: str | None, limit: int, after: str | None = None, key: Key | None = None, stage: Stage | None = None
    ) -> JobPage:
        """The owner's or everybody's, newest first: ids begin with the time."""
        query = jobs.select() if owner is None else jobs.select().where(jobs.c.owner == owner)
        query = query if key is None else query.where(jobs.c.key == key)
        query = query if stage is None else query.where(jobs.c.stage == stage)
        query = query if after is None else query.where(jobs.c.id < after)
        async with self._catalogue.begun() as connection:
            found = [_job(row) for row in await connection.execute(query.order_by(jobs.c.id.desc()).limit(limit + 1))]
        return JobPage(found[:limit], found[limit - 1].id if len(found) > limit else None)

    async def claim(self, holder: str, now: datetime, until: datetime, *, classifies: bool = False) -> Job | None:
        """The first that is due: while it runs, a job is due when its holder's time is over."""
        others = jobs.alias()
        first = sql.select(others.c.id).where(sql.text("stage IN ('waiting', 'running')"), others.c.due <= _stamp(now))
        first = first.where(others.c.profile == CLASSIFY if classifies else others.c.profile != CLASSIFY)
        first = first.order_by(others.c.priority, others.c.id).limit(1)
        values = {
            "stage": Stage.RUNNING,
            "holder": holder,
            "due": _stamp(until),
            "attempts": jobs.c.attempts + 1,
            "percent": 0.0,
            "started": sql.func.coalesce(jobs.c.started, _stamp(now)),
        }
        query = jobs.update().where(jobs.c.id == first.scalar_subquery(), jobs.c.due <= _stamp(now), IS_OPEN).values(values)
        async with self._catalogue.begun() as connection:
            await self._catalogue.alone(connection, "jobs.claim")
            row = (await connection.execute(query.returning(*jobs.columns))).first()
        return None if row is None else _job(row)

    async def beat(self, id: str, holder: str, until: datetime, percent: float) -> bool:
        """Move the end of the lease on."""
        return await self._changed(id, holder, {"due": _stamp(until), "percent": percent})

    async def is_held(self, id: str, holder: str) -> bool:
        """Look."""
        query = sql.select(jobs.c.id).where(_held(id, holder))
        async with self._catalogue.begun() as connection:
            return (await connection.execute(query)).first() is not None

    async def give_back(self, id: str, holder: str, due: datetime, *, counts: bool) -> None:
        """Let it wait again."""
        values = {"stage": Stage.WAITING, "holder": None, "due": _stamp(due), "attempts": jobs.c.attempts - (0 if counts else 1)}
        await self._changed(id, holder, values)

    async def finish(self, id: str, holder: str, results: Sequence[Key], now: datetime) -> bool:
        """End it with its results, all or nothing."""
        held = sql.select(jobs.c.key, jobs.c.profile).where(_held(id, holder))
        values = {"stage": Stage.DONE, "holder": None, "percent": 100.0, "ended": _stamp(now), "results": json.dumps(results)}
        told = []
        async with self._catalogue.begun() as connection:
            # Records come before jobs, as in `SqlCatalogue.marked`, so that no two wait for each other. A source that is taken
            # away meanwhile is either gone here, or found by its removal with these results as what was made of it.
            pending = assets.update().where(assets.c.key.in_(results), assets.c.state == State.PENDING).values(state=State.PENDING)
            is_whole = (await connection.execute(pending)).rowcount == len(results)
            job = (await connection.execute(held)).first() if is_whole else None
            if job is None:
                return False
            is_there, noted = await self._catalogue.noted(
                connection, Key(job.key), Kind.PROCESSED, {"job": id, "profile": job.profile, "results": list(results)}
            )
            if is_there:
                told.append(noted)
                for key in results:
                    told.append((await self._catalogue.marked(connection, key, State.READY))[1])
                is_there = bool((await connection.execute(jobs.update().where(_held(id, holder)).values(values))).rowcount)
            if not is_there:
                await connection.rollback()
                return False
        for noted in told:
            await self._catalogue.tell(noted)
        return True

    async def conclude(self, id: str, holder: str, labels: Mapping[str, float], by: str, now: datetime, *, withheld: bool) -> bool:
        """End it with its labels, all or nothing."""
        key, etag = (sql.select(column).where(_held(id, holder)).scalar_subquery() for column in (jobs.c.key, jobs.c.etag))
        query = assets.update().where(assets.c.key == key, assets.c.etag == etag, assets.c.state == State.READY)
        said = {"labels": json.dumps(labels), "classified": by}
        told = []
        async with self._catalogue.begun() as connection:
            query = query.values(**said, revision=assets.c.revision + 1)
            asset = (await connection.execute(query.returning(assets.c.key))).first()
            if asset is None:
                return False
            more = {"job": id, "profile": CLASSIFY, "results": [], "labels": dict(labels)}
            told.append((await self._catalogue.noted(connection, Key(asset.key), Kind.PROCESSED, more))[1])
            values = {"stage": Stage.DONE, "holder": None, "percent": 100.0, "ended": _stamp(now), "results": "[]"}
            if not (await connection.execute(jobs.update().where(_held(id, holder)).values(values))).rowcount:
                await connection.rollback()
                return False
            if withheld:
                told.append((await self._catalogue.marked(connection, Key(asset.key), State.QUARANTINED))[1])
        for noted in told:
            await self._catalogue.tell(noted)
        return True

    async def fail(self, id: str, holder: str, problem: Mapping[str, Any], now: datetime) -> None:
        """End it without."""
        values = {"stage": Stage.FAILED, "holder": None, "work": None, "ended": _stamp(now), "problem": json.dumps(problem)}
        await self._changed(id, holder, values)

    async def cancel(self, id: str, now: datetime) -> bool:
        """End it, whoever holds it."""
        async with self._catalogue.begun() as connection:
            return bool(await canceled(connection, now, jobs.c.id == id))

    async def retire(self, id: str) -> None:
        """Forget what it did."""
        async with self._catalogue.begun() as connection:
            await connection.execute(jobs.update().where(jobs.c.id == id, jobs.c.stage.not_in(OPEN)).values(work=None))

    async def backlog(self) -> dict[Stage, int]:
        """How many are open."""
        query = sql.select(jobs.c.stage, sql.func.count()).where(IS_OPEN).group_by(jobs.c.stage)
        async with self._catalogue.begun() as connection:
            found = {Stage(row[0]): int(row[1]) for row in await connection.execute(query)}
        return {stage: found.get(stage, 0) for stage in OPEN}

    async def oldest(self, now: datetime) -> timedelta:
        """How long the job waits that is due and has waited longest."""
        query = sql.select(sql.func.min(jobs.c.created)).where(IS_OPEN, jobs.c.stage == Stage.WAITING, jobs.c.due <= _stamp(now))
        async with self._catalogue.begun() as connection:
            since = _moment((await connection.execute(query)).scalar_one())
        return timedelta() if since is None else max(timedelta(), now - since)

    async def tidy(self, before: datetime, limit: int) -> int:
        """Forget old ones."""
        old = sql.select(jobs.c.id).where(jobs.c.ended < _stamp(before)).order_by(jobs.c.ended).limit(limit)
        async with self._catalogue.begun() as connection:
            return (await connection.execute(jobs.delete().where(jobs.c.id.in_(old)))).rowcount

    async def _changed(self, id: str, holder: str, values: dict[str, Any]) -> bool:
        async with self._catalogue.begun() as connection:
            return bool((await connection.execute(jobs.update().where(_held(id, holder)).values(values))).rowcount)


def _held(id: str, holder: str) -> sql.ColumnElement[bool]:
    return sql.and_(jobs.c.id == id, jobs.c.holder == holder, jobs.c.stage == Stage.RUNNING)


def _stamp(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


def _moment(stamp: int | None) -> datetime | None:
    return None if stamp is None else datetime.fromtimestamp(stamp / 1_000_000, UTC)


def _row(job: Job) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(job, name) for name in Job.__dataclass_fields__}
    row |= {name: None if row[name] is None else _stamp(row[name]) for name in ("created", "started", "ended")}
    return row | {"results": None, "problem": None, "due": row["created"]}


def _job(row: sql.Row[Any]) -> Job:
    fields = {name: value for name, value in row._mapping.items() if name not in {"holder", "due"}}
    moments = {name: _moment(fields[name]) for name in ("created", "started", "ended")}
    results = tuple(map(Key, json.loads(fields["results"] or "[]")))
    problem = None if fields["problem"] is None else json.loads(fields["problem"])
    return Job(**fields | moments | {"stage": Stage(fields["stage"]), "results": results, "problem": problem})

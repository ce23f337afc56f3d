"""The commands on the lists that the service keeps: `media-proxy events` and `media-proxy jobs`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.command import configured, fail

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.adapters.catalogue import SqlCatalogue
    from proxy.adapters.events import SqlEvents
    from proxy.settings import Settings

events = typer.Typer(name="events", help="What the back end is told of: MEDIA_WEBHOOK_URL.", no_args_is_help=True)
jobs = typer.Typer(name="jobs", help="Long work on films and sound, of all owners.", no_args_is_help=True)


@events.command()
def secret() -> None:
    """Print a new secret for MEDIA_WEBHOOK_SECRET."""
    import base64
    import secrets

    print(f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}")


@events.command()
def dead(limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 100) -> None:
    """List the events that the back end never took, the oldest first."""

    async def listed(book: SqlEvents) -> None:
        for event in await book.dead(limit):
            print(event.id, event.created.isoformat(timespec="seconds"), event.kind, event.key, f"({event.reason})")
        left = await book.backlog()
        print(f"{left[Delivery.DEAD]} dead, {left[Delivery.PENDING]} on their way", file=sys.stderr)

    from proxy.events import Delivery

    _with_events(listed)


@events.command()
def replay(
    ids: Annotated[list[str] | None, typer.Argument(help="Which; without any, --all.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are dead.")] = False,
) -> None:
    """Tell the back end again of events that it never took."""
    if bool(ids) == everything:
        fail("Say which events to replay by their ids (`media-proxy events dead` lists them), or --all.")

    async def replayed(book: SqlEvents) -> None:
        from datetime import UTC, datetime

        count = await book.replay(None if everything else ids, datetime.now(UTC))
        print(f"{count} on their way again", file=sys.stderr)
        if ids and count < len(ids):
            fail(f"{len(ids) - count} of these are not dead events: `media-proxy events dead` lists those.")

    _with_events(replayed)


@jobs.command("list")
def listed_jobs(
    state: Annotated[str, typer.Option(help="waiting, running, done, failed or canceled.")] = "failed",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 100,
) -> None:
    """List jobs, the newest first: those that have failed, or as --state says."""
    from proxy.jobs import Stage

    if state not in {*Stage}:
        fail(f"--state is one of {', '.join(Stage)}.")

    async def listed(catalogue: SqlCatalogue, settings: Settings) -> None:
        from proxy.adapters.jobs import SqlJobs

        book = SqlJobs(catalogue)
        for job in (await book.page(None, limit, stage=Stage(state))).jobs:
            why = f"({job.problem['code']}: {job.problem['detail']})" if job.problem else f"{job.percent:.0f} %"
            print(job.id, job.created.isoformat(timespec="seconds"), job.profile, job.key, why)
        left = await book.backlog()
        print(f"{left[Stage.WAITING]} waiting, {left[Stage.RUNNING]} running", file=sys.stderr)

    _with_catalogue(listed)


@jobs.command()
def classify() -> None:
    """Have the model of MEDIA_CLASSIFIER look at all pictures and films that went without, or had another one."""

    async def ordered(catalogue: SqlCatalogue, settings: Settings) -> None:
        from proxy.adapters.jobs import SqlJobs
        from proxy.orders import outstanding
        from proxy.working import classification

        sought = classification(settings)
        if sought is None:
            fail("There is no model: set MEDIA_CLASSIFIER, as the service has it.")
        print(f"{await outstanding(catalogue, SqlJobs(catalogue), sought)} ordered", file=sys.stderr)

    _with_catalogue(ordered)


@jobs.command()
def retry(ids: Annotated[list[str], typer.Argument(help="Which: `media-proxy jobs list` names them.")]) -> None:
    """Order again what has failed or was canceled; a worker finds it within two seconds."""

    async def retried(catalogue: SqlCatalogue, settings: Settings) -> None:
        from processors.errors import MediaError
        from proxy.adapters.jobs import SqlJobs
        from proxy.orders import Orders
        from proxy.working import classification, load, provided, recipes

        async def nobody() -> None:
            """Whoever works looks by itself."""

        book = SqlJobs(catalogue)
        known = recipes(load(settings), classification(settings))
        orders = Orders(book, catalogue, known, settings.media_jobs_open, nobody, provided=provided(settings))
        for id in ids:
            job = await book.get(id)
            if job is None:
                fail(f"No job is called {id}: `media-proxy jobs list` names those that have failed.")
            try:
                print((await orders.retry(job)).id)
            except MediaError as error:
                fail(f"{id} cannot be done again: {error.detail}.")

    _with_catalogue(retried)


def _with_events(work: Callable[[SqlEvents], Awaitable[None]]) -> None:
    async def on_events(catalogue: SqlCatalogue, settings: Settings) -> None:
        from proxy.adapters.events import SqlEvents

        await work(SqlEvents(catalogue))

    _with_catalogue(on_events)


def _with_catalogue(work: Callable[[SqlCatalogue, Settings], Awaitable[None]]) -> None:
    import asyncio

    from processors.errors import MediaError
    from proxy.adapters.catalogue import SqlCatalogue
    from proxy.errors import StartError
    from proxy.machine import database
    from proxy.observe import configure_logs

    settings = configured({})
    configure_logs("error")
    if settings.database_url is None and not (settings.media_data_dir / "catalogue.sqlite").exists():
        fail(f"There is no catalogue in {settings.media_data_dir}: set MEDIA_DATA_DIR, or DATABASE_URL, as the service has it.")

    async def run() -> None:
        async with SqlCatalogue(database(settings)) as catalogue:
            await work(catalogue, settings)

    try:
        asyncio.run(run())
    except (StartError, MediaError) as error:
        fail(f"{error}.")

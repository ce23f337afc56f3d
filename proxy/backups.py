"""The commands on backups: `media-proxy backup` and `media-proxy restore`."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxy.command import configured, fail, of_file, place, run

if TYPE_CHECKING:
    from proxy.adapters.index import Index
    from proxy.ports import Backend
    from proxy.settings import Settings

Other = Annotated[
    Path | None, typer.Option("--env", help="File of settings that say how to reach that place, if others than ours.")
]
AtOnce = Annotated[int, typer.Option("--parallel", min=1, max=64, help="Objects that are carried at one time.")]
AsJson = Annotated[bool, typer.Option("--json", help="The result as JSON, and nothing else on standard output.")]
Which = Annotated[str | None, typer.Option(help="Which; without it the newest one that is whole.")]


def backup(
    to: Annotated[str, typer.Option(help="local:/folder, s3://bucket/prefix or minio://bucket/prefix.")],
    env: Other = None,
    parallel: AtOnce = 8,
    keep: Annotated[int, typer.Option(min=0, help="Snapshots that stay at least; 0 removes none.")] = 0,
    keep_days: Annotated[int, typer.Option(min=0, help="Days for which every snapshot stays.")] = 0,
    verify: Annotated[bool, typer.Option("--verify", help="Take no snapshot: read one back, byte for byte.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Take no snapshot: list those that there are.")] = False,
    snapshot: Which = None,
    as_json: AsJson = False,
) -> None:
    """Back up objects and records while the service runs. Exit status 1: something is not in it as it should be; 3: broken off."""
    settings = configured({})
    where = place(to, "--to")
    if where.kind == "service":
        fail("A backup goes to a place of its own: --to local:/folder, s3://bucket/prefix or minio://bucket/prefix.")
    other = settings if env is None else of_file(env)

    async def work() -> int:
        from proxy import moving
        from proxy.backup import Backup, Verification, chosen, pruned
        from proxy.meter import Shown
        from proxy.snapshots import summary, whole

        if listed:
            async with _vault(where, other, makes=False, holds=False) as (vault, _, _):
                for id in await whole(vault):
                    told = await summary(vault, id)
                    _say(asdict(told), f"{id}  {told.objects} objects, {told.bytes} bytes", as_json=as_json)
            return 0
        if verify:
            async with _vault(where, other, makes=False, holds=False) as (vault, memory, folder):
                checked = Verification(vault, memory, folder, parallel, _trouble)
                async with Shown("verified", checked.progress, quiet=as_json):
                    told = await checked.run(await chosen(vault, snapshot))
            _say(
                {"snapshot": told.id, "objects": told.objects, "faults": checked.progress.left_out},
                f"{told.id}: {told.objects} objects, {checked.progress.left_out} of them not as they should be",
                as_json=as_json,
            )
            return 1 if checked.progress.left_out else 0
        async with (
            moving.household(settings, alone=False) as house,
            _vault(where, other, makes=True, holds=True) as (vault, memory, folder),
        ):
            taking = Backup(house.media, house.catalogue, house.records, vault, memory, folder, parallel, _trouble)
            async with Shown("backed up", taking.progress, quiet=as_json):
                told = await taking.run(datetime.now(UTC))
            removed = (0, 0)
            if keep:
                removed = await pruned(vault, memory, folder, keep, keep_days, datetime.now(UTC))
        gone = {"snapshots_removed": removed[0], "objects_removed": removed[1]}
        copied = {"copied": taking.progress.copied, "copied_bytes": taking.progress.copied_bytes}
        _say(
            asdict(told) | copied | gone,
            f"{told.id}: {told.objects} objects, {told.bytes} bytes; {taking.progress.copied} new, "
            f"{told.left_out} left out; {removed[0]} snapshots and {removed[1]} objects removed",
            as_json=as_json,
        )
        return 1 if told.left_out else 0

    run(work, "what is there already is not copied again")


def restore(
    origin: Annotated[str, typer.Option("--from", help="local:/folder, s3://bucket/prefix or minio://bucket/prefix.")],
    env: Other = None,
    parallel: AtOnce = 8,
    snapshot: Which = None,
    partial: Annotated[bool, typer.Option("--partial", help="Leave out what the backup has no whole bytes of.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put a snapshot back, with the service stopped and its records empty; SQLite and PostgreSQL take each other's."""
    settings = configured({})
    where = place(origin, "--from")
    if where.kind == "service":
        fail("A backup lies in a place of its own: --from local:/folder, s3://bucket/prefix or minio://bucket/prefix.")
    other = settings if env is None else of_file(env)

    async def work() -> int:
        from proxy import moving
        from proxy.backup import chosen
        from proxy.meter import Shown
        from proxy.restoration import Restoration

        async with (
            _vault(where, other, makes=False, holds=False) as (vault, memory, folder),
            moving.household(settings, alone=True) as house,
        ):
            putting = Restoration(vault, house.media, house.records, memory, folder, parallel, _trouble, partial=partial)
            async with Shown("restored", putting.progress, quiet=as_json):
                told = await putting.run(await chosen(vault, snapshot))
        count = putting.progress
        _say(
            {"snapshot": told.id, "objects": count.done, "copied": count.copied, "bytes": told.bytes, "left_out": count.left_out},
            f"{told.id}: {count.done} objects, {told.bytes} bytes; {count.copied} copied now, {count.left_out} left out",
            as_json=as_json,
        )
        return 1 if count.left_out else 0

    run(work, "what was put back stays there, and is not copied again")


@asynccontextmanager
async def _vault(where: Any, settings: Settings, *, makes: bool, holds: bool) -> AsyncIterator[tuple[Backend, Index, Path]]:
    """The place of a backup, memory and a folder for one run, and the lock where it writes."""
    import tempfile
    from contextlib import AsyncExitStack

    from proxy import moving

    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="media-proxy-backup-")))
        vault = await stack.enter_async_context(moving.opened(where, settings, folder / "spool", makes=makes))
        memory = await stack.enter_async_context(moving.remembered(folder / "memory"))
        if holds:
            await stack.enter_async_context(moving.held(vault))
        yield vault, memory, folder


def _trouble(kind: str, key: str) -> None:
    print(f"{kind} {key}", file=sys.stderr)


def _say(row: dict[str, Any], line: str, *, as_json: bool) -> None:
    print(json.dumps(row) if as_json else line)

"""The command `media-proxy migrate`: objects of other stores become ours."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxy.command import configured, fail, of_file, place, run

if TYPE_CHECKING:
    from proxy.mapping import Mapping


def migrate(
    origin: Annotated[str, typer.Option("--from", help="local:/folder, s3://bucket/prefix, minio://bucket/prefix, minio or s3.")],
    to: Annotated[str, typer.Option(help="service (all stores, as it has them), or one place as with --from.")] = "service",
    from_env: Annotated[
        Path | None, typer.Option(help="File of settings that say how to reach --from, if others than ours.")
    ] = None,
    to_env: Annotated[Path | None, typer.Option(help="The same for --to.")] = None,
    rule: Annotated[
        list[str] | None, typer.Option(help="'REGEX -> REPLACEMENT' or 'skip REGEX'; the first that fits counts.")
    ] = None,
    rules: Annotated[Path | None, typer.Option(help="File of such rules, one a line, before those of --rule.")] = None,
    owner: Annotated[str | None, typer.Option(help="Whose all of it becomes: the first part of every key.")] = None,
    record: Annotated[bool, typer.Option("--record", help="Give each object a record, of the owner that its key names.")] = False,
    any_type: Annotated[bool, typer.Option("--any-type", help="Take what no upload may be, too, unlooked at.")] = False,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Objects that are carried at one time.")] = 8,
    state: Annotated[Path | None, typer.Option(help="File that remembers what is done; without it one in the data folder.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Copy nothing, print what would become what.")] = False,
    report: Annotated[Path | None, typer.Option(help="File for the report as JSON.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON on standard output.")] = False,
) -> None:
    """Bring objects from another store. Run again, it goes on. Exit status 1 if some could not be taken, 3 if broken off."""
    settings = configured({})
    source, target = place(origin, "--from"), place(to, "--to")
    if source.kind == "service" or str(source) == str(target):
        fail("--from is a place of its own: local:/folder, s3://bucket/prefix or minio://bucket/prefix.")
    if record and target.kind != "service":
        fail("Records are of what the service has: --record goes with --to service.")
    mapping = mapped(rules, rule or [], owner)
    reached = {"from": settings if from_env is None else of_file(from_env), "to": settings if to_env is None else of_file(to_env)}
    about = f"{source} {target}"
    remembers = state or settings.media_data_dir / "migrations" / f"{hashlib.sha256(about.encode()).hexdigest()[:16]}.sqlite"

    async def work() -> int:
        from proxy import moving
        from proxy.adapters.exchange import Exchange
        from proxy.errors import StartError
        from proxy.meter import Shown
        from proxy.migration import Migration

        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="media-proxy-migrate-")))
            catalogue = None
            there: Exchange
            if target.kind == "service":
                house = await stack.enter_async_context(moving.household(settings, alone=False))
                there, catalogue = Exchange(house.media), house.catalogue if record else None
            else:
                opened = moving.exchanged(target, reached["to"], folder / "to", makes=not dry_run)
                there = await stack.enter_async_context(opened)
            here = await stack.enter_async_context(moving.exchanged(source, reached["from"], folder / "from", makes=False))
            if dry_run:
                copied = folder / "state"
                if remembers.exists():
                    shutil.copyfile(remembers, copied)
                memory = await stack.enter_async_context(moving.remembered(copied))
            else:
                memory = await stack.enter_async_context(moving.remembered(remembers, lasting=True))
            if memory.get("about", "places") not in {None, about}:
                raise StartError(f"{remembers} is of another migration: name another --state")
            memory.put("about", "places", about)
            moved = Migration(
                here, there, mapping, memory, parallel, catalogue, any_type, dry_run, _planned if dry_run else _silent
            )  # fmt: skip
            async with Shown("migrated", moved.report, quiet=as_json or dry_run):
                done = await moved.run()
        _tell({"from": str(source), "to": str(target), **asdict(done)}, report, as_json=as_json)
        return 0 if done.is_good else 1

    run(work, "what is done is not copied again")


def mapped(rules: Path | None, more: list[str], owner: str | None) -> Mapping:
    """The mapping of the options that say it; ends the process where they say none."""
    from proxy import keys
    from proxy.mapping import Mapping

    if owner is not None and not keys.valid_owner(owner):
        fail("--owner is the first part of keys: without slashes, such as user123.")
    try:
        lines = [] if rules is None else rules.read_text(encoding="utf-8").splitlines()
        return Mapping.parse([*lines, *more], owner)
    except (OSError, UnicodeError):
        fail(f"The file {rules} cannot be read.")
    except ValueError as error:
        fail(f"{error}.")


def _tell(told: dict[str, Any], report: Path | None, *, as_json: bool) -> None:
    if report is not None:
        report.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if as_json:
        print(json.dumps(told))
        return
    for trouble in told["troubles"]:
        print(f"{trouble['what']} {trouble['name']} {trouble['reason']}", file=sys.stderr)
    outcomes = ", ".join(f"{count} {what}" for what, count in sorted(told["outcomes"].items()))
    print(
        f"{told['total']} objects: {outcomes or 'nothing new'}; {told['before']} done before; {told['copied_bytes']} bytes copied"
    )


def _planned(name: str, key: str) -> None:
    print(f"{name} -> {key}")


def _silent(name: str, key: str) -> None:
    """Nothing is printed of each."""

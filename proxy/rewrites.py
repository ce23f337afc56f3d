"""The command `media-proxy rewrite-urls`: addresses of an old store in somebody's database become ours."""

from __future__ import annotations

import json
import sys
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from proxy.command import fail, run
from proxy.moves import mapped


def rewrite_urls(
    database: Annotated[
        str, typer.Option(envvar="REWRITE_DATABASE_URL", help="postgresql://…, or sqlite:///file; better by its variable.")
    ],
    table: Annotated[str, typer.Option(help="The table, also as schema.table.")],
    column: Annotated[str, typer.Option(help="Its column of texts: an address, or texts with addresses in them.")],
    origin: Annotated[
        list[str], typer.Option("--from", help="What old addresses begin with, such as https://bucket.s3.amazonaws.com/.")
    ],
    to: Annotated[str, typer.Option(help="What ours begin with.")] = "/api/media/",
    key: Annotated[str | None, typer.Option(help="A unique column, where the table has no primary key of one column.")] = None,
    rule: Annotated[list[str] | None, typer.Option(help="As of migrate.")] = None,
    rules: Annotated[Path | None, typer.Option(help="As of migrate.")] = None,
    owner: Annotated[str | None, typer.Option(help="As of migrate.")] = None,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Rows that are changed together.")] = 500,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, print the SQL that would do it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The sums as JSON, on standard error with --dry-run.")] = False,
) -> None:
    """Put our addresses in the place of an old store's. Run again, it goes on. Exit status 1 if some were left."""
    from proxy.rewriting import Rewriting

    try:
        rewriting = Rewriting.of(origin, to, mapped(rules, rule or [], owner))
    except ValueError as error:
        fail(f"{error}.")

    async def work() -> int:
        from proxy.adapters.column import TextColumn
        from proxy.rewriting import Rewritten

        done = Rewritten()
        async with TextColumn(database, table, column, key) as texts:
            if dry_run:
                print("BEGIN;")
            async with aclosing(texts.rows(rewriting.prefixes, batch)) as batches:
                async for rows in batches:
                    changes = []
                    for row in rows:
                        text, kept = rewriting.rewritten(row.text)
                        done.keep(kept)
                        if text != row.text:
                            changes.append((row, text))
                    done.rows += len(rows)
                    if dry_run:
                        for row, text in changes:
                            print(texts.statement(row, text))
                        done.changed += len(changes)
                    else:
                        changed = await texts.replace(changes)
                        done.changed += changed
                        done.overtaken += len(changes) - changed
            if dry_run:
                print("COMMIT;")
        told = sys.stderr if dry_run else sys.stdout
        if as_json:
            print(json.dumps(asdict(done)), file=told)
        else:
            for address in done.kept:
                print(f"left: {address}", file=sys.stderr)
            print(
                f"{done.changed} of {done.rows} rows changed, {done.overtaken} overtaken, {done.kept_addresses} addresses left",
                file=told,
            )
        return 0 if not (done.overtaken or done.kept_addresses) else 1

    run(work, "what is rewritten is not found again")

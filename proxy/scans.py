"""The command `media-proxy scan`: what is stored is given to the scanner."""

from __future__ import annotations

import json
import sys
from collections import Counter
from contextlib import aclosing
from typing import Annotated

import typer

from proxy.command import configured, fail, run

BROKEN_OFF = 3
"""the exit status of `run` then"""
UNSURE = "unsure"
"""what stores or records did not answer for"""


def scan(
    after: Annotated[str | None, typer.Option(help="Begin beyond this key: where an earlier run was broken off.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Withhold nothing, only say what is found.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line, the last with the sums.")] = False,
) -> None:
    """Scan what is stored, and withhold what is infected. Exit status 1 if something was found, 3 if broken off."""
    settings = configured({})
    from processors.errors import MediaError
    from proxy import keys, maintenance
    from proxy.app import token_maker
    from proxy.rescanning import Finding
    from proxy.settings import BadSettings

    try:
        begin = None if after is None else keys.parse(after)
        tokens, _ = token_maker(settings)
    except MediaError as error:
        fail(f"--after: {error.detail}.")
    except BadSettings as error:
        fail(str(error))
    cursor = after

    async def work() -> int:
        nonlocal cursor
        counts: Counter[str] = Counter()
        async with maintenance.scanned(settings, tokens, is_dry=dry_run) as found, aclosing(found.run(begin)) as all_seen:
            async for seen in all_seen:
                cursor = found.cursor
                what = str(seen.finding or UNSURE)
                counts[what] += 1
                if seen.finding not in {Finding.CLEAN, Finding.CHANGED}:
                    print(json.dumps({"what": what, "key": seen.key}) if as_json else f"{what:12} {seen.key}", flush=True)
        sums = {what: counts[what] for what in (*map(str, Finding), UNSURE)}
        if as_json:
            print(json.dumps({"sums": sums}))
        else:
            print(", ".join(f"{count} {what}" for what, count in sums.items() if count) or "There is nothing to scan", end=".\n")
        return 1 if counts.total() > counts[Finding.CLEAN] + counts[Finding.CHANGED] else 0

    try:
        run(work, "it begins anew, or goes on behind the key that --after names")
    except SystemExit as end:
        if end.code == BROKEN_OFF and cursor is not None:
            print(f"media-proxy: It came to this key: --after {json.dumps(cursor)}", file=sys.stderr)
        raise

"""The `media-proxy` command. What it does lives elsewhere; here are its words, and one sentence for each thing that is wrong."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxy import backups, lists, moves, overview, rewrites, scans
from proxy.command import configured, fail

if TYPE_CHECKING:
    from proxy.auth import Tokens
    from proxy.settings import Settings

MINTED_LIFETIME_S = 12 * 3600
DAY_S = 86_400

cli = typer.Typer(
    name="media-proxy", help="A streaming media proxy.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


cli.add_typer(lists.events)
cli.add_typer(lists.jobs)
cli.command()(backups.backup)
cli.command()(backups.restore)
cli.command()(moves.migrate)
cli.command()(rewrites.rewrite_urls)
cli.command()(overview.health)
cli.command()(overview.usage)
cli.command()(scans.scan)


@cli.callback()
def _root() -> None:
    """A streaming media proxy: uploads, storage, pictures resized on the fly, delivery."""


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; before MEDIA_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; before MEDIA_PORT; 0 takes a free one.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of objects and records; before MEDIA_DATA_DIR.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes that answer requests; before MEDIA_WORKERS.")
    ] = None,
) -> None:
    """Start the service; SIGTERM or Ctrl-C lets requests finish and stops it."""
    options = {"MEDIA_HOST": host, "MEDIA_PORT": port, "MEDIA_DATA_DIR": data_dir, "MEDIA_WORKERS": workers}
    settings = configured({name: str(value) for name, value in options.items() if value is not None})
    _check_libvips()
    from proxy.errors import StartError

    if settings.media_workers > 1:
        # Before the library of metrics is imported, which then decides how it counts.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(settings.media_data_dir.absolute() / "metrics")
        from proxy.processes import run
    else:
        from proxy.run import run
    try:
        run(settings, _tokens(settings), _greet)
    except StartError as error:
        fail(f"{error}.")
    except OSError as error:
        where = f"{settings.media_host}:{settings.media_port}"
        fail(f"Cannot listen on {where}: {error.strerror}. Choose another with MEDIA_HOST or MEDIA_PORT.")


@cli.command()
def token(
    sub: Annotated[str, typer.Option(help="Whose token: the first part of every key of theirs.")],
    scope: Annotated[
        str | None, typer.Option(help="Such as 'media:read media:write'; without it all of one's own objects.")
    ] = None,
    expires: Annotated[int, typer.Option(min=1, help="Seconds that it holds.")] = MINTED_LIFETIME_S,
) -> None:
    """Print a JWT for the service that runs on this configuration."""
    settings = configured({})
    if settings.jwt_public_key is not None:
        fail("JWT_PUBLIC_KEY is set, so tokens come from whoever has the private key: this program cannot mint them.")
    if expires > settings.jwt_max_lifetime:
        fail(f"The service takes tokens of at most {settings.jwt_max_lifetime:g} seconds (JWT_MAX_LIFETIME): lower --expires.")
    tokens, _ = _tokens(settings)
    try:
        print(tokens.mint(sub, scope, expires))
    except ValueError as error:
        fail(f"{error}. Choose a --sub without slashes, such as user123.")


@cli.command()
def sign(
    address: Annotated[str, typer.Argument(help="A key, a path or a whole address, with the query that goes with it.")],
    expires: Annotated[int, typer.Option(min=1, help="Seconds that it holds; the end is rounded up to the hour.")] = DAY_S,
    exact: Annotated[bool, typer.Option("--exact", help="Do not round the end.")] = False,
    eternal: Annotated[bool, typer.Option("--eternal", help="Without an end; needs MEDIA_ETERNAL_ADDRESSES.")] = False,
    kid: Annotated[str | None, typer.Option(help="Which of MEDIA_URL_SECRETS signs; without it the first.")] = None,
    free: Annotated[
        str | None, typer.Option("--any", help="What its holder may change, such as dpr,format,w; only to common values.")
    ] = None,
) -> None:
    """Print a signed address: whoever holds it may have what it names, without a token."""
    from processors.errors import MediaError
    from proxy import access, addresses
    from proxy.errors import StartError
    from proxy.observe import configure_logs

    settings = configured({})
    configure_logs("error")
    if eternal and not settings.media_eternal_addresses:
        fail("The service takes only addresses with an end: leave --eternal out, or set MEDIA_ETERNAL_ADDRESSES.")
    try:
        path = addresses.signed(
            address,
            access.signer(settings),
            access.presets(settings),
            frozenset(settings.media_ignored_parameters),
            ends=None if eternal else addresses.end(expires, rounded=not exact),
            kid=kid,
            free=free,
        )
    except LookupError:
        fail("MEDIA_URL_SECRETS has no secret" + (f" called {kid}." if kid else ": set one, or more."))
    except StartError as error:
        fail(f"{error}.")
    except MediaError as error:
        param = error.members.get("param")
        near = f"; {error.members['nearest']} is known" if "nearest" in error.members else ""
        fail(f"{error.detail}{'' if param is None or str(param) in error.detail else f' ({param})'}{near}.")
    print((settings.media_public_url or "") + path)


@cli.command()
def worker(
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Jobs that are worked on at one time.")] = 1,
    data_dir: Annotated[Path | None, typer.Option(help="The service's folder, or on another machine one's own.")] = None,
    metrics_host: Annotated[str, typer.Option(help="Address on which metrics and health are shown.")] = "127.0.0.1",
    metrics_port: Annotated[int | None, typer.Option(min=0, max=65535, help="Their port; without it they are not.")] = None,
) -> None:
    """Work off jobs beside the service, here or on other machines; SIGTERM or Ctrl-C hands back what is unfinished."""
    from proxy.errors import StartError

    settings = configured({} if data_dir is None else {"MEDIA_DATA_DIR": str(data_dir)})
    from proxy import worker as process

    try:
        process.run(settings, _tokens(settings)[0], concurrency, None if metrics_port is None else (metrics_host, metrics_port))
    except StartError as error:
        fail(f"{error}.")
    except OSError as error:
        fail(f"Cannot listen on {metrics_host}:{metrics_port}: {error.strerror}. Choose another --metrics-port.")


@cli.command()
def processor(
    host: Annotated[str | None, typer.Option(help="Address to listen on; before PROCESSOR_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; before PROCESSOR_PORT; 0 takes a free one.")
    ] = None,
) -> None:
    """Make pictures for media proxies whose PROCESSOR_URL leads here; SIGTERM or Ctrl-C lets work finish and stops it."""
    options = {"PROCESSOR_HOST": host, "PROCESSOR_PORT": port}
    settings = configured({name: str(value) for name, value in options.items() if value is not None})
    _check_libvips()
    from proxy import processor as process
    from proxy.errors import StartError

    try:
        process.run(settings, lambda address: print(f"Media processor at {address}", flush=True))
    except StartError as error:
        fail(f"{error}.")
    except OSError as error:
        where = f"{settings.processor_host}:{settings.processor_port}"
        fail(f"Cannot listen on {where}: {error.strerror}. Choose another with PROCESSOR_HOST or PROCESSOR_PORT.")


@cli.command("doctor")
def examine() -> None:
    """Try every store of the configuration, and say what is broken and what to do; exit status 1 if something is."""
    import asyncio

    from proxy import doctor
    from proxy.app import service_token
    from proxy.checkup import Rounds
    from proxy.observe import configure_logs

    settings = configured({})
    configure_logs("error")
    tokens, _ = _tokens(settings)
    rounds = Rounds(settings, partial(service_token, tokens))
    colours = {doctor.State.WARNING: "yellow", doctor.State.BROKEN: "red", doctor.State.SKIPPED: "bright_black"}

    async def all_findings() -> list[doctor.Finding]:
        return [finding async for finding in rounds.findings()]

    findings = asyncio.run(all_findings())
    for state, line in doctor.lines(findings):
        typer.secho(line, fg=colours.get(state))  # which leaves colours out where nobody sees them
    print(doctor.verdict(findings))
    raise SystemExit(1 if doctor.is_broken(findings) else 0)


@cli.command()
def sweep(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, only say what is found.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line, the last with the sums.")] = False,
    older_than: Annotated[
        int, typer.Option(min=600, help="Seconds for which everything is left alone: somebody may be at work on it.")
    ] = 3600,
) -> None:
    """Bring records and stores together again; exit status 1 if something is left that a person must look at."""
    import asyncio
    import json
    from collections import Counter
    from datetime import timedelta

    from processors.errors import MediaError
    from proxy import maintenance
    from proxy.errors import StartError
    from proxy.observe import configure_logs
    from proxy.sweep import Suspicious, What

    settings = configured({})
    configure_logs("error")
    tokens, _ = _tokens(settings)
    counts: Counter[str] = Counter()
    left = 0

    async def run() -> None:
        nonlocal left
        async with aclosing(maintenance.swept(settings, tokens, timedelta(seconds=older_than), is_dry=dry_run)) as all_found:
            async for found in all_found:
                counts[found.what] += 1
                left += not (dry_run or found.is_mended)
                row = {"what": found.what, "name": found.name, "mended": found.is_mended}
                print(json.dumps(row) if as_json else f"{found.what:12} {'mended' if found.is_mended else 'left':7} {found.name}")

    problem = None
    try:
        asyncio.run(run())
    except StartError as error:
        fail(f"{error}.")
    except Suspicious:
        problem = "More than half of the records have no object: are these the right stores? No more records are removed"
    except MediaError as error:
        problem = f"The sweep has not come to its end: {error.detail}"
    sums = {str(what): counts[what] for what in What}
    if as_json:
        print(json.dumps({"sums": sums, "problem": problem}))
    else:
        print(", ".join(f"{count} {what}" for what, count in sums.items() if count) or "Everything is in order", end=".\n")
        if problem is not None:
            print(f"media-proxy: {problem}.", file=sys.stderr)
    raise SystemExit(1 if problem or left else 0)


def main() -> None:
    """The entry point of the console script."""
    cli()


def _tokens(settings: Settings) -> tuple[Tokens, bool]:
    from proxy.app import token_maker
    from proxy.settings import BadSettings

    try:
        return token_maker(settings)
    except BadSettings as error:
        fail(str(error))


def _check_libvips() -> None:
    from processors import libvips

    try:
        libvips.check()
    except RuntimeError as error:
        fail(str(error))


def _greet(settings: Settings, address: str, tokens: Tokens, *, is_own_secret: bool) -> None:
    """Say where the service is and, when it stands on a secret of its own, how to use it."""
    command = (
        shlex.quote(os.path.relpath(sys.argv[0]))
        if sys.argv[0].endswith("media-proxy")
        else f"{shlex.quote(sys.executable)} -m proxy"
    )
    print(f"Media proxy at {address}", flush=True)
    print(
        f"  reads: {settings.media_read_access}   transforms: {settings.media_transform_access}   data: {settings.media_data_dir}"
    )
    if is_own_secret:
        folder = (
            "" if settings.media_data_dir == Path("media-data") else f"MEDIA_DATA_DIR={shlex.quote(str(settings.media_data_dir))} "
        )
        mint = f"{folder}{command} token --sub me"
        print(f"  a token:   {mint}")
        print(f'  an upload: curl -H "Authorization: Bearer $({mint})" -F file=@photo.jpg {address}/api/upload')
        if sys.stdout.isatty():
            print(f"  the page:  {address}/#token={tokens.mint('me', None, MINTED_LIFETIME_S)}")
        else:
            print(f"  the page:  {address}/   (paste a token)")
    sys.stdout.flush()

"""What every command does: it reads the configuration, and says in one sentence what is wrong."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from proxy.locations import Location
    from proxy.settings import Settings


def configured(options: dict[str, str]) -> Settings:
    """The settings of the environment, *options* before them; ends the process where they are not usable."""
    from proxy.settings import BadSettings, Settings

    try:
        return Settings.from_env({**os.environ, **options})
    except BadSettings as error:
        fail(f"The configuration is not usable. {error}")


def fail(sentence: str) -> NoReturn:
    """End the process."""
    print(f"media-proxy: {sentence}", file=sys.stderr)
    raise SystemExit(2)


def of_file(path: Path) -> Settings:
    """The settings of a file of ``NAME=value`` lines, and nothing else; ends the process where they are not usable."""
    from proxy.settings import BadSettings, Settings

    given = {}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        fail(f"The file {path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}.")
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip().removeprefix("export ")
        if words and not words.startswith("#"):
            name, equals, value = words.partition("=")
            if not equals:
                fail(f"Line {number} of {path} is not NAME=value.")
            given[name.strip()] = value.strip().strip("'\"")
    try:
        return Settings.from_env(given)
    except BadSettings as error:
        fail(f"The file {path} is not usable. {error}")


def place(text: str, option: str) -> Location:
    """The location that *option* names."""
    from proxy.locations import Location

    try:
        return Location.parse(text)
    except ValueError as error:
        fail(f"{option}: {error}.")


def run(work: Callable[[], Awaitable[int]], resumes: str) -> NoReturn:
    """Do *work* and end the process with its exit status: 2 for what a person must set right first, 3 where it was broken off.

    SIGINT and SIGTERM break it off, and so does a store that does not answer. *resumes* says what running it again does.
    """
    import asyncio

    from processors.errors import MediaError
    from proxy.errors import StartError
    from proxy.observe import configure_logs

    configure_logs("error")

    async def stoppable() -> int:
        task = asyncio.ensure_future(work())
        loop = asyncio.get_running_loop()
        for stop in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(stop, task.cancel)
        return await task

    try:
        status = asyncio.run(stoppable())
    except StartError as error:
        fail(f"{error}.")
    except asyncio.CancelledError:
        _broken_off("stopped", resumes)
    except MediaError as error:
        _broken_off(error.detail, resumes)
    except TimeoutError:
        _broken_off("something took too long", resumes)
    raise SystemExit(status)


def _broken_off(why: str, resumes: str) -> NoReturn:
    print(f"media-proxy: Broken off ({why}). Run it again: {resumes}.", file=sys.stderr)
    raise SystemExit(3)

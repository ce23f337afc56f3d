"""The keeper: beside several processes that answer requests the one that has what must be there once. Its life, from both sides."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, Protocol

import structlog

from proxy.app import create_service
from proxy.auth import Tokens
from proxy.errors import StartError
from proxy.house import House, Role
from proxy.observe import process_ended
from proxy.settings import Settings

START_S = 60.0
PAUSE_S = 0.5
SIGN_S = 1.0
"""how often it gives a sign of life"""
SILENT_S = 30.0
"""after which one that stands still is replaced"""
END_S = 20.0
READY = b"."

log = structlog.get_logger(__name__)


class Listening(Protocol):
    """A socket that clients connect to: ours before gunicorn has it, gunicorn's afterwards."""

    def close(self) -> None: ...


class Keeper:
    """The keeper's process, from outside: it is started again when it has ended or stands still, and ends when this process does.

    *listening* is what it must not hold open: clients would wait at a door that nobody opens.
    """

    def __init__(self, settings: Settings, tokens: Tokens, folder: Path, listening: Sequence[Listening]) -> None:
        self._settings = settings
        self._tokens = tokens
        self._folder = folder
        self._listening = listening
        self._life: tuple[int, int] = os.pipe()
        self._signs = -1
        self._process = 0
        self._not_before = 0.0
        self._silent_from = 0.0

    def __enter__(self) -> Keeper:
        """Start it, and wait until all its parts are there; raises the StartError that it met."""
        self._fork(self._listening, begins=True)
        answer = os.read(self._signs, 4096)
        if not answer.startswith(READY):  # there may be several signs already
            self._end()
            raise StartError(answer.decode() or "the keeper of the picture workers does not start")
        os.set_blocking(self._signs, False)
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        os.close(self._life[1])
        os.close(self._life[0])
        until = time.monotonic() + END_S
        while not self._has_ended():
            if time.monotonic() > until:
                self._kill("keeper.stuck")
                self._reap()
                return
            time.sleep(0.02)

    def attend(self, listening: Sequence[Listening]) -> None:
        """Start it again if it has ended, and end it if it stands still."""
        now = time.monotonic()
        try:
            ended = os.read(self._signs, 4096) == b""
        except BlockingIOError:
            if now > self._silent_from:
                self._kill("keeper.silent")
                self._silent_from = now + SILENT_S
            return
        self._silent_from = now + SILENT_S
        if ended and now >= self._not_before:
            log.error("keeper.ended")
            os.close(self._signs)
            self._reap()
            process_ended(self._process)
            self._fork(listening, begins=False)
            os.set_blocking(self._signs, False)

    def _fork(self, listening: Sequence[Listening], *, begins: bool) -> None:
        now = time.monotonic()
        self._not_before, self._silent_from = now + PAUSE_S, now + START_S
        self._signs, ours = os.pipe()
        self._process = os.fork()
        if self._process:
            os.close(ours)
            return
        os.close(self._signs)
        os.close(self._life[1])
        for each in listening:
            each.close()
        house = House(Role.KEEPER, self._folder, begins=begins)
        _keep(self._settings, self._tokens, house, self._life[0], ours)

    def _kill(self, event: str) -> None:
        log.error(event)
        with suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGKILL)

    def _reap(self) -> None:
        with suppress(ChildProcessError):  # gunicorn, which waits for all children, was faster
            os.waitpid(self._process, 0)

    def _has_ended(self) -> bool:
        try:
            return os.waitpid(self._process, os.WNOHANG) != (0, 0)
        except ChildProcessError:
            return True


def _keep(settings: Settings, tokens: Tokens, house: House, life: int, signs: int) -> NoReturn:
    """The keeper's process, from within; to *signs* it says that it is ready, or why it cannot be, and later that it lives."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else signal.SIG_IGN)  # it ends with its parent
    status = 1
    try:
        asyncio.run(_kept(settings, tokens, house, life, signs))
        shutil.rmtree(house.sockets, ignore_errors=True)  # a parent that was killed has left it
        status = 0
    except StartError as error:
        os.write(signs, str(error).encode()[:4000])
    except Exception:
        log.exception("keeper.crashed")
    finally:
        sys.stdout.flush()
        os._exit(status)


async def _kept(settings: Settings, tokens: Tokens, house: House, life: int, signs: int) -> None:
    parent_ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with create_service(settings, tokens, house):
        loop.add_reader(life, parent_ended.set)
        os.set_blocking(signs, False)
        while not parent_ended.is_set():
            with suppress(BlockingIOError, BrokenPipeError):  # nobody reads while gunicorn reloads
                os.write(signs, READY)
            with suppress(TimeoutError):
                async with asyncio.timeout(SIGN_S):
                    await parent_ended.wait()
        loop.remove_reader(life)

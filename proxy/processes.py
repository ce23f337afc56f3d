"""Several processes as one service on one machine: gunicorn keeps those that answer requests, and beside them there is a keeper."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import logging
import mmap
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web
from aiohttp.worker import GunicornWebWorker
from gunicorn import glogging
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter

from proxy import access
from proxy.adapters.disk import Steps
from proxy.adapters.objects import Objects
from proxy.adapters.root import claim
from proxy.app import create_service
from proxy.auth import Tokens
from proxy.errors import StartError
from proxy.house import House, Role
from proxy.keeper import Keeper
from proxy.machine import emptied
from proxy.observe import METRICS_FOLDER, configure_logs, process_ended
from proxy.run import Greeting, address_of
from proxy.settings import Settings

BACKLOG = 1024
ACCEPTED_AT_ONCE = 1
"""connections that a process takes when it wakes: with more, the first to wake would get them all"""
SILENT_S = 30
"""after which a process whose loop stands still is replaced"""
LAST_WORDS_S = 5
PAUSE_S = 1.0
"""before what cannot start is started again"""
HELD_BACK = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})
"""while nobody listens to them: between a fork and the new process' own handlers they would be lost"""

log = structlog.get_logger(__name__)


def run(settings: Settings, tokens_and_origin: tuple[Tokens, bool], greet: Greeting) -> None:
    """Serve until SIGTERM or SIGINT; raises OSError if the address cannot be listened on, and StartError."""
    configure_logs(settings.media_log_level)
    tokens, is_own_secret = tokens_and_origin
    with ExitStack() as stack:
        sockets = stack.enter_context(_listening(settings))
        stack.enter_context(_claimed(settings))
        folder = Path(tempfile.mkdtemp(prefix="media-proxy-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        keeper = stack.enter_context(Keeper(settings, tokens, folder, sockets))
        address = address_of(sockets[0].getsockname())
        # What is there now, all processes share as long as they do not write to it; the collector would.
        gc.collect()
        gc.freeze()
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
        greet(settings, address, tokens, is_own_secret=is_own_secret)
        # From here on they are gunicorn's, which closes them.
        _serve(Servers(_Application(settings, tokens, folder, [listening.detach() for listening in sockets]), settings, keeper))


def _serve(servers: Servers) -> None:
    # gunicorn's processes come back here when they end: what is around belongs to the one that has forked them.
    ours = os.getpid()
    status = 1
    try:
        servers.run()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
        if os.getpid() == ours:
            raise
    finally:
        if os.getpid() != ours:
            sys.stdout.flush()
            os._exit(status)


class Servers(Arbiter):  # type: ignore[misc]
    """gunicorn's arbiter, which looks after the *keeper* too."""

    def __init__(self, app: BaseApplication, settings: Settings, keeper: Keeper) -> None:
        self._settings = settings
        self._keeper = keeper
        super().__init__(app)

    def init_signals(self) -> None:
        """From now on listen to signals."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)

    def spawn_worker(self) -> Any:
        """Start a process, which begins to listen to signals by itself."""
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
        try:
            return super().spawn_worker()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)

    def manage_workers(self) -> None:
        """Start what is missing."""
        self._keeper.attend(self.LISTENERS)
        super().manage_workers()

    def handle_hup(self) -> None:
        """Have new processes read the presets again; with presets that are not usable everything stays as it is."""
        try:
            access.presets(self._settings)
        except StartError as error:
            log.error("presets.refused", reason=str(error))
            return
        super().handle_hup()

    def handle_usr2(self) -> None:
        """Not offered: a second service cannot have the same folders."""


class _Application(BaseApplication):  # type: ignore[misc]
    """What gunicorn asks for: its configuration, and what its workers run."""

    def __init__(self, settings: Settings, tokens: Tokens, folder: Path, sockets: list[int]) -> None:
        self._settings = settings
        self._tokens = tokens
        self._folder = folder
        self._sockets = sockets
        self._served = mmap.mmap(-1, 1)  # of all processes
        super().__init__()

    @property
    def has_served(self) -> bool:
        """Whether a process of this service has come up yet."""
        return bool(self._served[0])

    def note_served(self) -> None:
        """One has."""
        self._served[0] = 1

    def load_config(self) -> None:
        given = {
            "bind": [f"fd://{listening}" for listening in self._sockets],
            "workers": self._settings.media_workers,
            "worker_class": Server,
            "timeout": SILENT_S,
            "graceful_timeout": int(self._settings.media_drain) + LAST_WORDS_S,
            "logger_class": Log,
            "control_socket_disable": True,
            "child_exit": lambda server, worker: process_ended(worker.pid),
        }
        for name, value in given.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """What makes the service of one process."""
        return partial(create_service, self._settings, self._tokens, House(Role.SERVER, self._folder, begins=False))


class Server(GunicornWebWorker):
    """A process that answers requests: our runner with its limits, under gunicorn's supervision."""

    def run(self) -> None:
        """Serve; gunicorn ends the whole service when the first process cannot. Later ones try again: others serve meanwhile."""
        try:
            super().run()
        except Exception as error:
            if not self.app.has_served:
                raise
            log.error("server.cannot_start", exc_info=not isinstance(error, StartError), reason=str(error))
            time.sleep(PAUSE_S)
            sys.exit(1)

    async def _run(self) -> None:
        async with self.wsgi() as service:
            await service.runner.setup()
            for listening in self.sockets:
                await web.SockSite(service.runner, listening, backlog=ACCEPTED_AT_ONCE).start()
                listening.listen(BACKLOG)  # what waits in the kernel is another matter
            self.booted = True
            self.app.note_served()
            gc.collect()
            gc.freeze()
            while self.alive and os.getppid() == self.ppid:
                self.notify()
                await self._wait_next_notify()
            log.info("drain.begun")
            service.health.is_draining = True
            cleaning = asyncio.ensure_future(service.runner.cleanup())
            while not cleaning.done():
                self.notify()
                await asyncio.wait([cleaning], timeout=1.0)
            await cleaning

    def init_signals(self) -> None:
        """From now on listen to signals; those that came meanwhile are heard first."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: begin to stop now, and not at the next look."""
        super().handle_exit(sig, frame)
        self._notify_waiter_done()


class Log(glogging.Logger):  # type: ignore[misc]
    """gunicorn's lines go where all others go; what is not at least a warning says nothing to operators."""

    def setup(self, cfg: Any) -> None:
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)
        self.access_log.disabled = True


@contextmanager
def _listening(settings: Settings) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        found = socket.getaddrinfo(settings.media_host, settings.media_port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        sockets = []
        for family, _, _, _, place in found:
            try:
                listening = socket.create_server(place[:2], family=family, backlog=BACKLOG)
            except OSError as error:
                raise OSError(error.errno, os.strerror(error.errno or 0)) from error
            sockets.append(stack.enter_context(listening))
        yield sockets


@contextmanager
def _claimed(settings: Settings) -> Iterator[None]:
    """Within, the data folder is this service's, and what the last one left in it is cleared away."""
    data = settings.media_data_dir
    with ExitStack() as stack:
        for name in ("thumbnails", "media", "variants", "incoming"):
            if name == "media" and not settings.media_local_store:
                continue
            steps = Steps(durable=name in {"media", "incoming"})
            lock = claim(data / name, steps)
            stack.callback(os.close, lock)
            fcntl.fcntl(lock, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
            try:
                Objects(data / name, steps).sweep()
            except OSError as error:
                raise StartError(f"the folder {data / name} cannot be used: {error.strerror}") from error
        for name in ("spool", "watermarks", METRICS_FOLDER):
            emptied(data / name)
        yield

"""The worker processes of a server, to be held still or killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from tests.kit.server import RunningServer
from tests.kit.waiting import until


def workers(server: RunningServer) -> list[psutil.Process]:
    """The processes that do picture work: the ones that have libvips loaded."""
    found = []
    for child in server.children():
        with suppress(psutil.Error):
            if any("vips" in mapped.path for mapped in child.memory_maps()):
                found.append(child)
    return found


@contextmanager
def held(server: RunningServer) -> Iterator[psutil.Process]:
    """The one worker of *server* stands still, and goes on at the end at the latest: what is asked meanwhile waits."""
    assert until(lambda: len(workers(server)) == 1)
    (process,) = workers(server)
    process.suspend()
    try:
        yield process
    finally:
        with suppress(psutil.NoSuchProcess):
            process.resume()

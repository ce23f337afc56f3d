"""What a child process says: drained by threads, bounded, and readable while it comes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import BinaryIO

MAX_LINES = 20_000
MAX_LINE_BYTES = 16_384


class Output:
    """The last 20,000 lines of some streams, in the order in which they came; longer lines are cut at 16 KiB."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._count = 0
        self._news = threading.Condition()
        self._threads: list[threading.Thread] = []

    def follow(self, stream: BinaryIO) -> None:
        """Read *stream* to its end in a thread of its own."""
        thread = threading.Thread(target=self._drain, args=(stream,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _drain(self, stream: BinaryIO) -> None:
        with stream:
            while line := stream.readline(MAX_LINE_BYTES):
                with self._news:
                    self._lines.append(line.decode("utf-8", "backslashreplace").rstrip("\n"))
                    self._count += 1
                    self._news.notify_all()

    @property
    def mark(self) -> int:
        """A place in the output, for `since`."""
        return self._count

    def since(self, mark: int) -> list[str]:
        """The lines that came after *mark*."""
        with self._news:
            fresh = self._count - mark
            return list(self._lines)[-fresh:] if fresh else []

    def wait_for(self, wanted: Callable[[str], bool], *, since: int = 0, seconds: float = 30.0) -> str | None:
        """The first line after *since* that is *wanted*; None if none came within *seconds*, or the streams have ended without."""
        end = time.monotonic() + seconds
        with self._news:
            while True:
                fresh = self._count - since
                found = next((line for line in (list(self._lines)[-fresh:] if fresh else []) if wanted(line)), None)
                left = end - time.monotonic()
                if found is not None or left <= 0 or not any(thread.is_alive() for thread in self._threads):
                    return found
                self._news.wait(min(left, 0.2))

    def join(self, seconds: float = 5.0) -> None:
        """Wait until the streams have ended."""
        for thread in self._threads:
            thread.join(seconds)

    @property
    def text(self) -> str:
        """All that is kept."""
        return "\n".join(self.since(0))

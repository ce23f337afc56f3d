"""A worker process seen from outside: it is started, asked, and killed; `processors.worker` says what goes over its pipes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

MAX_WORDS_BYTES = 1 << 18
"""A film of a hundred chapters, named in letters that JSON writes with twelve bytes, takes 100 KB."""
MAX_RENDITION_BYTES = 256 << 20
PIPE_BYTES = 1 << 20
# The first words that a child executes: its modules are ours, whatever the current folder is.
PROGRAM = "import runpy, sys; sys.path.insert(0, sys.argv[1]); runpy.run_module(sys.argv[2], run_name='__main__')"


class WorkerDied(Exception):
    """A worker ended in the middle of a job, or spoke nonsense."""


class Child:
    """One child process and its two pipes. At *rest* it has no job."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._requests = process.stdin
        self._answers = process.stdout
        self._is_at_rest = True
        self._is_heard = True
        self._retires = False

    @classmethod
    async def start(cls, module: str = "processors.worker") -> Child:
        """A new child, which runs *module*; it is ready when it has answered its first words."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-c", PROGRAM, str(Path(__file__).parents[1]), module),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=PIPE_BYTES,
        )
        return cls(process)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    @property
    def is_free(self) -> bool:
        """Whether it may take another job."""
        return self.is_alive and self._is_at_rest and not self._retires

    async def ask(self, words: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Say *words*, hear the answer and the picture behind it; raises WorkerDied."""
        self._is_at_rest = self._is_heard = False
        try:
            self._put(words)
            await self._requests.drain()
            size = int.from_bytes(await self._answers.readexactly(4), "big")
            if size > MAX_WORDS_BYTES:
                raise WorkerDied
            answer = json.loads(await self._answers.readexactly(size))
            length = int(answer.get("size", 0))
            if length > MAX_RENDITION_BYTES:
                raise WorkerDied
            data = await self._answers.readexactly(length) if length else b""
        except (OSError, EOFError, ValueError, AttributeError) as error:
            raise WorkerDied from error
        self._is_heard = True
        self._is_at_rest = bool(answer.get("rests"))
        self._retires = bool(answer.get("retire"))
        return answer, data

    def dismiss(self) -> None:
        """No more is wanted of it: a job that waits for our next words is called off, one that is in work ends with it."""
        if self._is_heard and not self._is_at_rest and self.is_alive:
            with contextlib.suppress(OSError):
                self._put({"off": True})
                self._is_at_rest = True
        if not self.is_free:
            self.kill()

    def _put(self, words: dict[str, Any]) -> None:
        text = json.dumps(words).encode()
        self._requests.write(len(text).to_bytes(4, "big") + text)

    def kill(self) -> None:
        """End it at once; further calls do nothing."""
        if self.is_alive:
            self._process.kill()

    async def ended(self) -> None:
        """Wait until it has ended."""
        await self._process.wait()
        self._requests.close()

"""The process that classifies pictures, seen from outside: begun when there is something to do, killed when it takes too long."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from processors.child import Child, WorkerDied
from processors.errors import Crashed, TooCostly
from processors.models import BadModel, Model

START_S = 60.0
"""for a model to be read and tried once"""
IDLE_S = 60.0
"""after which the process ends: a model may take hundreds of megabytes"""


class Examiner:
    """Shows pictures to *model*, one at a time: each within *deadline_s*, in *memory_bytes* beyond what it takes at rest.

    Entered, it has tried the model; raises BadModel.
    """

    def __init__(self, model: Model, deadline_s: float, memory_bytes: int) -> None:
        self._start = {"model": {**asdict(model), "quarantine": None}, "deadline": deadline_s, "memory": memory_bytes}
        self._deadline_s = deadline_s
        self._child: Child | None = None
        self._ending: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._idle: asyncio.TimerHandle | None = None
        self.size_px = (0, 0)
        """width and height of the pictures that it wants"""

    async def __aenter__(self) -> Self:
        try:
            await self._ready()
        except BaseException:
            await self._end()
            raise
        self._rest()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        async with self._turn:
            await self._end()

    async def classify(self, picture: bytes) -> Mapping[str, float]:
        """The labels of *picture*, a PNG of the size that is wanted, and their scores; raises TooCostly and Crashed."""
        async with self._turn:
            try:
                child = await self._ready()
                async with asyncio.timeout(self._deadline_s):
                    answer, _ = await child.ask({"picture": b64encode(picture).decode()})
                if "labels" not in answer:
                    raise Crashed("the classifier fails on this picture")
                return {str(label): float(score) for label, score in answer["labels"].items()}
            except TimeoutError:
                limit = self._deadline_s
                raise TooCostly(f"the classifier takes longer than {limit:g} seconds", limit="seconds", allowed=limit) from None
            except (WorkerDied, BadModel) as error:
                raise Crashed("the classifier has ended on this picture") from error
            finally:
                if self._child is not None and not self._child.is_free:
                    await self._end()
                self._rest()

    async def _ready(self) -> Child:
        if self._idle is not None:
            self._idle.cancel()
        if self._child is not None and self._child.is_free:
            return self._child
        await self._end()
        self._child = await Child.start("processors.classifiers")
        try:
            async with asyncio.timeout(START_S):
                hello, _ = await self._child.ask(dict(self._start))
        except (TimeoutError, WorkerDied):
            hello = {"failed": f"it does not answer within {START_S:g} seconds"}
        if "size_px" not in hello:
            await self._end()
            raise BadModel(f"The model cannot be used: {_said(hello)}.")
        width, height = hello["size_px"]
        self.size_px = (int(width), int(height))
        return self._child

    def _rest(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._dismiss)

    def _dismiss(self) -> None:
        if not self._turn.locked():
            self._leave()

    def _leave(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._ending = asyncio.create_task(self._child.ended())
            self._child = None

    async def _end(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._leave()
        if self._ending is not None:
            await self._ending
            self._ending = None


def _said(hello: Mapping[str, Any]) -> str:
    return str(hello.get("failed", "it speaks nonsense")).rstrip(".")

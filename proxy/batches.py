"""Renditions of one source that are asked for together are fetched, decoded and made together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from processors.batch import Batch
from processors.errors import Busy, MediaError
from processors.transform import Transform
from proxy.errors import Unavailable
from proxy.keys import Key
from proxy.observe import Metrics
from proxy.ports import ObjectMeta, Rendered, Renderer
from proxy.sources import Sources


class Batches:
    """Renders from *sources* by *renderer*. Who comes while the first still waits, for the source, a worker or memory, comes along.

    A batch is nobody's request: it ends when all is made or when everybody has left.
    """

    def __init__(self, sources: Sources, renderer: Renderer, metrics: Metrics) -> None:
        self._sources = sources
        self._renderer = renderer
        self._metrics = metrics
        self._boarding: dict[tuple[Key, str], Batch] = {}
        self._tasks: dict[Batch, asyncio.Task[None]] = {}
        self._expected: dict[Key, int] = {}

    @contextmanager
    def expecting(self, key: Key, count: int) -> Iterator[None]:
        """Announce *count* renditions of *key*: a batch of it that begins meanwhile waits a while for all of them."""
        self._expected[key] = count
        try:
            yield
        finally:
            self._expected.pop(key, None)

    async def render(self, meta: ObjectMeta, transform: Transform, *, in_background: bool = False) -> Rendered:
        """What *transform* makes of the version *meta*.

        Raises Unsupported, Corrupt, TooCostly, TooLarge, Busy, Unavailable, NotFound.

        *in_background*: by itself, and by a worker that lets all others go first.
        """
        with self._sources.admitted(meta):
            return await self._joined(meta, transform, in_background=in_background)

    async def _joined(self, meta: ObjectMeta, transform: Transform, *, in_background: bool) -> Rendered:
        batch = None if in_background else self._boarding.get((meta.key, meta.etag))
        if batch is None or not batch.has_room(transform):
            if len(self._tasks) >= self._renderer.places:  # before a source is opened, or fetched from far away
                raise Busy("too many wait already")
            batch = self._begun(meta, in_background=in_background)
        return await batch.join(transform)

    async def finish(self) -> None:
        """End what is still in work."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begun(self, meta: ObjectMeta, *, in_background: bool) -> Batch:
        expected = 1 if in_background else self._expected.get(meta.key, 1)
        batch = Batch(lambda: self._end(batch), in_background=in_background, expected=expected)
        if not in_background:
            self._boarding[meta.key, meta.etag] = batch
        self._tasks[batch] = asyncio.create_task(self._run(meta, batch), name=f"batch {meta.key}")
        return batch

    def _end(self, batch: Batch) -> None:
        if batch in self._tasks:
            self._tasks[batch].cancel()

    async def _run(self, meta: ObjectMeta, batch: Batch) -> None:
        try:
            async with self._sources.sought(meta) as source:
                self._metrics.batch()
                await self._renderer.render(source, batch)
        except MediaError as error:
            batch.fail(error)
        except asyncio.CancelledError:
            batch.fail(Unavailable("the service is stopping"))
            raise
        except Exception as error:  # noqa: BLE001, RUF100 - the root of this task: whoever waits raises it
            batch.fail(error)
        finally:
            del self._tasks[batch]
            if self._boarding.get((meta.key, meta.etag)) is batch:
                del self._boarding[meta.key, meta.etag]

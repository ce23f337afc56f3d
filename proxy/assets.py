"""The records of what people have stored, their removal, and what a start must finish that a stop left in the middle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

import structlog

from processors.errors import MediaError
from proxy.delivery import Delivery
from proxy.errors import Conflict, NotFound, Unavailable
from proxy.keys import Key
from proxy.ports import Asset, Backend, Catalogue, Page, State
from proxy.selection import Selection

PATROL_S = 30.0
TRIES = 10
STALE_S = 120.0
"""After which what a process has left in the middle is finished by another: no commit takes so long."""

log = structlog.get_logger(__name__)


class Assets:
    """Lists, shows and removes assets. A removal commits in the catalogue first, then takes the object and its variants.

    Entering it finishes what the last process left (*begins*); what waits for a store that is away is tried again until it is done.
    Where several processes work on the same records (*shared*), one of them *keeps* them: it finishes what others leave.
    """

    def __init__(
        self,
        backend: Backend,
        catalogue: Catalogue,
        delivery: Delivery,
        *,
        keeps: bool = True,
        begins: bool = True,
        shared: bool = False,
    ) -> None:
        self._keeps = keeps
        self._begins = begins
        self._shared = shared
        self._seen: dict[Key, float] = {}
        self._backend = backend
        self._catalogue = catalogue
        self._delivery = delivery
        self._lingering: set[Key] = set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._keeps:
            if self._begins:
                await self._recover()
            self._task = asyncio.create_task(self._patrol())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def get(self, key: Key, shown: Collection[State] = (State.READY,)) -> Asset:
        """The record of *key*, if it is in one of the states *shown*; raises NotFound."""
        asset = await self._catalogue.get(key)
        if asset is None or asset.state not in shown:
            raise NotFound("no asset has this key")
        return asset

    async def page(self, owner: str, limit: int, cursor: str | None, selection: Selection) -> Page:
        """Up to *limit* of the owner's assets that *selection* selects."""
        return await self._catalogue.page(owner, limit, cursor, selection)

    async def many(self, wanted: Sequence[Key]) -> dict[Key, Asset]:
        """The records of those among *wanted* that have one."""
        return await self._catalogue.many(wanted)

    async def amend(self, key: Key, changed: Callable[[Asset], Asset]) -> Asset:
        """Let what the owner says of the asset be as *changed* makes it of the record; gives the record.

        Others may change it at the same time: *changed* is called with what they have made of it, and may raise. Raises NotFound,
        and Conflict when they are too fast.
        """
        for _ in range(TRIES):
            asset = await self.get(key)
            after = changed(asset)
            if (after.focal, after.metadata) == (asset.focal, asset.metadata):
                return asset
            try:
                is_done = await self._catalogue.amend(after)
            finally:  # it may have been written also when the answer was lost
                await self._delivery.changed(key)
            if is_done:
                return await self.get(key)
        raise Conflict("the record changes too fast", headers={"Retry-After": "1"})

    async def remove(self, key: Key) -> None:
        """Remove the object, its variants and its record; raises NotFound if there was neither object nor record.

        Once begun it is carried through, also when the caller leaves. It is done for everybody when the object is gone;
        variants in a store that is away go later.
        """
        asset = await self._catalogue.get(key)
        if asset is None:
            await self._backend.head(key)
        await asyncio.shield(asyncio.create_task(self._take_away(key)))

    async def gone(self, key: Key, etag: str) -> None:
        """Drop the variants and the record of the write *etag*, which somebody else has taken out of the stores.

        Raises Unavailable where it cannot be done now, and nothing is left to be carried through: whoever does that removes the
        object, and by then it may be another one.
        """
        await self.outdated(key)
        await self._delivery.forget(key)
        await self._catalogue.remove(key, etag)
        await self.outdated(key)  # a job may have ended meanwhile

    async def outdated(self, key: Key) -> None:
        """Take away what was made of *key*: its bytes are others now, or gone."""
        for asset in await self._catalogue.derived(key):
            await self._take_away(asset.key)

    async def _take_away(self, key: Key) -> None:
        await self._withdraw(key)
        try:
            await self._clear_away(key)
        except Unavailable:
            log.warning("asset.lingers", key=key)
            self._lingering.add(key)

    async def _withdraw(self, key: Key) -> None:
        # With all that was made of it, while its record still says what that is.
        await self._catalogue.mark(key, State.DELETED)
        await self.outdated(key)
        await self._backend.delete(key)

    async def _clear_away(self, key: Key) -> None:
        await self._delivery.forget(key)
        await self._catalogue.remove(key)

    async def _recover(self) -> None:
        # What the last process left: removals are carried through, whole objects become READY, the rest is undone.
        for asset in await self._catalogue.unfinished():
            try:
                await self._finish(asset)
            except Unavailable:
                log.warning("asset.lingers", key=asset.key)
                self._lingering.add(asset.key)

    async def _finish(self, asset: Asset) -> None:
        # What was to be made of another asset becomes one with the end of its job, or never.
        if asset.state is State.PENDING and asset.source is None and await self._is_whole(asset):
            await self._catalogue.mark(asset.key, asset.lasting)
            log.info("asset.finished", key=asset.key)
            return
        await self._withdraw(asset.key)
        await self._clear_away(asset.key)
        log.info("asset.undone", key=asset.key, state=str(asset.state))

    async def _patrol(self) -> None:
        while True:
            await asyncio.sleep(PATROL_S)
            if self._shared:
                with suppress(MediaError):
                    await self.finish_stale(time.monotonic())
                continue
            for key in list(self._lingering):
                with suppress(MediaError):
                    asset = await self._catalogue.get(key)
                    if asset is not None and asset.state is not State.READY:
                        await self._finish(asset)
                    self._lingering.discard(key)

    async def finish_stale(self, now: float) -> None:
        """Finish what was unfinished already when this was called `STALE_S` seconds before *now*, a monotonic time."""
        unfinished = await self._catalogue.unfinished()
        self._seen = {asset.key: self._seen.get(asset.key, now) for asset in unfinished}
        for asset in unfinished:
            if now - self._seen[asset.key] >= STALE_S:
                with suppress(MediaError):
                    await self._finish(asset)

    async def _is_whole(self, asset: Asset) -> bool:
        try:
            return (await self._backend.head(asset.key)).etag == asset.etag
        except NotFound:
            return False

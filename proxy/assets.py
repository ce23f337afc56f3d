"""The records of what people have stored, their removal, and what a start must finish that a stop left in the middle."""

from __future__ import annotations

import asyncio

import structlog

from proxy.delivery import Delivery
from proxy.errors import NotFound
from proxy.keys import Key
from proxy.ports import Asset, Backend, Catalogue, Page, State

log = structlog.get_logger(__name__)


class Assets:
    """Lists, shows and removes assets. A removal commits in the catalogue first, then takes the object and its variants."""

    def __init__(self, backend: Backend, catalogue: Catalogue, delivery: Delivery) -> None:
        self._backend = backend
        self._catalogue = catalogue
        self._delivery = delivery

    async def get(self, key: Key) -> Asset:
        """The record of *key*; raises NotFound."""
        asset = await self._catalogue.get(key)
        if asset is None or asset.state is not State.READY:
            raise NotFound("no asset has this key")
        return asset

    async def page(self, owner: str, limit: int, cursor: str | None) -> Page:
        """Up to *limit* of the owner's assets, newest first."""
        return await self._catalogue.page(owner, limit, cursor)

    async def remove(self, key: Key) -> None:
        """Remove the object, its variants and its record; raises NotFound if there was neither object nor record.

        Once begun it is carried through, also when the caller leaves.
        """
        asset = await self._catalogue.get(key)
        if asset is None:
            await self._backend.head(key)
        await asyncio.shield(asyncio.create_task(self._carry_through(key)))

    async def recover(self) -> None:
        """Finish what the last process left: removals are carried through, whole objects become READY, the rest is undone."""
        for asset in await self._catalogue.unfinished():
            if asset.state is State.PENDING and await self._is_whole(asset):
                await self._catalogue.mark(asset.key, State.READY)
                log.info("asset.finished", key=asset.key)
            else:
                await self._carry_through(asset.key)
                log.info("asset.undone", key=asset.key, state=str(asset.state))

    async def _is_whole(self, asset: Asset) -> bool:
        try:
            return (await self._backend.head(asset.key)).etag == asset.etag
        except NotFound:
            return False

    async def _carry_through(self, key: Key) -> None:
        await self._catalogue.mark(key, State.DELETED)
        await self._backend.delete(key)
        await self._delivery.forget(key)
        await self._catalogue.remove(key)

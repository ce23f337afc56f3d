"""Which of an owner's assets look like one of them."""

from __future__ import annotations

from proxy.descriptions import Descriptions
from proxy.errors import Conflict
from proxy.fingerprints import FingerprintIndex, Matches
from proxy.ports import Asset, Backend


class Resemblance:
    """Finds near duplicates by *index*. What was stored before there were fingerprints is looked at when it is asked about."""

    def __init__(self, backend: Backend, descriptions: Descriptions, index: FingerprintIndex) -> None:
        self._backend = backend
        self._descriptions = descriptions
        self._index = index

    async def similar(self, asset: Asset, distance: int, limit: int) -> Matches:
        """Up to *limit* assets of the same owner, nearest first. Raises Conflict where there is nothing to compare."""
        fingerprint = await self._fingerprint(asset)
        if fingerprint is None:
            raise Conflict("the object shows nothing to compare: no picture, or one of a single colour")
        return await self._index.near(asset.owner, fingerprint, distance, limit, asset.key)

    async def _fingerprint(self, asset: Asset) -> str | None:
        said = asset.details
        if said is None or "fingerprint" not in said:
            meta = await self._backend.head(asset.key)
            if meta.etag != asset.etag:
                raise Conflict("the object was overwritten just now: ask again", headers={"Retry-After": "1"})
            said = await self._descriptions.details(meta)
        found: str | None = said.get("fingerprint")
        return found

"""What is said of a picture beside its bytes: its record, its focal point, and what the renderer sees in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import structlog

from processors import formats
from processors.errors import Corrupt, MediaError, TooCostly, Unsupported
from processors.formats import Kind
from proxy.cache import FreshCache
from proxy.commons import Commons
from proxy.errors import RateLimited, TooLarge, Unavailable
from proxy.flights import Flights
from proxy.keys import Key
from proxy.patience import Patience
from proxy.ports import Asset, Catalogue, Inspected, ObjectMeta, Renderer, State
from proxy.sources import Sources

RECORD_TTL_S = 5.0
UNHEARD_TTL_S = 1.0
"""while changes that other processes make may not be heard of"""
RECORDS = 20_000
PATIENCE_S = 1.0
SEEN_TTL_S = 300.0
SEEN = 200
"""of which each may have 40 KB: a picture of which much is said"""

Pay = Callable[[], Awaitable[None]]
"""Called before something has to be made, or looked at, for a caller; raises RateLimited."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Known:
    """What the catalogue has of a key: no record, or one with a *focal* point (``XxY``), or without."""

    is_recorded: bool = False
    focal: str | None = None


class Descriptions:
    """Describes objects, those with a record and those that others have put into a bucket.

    Reads never fail for want of the catalogue: while it does not answer, what was last known counts.
    """

    def __init__(self, catalogue: Catalogue, sources: Sources, renderer: Renderer, commons: Commons) -> None:
        self._catalogue = catalogue
        self._sources = sources
        self._renderer = renderer
        self._known: FreshCache[Key, Known] = FreshCache(RECORDS, lambda known: RECORD_TTL_S if commons.hears else UNHEARD_TTL_S)
        self._seen: FreshCache[str, Mapping[str, Any] | MediaError] = FreshCache(SEEN, SEEN_TTL_S)
        self._flights: Flights[Mapping[str, Any]] = Flights()
        self._patience = Patience(PATIENCE_S)

    async def known(self, key: Key) -> Known:
        """What the catalogue has of *key*, some seconds old at most, and never older than a change through this process."""
        return await self._known.load(key, lambda: self._look_up(key))

    def fresh(self, key: Key) -> Known | None:
        """The same, if it is known without asking."""
        return self._known.get(key)

    def forget(self, key: Key) -> None:
        """Drop what is known of *key*: it has changed."""
        self._known.delete(key)

    def clear(self) -> None:
        """Drop what is known of all keys: any may have changed."""
        self._known.clear()

    async def details(self, meta: ObjectMeta, pay: Pay | None = None) -> Mapping[str, Any]:
        """What the renderer says of the version *meta*, seen once and kept; nothing of a document.

        *pay* is called before it has to look. Raises Unsupported, Corrupt, TooCostly, TooLarge, Busy, Unavailable, RateLimited.
        """
        format = formats.by_mime(meta.content_type)
        if format is None or format.kind is Kind.DOCUMENT:
            return {}
        name = f"{meta.key}\n{meta.etag}"
        seen = self._seen.get(name)
        if isinstance(seen, MediaError):
            raise seen
        if seen is not None:
            return seen
        return (await self._flights.join_or(name, lambda: self._found(meta, name, pay), RateLimited))[0]

    async def _look_up(self, key: Key) -> Known:
        try:
            asset = await self._record(key)
        except Unavailable:
            return self._known.last(key) or Known()
        return Known() if asset is None else Known(is_recorded=True, focal=asset.focal)

    async def _record(self, key: Key) -> Asset | None:
        # The record, if it is there and READY.
        asset = await self._patience.ask(lambda: self._catalogue.get(key))
        return asset if asset is not None and asset.state is State.READY else None

    async def _found(self, meta: ObjectMeta, name: str, pay: Pay | None) -> Mapping[str, Any]:
        asset = None
        with suppress(Unavailable):
            asset = await self._record(meta.key)
        is_ours = asset is not None and asset.etag == meta.etag
        if asset is not None and is_ours and _is_told(asset.details) and asset.embedded is not None:
            kept = {**(asset.details or {}), "embedded": asset.embedded}
            self._seen.set(name, kept)
            return kept
        if pay is not None:
            await pay()
        try:
            with self._sources.admitted(meta):
                async with self._sources.sought(meta) as source:
                    found = await self._renderer.inspect(source)
        except (Unsupported, Corrupt, TooCostly, TooLarge) as refusal:
            self._seen.set(name, refusal)
            raise
        seen = {**details(found), "embedded": found.embedded}
        self._seen.set(name, seen)
        if is_ours:
            try:
                await self._catalogue.describe(meta.key, meta.etag, details(found), found.embedded)
            except Unavailable:
                log.warning("asset.not_described", key=meta.key)
        return seen


def _is_told(kept: Mapping[str, Any] | None) -> bool:
    # What shows something has a fingerprint, but where it was looked at before there were any.
    return kept is not None and ("thumbhash" not in kept or "fingerprint" in kept)


def details(seen: Inspected) -> dict[str, Any]:
    """What is kept of a look into a file, in the words of JSON."""
    sizes = {"width": seen.width, "height": seen.height, "duration": seen.duration_s}
    return {**seen.details, **sizes, "frames": seen.frames, "alpha": seen.alpha}


def described(asset: Asset, seen: Inspected) -> Asset:
    """The record with all that a look into the file has found."""
    return replace(
        asset,
        width=seen.width,
        height=seen.height,
        duration_s=seen.duration_s,
        details=details(seen),
        embedded=seen.embedded,
    )


def embedded(said: Mapping[str, Any] | None, *, private: bool) -> dict[str, Any] | None:
    """What the makers of a file wrote into it, as clients are told it; None where nobody looked."""
    if said is None:
        return None
    public = said.get("public", {})
    return {**public, "private": said.get("private", {})} if private else public


def point_of(focal: str | None) -> list[float] | None:
    """A focal point as JSON has it."""
    return None if focal is None else [float(part) for part in focal.split("x")]


def document(meta: ObjectMeta, known: Known, seen: Mapping[str, Any], *, private: bool) -> dict[str, Any]:
    """What ``format=json`` answers; *private* adds what only its owner, and whoever the owner signs for, gets to see."""
    colour = seen.get("colour")
    told = {
        "key": meta.key,
        "contentType": meta.content_type,
        "size": meta.size,
        "etag": meta.etag,
        **{name: seen.get(name) for name in ("width", "height", "duration", "frames", "alpha")},
        **{name: seen.get(name) for name in ("orientation", "colourSpace", "profile", "bits")},
        "colour": None if colour is None else f"#{colour}",
        "thumbhash": seen.get("thumbhash"),
        "blurhash": seen.get("blurhash"),
        "tracks": seen.get("tracks"),
        "focal": point_of(known.focal),
        "embedded": embedded(seen.get("embedded", {}), private=private),
        "exif": seen.get("exif", {}),
    }
    return {**told, "private": seen.get("private", {})} if private else told

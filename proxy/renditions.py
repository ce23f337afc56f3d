"""Finished renditions by their names: in memory, shared, stored, or made once for all who ask."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import structlog

from processors.errors import BadParameter, Corrupt, MediaError, TooCostly, Unsupported
from processors.transform import Transform
from proxy import keys
from proxy.batches import Batches
from proxy.cache import ByteCache, FreshCache
from proxy.commons import Commons
from proxy.descriptions import Pay
from proxy.errors import NotFound, RateLimited
from proxy.flights import Errands, Flights
from proxy.keys import Key
from proxy.later import Later
from proxy.metas import Metas
from proxy.observe import Metrics
from proxy.ports import Backend, ObjectMeta, Rendered, Renderer
from proxy.sources import Overwritten, Sources
from proxy.turns import Turn, Turns
from proxy.variants import Variants

REFUSAL_TTL_S = 60.0
REFUSAL_ENTRIES = 2_000
ERRANDS = 64
SWEPT_AT_ONCE = 64
NO_SECONDS: Mapping[str, float] = {}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A rendition and where it was *found*: ``memory``, ``shared``, ``stored``, or ``miss``: it had to be made.

    *collapsed*: for somebody else who had asked for it already.
    """

    rendered: Rendered
    found: str
    collapsed: bool = False


class Renditions:
    """Looks in memory, then in what processes share, then in *variants*; what is nowhere is made in one flight here, and in one
    turn of all processes.

    What is degraded is not stored; what is so for want of time is made again, better, when nobody waits (`improve`).
    """

    def __init__(
        self,
        backend: Backend,
        metas: Metas,
        variants: Variants,
        renderer: Renderer,
        sources: Sources,
        commons: Commons,
        turns: Turns,
        cache_bytes: int,
        metrics: Metrics,
    ) -> None:
        self._backend = backend
        self._metas = metas
        self._variants = variants
        self._batches = Batches(sources, renderer, metrics)
        self._commons = commons
        self._turns = turns
        self._metrics = metrics
        self._cache: ByteCache[Key, Rendered, str] = ByteCache(
            cache_bytes, lambda rendered: len(rendered.data), lambda name: name.partition("/")[0]
        )
        self._refusals: FreshCache[Key, MediaError] = FreshCache(REFUSAL_ENTRIES, REFUSAL_TTL_S)
        self._flights: Flights[Fetched] = Flights()
        self._errands = Errands(ERRANDS)
        self._later = Later(lambda: renderer.is_idle)

    def cached(self, name: Key) -> Rendered | None:
        """The rendition, if it is in memory."""
        rendered = self._cache.get(name)
        if rendered is not None:
            self._metrics.cache("memory")
        return rendered

    async def get(self, meta: ObjectMeta, transform: Transform, name: Key, *, lasting: bool, pay: Pay | None) -> Fetched:
        """The rendition *name*: what *transform*, settled, makes of the version *meta*."""
        rendered = self.cached(name)
        if rendered is not None:
            return Fetched(rendered, "memory")
        refused = self._refusals.get(name)
        if refused is not None:
            raise refused
        fetched, is_mine = await self._flights.join_or(
            name, lambda: self._fetch(meta, transform, name, lasting=lasting, pay=pay), RateLimited
        )
        return fetched if is_mine else replace(fetched, collapsed=True)

    async def whereabouts(self, name: Key, *, lasting: bool) -> str:
        """Where `get` would find it; nothing is made."""
        if self._cache.get(name) is not None:
            return "memory"
        return "stored" if await self._variants.has(name, lasting=lasting) else "miss"

    def expecting(self, key: Key, count: int) -> AbstractContextManager[None]:
        """Announce *count* calls of `get` for *key*, so that one decode serves them all."""
        return self._batches.expecting(key, count)

    def improve(self, meta: ObjectMeta, transform: Transform, name: Key, *, lasting: bool) -> None:
        """Make the rendition again, as it should be, when nobody waits."""
        self._later.offer(name, lambda: self._improve(meta, transform, name, lasting=lasting))

    def drop(self, key: Key) -> None:
        """Let go of what is in memory of the original *key*."""
        self._cache.drop(keys.variants_prefix(key)[:-1])

    async def sweep(self, key: Key) -> None:
        """Remove all that is stored and shared of the original *key*."""
        swept: list[Key] = []
        async for variant in self._variants.sweep(key):
            swept.append(variant)
            if len(swept) == SWEPT_AT_ONCE:
                await self._commons.drop_rendition(*swept)
                swept.clear()
        if swept:
            await self._commons.drop_rendition(*swept)

    async def finish(self, deadline_s: float) -> None:
        """Wait for what is being stored behind answers."""
        await self._later.finish()
        await self._errands.finish(deadline_s)
        await self._batches.finish()
        await self._turns.finish()

    @property
    def cached_bytes(self) -> int:
        """The memory that kept renditions take."""
        return self._cache.bytes

    @property
    def later(self) -> int:
        """How many renditions wait to be made better."""
        return len(self._later)

    @property
    def storing(self) -> int:
        """How many renditions are being stored behind their answers."""
        return len(self._errands)

    async def _fetch(self, meta: ObjectMeta, transform: Transform, name: Key, *, lasting: bool, pay: Pay | None) -> Fetched:
        fetched = await self._look(name, lasting=lasting)
        if fetched is None:
            turn = await self._turns.take(name, lambda: self._look(name, lasting=lasting))
            if isinstance(turn, Turn):
                fetched = await self._make(meta, transform, name, turn, lasting=lasting, pay=pay)
            else:
                fetched = replace(turn, collapsed=True)
        if fetched.found != "miss":  # which is counted when it begins
            self._metrics.cache(fetched.found)
        self._cache.set(name, replace(fetched.rendered, seconds=NO_SECONDS))
        return fetched

    async def _look(self, name: Key, *, lasting: bool) -> Fetched | None:
        try:
            rendered = await self._commons.rendition(name)
        except MediaError as refusal:
            self._refusals.set(name, refusal)
            raise
        if rendered is not None:
            return Fetched(rendered, "shared")
        stored = await self._variants.get(name, lasting=lasting)
        if stored is None:
            return None
        self._errands.begin(lambda: self._tell(name, stored))
        return Fetched(stored, "stored")

    async def _make(
        self,
        meta: ObjectMeta,
        transform: Transform,
        name: Key,
        turn: Turn,
        *,
        lasting: bool,
        pay: Pay | None,
    ) -> Fetched:
        try:
            if pay is not None:
                await pay()
            self._metrics.cache("miss")
            with self._metrics.rendering():
                rendered = await self._batches.render(meta, transform)
            self._metrics.made(rendered.content_type)
        except (BadParameter, Corrupt, TooCostly, Unsupported) as error:
            refusal = error
            self._refusals.set(name, refusal)
            self._behind(turn, lambda: self._commons.tell_refusal(name, refusal))
            raise
        except BaseException as error:
            if isinstance(error, Overwritten):
                self._metas.drop(meta.key)
            turn.end()
            raise
        self._behind(turn, lambda: self._keep(meta, name, rendered, turn, lasting=lasting))
        return Fetched(rendered, "miss")

    def _behind(self, turn: Turn, work: Callable[[], Awaitable[object]]) -> None:
        # What others wait for, done behind the answer; then the turn is over.
        async def done() -> None:
            try:
                await work()
            finally:
                turn.end()

        if not self._errands.begin(done):
            turn.end()

    async def _keep(self, meta: ObjectMeta, name: Key, rendered: Rendered, turn: Turn, *, lasting: bool) -> None:
        if await self._commons.tell_rendition(name, rendered):
            turn.end()
        if rendered.degraded:
            return
        try:
            if await self._variants.put(name, rendered, lasting=lasting) and not await self._still(meta):
                await self._variants.delete(name, lasting=lasting)
                await self._commons.drop_rendition(name)
        except MediaError as error:
            log.warning("variant.not_stored", variant=name, reason=error.slug)

    async def _tell(self, name: Key, rendered: Rendered) -> None:
        await self._commons.tell_rendition(name, rendered)

    async def _improve(self, meta: ObjectMeta, transform: Transform, name: Key, *, lasting: bool) -> None:
        if (await self._metas.get(meta.key)).etag != meta.etag:
            return

        async def improved() -> Rendered | None:
            fetched = await self._look(name, lasting=lasting)
            return None if fetched is None or fetched.rendered.degraded else fetched.rendered

        turn = await self._turns.take(f"{name}+", improved)
        if isinstance(turn, Turn):
            try:
                rendered = await self._batches.render(meta, replace(transform, format="avif"), in_background=True)
                await self._keep(meta, name, rendered, turn, lasting=lasting)
            finally:
                turn.end()
        else:
            rendered = turn
        self._cache.set(name, replace(rendered, seconds=NO_SECONDS))

    async def _still(self, meta: ObjectMeta) -> bool:
        # A removal may have swept the variants just before this one was stored.
        try:
            return (await self._backend.head(meta.key)).etag == meta.etag
        except NotFound:
            return False

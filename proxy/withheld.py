"""Which objects nobody gets: the quarantined ones, known in memory, so that no read asks the catalogue."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self

import structlog

from processors.errors import MediaError
from proxy.keys import Key
from proxy.ports import Bus, Catalogue

LOOK_S = 2.0
PAGE = 1_000
MOST = 100_000
"""About 15 MiB."""
TOPIC = "withheld"
SEEN_S = LOOK_S + 0.5
"""after which all processes have looked again, if they could"""

log = structlog.get_logger(__name__)


class Withheld:
    """The keys of QUARANTINED assets, and all below them, which was made of them.

    Entered, it learns them, and looks again every two seconds. While the catalogue does not answer, those that were known stay.
    Others learn of what is `held` by *bus*; *shared* says whether there are any.
    """

    def __init__(self, catalogue: Catalogue, bus: Bus, *, shared: bool) -> None:
        self._catalogue = catalogue
        self._bus = bus
        self._shared = shared
        self._held: dict[Key, float] = {}
        self._keys: frozenset[Key] = frozenset()
        self._task: asyncio.Task[None] | None = None

    def __contains__(self, key: object) -> bool:
        if not self._keys or not isinstance(key, str):
            return False
        ends = (at for at, letter in enumerate(key) if letter == "/")
        return key in self._keys or any(key[:end] in self._keys for end in ends)

    def __len__(self) -> int:
        return len(self._keys)

    async def held(self, key: Key, *, surely: bool = True) -> None:
        """Withhold *key*, of which the catalogue says so since a moment ago: now here, and when this returns everywhere.

        Not *surely*: others are told, and not waited for.
        """
        self._hold(key)
        await self._bus.say(TOPIC, key)
        if surely and self._shared:
            await asyncio.sleep(SEEN_S)

    def _hold(self, key: Key) -> None:
        self._held[key] = time.monotonic()
        self._keys |= {key}

    async def __aenter__(self) -> Self:
        self._bus.listen(TOPIC, lambda word: self._hold(Key(word)), lambda: None)
        await self._look()
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look()

    async def _look(self) -> None:
        began = time.monotonic()
        found: set[Key] = set()
        after: Key | None = None
        try:
            while page := await self._catalogue.quarantined(PAGE, after):
                found.update(page)
                after = page[-1]
                if len(found) >= MOST:
                    log.error("withheld.too_many", most=MOST)
                    break
        except MediaError:
            found |= self._keys
        self._held = {key: moment for key, moment in self._held.items() if moment >= began}
        found |= self._held.keys()
        if found != self._keys:
            self._keys = frozenset(found)

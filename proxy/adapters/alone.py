"""What a process has that shares nothing with others: nobody to talk to, and nothing but its own memory."""

from __future__ import annotations

from collections.abc import Callable


class NoBus:
    """A `Bus` without others."""

    is_whole = True

    def listen(self, topic: str, heard: Callable[[str], None], missed: Callable[[], None]) -> None:
        """Nothing will be heard, and nothing missed."""

    async def say(self, topic: str, word: str) -> None:
        """Nobody hears it."""


class NoSharedCache:
    """A `SharedCache` that is never there."""

    is_there = False

    async def get(self, name: str) -> bytes | None:
        """Nothing."""
        return None

    async def set(self, name: str, value: bytes, ttl_s: float) -> None:
        """Nothing is kept."""

    async def add(self, name: str, value: bytes, ttl_s: float) -> None:
        """Nothing is kept."""

    async def delete(self, *names: str) -> None:
        """Nothing was there."""

    async def take(self, name: str, holder: str, ttl_s: float) -> float:
        """Nobody else can have it."""
        return 0.0

    async def renew(self, name: str, holder: str, ttl_s: float) -> None:
        """Nobody takes it away."""

    async def release(self, name: str, holder: str) -> None:
        """Nobody waits for it."""

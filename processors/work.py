"""Work on a file, decided by its header: what it is estimated to take, and whether that is admitted. Workers only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from processors import costs
from processors.errors import TooCostly
from processors.source import Source
from processors.values import Limits

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Work(Generic[Made]):
    """One job. *run* does it, and *estimate_bytes* is the memory that it then takes at its peak."""

    estimate_bytes: int
    run: Callable[[], Made]


def admit(estimate: int, limits: Limits) -> None:
    """Raise TooCostly if the picture alone would take more memory than all may that are decoded at one time."""
    if estimate > limits.budget_bytes:
        allowed = limits.budget_bytes
        raise TooCostly("decoding it takes more memory than is allowed", limit="memory", allowed=allowed, actual=estimate)


def decoding_bytes(source: Source, shrink: int, *, is_resized: bool, then_bytes: int = 0) -> int:
    """The memory that reading *source* at 1/*shrink* takes, and what comes after it."""
    row_bytes = costs.ALPHA_BYTES if is_resized and source.alpha else source.pixel_bytes
    return costs.decoding(source.cost, source.width, source.height, shrink, row_bytes, is_resized=is_resized, then_bytes=then_bytes)


def frames_of(source: Source, limits: Limits) -> tuple[int, bool]:
    """How many frames to load, and whether an animation is cut down to its first."""
    if source.frames > limits.max_frames:
        return 1, True
    return source.frames, False

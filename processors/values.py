"""The values that cross the border between a caller and the workers. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Watermark:
    """A picture that is laid over renditions. *name* ends in a revision of all that follows; *place* is a gravity or ``XxY``.

    *size* is its width in parts of the rendition's, *margin* its distance from the edges in parts of the shorter side.
    """

    name: str
    path: str
    place: str = "bottom-right"
    size: float = 0.2
    margin: float = 0.02
    opacity: float = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a picture may cost. Pixels are counted before any of them is decoded (images.md, defaults)."""

    max_pixels: int = 100_000_000
    """of one frame"""
    max_pixels_all_frames: int = 200_000_000
    max_frames: int = 300
    """of an animation that stays one; a longer one is shown as its first frame"""
    max_side_px: int = 8192
    """of what is made"""
    budget_bytes: int = 512 << 20
    """estimated memory of everything that is decoded at one time"""
    deadline_s: float = 10.0
    shows_truncated: bool = False
    """whether of a file that is cut short is shown what is there; else it is refused"""
    watermarks: tuple[Watermark, ...] = ()
    """what may be laid over a picture"""

    @classmethod
    def restored(cls, words: dict[str, Any]) -> Limits:
        """The limits whose fields, as JSON has them, are *words*."""
        return cls(**{**words, "watermarks": tuple(Watermark(**mark) for mark in words.get("watermarks", ()))})


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a stored file is. *format* is a name in `formats.FORMATS`; sizes are as shown, after orientation.

    *width* and *height* are None for sound, *duration_s* (seconds) is None for pictures. *estimate_bytes* is the memory
    that decoding it takes. *details* is what else is seen in it (`description`), *embedded* what its makers wrote into it
    (`embedded`: ``public`` and ``private``), both in the words of JSON.
    """

    format: str
    width: int | None = None
    height: int | None = None
    frames: int = 1
    alpha: bool = False
    duration_s: float | None = None
    estimate_bytes: int = 0
    details: Mapping[str, Any] = field(default_factory=dict, hash=False)
    embedded: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A drawing without what could act; *data* is None where the file itself is such a one."""

    data: bytes | None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A rendition. *degraded* names what had to be left out (the X-Media-Degraded tokens of the API).

    *seconds* is what was waited for, by phase: ``queue``, ``fetch``, ``decode`` and ``encode``, or ``render`` where libvips
    did both in one pass.
    """

    data: bytes
    content_type: str
    width: int
    height: int
    degraded: tuple[str, ...] = field(default=())
    seconds: Mapping[str, float] = field(default_factory=dict, compare=False)

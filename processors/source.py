"""A picture file with its header read: what every decoder gives, and all that the pipeline knows of the file. Workers only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyvips

from processors.costs import COSTS, Cost
from processors.errors import BadParameter
from processors.formats import Format
from processors.gain_maps import GainMap
from processors.metadata import NOTHING, Metadata

STRICT = "error"
"""``fail_on`` of libvips: a truncated or damaged file is refused; a warning, as of odd metadata, is not"""

DELAY_MS = 100
"""how long a frame is shown whose file does not say it, as in browsers"""
Shown = tuple[pyvips.Image, int]
"""a frame, and for how many milliseconds it is seen"""


LENIENT = "none"
"""the same, for a file that is known to be cut short: what is there is shown"""


@dataclass(frozen=True, slots=True)
class Source:
    """A picture file with its header read. *width* and *height* are of one frame, as stored; *load* gives its pixels.

    ``load(shrink, frames)``: at 1/*shrink* of the size, one of *shrinks* or 1, and *frames* pages (-1: all) in one strip that
    can be read once, from top to bottom. *pixel_bytes* is the size of a decoded pixel. *turn* is the EXIF orientation, 1 to 8.
    *skipped* frames have to be decoded before the first that is wanted. An animation runs *loop* times, 0 is for ever.
    ``each(frames)`` gives the frames of one that *load* knows the first of, with the milliseconds for which they are shown.
    """

    format: Format
    width: int
    height: int
    load: Callable[[int, int], pyvips.Image]
    frames: int = 1
    alpha: bool = False
    turn: int = 1
    cost: Cost = COSTS["jpeg"]
    pixel_bytes: int = 3
    shrinks: tuple[int, ...] = ()
    metadata: Metadata = NOTHING
    skipped: int = 0
    is_cut: bool = False
    """whether its end is missing, and what is there is shown"""
    loop: int = 0
    each: Callable[[int], Iterator[Shown]] | None = None
    gain_map: Callable[[], GainMap | None] | None = None
    opening: Callable[[str | None], Source] | None = None
    tiles: Callable[[int], Source] | None = None
    """of a film: so many pictures all over it, as the frames of an animation"""
    passage: Callable[[float], Source] | None = None
    """of a film: so many seconds of it, from the moment on at which it is opened, as an animation"""
    wave: Callable[[int, int, str], Source] | None = None
    """of what has sound: a picture of it, of a width, a height and a colour (rrggbb)"""
    peaks: Callable[[int], bytes] | None = None
    """of what has sound: that picture as JSON, of so many columns at most"""
    grow: Callable[[int, int], Source] | None = None
    """of what has no pixels of its own: the same, large enough for a box"""

    def opened(self, time: str | None = None) -> Source:
        """The source ready to load: of a film, its still is looked for now, and with it how it must be turned.

        *time* is where: seconds, or with ``%`` a part of the film's length; None is the still that shows most.
        """
        return self if self.opening is None else self.opening(time)

    def pages(self, shrink: int, frames: int) -> Iterator[Shown]:
        """The first *frames* of an animation, in order, at 1/*shrink* of the size."""
        return self._cut(self.load(shrink, frames), frames) if self.each is None else self.each(frames)

    def _cut(self, strip: pyvips.Image, frames: int) -> Iterator[Shown]:
        delays = strip.get("delay") if strip.get_typeof("delay") else []
        height = strip.height // frames
        for number in range(frames):
            page = strip.crop(0, number * height, strip.width, height)
            yield page, delays[number] if number < len(delays) else DELAY_MS

    def shrink(self, room: float) -> int:
        """The most of *shrinks* that is no more than *room*, or 1."""
        return next((shrink for shrink in self.shrinks if shrink <= room), 1)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as stored."""
        return self.width, self.height

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height after orientation."""
        return (self.height, self.width) if self.turn >= 5 else (self.width, self.height)


def numbered(page: int, pages: int) -> int:
    """The place of *page*, counted from 1, among *pages*; raises BadParameter where there is none."""
    if page > pages:
        raise BadParameter("the file has no such page", param="page", allowed=f"1 to {pages}")
    return page - 1

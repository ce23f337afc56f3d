"""The shape of a sound over its time: the peaks of short pieces of it, and a picture of them. Workers only.

The sound is decoded from end to end in a stream, at a rate that is enough for a shape; what stays are four bytes for each piece.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import av
import pyvips

from processors import video
from processors.costs import COSTS
from processors.formats import Format
from processors.source import Source

RATE = 8_000
PIECE = 80
"""samples of a piece: a hundredth of a second"""
FULL = 1 << 15


@dataclass(slots=True)
class Peaks:
    """The least and the most of each piece, -32768 to 32767."""

    low: array[int] = field(default_factory=lambda: array("h"))
    high: array[int] = field(default_factory=lambda: array("h"))

    def take(self, piece: array[int]) -> None:
        """One more."""
        self.low.append(min(piece))
        self.high.append(max(piece))

    def within(self, begin: int, end: int) -> tuple[int, int]:
        """The least and the most of the pieces from *begin* to *end*, one of which there is at least."""
        end = max(end, begin + 1)
        return min(self.low[begin:end]), max(self.high[begin:end])


def peaks(path: str, format: Format) -> Peaks:
    """Those of the first sound in the file, its channels taken together; raises Unsupported, Corrupt."""
    found, left = Peaks(), array("h")
    for samples in _samples(path, format):
        left += samples
        whole = len(left) // PIECE * PIECE
        for at in range(0, whole, PIECE):
            found.take(left[at : at + PIECE])
        del left[:whole]
    if left or not found.low:
        found.take(left or array("h", [0]))
    return found


def text(path: str, format: Format, most: int) -> bytes:
    """The sound as audiowaveform's JSON, version 2: 8 bits, at most *most* pairs of the least and the most of equal times."""
    found = peaks(path, format)
    step = -(-len(found.low) // most)
    pairs = [found.within(at, at + step) for at in range(0, len(found.low), step)]
    told = {
        **{"version": 2, "channels": 1, "sample_rate": RATE, "samples_per_pixel": step * PIECE, "bits": 8, "length": len(pairs)},
        "data": [value >> 8 for pair in pairs for value in pair],
    }
    return json.dumps(told, separators=(",", ":")).encode()


def drawn(path: str, format: Format, width: int, height: int, colour: str) -> Source:
    """A picture of the sound in *colour* (rrggbb), transparent around it."""

    def load(shrink: int, frames: int) -> pyvips.Image:
        return _picture(peaks(path, format), width, height, [*bytes.fromhex(colour)])

    return Source(format, width, height, load, alpha=True, cost=COSTS["svg"], pixel_bytes=4)


def _picture(found: Peaks, width: int, height: int, colour: list[int]) -> pyvips.Image:
    covered, middle, count = bytearray(width * height), height / 2, len(found.low)
    for column in range(width):
        low, high = found.within(column * count // width, (column + 1) * count // width)
        top = min(height - 1, max(0, round(middle - high / FULL * middle)))
        bottom = min(height, max(top + 1, round(middle - low / FULL * middle)))
        covered[top * width + column : (bottom - 1) * width + column + 1 : width] = b"\xff" * (bottom - top)
    mask = pyvips.Image.new_from_memory(bytes(covered), width, height, 1, "uchar")
    return mask.new_from_image(colour).bandjoin(mask).copy(interpretation="srgb")


def _samples(path: str, format: Format) -> Iterator[array[int]]:
    with video.opened(path, format) as container:
        stream = video.heard(container)
        resampler = av.AudioResampler("s16", "mono", RATE, frame_size=RATE)
        with suppress(av.error.InvalidDataError):  # up to where it is damaged
            for frame in container.decode(stream):
                for part in resampler.resample(frame):
                    yield array("h", bytes(part.planes[0])[: part.samples * 2])
        for part in resampler.resample(None):
            yield array("h", bytes(part.planes[0])[: part.samples * 2])

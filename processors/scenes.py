"""Many pictures of one film, as the frames of an animation: storyboards and previews. Workers only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice

import av
import pyvips
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from processors import video
from processors.costs import COSTS
from processors.errors import Corrupt, Unsupported
from processors.formats import Format
from processors.source import DELAY_MS, Shown, Source
from processors.video import Film

WHOLE_PIXELS, WHOLE_FRAMES = 350 * 1920 * 1080, 1500
"""A film of no more is read and decoded from end to end for its storyboard, in some two seconds; of others the key frames are."""
USUAL_RATE = 30

Frames = Iterator[VideoFrame]


def tiles(path: str, format: Format, film: Film, count: int) -> Source:
    """*count* pictures of *film*, each from the middle of its part of it; raises Unsupported."""
    length_s = film.duration_s
    if not length_s:
        raise Unsupported("the film does not say how long it is")
    moments = [(place + 0.5) / count * length_s for place in range(count)]

    def frames(container: InputContainer, stream: VideoStream, time: str | None) -> Frames:
        count = length_s * float(stream.average_rate or USUAL_RATE)
        is_short = count <= WHOLE_FRAMES and count * stream.width * stream.height <= WHOLE_PIXELS
        return _sampled(container, stream, moments) if is_short else _keys(container, stream, moments)

    return _source(path, format, film, count, frames)


def passage(path: str, format: Format, film: Film, seconds: float) -> Source:
    """*seconds* of *film*, or all of a shorter one, as an animation: from the moment on at which it is opened."""
    length_s = film.duration_s or seconds
    count = max(1, round(min(seconds, length_s) * 1000 / DELAY_MS))

    def frames(container: InputContainer, stream: VideoStream, time: str | None) -> Frames:
        wanted_s = video.time_of(video.best(container, stream), container) if time is None else video.moment_s(container, time)
        begin_s = max(0.0, min(wanted_s, length_s - seconds) if film.duration_s else wanted_s)
        with suppress(av.error.FFmpegError):  # without an index it is read from the beginning
            container.seek(round((video.start_s(container) + begin_s) * av.time_base))
        return _sampled(container, stream, (begin_s + place * DELAY_MS / 1000 for place in range(count)))

    return _source(path, format, film, count, frames)


def _source(
    path: str, format: Format, film: Film, count: int, frames: Callable[[InputContainer, VideoStream, str | None], Frames]
) -> Source:
    assert film.width is not None
    assert film.height is not None
    width, height = film.width, film.height

    def opening(time: str | None) -> Source:
        def each(most: int) -> Iterator[Shown]:
            with video.opened(path, format) as container:
                stream = video.decoded(container, format)
                for frame in islice(frames(container, stream, time), most):
                    yield video.picture(frame, stream), DELAY_MS

        def load(shrink: int, most: int) -> pyvips.Image:
            return next(each(1))[0]

        turn = video.told(path, format).turn
        return Source(format, width, height, load, count, turn=turn, cost=COSTS["film"], each=each)

    return Source(
        format, width, height, lambda shrink, most: opening(None).load(shrink, most), count, cost=COSTS["film"], opening=opening
    )


def _sampled(container: InputContainer, stream: VideoStream, moments: Iterable[float]) -> Frames:
    # Of each of *moments*, which are in order, the frame that is seen: the last one that is not after it.
    frames = _timed(container, stream)
    seen = next(frames, None)
    if seen is None:
        raise Corrupt("nothing in the film can be decoded")
    following = next(frames, None)
    for moment in moments:
        while following is not None and following[0] <= moment + 1e-6:
            seen, following = following, next(frames, None)
        yield seen[1]


def _timed(container: InputContainer, stream: VideoStream) -> Iterator[tuple[float, VideoFrame]]:
    # With the seconds from the film's beginning on; up to where it is damaged, if it is.
    with suppress(av.error.FFmpegError):
        for frame in container.decode(stream):
            if frame.time is not None:
                yield video.time_of(frame, container), frame


def _keys(container: InputContainer, stream: VideoStream, moments: Iterable[float]) -> Frames:
    # Of each moment the key frame before it, or the one before that where there is damage.
    stream.codec_context.skip_frame = "NONKEY"
    last: VideoFrame | None = None
    for moment in moments:
        with suppress(av.error.FFmpegError, StopIteration):
            container.seek(round((video.start_s(container) + moment) * av.time_base))
            last = next(container.decode(stream))
        if last is None:
            container.seek(container.start_time or 0)
            last = next(container.decode(stream))
        yield last

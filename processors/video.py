"""Films and sound through PyAV: what they are, and the still that stands for a film. Workers only.

FFmpeg gets a file object of ours, one demuxer, named by our own look at the content, a list of codecs, and no protocol: a file
that refers to others finds nobody to open them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Any, BinaryIO

import av
import pyvips
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from processors import sparse, tags, tone, tracks
from processors.containers import CODECS, DEMUXERS, MAX_STREAMS
from processors.errors import Corrupt, TooCostly, Unsupported
from processors.formats import Format, Kind

READ_BYTES = 1 << 18
PLACES = (0.1, 0.3, 0.5, 0.7)
"""where in a film its still is looked for, as parts of its length: the first moment is often black"""
SEEN = 12.0
"""the spread of brightness, of 255, from which a still shows something"""
MAX_SEARCHED_FRAMES = 250
MAX_FRAMES_TO_A_MOMENT = 3000
"""from a key frame on; films have one every few seconds, and the deadline of a rendition ends the search in others"""
MAX_COVER_BYTES = 16 << 20
_TURNS = {0: 1, 90: 6, 180: 3, 270: 8}


@dataclass(frozen=True, slots=True)
class Film:
    """What a film or a sound is, by its index. *width* and *height* are of a frame with square pixels; None for sound."""

    width: int | None = None
    height: int | None = None
    duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class Still:
    """One frame of a film. *turn* is how it must be turned to be seen upright, as an EXIF orientation."""

    image: pyvips.Image
    turn: int


@dataclass(frozen=True, slots=True)
class Told:
    """What a film or a sound says of itself. *turn* is how its pictures lie (see Still); the rest is what those modules tell."""

    turn: int
    tracks: dict[str, Any]
    tags: dict[str, Any]


def probe(path: str, format: Format) -> Film:
    """What the file's index says; raises Corrupt if there is none, or no stream in it."""
    with opened(path, format) as container:
        if not container.streams.video and not container.streams.audio:
            raise Corrupt("the file has neither a picture nor sound")
        duration_s = container.duration / av.time_base if container.duration else None
        stream = _pictures(container, format)
        if stream is None:
            return Film(duration_s=duration_s)
        return Film(round(stream.width * _aspect(stream)), stream.height, duration_s)


def told(path: str, format: Format) -> Told:
    """Decode the beginning, and tell what it and the index say; raises Corrupt.

    What is in a codec that we do not decode is stored and delivered all the same.
    """
    with opened(path, format) as container:
        pictures = _pictures(container, format)
        stream = pictures or container.streams.audio[0]
        first = next(container.decode(stream)) if _is_decoded(stream) else None
        frame = first if isinstance(first, VideoFrame) else None
        turn = 1 if frame is None else _turn(frame)
        return Told(turn, tracks.told(container, format, pictures, frame, turn), tags.told(container))


def cover(path: str, format: Format) -> bytes:
    """The picture that a sound brings with it, as a file of whatever type; raises Unsupported without one, Corrupt, TooCostly."""
    with opened(path, format) as container:
        stream = next((stream for stream in container.streams.video if stream.disposition & Disposition.attached_pic), None)
        if stream is None:
            raise Unsupported("there is no picture in this file")
        # FFmpeg gives attached pictures before anything else.
        packets = (packet for packet in islice(container.demux(), MAX_STREAMS) if packet.stream is stream and packet.size)
        packet = next(packets)
        if packet.size > MAX_COVER_BYTES:
            raise TooCostly(f"a cover may have {MAX_COVER_BYTES} bytes", limit="cover-bytes", allowed=MAX_COVER_BYTES)
        return bytes(packet)


def still(path: str, format: Format, time: str | None = None, *, searches: bool = True) -> Still:
    """A frame of the film: what is seen at *time*, or without it the one of a few that shows most; raises Corrupt, Unsupported.

    *time* is in seconds, or with ``%`` a part of the length; beyond the end it is the last frame. Unless it *searches*, no more
    than the few key frames are looked at, however dark they are.
    """
    with opened(path, format) as container:
        stream = decoded(container, format)
        frame = best(container, stream, searches=searches) if time is None else _seen(container, stream, time)
        return Still(picture(frame, stream), _turn(frame))


def decoded(container: InputContainer, format: Format) -> VideoStream:
    """The pictures of the film, ready to be decoded; raises Unsupported."""
    stream = _pictures(container, format)
    if stream is None or not _is_decoded(stream):
        raise Unsupported("there is no picture in this film that is decoded here")
    stream.codec_context.thread_count = 1
    return stream


def heard(container: InputContainer) -> AudioStream:
    """The first sound of the file that is decoded here; raises Unsupported."""
    stream = next(filter(_is_decoded, container.streams.audio), None)
    if stream is None:
        raise Unsupported("there is no sound in this file that is decoded here")
    return stream


def picture(frame: VideoFrame, stream: VideoStream) -> pyvips.Image:
    """*frame* in sRGB with square pixels, lying as it does in the file."""
    image = _image(frame.reformat(format="rgb24"), 3).copy(interpretation="srgb")
    if tone.is_high(frame.color_trc):
        image = tone.mapped(image, frame.color_trc, frame.color_primaries)
    return image.resize(_aspect(stream), vscale=1) if _aspect(stream) != 1 else image


def start_s(container: InputContainer) -> float:
    """What the film's own clock shows at its beginning."""
    return (container.start_time or 0) / av.time_base


def time_of(frame: VideoFrame, container: InputContainer) -> float:
    """The seconds from the film's beginning to *frame*."""
    return (frame.time or 0.0) - start_s(container)


def moment_s(container: InputContainer, time: str) -> float:
    """The seconds from the film's beginning that *time* means (as in `still`), within the film if its length is known."""
    length_s = (container.duration or 0) / av.time_base
    moment_s = length_s * float(time[:-1]) / 100 if time.endswith("%") else float(time)
    return min(moment_s, length_s) if length_s else moment_s


@contextmanager
def opened(path: str, format: Format) -> Iterator[InputContainer]:
    """The file, for as long as the block lasts; whatever FFmpeg raises in it becomes Corrupt."""
    options = {"codec_whitelist": ",".join(CODECS), "protocol_whitelist": "", "max_streams": str(MAX_STREAMS)}
    size = sparse.BLOCK_BYTES if sparse.is_sparse(path) else READ_BYTES
    # Opened by its number, so that FFmpeg has no name from which it could make another.
    with sparse.opened(path) as file:
        try:
            with av.open(
                file, "r", DEMUXERS[format.name], options, buffer_size=size, io_open=_refused, metadata_errors="surrogateescape"
            ) as container:
                yield container
        except (av.error.FFmpegError, ValueError, StopIteration) as error:
            raise Corrupt("the file is damaged or cut short") from error


def _refused(*_: object) -> BinaryIO:
    raise Corrupt("the file refers to another")


def _pictures(container: InputContainer, format: Format) -> VideoStream | None:
    # The cover of a sound file is a stream of pictures too, and not what it is.
    if format.kind is not Kind.VIDEO:
        return None
    return next((stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic), None)


def _is_decoded(stream: av.stream.Stream) -> bool:
    return stream.codec_context is not None and stream.codec_context.name in CODECS


def _aspect(stream: VideoStream) -> float:
    # Width of one pixel over its height; odd values are mistakes.
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 0.1 <= aspect <= 10 else 1.0


def _turn(frame: VideoFrame) -> int:
    # PyAV gives degrees against the clock, EXIF numbers what the viewer must do.
    return _TURNS.get(-frame.rotation % 360, 1)


def _seen(container: InputContainer, stream: VideoStream, time: str) -> VideoFrame:
    # The last frame that is not after the moment: from the key frame before it on.
    moment = start_s(container) + moment_s(container, time)
    with suppress(av.error.FFmpegError):  # without an index it is read from the beginning
        container.seek(round(moment * av.time_base))
    seen: VideoFrame | None = None
    with suppress(av.error.EOFError):
        for frame in islice(container.decode(stream), MAX_FRAMES_TO_A_MOMENT):
            if seen is not None and frame.time is not None and frame.time > moment + 1e-6:
                break
            seen = frame
    if seen is None:
        raise Corrupt("nothing at this moment of the film can be decoded")
    return seen


def best(container: InputContainer, stream: VideoStream, *, searches: bool = True) -> VideoFrame:
    """The frame of a few that shows most; unless it *searches*, of the key frames alone. Raises Corrupt."""
    candidates: dict[int | None, tuple[float, VideoFrame]] = {}
    for place in PLACES if container.duration else ():
        try:
            container.seek(round((container.start_time or 0) + place * (container.duration or 0)))
            frame = next(container.decode(stream))
        except (av.error.FFmpegError, StopIteration):  # the end is missing, or there is no index to seek by
            continue
        if frame.pts not in candidates:
            candidates[frame.pts] = _spread(frame), frame
    found = max(candidates.values(), key=itemgetter(0), default=None)
    if found is not None and (found[0] >= SEEN or not searches):
        return found[1]
    # One key frame, or black ones: on from the beginning until something is seen.
    container.seek(container.start_time or 0)
    for frame in islice(container.decode(stream), MAX_SEARCHED_FRAMES if searches else 1):
        spread = _spread(frame)
        if found is None or spread > found[0]:
            found = spread, frame
        if spread >= SEEN:
            break
    if found is None:
        raise Corrupt("nothing in the film can be decoded")
    return found[1]


def _spread(frame: VideoFrame) -> float:
    # Standard deviation of brightness: a black, white or faded picture has next to none.
    return float(_image(frame.reformat(64, 36, "gray"), 1).deviate())


def _image(frame: VideoFrame, bands: int) -> pyvips.Image:
    # FFmpeg pads its rows.
    plane = frame.planes[0]
    rows = pyvips.Image.new_from_memory(bytes(plane), plane.line_size, plane.height, 1, "uchar")
    image = rows.crop(0, 0, frame.width * bands, frame.height)
    return image.bandfold(factor=bands) if bands > 1 else image

"""What a film or a sound says of itself, in the words of JSON: its container, its tracks and its chapters. Workers only.

Of the names in a file only those of chapters are told: tags of phones say where and with what a film was made.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from fractions import Fraction
from typing import Any, cast

from av.audio.codeccontext import AudioCodecContext
from av.container import InputContainer
from av.sidedata.sidedata import SideDataContainer, Type
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from processors.formats import Format

MAX_CHAPTERS = 100
MAX_TITLE_CHARS = 80
DEGREES = {1: 0, 6: 90, 3: 180, 8: 270}
"""clockwise, of EXIF orientations"""
PRIMARIES = {
    **{1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film"},
    **{9: "bt2020", 10: "smpte428", 11: "smpte431", 12: "smpte432", 22: "ebu3213"},
}
"""Rec. ITU-T H.273, table 2, in FFmpeg's words; 2 is unknown"""
TRANSFERS = {
    **{1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear", 11: "iec61966-2-4"},
    **{13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084", 17: "smpte428", 18: "arib-std-b67"},
}
"""the same, table 3"""
HDR = {16: "pq", 18: "hlg"}
_MASTERING = struct.Struct("=22i")  # AVMasteringDisplayMetadata: ten fractions, then what of them is there
_LIGHT = struct.Struct("=2I")  # AVContentLightMetadata


def told(
    container: InputContainer, format: Format, pictures: VideoStream | None, frame: VideoFrame | None, turn: int
) -> dict[str, Any]:
    """``container``, ``bitRate`` (bits a second), ``video`` (of *pictures*, or None), ``audio`` (a list), ``chapters``.

    *frame* is the first of *pictures*, where it could be decoded, and *turn* how it lies; what a file does not say is None.
    """
    return {
        "container": format.name,
        "bitRate": container.bit_rate if container.bit_rate > 0 else None,
        "video": None if pictures is None else _video(pictures, frame, turn),
        "audio": [_audio(stream) for stream in container.streams.audio],
        "chapters": _chapters(container),
    }


def _video(stream: VideoStream, frame: VideoFrame | None, turn: int) -> dict[str, Any]:
    context = stream.codec_context
    if not isinstance(context, VideoCodecContext):
        return _codec(stream)
    said = context if frame is None else frame
    pixels = context.format
    return {
        **_codec(stream),
        "width": stream.width,
        "height": stream.height,
        "frameRate": _number(stream.average_rate or stream.guessed_rate),
        "rotation": DEGREES[turn],
        "pixelAspect": _number(stream.sample_aspect_ratio) or 1.0,
        "bits": None if pixels is None else pixels.components[0].bits,
        "primaries": PRIMARIES.get(said.color_primaries),
        "transfer": TRANSFERS.get(said.color_trc),
        "hdr": HDR.get(said.color_trc),
        "mastering": None if frame is None else _mastering(frame),
        "light": None if frame is None else _light(frame),
    }


def _audio(stream: Stream) -> dict[str, Any]:
    context = stream.codec_context
    if not isinstance(context, AudioCodecContext):
        return _codec(stream)
    return {**_codec(stream), "sampleRate": context.sample_rate, "channels": context.channels}


def _codec(stream: Stream) -> dict[str, Any]:
    # A codec that is not known here has no context.
    context = stream.codec_context
    rate = getattr(context, "bit_rate", None)
    return {
        "codec": None if context is None else context.codec.canonical_name,
        "profile": None if context is None else stream.profile,
        "bitRate": rate if rate and rate > 0 else None,
        "language": None if stream.language == "und" else _title(stream.language),
    }


def _chapters(container: InputContainer) -> list[dict[str, Any]]:
    return [
        {
            "start": round(float(chapter["start"] * chapter["time_base"]), 3),
            "end": round(float(chapter["end"] * chapter["time_base"]), 3),
            "title": _title(chapter["metadata"].get("title")),
        }
        for chapter in container.chapters()[:MAX_CHAPTERS]
        if chapter["time_base"]
    ]


def _mastering(frame: VideoFrame) -> dict[str, Any] | None:
    # The screen on which the film was made: its colours as x and y (CIE 1931), its light in candela per square metre.
    data = _beside(frame, Type.MASTERING_DISPLAY_METADATA)
    if len(data) < _MASTERING.size:
        return None
    *halves, has_primaries, has_luminance = _MASTERING.unpack_from(data)
    values = [_number(Fraction(over, under)) if under else None for over, under in zip(halves[::2], halves[1::2], strict=True)]
    names = ("red", "green", "blue", "white")
    points = {name: values[2 * place : 2 * place + 2] for place, name in enumerate(names)} if has_primaries else {}
    light = {"minLuminance": values[8], "maxLuminance": values[9]} if has_luminance else {}
    return {**points, **light} or None


def _light(frame: VideoFrame) -> dict[str, int] | None:
    # The lightest pixel, and the lightest frame on average.
    data = _beside(frame, Type.CONTENT_LIGHT_LEVEL)
    if len(data) < _LIGHT.size:
        return None
    pixel, average = _LIGHT.unpack_from(data)
    return {"maxPixel": pixel, "maxAverage": average}


def _beside(frame: VideoFrame, kind: Type) -> bytes:
    # PyAV 18 looks at all that comes with a frame, raises ValueError where it does not know a part of it, and types the rest wrong.
    with suppress(ValueError, KeyError):
        return bytes(cast(SideDataContainer, frame.side_data)[kind])
    return b""


def _number(value: Fraction | None) -> float | None:
    return None if value is None else round(float(value), 4)


def _title(text: str | None) -> str | None:
    return "".join(letter for letter in text or "" if letter.isprintable()).strip()[:MAX_TITLE_CHARS] or None

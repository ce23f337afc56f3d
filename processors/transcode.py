"""Turns films and sound into others by the programs of FFmpeg, each run on a folder of its own and bounded."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processors import formats
from processors.cell import RESULTS, SOURCE, Bounds, Cell, Ended, Late
from processors.containers import CODECS, DEMUXERS, MAX_STREAMS
from processors.errors import Busy, Corrupt, Crashed, MediaError, TooCostly, Unsupported
from processors.formats import Format
from processors.profiles import Profile

FILE = "source"
"""what the source is called in its folder"""
PROBE = Bounds(deadline_s=60.0, cpu_s=60, memory_bytes=2 << 30, file_bytes=0)
WHOLE = 0.9
"""of the source's length, which a result must have: FFmpeg leaves out what it cannot decode, and that should be little"""
MOST_PIXELS = 8192 * 8192
ENCODERS = {
    "h264": ("libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"),
    "vp9": ("libvpx-vp9", "-b:v", "0", "-deadline", "good", "-cpu-used", "5", "-row-mt", "1", "-pix_fmt", "yuv420p"),
    "av1": ("libsvtav1", "-preset", "10", "-pix_fmt", "yuv420p"),
    "aac": ("aac",),
    "opus": ("libopus",),
}
MUXERS = {"mp4": "mp4", "webm": "webm", "m4a": "ipod", "ogg": "ogg"}
FASTSTART = frozenset(("mp4", "m4a"))
TOLD_TO_END = 255
"""FFmpeg's status when a signal has ended it that it takes: of ours only the one at its bound of the processor's time"""
LOUDNESS = "loudnorm=I=-16:TP=-1.5:LRA=11"
"""EBU R 128, at the level that is common on the web"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a file is by its index; sizes as shown, None for sound."""

    duration_s: float | None
    width: int | None
    height: int | None
    has_sound: bool


@dataclass(frozen=True, slots=True)
class Made:
    """One result: a file of *folder*'s results."""

    path: Path
    format: Format
    seen: Seen


class Transcoder:
    """Makes what profiles say, by programs that run within *bounds*, with so many *threads* each, in *cell*: by itself the best."""

    def __init__(self, bounds: Bounds, threads: int, cell: Cell | None = None) -> None:
        self._bounds = bounds
        self._threads = threads
        self._cell = cell

    async def cell(self) -> Cell:
        """What programs run in; tried out when it is first asked for."""
        if self._cell is None:
            with tempfile.TemporaryDirectory() as folder:
                self._cell = await Cell.best(Path(folder))
        return self._cell

    async def make(self, folder: Path, profile: Profile, progress: Callable[[float], None]) -> list[Made]:
        """The results of *profile* for the source in *folder*; *progress* is told how many percent are done.

        Raises Unsupported, Corrupt, TooCostly, and Crashed for what may go better another time.
        """
        source = folder / SOURCE / FILE
        with source.open("rb") as file:
            format = formats.sniff(file.read(formats.HEAD_BYTES))
        if format.name not in DEMUXERS:
            raise Unsupported("only films and sound can be turned into others")
        seen = await self.look(folder, f"../{SOURCE}/{FILE}", format)
        if profile.video is not None and seen.width is None:
            raise Unsupported("there is no picture in this file")
        if profile.video is None and not seen.has_sound:
            raise Unsupported("there is no sound in this film")
        if (seen.width or 0) * (seen.height or 0) > MOST_PIXELS:
            raise TooCostly(f"a film may have {MOST_PIXELS} pixels in a frame", allowed=MOST_PIXELS)
        made = formats.FORMATS[profile.container]
        name = f"{profile.name}.{made.extension}"
        ended = await self._run(
            folder, [_program("ffmpeg"), *words(profile, format, seen, name, self._threads)], _percents(seen.duration_s, progress)
        )
        _check(ended, self._bounds)
        path = folder / RESULTS / name
        if not path.is_file() or path.stat().st_size == 0:
            raise Corrupt("nothing could be made of this file")
        result = await self.look(folder, name, made)
        if (result.duration_s or 0) < WHOLE * (seen.duration_s or 0):
            raise Corrupt("the file is damaged or cut short")
        return [Made(path, made, result)]

    async def look(self, folder: Path, name: str, format: Format) -> Seen:
        """What the file *name*, seen from the results of *folder*, is."""
        lines: list[str] = []
        entries = "format=duration:stream=codec_type,width,height:stream_disposition=attached_pic:stream_side_data=rotation"
        ended = await (await self.cell()).run(
            folder,
            [_program("ffprobe"), "-v", "error", "-of", "json", "-show_entries", entries, *_opening(format), f"file:{name}"],
            PROBE,
            lines.append,
        )
        _check(ended, PROBE)
        return _seen("\n".join(lines))

    async def _run(self, folder: Path, program: Sequence[str], heard: Callable[[str], None]) -> Ended:
        try:
            return await (await self.cell()).run(folder, program, self._bounds, heard)
        except Late:
            limit = self._bounds.deadline_s
            raise TooCostly(f"it took longer than {limit:g} seconds", limit="deadline", allowed=limit) from None


def is_there() -> bool:
    """Whether this machine has the programs."""
    return all(shutil.which(name) for name in ("ffmpeg", "ffprobe"))


async def encoders(cell: Cell) -> set[str]:
    """The encoders that this machine's ffmpeg has."""
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in (SOURCE, RESULTS):
            (folder / part).mkdir()
        _check(await cell.run(folder, [_program("ffmpeg"), "-hide_banner", "-encoders"], PROBE, lines.append), PROBE)
    return {columns[1] for line in lines if len(columns := line.split()) > 1}


def words(profile: Profile, format: Format, seen: Seen, name: str, threads: int) -> list[str]:
    """What ffmpeg is told, to make the file *name* of *profile*."""
    told = ["-hide_banner", "-nostdin", "-nostats", "-loglevel", "error", "-progress", "pipe:1"]
    told += [*_opening(format), "-threads", str(threads), "-i", f"file:../{SOURCE}/{FILE}"]
    told += ["-map_metadata", "-1", "-map_chapters", "-1", "-sn", "-dn", "-threads", str(threads), "-filter_threads", "1"]
    if profile.video is not None:
        encoder, *more = ENCODERS[profile.video]
        told += ["-map", "0:V:0", "-c:v", encoder, "-crf", str(profile.quality), *more]
        told += ["-vf", _scaled(profile.height), "-fpsmax", "60", "-g", "120"]
    if seen.has_sound:
        told += ["-map", "0:a:0", "-c:a", ENCODERS[profile.audio][0], "-b:a", f"{profile.audio_kbps}k", "-ac", "2", "-ar", "48000"]
        told += ["-af", LOUDNESS] if profile.loudness else []
    told += ["-movflags", "+faststart"] if profile.container in FASTSTART else []
    return [*told, "-f", MUXERS[profile.container], f"file:{name}"]


def _scaled(height: int) -> str:
    # Square pixels, the shorter side no more than asked for and never larger, both sides even as 4:2:0 wants them.
    shorter = f"min({height}\\,trunc(%s/2)*2)"
    width = f"if(gt(iw\\,ih)\\,-2\\,{shorter % 'iw'})"
    return f"scale=trunc(iw*sar/2)*2:ih,setsar=1,scale={width}:if(gt(iw\\,ih)\\,{shorter % 'ih'}\\,-2),setsar=1"


def _opening(format: Format) -> list[str]:
    demuxer = DEMUXERS[format.name]
    # By its own name FFmpeg 5 calls it mov,mp4,m4a,3gp,3g2,mj2: the list of those allowed must have all of them.
    return [
        *("-protocol_whitelist", "file,pipe", "-codec_whitelist", ",".join(sorted(CODECS)), "-max_streams", str(MAX_STREAMS)),
        *("-format_whitelist", f"{demuxer},mov,mp4,m4a,3gp,3g2,mj2,matroska,webm", "-f", demuxer),
    ]


def _percents(duration_s: float | None, progress: Callable[[float], None]) -> Callable[[str], None]:
    def heard(line: str) -> None:
        name, _, value = line.partition("=")
        if name == "out_time_us" and duration_s and value.lstrip("-").isdigit():
            progress(min(99.0, max(0.0, int(value) / 10_000 / duration_s)))

    return heard


def _check(ended: Ended, bounds: Bounds) -> None:
    if ended.status == 0:
        return
    if ended.status == -signal.SIGXFSZ or "File too large" in ended.said:
        raise TooCostly(f"the result would have more than {bounds.file_bytes} bytes", limit="bytes", allowed=bounds.file_bytes)
    if ended.status in (-signal.SIGXCPU, TOLD_TO_END):
        raise TooCostly(f"it took more than {bounds.cpu_s} seconds of the processor", limit="cpu", allowed=bounds.cpu_s)
    if "No space left" in ended.said:
        raise Busy("there is no room on the disk for the work", retry_after_s=60)
    if ended.status < 0:
        raise Crashed("the program that works on films broke down over this file")
    raise Corrupt("the file is damaged, cut short, or in a codec that is not decoded here")


def _seen(text: str) -> Seen:
    try:
        told: dict[str, Any] = json.loads(text)
    except ValueError:
        raise Corrupt("the file has no index that can be read") from None
    streams = told.get("streams", [])
    film = next((one for one in streams if one.get("codec_type") == "video" and not _is_cover(one)), None)
    duration = _number(told.get("format", {}).get("duration"))
    has_sound = any(one.get("codec_type") == "audio" for one in streams)
    if film is None:
        if not has_sound:
            raise Corrupt("the file has neither a picture nor sound")
        return Seen(duration, None, None, has_sound)
    width, height = int(film.get("width", 0)), int(film.get("height", 0))
    turn = next((side["rotation"] for side in film.get("side_data_list", []) if "rotation" in side), 0)
    if round(float(turn)) % 180:
        width, height = height, width
    return Seen(duration, width, height, has_sound)


def _is_cover(stream: dict[str, Any]) -> bool:
    return bool(stream.get("disposition", {}).get("attached_pic"))


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise MediaError("the program that works on films is not installed")
    return found

"""Turns films and sound into others by the programs of FFmpeg, each run on a folder of its own and bounded."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from processors import adaptive, formats
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
HIGH = frozenset(("smpte2084", "arib-std-b67"))
"""the transfers of high dynamic range: PQ and HLG"""
FASTSTART = frozenset(("mp4", "m4a"))
TOLD_TO_END = 255
"""FFmpeg's status when a signal has ended it that it takes: of ours only the one at its bound of the processor's time"""
TONING = frozenset(("zscale", "tonemap"))
TONED = (
    "zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt709,tonemap=reinhard:peak=4.93:desat=0,"
    "zscale=t=bt709:m=bt709:r=tv,format=yuv420p"
)
"""From PQ or HLG to BT.709, as `tone` does with stills: white is at 203 cd/m², what is lighter is pressed together up to 1000"""
LOUDNESS = "loudnorm=I=-16:TP=-1.5:LRA=11"
"""EBU R 128, at the level that is common on the web"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a file is by its index; sizes as shown, None for sound."""

    duration_s: float | None
    width: int | None
    height: int | None
    has_sound: bool
    rate: float | None = None
    codec: str | None = None
    """of the picture, as RFC 6381 has it; of H.264 alone"""
    is_high: bool = False
    """whether it is in high dynamic range"""


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
        self._known_filters: frozenset[str] | None = None

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
        if seen.is_high and profile.video is not None and not await self._filters() >= TONING:
            raise Unsupported("this ffmpeg has no zscale and tonemap, which films in high dynamic range take")
        if profile.heights:
            return await self._adaptive(folder, profile, format, seen, progress)
        made = formats.FORMATS[profile.container]
        name = f"{profile.name}.{made.extension}"
        await self._converted(folder, words(profile, format, seen, name, self._threads), seen, progress)
        path = folder / RESULTS / name
        if not path.is_file() or path.stat().st_size == 0:
            raise Corrupt("nothing could be made of this file")
        result = await self.look(folder, name, made)
        if (result.duration_s or 0) < WHOLE * (seen.duration_s or 0):
            raise Corrupt("the file is damaged or cut short")
        return [Made(path, made, result)]

    async def _adaptive(
        self, folder: Path, profile: Profile, format: Format, seen: Seen, progress: Callable[[float], None]
    ) -> list[Made]:
        heights = adaptive.heights(profile, min(seen.width or 0, seen.height or 0))
        await self._converted(folder, adaptive_words(profile, heights, format, seen, self._threads), seen, progress)
        results, film, playlist = folder / RESULTS, formats.FORMATS["mp4"], formats.PLAYLIST
        made: list[Made] = []
        tracks: list[adaptive.Track] = []
        for name in (*map(adaptive.name_of, heights), *([adaptive.SOUND] if seen.has_sound else [])):
            part = await self.look(folder, f"{name}.mp4", film)
            text = (results / f"{name}.m3u8").read_text()
            track = adaptive.Track(name, text, part.codec or adaptive.AAC, part.width, part.height, part.rate)
            if track.duration_s < WHOLE * (seen.duration_s or 0):
                raise Corrupt("the file is damaged or cut short")
            part = replace(part, duration_s=track.duration_s)
            tracks.append(track)
            made += [Made(results / f"{name}.m3u8", playlist, part), Made(results / f"{name}.mp4", film, part)]
        path = results / f"{adaptive.MASTER}.m3u8"
        path.write_text(adaptive.master(tracks[: len(heights)], tracks[-1] if seen.has_sound else None))
        return [Made(path, playlist, replace(made[0].seen, has_sound=seen.has_sound)), *made]

    async def _filters(self) -> frozenset[str]:
        if self._known_filters is None:
            self._known_filters = frozenset(await _listed(await self.cell(), "-filters"))
        return self._known_filters

    async def _converted(self, folder: Path, words: Sequence[str], seen: Seen, progress: Callable[[float], None]) -> None:
        ended = await self._run(folder, [_program("ffmpeg"), *words], _percents(seen.duration_s, progress))
        _check(ended, self._bounds)

    async def look(self, folder: Path, name: str, format: Format) -> Seen:
        """What the file *name*, seen from the results of *folder*, is."""
        lines: list[str] = []
        streams = "codec_type,codec_name,profile,level,width,height,avg_frame_rate,color_transfer"
        entries = f"format=duration:stream={streams}:stream_disposition=attached_pic:stream_side_data=rotation"
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
    return await _listed(cell, "-encoders")


async def _listed(cell: Cell, what: str) -> set[str]:
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in (SOURCE, RESULTS):
            (folder / part).mkdir()
        _check(await cell.run(folder, [_program("ffmpeg"), "-hide_banner", what], PROBE, lines.append), PROBE)
    return {columns[1] for line in lines if len(columns := line.split()) > 1}


def words(profile: Profile, format: Format, seen: Seen, name: str, threads: int) -> list[str]:
    """What ffmpeg is told, to make the file *name* of *profile*."""
    told = [*_reading(format, threads), *_output(threads)]
    if profile.video is not None:
        told += ["-map", "0:V:0", *_encoding(profile), "-vf", _viewed(profile.height, seen), "-fpsmax", "60", "-g", "120"]
    if seen.has_sound:
        told += _sound(profile)
    told += ["-movflags", "+faststart"] if profile.container in FASTSTART else []
    return [*told, "-f", MUXERS[profile.container], f"file:{name}"]


def adaptive_words(profile: Profile, heights: Sequence[int], format: Format, seen: Seen, threads: int) -> list[str]:
    """What ffmpeg is told, to make a film in all *heights* of one decode, cut at the same moments, and its sound beside them."""
    sizes = [f"[all{number}]{_viewed(height, seen)}[size{number}]" for number, height in enumerate(heights)]
    split = f"[0:V:0]split={len(heights)}" + "".join(f"[all{number}]" for number in range(len(heights)))
    told = [*_reading(format, threads), "-filter_complex", ";".join((split, *sizes))]
    for number, height in enumerate(heights):
        most = adaptive.most_kbps(height)
        told += [*_output(threads), "-map", f"[size{number}]", *_encoding(profile), "-profile:v", "high", "-fpsmax", "60"]
        told += ["-maxrate", f"{most}k", "-bufsize", f"{2 * most}k", "-g", "600", "-sc_threshold", "0"]
        told += ["-force_key_frames", f"expr:gte(t,n_forced*{adaptive.KEY_S})", *adaptive.cutting(adaptive.name_of(height))]
    if seen.has_sound:
        told += [*_output(threads), *_sound(profile), *adaptive.cutting(adaptive.SOUND)]
    return told


def _reading(format: Format, threads: int) -> list[str]:
    return [
        *("-hide_banner", "-nostdin", "-nostats", "-loglevel", "error", "-progress", "pipe:1"),
        *(*_opening(format), "-threads", str(threads), "-i", f"file:../{SOURCE}/{FILE}"),
    ]


def _output(threads: int) -> list[str]:
    return ["-map_metadata", "-1", "-map_chapters", "-1", "-sn", "-dn", "-threads", str(threads), "-filter_threads", "1"]


def _encoding(profile: Profile) -> list[str]:
    encoder, *more = ENCODERS[profile.video or ""]
    return ["-c:v", encoder, "-crf", str(profile.quality), *more]


def _sound(profile: Profile) -> list[str]:
    told = ["-map", "0:a:0", "-c:a", ENCODERS[profile.audio][0], "-b:a", f"{profile.audio_kbps}k", "-ac", "2", "-ar", "48000"]
    return [*told, "-af", LOUDNESS] if profile.loudness else told


def _viewed(height: int, seen: Seen) -> str:
    return f"{_scaled(height)},{TONED}" if seen.is_high else _scaled(height)


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
    is_h264 = film.get("codec_name") == "h264"
    codec = adaptive.codec(film.get("profile", ""), max(0, int(film.get("level", 0)))) if is_h264 else None
    return Seen(
        duration, width, height, has_sound, _rate(film.get("avg_frame_rate", "")), codec, film.get("color_transfer") in HIGH
    )


def _is_cover(stream: dict[str, Any]) -> bool:
    return bool(stream.get("disposition", {}).get("attached_pic"))


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _rate(text: str) -> float | None:
    over, _, under = text.partition("/")
    return int(over) / int(under) if over.isdigit() and under.isdigit() and int(under) else None


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise MediaError("the program that works on films is not installed")
    return found

"""HLS (RFC 8216) of fragmented MP4: one film in several sizes, of which a player takes what its line allows. Pure.

Each size is one file, and its playlist leads to parts of it by their bytes: so a film of an hour is a dozen objects and not
thousands, and ranges, caches and signatures are those of any object.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from processors.errors import Corrupt
from processors.profiles import Profile

MASTER, SOUND = "master", "sound"
"""names of the playlists that are not a size's"""
AAC = "mp4a.40.2"
SEGMENT_S, KEY_S = 6, 2
"""as HLS is commonly cut: a size is changed at each cut, and a moment is found at each key frame"""
PIXEL_BITS = 0.1
"""that a pixel takes at most, on average, of fast motion: what keeps a size within what its players expect"""
USUAL_RATE = 30
SHAPE = 16 / 9
_PART = re.compile(r"#EXTINF:([\d.]+),.*\n#EXT-X-BYTERANGE:(\d+)@(\d+)\n")


@dataclass(frozen=True, slots=True)
class Track:
    """One playlist, as it was made: *name*, and what its file is. Sizes are None for sound; *codec* as in RFC 6381."""

    name: str
    text: str
    codec: str
    width: int | None = None
    height: int | None = None
    rate: float | None = None

    @property
    def parts(self) -> list[tuple[float, int]]:
        """How many seconds and bytes each part has."""
        return [(float(seconds), int(size)) for seconds, size, _ in _PART.findall(self.text)]

    @property
    def duration_s(self) -> float:
        """The length of all of it."""
        return sum(seconds for seconds, _ in self.parts)

    @property
    def bits(self) -> tuple[int, int]:
        """Bits a second, at most over one part, and on average."""
        if not self.parts or not self.duration_s:
            raise Corrupt("nothing could be made of this file")
        most = max(size * 8 / seconds for seconds, size in self.parts if seconds > 0)
        return round(most), round(sum(size for _, size in self.parts) * 8 / self.duration_s)


def heights(profile: Profile, shorter: int) -> list[int]:
    """The sizes that are made of a film whose shorter side is that: none is larger, and there is one at least."""
    return [height for height in profile.heights if height <= shorter] or [shorter // 2 * 2]


def name_of(height: int) -> str:
    """What a size is called."""
    return f"{height}p"


def most_kbps(height: int) -> int:
    """The bit rate that a size has at most."""
    return max(200, round(height * height * SHAPE * USUAL_RATE * PIXEL_BITS / 1000))


def cutting(name: str) -> list[str]:
    """What ffmpeg is told to write the playlist *name* and its file."""
    return [
        *("-f", "hls", "-hls_time", str(SEGMENT_S), "-hls_playlist_type", "vod", "-hls_segment_type", "fmp4"),
        *("-hls_flags", "single_file+independent_segments", "-hls_segment_filename", f"{name}.mp4", f"file:{name}.m3u8"),
    ]


def codec(profile: str, level: int) -> str:
    """H.264 of a *profile* in FFmpeg's words, as RFC 6381 has it."""
    kinds = {"High": "6400", "Main": "4D40", "Constrained Baseline": "42E0", "Baseline": "4200"}
    return f"avc1.{kinds.get(profile, '6400')}{level:02X}"


def master(pictures: Sequence[Track], sound: Track | None) -> str:
    """The playlist of all sizes, the largest first (RFC 8216, section 4.3.4)."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS"]
    if sound is not None:
        lines.append(
            f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="{SOUND}",NAME="{SOUND}",DEFAULT=YES,AUTOSELECT=YES,CHANNELS="2",URI="{SOUND}.m3u8"'
        )
    for track in pictures:
        most, average = (
            of_pictures + of_sound for of_pictures, of_sound in zip(track.bits, sound.bits if sound else (0, 0), strict=True)
        )
        codecs = ",".join((track.codec, sound.codec) if sound else (track.codec,))
        about = [
            f"BANDWIDTH={most}",
            f"AVERAGE-BANDWIDTH={average}",
            f'CODECS="{codecs}"',
            f"RESOLUTION={track.width}x{track.height}",
        ]
        about += [f"FRAME-RATE={track.rate:.3f}"] if track.rate else []
        about += [f'AUDIO="{SOUND}"'] if sound else []
        lines += ["#EXT-X-STREAM-INF:" + ",".join(about), f"{track.name}.m3u8"]
    return "\n".join(lines) + "\n"

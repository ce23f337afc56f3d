"""Profiles: what films and sound are turned into, as an operator names it in a file (TOML). No profile holds words for FFmpeg."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from processors.formats import Kind

MAX_PROFILES = 100
RECIPE = 2
"""Raised when the same profile makes something else than before."""
CONTAINERS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "mp4": (("h264", "av1"), ("aac",)),
    "webm": (("vp9", "av1"), ("opus",)),
    "m4a": ((), ("aac",)),
    "ogg": ((), ("opus",)),
    "hls": (("h264",), ("aac",)),
}
"""What each may hold, the default first: codecs of pictures (none: it is for sound alone), and of sound."""
HEIGHTS = (1080, 720, 480, 360)
"""of HLS, where a profile does not say others"""
MAX_HEIGHTS = 6
QUALITIES = {"h264": 23, "vp9": 33, "av1": 35}
MOST_QUALITY = {"h264": 51, "vp9": 63, "av1": 63}
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


class BadProfiles(ValueError):
    """The file is not usable; the text has a sentence for each fault."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What *name* makes. *height* is the most of the shorter side of the picture, which is never made larger.

    HLS has several instead, *heights*, the largest first.
    *quality* is the codec's constant rate factor: lower is better and larger. *automatic*: ordered for each upload that it suits.
    """

    name: str
    container: str
    video: str | None
    audio: str
    height: int = 720
    quality: int = 23
    audio_kbps: int = 128
    loudness: bool = False
    heights: tuple[int, ...] = ()
    automatic: bool = field(default=False, compare=False)

    @property
    def revision(self) -> str:
        """Names what the profile makes: it changes with all that is seen of the result."""
        seen = {name: value for name, value in asdict(self).items() if name != "automatic" and value != ()}
        return hashlib.sha256(json.dumps([RECIPE, seen], sort_keys=True).encode()).hexdigest()[:16]

    def suits(self, kind: Kind) -> bool:
        """Whether it can be made of a source of this kind: sound of films and sound, films of films."""
        return kind is Kind.VIDEO or (kind is Kind.AUDIO and self.video is None)


DEFAULTS = """
[1080p]
container = "mp4"
height = 1080
audio_kbps = 160

[720p]
container = "mp4"
height = 720

[480p]
container = "mp4"
height = 480

[360p]
container = "mp4"
height = 360
audio_kbps = 96

[webm]
container = "webm"
height = 720

[hls]
container = "hls"

[aac]
container = "m4a"

[opus]
container = "ogg"
audio_kbps = 96
"""
"""The profiles of a service that has no file of its own."""


def read(text: str) -> dict[str, Profile]:
    """The profiles of a file's *text*; raises BadProfiles with every fault."""
    try:
        entries = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadProfiles(f"It is no TOML: {error}.") from None
    faults = [] if len(entries) <= MAX_PROFILES else [f"It has {len(entries)} profiles; there may be {MAX_PROFILES}."]
    profiles = {}
    for name, given in entries.items():
        if not isinstance(given, dict):
            faults.append(f"{name} is not a table such as [720p].")
            continue
        found = _faults(name, given)
        faults += [f"{name}: {fault}." for fault in found]
        if not found:
            profiles[name] = _profile(name, given)
    if faults:
        raise BadProfiles("\n".join(faults))
    return profiles


def _profile(name: str, given: Mapping[str, Any]) -> Profile:
    videos, audios = CONTAINERS[given["container"]]
    video = given.get("video", videos[0] if videos else None)
    quality = QUALITIES.get(video or "", 0)
    heights = tuple(given.get("heights", HEIGHTS)) if given["container"] == "hls" else ()
    return Profile(**{"name": name, "video": video, "audio": audios[0], "quality": quality, **given, "heights": heights})


def _faults(name: str, given: Mapping[str, Any]) -> list[str]:
    faults = [] if _NAME.fullmatch(name) else ["a name has up to 32 of a-z, 0-9, - and _"]
    faults += [f"{other} is not known here, only {', '.join(_MEMBERS)} are" for other in sorted(given.keys() - _MEMBERS.keys())]
    faults += [f"{member} is {_MEMBERS[member]}" for member in _MEMBERS.keys() & given.keys() if not _holds(member, given[member])]
    if "container" not in given:
        faults.append(f"it has no container: {_MEMBERS['container']}")
    if faults:
        return faults
    videos, _ = CONTAINERS[given["container"]]
    if not videos:
        alone = sorted({"video", "height", "quality"} & given.keys())
        return [f"{given['container']} is for sound alone and has no {member}" for member in alone]
    is_hls = given["container"] == "hls"
    if (other := "height" if is_hls else "heights") in given:
        return ["hls has heights, such as [1080, 720, 480, 360], and no height" if is_hls else f"only hls has {other}"]
    video = given.get("video", videos[0])
    if video not in videos:
        return [f"video in {given['container']} is {' or '.join(videos)}"]
    if given.get("quality", 0) > MOST_QUALITY[video]:
        return [f"quality of {video} is a number from 1 to {MOST_QUALITY[video]}"]
    return []


def _holds(member: str, value: Any) -> bool:
    if member in {"loudness", "automatic"}:
        return isinstance(value, bool)
    if member == "container":
        return isinstance(value, str) and value in CONTAINERS
    if member == "video":
        return isinstance(value, str)
    if member == "heights":
        is_list = isinstance(value, list) and 1 <= len(value) <= MAX_HEIGHTS and all(_holds("height", each) for each in value)
        return is_list and value == sorted(set(value), reverse=True)
    least, most = _RANGES[member]
    return type(value) is int and least <= value <= most


_RANGES = {"height": (16, 4320), "quality": (1, 63), "audio_kbps": (8, 512)}
_MEMBERS = {
    "container": "one of " + ", ".join(CONTAINERS),
    "heights": f"a list of up to {MAX_HEIGHTS} numbers from 4320 to 16, the largest first",
    "video": "a codec, such as h264",
    "height": "the most pixels of the shorter side, from 16 to 4320",
    "quality": "a number from 1 (best) to 63",
    "audio_kbps": "a number from 8 to 512",
    "loudness": "true or false",
    "automatic": "true or false",
}

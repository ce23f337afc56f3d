"""Which part of a storyboard shows which time of its film, as WebVTT: what players show above their bar. Pure."""

from __future__ import annotations

from urllib.parse import quote

from processors.geometry import planned
from processors.quantities import MAX_SIDE_PX
from processors.transform import Transform
from proxy.access import Admission
from proxy.keys import Key
from proxy.signing import Signatures

FORMAT = "jpg"


def track(storyboard: Transform, film: tuple[int, int], duration_s: float, address: str) -> str:
    """The cues of a settled *storyboard* of a *film* that is seen as large as that, at *address* (W3C WebVTT, Media Fragments)."""
    assert storyboard.sprite is not None
    width, height = planned(film, 1, storyboard, MAX_SIDE_PX).frame
    columns, rows = storyboard.sprite
    lines = ["WEBVTT"]
    for number in range(columns * rows):
        row, column = divmod(number, columns)
        begin, end = (_clock(place / (columns * rows) * duration_s) for place in (number, number + 1))
        lines.append(f"{begin} --> {end}\n{address}#xywh={column * width},{row * height},{width},{height}")
    return "\n\n".join(lines) + "\n"


def address(key: Key, admission: Admission, signatures: Signatures) -> str:
    """Where the storyboard is, as seen from its cues: by their own words, and signed again where they were."""
    said = {**dict(admission.said.without("s", "dl").pairs), "format": FORMAT}
    if "s" in admission.said:
        return signatures.address(key, said).rpartition("/")[2]
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in sorted(said.items()))
    return f"{quote(key.rpartition('/')[2], safe='')}?{query}"


def _clock(seconds: float) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"

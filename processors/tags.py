"""What a film or a sound says of itself in its tags, under the names of pictures where they mean the same.

ISO base media and QuickTime, Matroska, ID3, Vorbis comments and RIFF, by FFmpeg's names for them. The program that made it is
left out, and so is all that has no name here. Workers only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from av.container import InputContainer

from processors import embedded, texts

MAX_TAGS = 500
MAX_TAG_CHARS = 8000
_PLACE = re.compile(
    r"([+-]\d{1,2}(?:\.\d{1,10})?)([+-]\d{1,3}(?:\.\d{1,10})?)(?:([+-]\d{1,5}(?:\.\d{1,5})?))?(?:CRS.*)?/?", re.ASCII
)
_COUNT = re.compile(r"\s*(\d{1,6})(?:\s*/\s*(\d{1,6}))?\s*", re.ASCII)
_QUICKTIME = "com.apple.quicktime."
_NO_CLOCK = ("1904-01-01", "1970-01-01")
"""with which a film begins whose maker did not know the time: the zeros of ISO base media and of Unix"""


def told(container: InputContainer) -> dict[str, Any]:
    """``public`` and ``private``, as of a picture."""
    tags = _tags(container)

    def line(*names: str) -> str | None:
        return next((line for name in names if (line := texts.line(tags.get(name, "")))), None)

    moments = (tags.get(name, "") for name in (f"{_QUICKTIME}creationdate", "date", "year", "date_released", "creation_time"))
    description = next((tags[name] for name in ("description", f"{_QUICKTIME}description", "synopsis") if tags.get(name)), "")
    return embedded.parts(
        {
            "title": line("title", f"{_QUICKTIME}title", f"{_QUICKTIME}displayname"),
            "artist": line("artist", f"{_QUICKTIME}artist", "author", f"{_QUICKTIME}author"),
            "album": line("album", f"{_QUICKTIME}album"),
            "albumArtist": line("album_artist", "albumartist"),
            "composer": line("composer"),
            **_counted("track", tags.get("track") or tags.get("tracknumber", "")),
            **_counted("disc", tags.get("disc") or tags.get("discnumber", "")),
            "genre": line("genre", f"{_QUICKTIME}genre"),
            "copyright": line("copyright", f"{_QUICKTIME}copyright"),
            "date": next((when for text in moments if (when := _moment(text))), None),
            "camera": embedded.some(make=line(f"{_QUICKTIME}make", "make"), model=line(f"{_QUICKTIME}model", "model")),
            "description": texts.paragraphs(description, embedded.MAX_DESCRIPTION_CHARS),
            "keywords": embedded.listed(re.split("[,;]", tags.get(f"{_QUICKTIME}keywords") or tags.get("keywords", ""))),
        },
        {
            "location": next((place for name in _places(tags) if (place := _location(tags[name]))), None),
            "comment": line("comment", f"{_QUICKTIME}comment"),
        },
    )


def _tags(container: InputContainer) -> dict[str, str]:
    # Ogg has its tags on the stream; elsewhere a stream's are those of a track, which has titles of its own.
    sources: list[Mapping[str, str]] = [container.metadata]
    if container.format.name == "ogg" and container.streams.audio:
        sources.insert(0, container.streams.audio[0].metadata)
    return {
        name.lower(): texts.mended(texts.decoded(text[:MAX_TAG_CHARS].encode("utf-8", "surrogateescape")))
        for source in sources
        for name, text in list(source.items())[:MAX_TAGS]
        if isinstance(text, str)
    }


def _places(tags: Mapping[str, str]) -> list[str]:
    exact = f"{_QUICKTIME}location.iso6709"
    return [name for name in (exact, *tags) if name in tags and (name == exact or name.partition("-")[0] == "location")]


def _location(text: str) -> dict[str, float] | None:
    # ISO 6709, annex H, in degrees and their fractions, as phones write it: +52.5200+013.4050+034.000/.
    match = _PLACE.fullmatch(text.strip())
    if match is None:
        return None
    latitude, longitude, altitude = (None if part is None else float(part) for part in match.groups())
    return None if latitude is None or longitude is None else embedded.position(latitude, longitude, altitude)


def _moment(text: str) -> str | None:
    when = texts.moment(text)
    return None if when is None or when.startswith(_NO_CLOCK) else when


def _counted(name: str, text: str) -> dict[str, int]:
    match = _COUNT.fullmatch(text)
    if match is None:
        return {}
    number, of = int(match[1]), int(match[2] or 0)
    return {key: value for key, value in ((name, number), (f"{name}Count", of)) if value}

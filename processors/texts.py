"""Texts and moments that strangers wrote into files, as JSON may have them: whole letters, no controls, of bounded length. Pure."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime

MAX_CHARS = 300
EARLIEST = 1800
_BREAKS = re.compile(r"\r\n?|[\n\v\f\x85\u2028\u2029]")
_SPACES = re.compile(r"[ \t\xa0]+")
# Controls, halves of letters, what is no letter, and what turns the direction of the text around it (Unicode, UAX 9).
_UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\uffff]")
_MOMENT = re.compile(
    r"(\d{4})(?:[-:](\d\d)(?:[-:](\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9})\d*)?)?)?)?)? ?(Z|[+-]\d\d:?\d\d)?",
    re.ASCII,
)


def line(text: str, most: int = MAX_CHARS) -> str | None:
    """*text* on one line of up to *most* letters; None if nothing is left of it."""
    return _SPACES.sub(" ", paragraphs(text, most * 2).replace("\n", " ")).strip()[:most].strip() or None


def paragraphs(text: str, most: int) -> str:
    """*text* of up to *most* letters with its line breaks, each a ``\\n``."""
    return _UNSEEN.sub("", _BREAKS.sub("\n", text[: 2 * most])).strip()[:most].strip()


def decoded(value: bytes) -> str:
    """The text in *value*: UTF-8, also where its last letter is cut, or else what a western camera means by such bytes."""
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        is_cut = error.start > 0 and error.end == len(value) and error.reason == "unexpected end of data"
        return value[: error.start].decode() if is_cut else value.decode("cp1252", "replace")


def mended(text: str) -> str:
    """*text* that a library took for Latin-1, as `decoded` has it."""
    with suppress(UnicodeEncodeError):
        return decoded(text.encode("latin-1"))
    return text


def moment(text: str, zone: str = "") -> str | None:
    """A day or a time as RFC 3339 writes it, as exact as *text* is: ``2024``, ``2024-05-01``, ``2024-05-01T12:30:00+02:00``.

    Without a zone where neither it nor *zone* says one; None for what is no moment, or before 1800. Exif's colons are understood.
    """
    match = _MOMENT.fullmatch(text.strip()[:40])
    if match is None:
        return None
    year, month, day, hour, minute, second, part, told = match.groups()
    try:
        datetime(int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0))
    except ValueError:
        return None
    if int(year) < EARLIEST:
        return None
    date = "-".join(number for number in (year, month, day) if number)
    if hour is None:
        return date
    return f"{date}T{hour}:{minute}:{second or '00'}{f'.{part}' if part and part.strip('0') else ''}{_zone(told or zone.strip())}"


def _zone(text: str) -> str:
    match = re.fullmatch(r"([+-])(\d\d):?(\d\d)", text, re.ASCII)
    if match is None or int(match[2]) > 23 or int(match[3]) > 59:
        return "Z" if text == "Z" else ""
    return f"{match[1]}{match[2]}:{match[3]}"

"""What a picture says of itself in EXIF, XMP and IPTC, under one name each: the part that may be shown to anybody, and the rest.

Where several say it, XMP counts before IPTC, and both before EXIF: that is the order in which people come to it after the camera;
what the camera knows by itself (when, where, with what) is taken from EXIF first. Workers only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from processors import iptc, texts, xmp
from processors.metadata import Metadata

MAX_BYTES = 8192
"""of each part as JSON in UTF-8"""
MAX_DESCRIPTION_CHARS = 2000
MAX_LISTED = 100
MAX_ADDRESS_CHARS = 500
GAIN_MAP, MOTION_PHOTO = "gainMap", "motionPhoto"
_RATIONAL = ("ExposureTime", "time"), ("FNumber", "aperture"), ("ExposureBiasValue", "bias"), ("FocalLength", "focalLength")
_WHOLE = ("ISOSpeedRatings", "iso"), ("FocalLengthIn35mmFilm", "focalLength35mm")

Said = Mapping[str, Any]


def of_picture(metadata: Metadata, tags: Said, place: Said, *, has_gain_map: bool) -> dict[str, Any]:
    """``public`` and ``private``, each by our names; *tags* and *place* are what `camera.tags` makes of the EXIF block."""
    told = xmp.read(metadata.xmp or b"")
    news = iptc.read(metadata.iptc or b"")
    return parts(_public(told, news, tags, has_gain_map=has_gain_map), _private(told, news, tags, place))


def parts(public: Said, private: Said) -> dict[str, Any]:
    """What is kept of two parts: what says something, as far as there is room for it."""
    return {"public": fitting(public), "private": fitting(private)}


def fitting(said: Said) -> dict[str, Any]:
    """As much of *said*, in its order, as `MAX_BYTES` hold: lists and texts are cut, the rest goes as a whole."""
    kept: dict[str, Any] = {}
    room = MAX_BYTES - 2
    for name, value in said.items():
        value = _cut(value, room - len(name) - 6)  # noqa: PLW2901
        if value in (None, "", [], {}):
            continue
        kept[name] = value
        room -= _size({name: value})
    return kept


def listed(values: Iterable[str]) -> list[str]:
    """Each of *values* once, on one line, in order."""
    return list(dict.fromkeys(line for value in values if (line := texts.line(value))))[:MAX_LISTED]


def some(**said: str | None) -> dict[str, str]:
    """What of *said* there is."""
    return {name: value for name, value in said.items() if value is not None}


def _public(told: Mapping[str, list[str]], news: Mapping[str, list[str]], tags: Said, *, has_gain_map: bool) -> dict[str, Any]:
    def first(*sources: Iterable[str]) -> str | None:
        return next((line for source in sources for value in source if (line := texts.line(value))), None)

    def said(name: str) -> list[str]:
        value = tags.get(name)
        return [value] if isinstance(value, str) else []

    def of(name: str) -> list[str]:
        return told.get(name, [])

    moments = (
        *((value, _text(tags, "OffsetTimeOriginal"), _text(tags, "SubsecTimeOriginal")) for value in said("DateTimeOriginal")),
        *((value, "", "") for name in ("exif:DateTimeOriginal", "photoshop:DateCreated", "xmp:CreateDate") for value in of(name)),
        *((f"{day[:4]}-{day[4:6]}-{day[6:8]}{_hours(news)}", "", "") for day in news.get("day", [])),
    )
    descriptions = (*of("dc:description"), *news.get("description", []), *said("ImageDescription"), *said("XPComment"))
    is_in_motion = any(value == "1" for name in ("GCamera:MotionPhoto", "GCamera:MicroVideo") for value in of(name))
    return {
        "title": first(of("dc:title"), news.get("title", []), said("XPTitle")),
        "headline": first(of("photoshop:Headline"), news.get("headline", [])),
        "creators": listed(of("dc:creator") or news.get("creator") or ";".join([*said("Artist"), *said("XPAuthor")]).split(";")),
        "credit": first(of("photoshop:Credit"), news.get("credit", [])),
        "copyright": first(of("dc:rights"), news.get("copyright", []), said("Copyright")),
        "licence": _address(*of("cc:license"), *of("xmpRights:WebStatement")),
        "usageTerms": first(of("xmpRights:UsageTerms")),
        "digitalSource": _address(*of("Iptc4xmpExt:DigitalSourceType")),
        "date": next((when for value, zone, more in moments if (when := texts.moment(_finer(value, more), zone))), None),
        "camera": some(make=first(said("Make"), of("tiff:Make")), model=first(said("Model"), of("tiff:Model"))),
        "lens": some(
            make=first(said("LensMake"), of("exifEX:LensMake")),
            model=first(said("LensModel"), of("exifEX:LensModel"), of("aux:Lens")),
        ),
        "exposure": _exposure(tags),
        "contains": [name for name, is_there in ((GAIN_MAP, has_gain_map), (MOTION_PHOTO, is_in_motion)) if is_there],
        "description": next((text for value in descriptions if (text := texts.paragraphs(value, MAX_DESCRIPTION_CHARS))), None),
        "keywords": listed(of("dc:subject") or news.get("keyword") or "".join(said("XPKeywords")).split(";")),
    }


def _private(told: Mapping[str, list[str]], news: Mapping[str, list[str]], tags: Said, place: Said) -> dict[str, Any]:
    def first(*names: str) -> str | None:
        values = (value for name in names for value in (*told.get(name, []), *news.get(name, []), _text(tags, name)))
        return next((line for value in values if (line := texts.line(value))), None)

    return {
        "location": _location(place) or _location_of(told),
        "place": some(
            sublocation=first("Iptc4xmpCore:Location", "sublocation"),
            city=first("photoshop:City", "city"),
            state=first("photoshop:State", "state"),
            country=first("photoshop:Country", "country"),
        ),
        "owner": first("exifEX:CameraOwnerName", "aux:OwnerName", "CameraOwnerName"),
        "serialNumbers": some(
            camera=first("exifEX:BodySerialNumber", "aux:SerialNumber", "BodySerialNumber", "CameraSerialNumber"),
            lens=first("exifEX:LensSerialNumber", "aux:LensSerialNumber", "LensSerialNumber"),
        ),
        "people": listed([*told.get("Iptc4xmpExt:PersonInImage", []), *told.get(xmp.FACES, [])]),
    }


def _exposure(tags: Said) -> dict[str, Any]:
    found: dict[str, Any] = {name: value for tag, name in _RATIONAL if _is_number(value := tags.get(tag))}
    for tag, name in _WHOLE:
        value = tags.get(tag)
        value = value[0] if isinstance(value, list) and value else value
        if isinstance(value, int) and value > 0:
            found[name] = value
    flash = tags.get("Flash")
    return {**found, "flash": bool(flash & 1)} if isinstance(flash, int) else found


def _location(place: Said) -> dict[str, float] | None:
    # Exif 2.32, section 4.6.6: degrees, minutes, seconds, and which half of the earth.
    latitude = _degrees(place.get("GPSLatitude"), place.get("GPSLatitudeRef"), "S", 90)
    longitude = _degrees(place.get("GPSLongitude"), place.get("GPSLongitudeRef"), "W", 180)
    if latitude is None or longitude is None:
        return None
    altitude = place.get("GPSAltitude")
    if not isinstance(altitude, int | float):
        return position(latitude, longitude)
    return position(latitude, longitude, -altitude if place.get("GPSAltitudeRef") == 1 else altitude)


def position(latitude: float, longitude: float, altitude: float | None = None) -> dict[str, float] | None:
    """A place on the earth, in degrees and metres; None where there is no such."""
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):
        return None
    found = {"latitude": round(latitude, 7), "longitude": round(longitude, 7)}
    return found if altitude is None or not abs(altitude) < 1e6 else {**found, "altitude": round(altitude, 2)}


def _degrees(parts: Any, half: Any, negative: str, most: int) -> float | None:
    if not isinstance(parts, list) or not 1 <= len(parts) <= 3 or not all(_is_number(part) and part >= 0 for part in parts):
        return None
    degrees = math.fsum(part / 60**power for power, part in enumerate(parts))
    return (-degrees if half == negative else degrees) if degrees <= most else None


def _location_of(told: Mapping[str, list[str]]) -> dict[str, float] | None:
    # XMP part 2, section 1.2.7.4: degrees, minutes with a fraction or seconds, and a letter: 52,31.2N.
    found = []
    for name in ("exif:GPSLatitude", "exif:GPSLongitude"):
        text = next(iter(told.get(name, [])), "")
        numbers = [_float(part) for part in text[:-1].split(",")]
        degrees = _degrees(numbers, text[-1:], "S" if "Lat" in name else "W", 180)
        if degrees is None or text[-1:] not in "NSEW":
            return None
        found.append(degrees)
    return position(*found)


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _text(tags: Said, name: str) -> str:
    value = tags.get(name)
    return value if isinstance(value, str) else ""


def _hours(news: Mapping[str, list[str]]) -> str:
    # IIM 4.2, 2:60: HHMMSS±HHMM; only a day where there is none.
    text = next(iter(news.get("time", [])), "")
    return f"T{text[:2]}:{text[2:4]}:{text[4:6]}{text[6:]}" if text[:6].isdigit() else ""


def _finer(moment: str, fraction: str) -> str:
    return f"{moment}.{fraction}" if fraction.isascii() and fraction.isdigit() and len(moment) == 19 else moment


def _address(*values: str) -> str | None:
    found = (value for value in values if value.startswith(("http://", "https://")) and len(value) <= MAX_ADDRESS_CHARS)
    return next((value for value in found if texts.line(value, MAX_ADDRESS_CHARS) == value), None)


def _cut(value: Any, room: int) -> Any:
    if _size(value) <= room:
        return value
    if isinstance(value, str):
        return value.encode()[: max(0, room // 2)].decode("utf-8", "ignore")  # a quotation mark takes two bytes
    if isinstance(value, list):
        kept = value
        while kept and _size(kept) > room:
            kept = kept[: len(kept) // 2]
        return kept
    return None


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode())

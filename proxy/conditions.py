"""What a request says about versions and ranges (RFC 9110 sections 13 and 14), read once and answered against a version. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from proxy.errors import PreconditionFailed
from proxy.ports import ByteRange

_ETAG = re.compile(r'\s*(W/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*(?:,|$)')
_RANGE = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE | re.ASCII)


POINTED = "~"
"""before the focal point in the name of a version; no store has it in its etags"""


def version_name(etag: str, focal: str | None) -> str:
    """What the ``v`` of an address says to mean this version of an object: its etag, and its focal point if it has one."""
    return etag if focal is None else f"{etag}{POINTED}{focal}"


@dataclass(frozen=True, slots=True)
class ETag:
    """An entity tag; weak ones promise the same meaning, not the same bytes."""

    value: str
    weak: bool = False

    def __str__(self) -> str:
        return f'W/"{self.value}"' if self.weak else f'"{self.value}"'


@dataclass(frozen=True, slots=True)
class Version:
    """What a condition is weighed against: the tag of the answer, when it changed, and the version of the *original*.

    *is_pending*: what stands in for an answer that is being made. *focal*: the stored focal point that the answer goes by,
    ``XxY`` or empty where there is none; None where that makes no difference.
    """

    etag: ETag
    modified: datetime
    original: str
    is_pending: bool = False
    focal: str | None = None

    def is_named(self, name: str | None) -> bool:
        """Whether *name*, the ``v`` of an address, means just this: the etag of the original, then its focal point if it has one.

        Where the focal point makes no difference, the name may have whatever point.
        """
        if name is None:
            return False
        etag, _, point = name.partition(POINTED)
        return etag == self.original and (self.focal is None or point == self.focal)


class NotModified(Exception):
    """Not a failure: the caller holds *version* already, so the answer is 304 (RFC 9110 section 15.4.5)."""

    def __init__(self, version: Version) -> None:
        super().__init__(version.original)
        self.version = version


@dataclass(frozen=True, slots=True)
class Wanted:
    """The conditions and the range of one request. For etags True stands for ``*`` and False for an absent header."""

    match: tuple[ETag, ...] | bool = False
    none_match: tuple[ETag, ...] | bool = False
    modified_since: datetime | None = None
    unmodified_since: datetime | None = None
    span: ByteRange | None = None
    if_range: ETag | datetime | None = None

    @classmethod
    def of(cls, method: str, headers: Mapping[str, str]) -> Wanted:
        """Read *headers*. What is malformed counts as absent, as the RFC says; HEAD has no ranges."""
        if not any(name in headers for name in ("If-None-Match", "Range", "If-Modified-Since", "If-Match", "If-Unmodified-Since")):
            return ANYTHING
        span = _span(headers.get("Range", "")) if method == "GET" else None
        if_range, broken = _validator(headers.get("If-Range")) if span is not None else (None, False)
        return cls(
            match=_etags(headers.get("If-Match")),
            none_match=_etags(headers.get("If-None-Match")),
            modified_since=_date(headers.get("If-Modified-Since")),
            unmodified_since=_date(headers.get("If-Unmodified-Since")),
            span=None if broken else span,
            if_range=if_range,
        )

    @property
    def is_conditional(self) -> bool:
        """Whether anything but the range is said."""
        return self != Wanted(span=self.span)

    def check(self, version: Version) -> None:
        """Raise NotModified or PreconditionFailed in the order of RFC 9110 section 13.2.2, or return."""
        if self is ANYTHING:
            return
        etag, modified = version.etag, version.modified.replace(microsecond=0)
        if self.match is not False:
            if self.match is not True and not any(tag.value == etag.value and not tag.weak and not etag.weak for tag in self.match):
                raise PreconditionFailed("If-Match names another version")
        elif self.unmodified_since is not None and modified > self.unmodified_since:
            raise PreconditionFailed("the object was changed since")
        if self.none_match is not False:
            if self.none_match is True or any(tag.value == etag.value for tag in self.none_match):
                raise NotModified(version)
        elif self.modified_since is not None and modified <= self.modified_since:
            raise NotModified(version)

    def span_of(self, version: Version) -> ByteRange | None:
        """The range to answer with, or None for the whole, as If-Range decides (strong comparison, RFC 9110 section 13.1.5)."""
        if isinstance(self.if_range, ETag):
            return self.span if self.if_range == version.etag and not version.etag.weak else None
        if isinstance(self.if_range, datetime):
            return self.span if version.modified.replace(microsecond=0) == self.if_range else None
        return self.span


ANYTHING = Wanted()


def _span(header: str) -> ByteRange | None:
    # One well-formed range; several, other units and anything malformed are answered with the whole (RFC 9110 section 14.2).
    match = _RANGE.fullmatch(header.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        # The last 0 bytes are no byte at all: a range that nothing satisfies.
        return ByteRange(-int(match[2])) if int(match[2]) else ByteRange(0, 0)
    start = int(match[1])
    if not match[2]:
        return ByteRange(start)
    return ByteRange(start, int(match[2]) + 1) if int(match[2]) >= start else None


def _etags(header: str | None) -> tuple[ETag, ...] | bool:
    if header is None:
        return False
    if header.strip() == "*":
        return True
    tags = []
    at = 0
    while at < len(header):
        match = _ETAG.match(header, at)
        if match is None:
            break
        tags.append(ETag(match[2], weak=match[1] is not None))
        at = match.end()
    return tuple(tags)


def _date(header: str | None) -> datetime | None:
    if header is None:
        return None
    try:
        date = parsedate_to_datetime(header)
    except (ValueError, IndexError, OverflowError):
        return None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)


def _validator(header: str | None) -> tuple[ETag | datetime | None, bool]:
    # The validator of If-Range, and whether there is one that cannot be read: then the range must not be used.
    if header is None:
        return None, False
    tags = _etags(header)
    if isinstance(tags, tuple) and len(tags) == 1:
        return tags[0], False
    date = _date(header)
    return date, date is None

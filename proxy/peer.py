"""How one media proxy speaks to another of stored objects: names of headers, and values to their text and back. Pure.

*STORE* is on every answer of /api/store: ``ok``, or the code of the problem. So a 404 of a web server in between, or of a proxy
too old to have the route, is never taken for an object that is not there, not even after a HEAD, which has no document.
*HOP* is on every request of one proxy to another, with the names of the sender's own stores (`identity`).
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from proxy import generations
from proxy.errors import BadKey
from proxy.keys import Key, parse
from proxy.ports import Listed, ObjectMeta

OBJECTS = "/api/store/"
LIST = "/api/store"
STORE = "Media-Store"
HOP = "Media-Proxy-Hop"
GENERATION = "Media-Generation"
"""Of a PUT: the etag that the object is to have."""
OK = "ok"
MAX_SIZE = 1 << 50
MAX_LINE_BYTES = 1 << 14
"""Of a list: a key of 1,024 bytes has at most 6,144 as JSON."""
END = b'{"complete":true}\n'
"""The last line of a list; without it some of it is missing."""
_URL = re.compile(r"https?://(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~-]+)*/?")
_SIZE = re.compile(r"[0-9]{1,16}")
_ETAG = re.compile(r'"([\x21\x23-\x7e]{1,128})"')
_DIGEST = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/]{43}=):\s*(?:,|$)")
_CONTENT_RANGE = re.compile(r"bytes (?:([0-9]{1,16})-([0-9]{1,16})|\*)/([0-9]{1,16})")
_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,64}/[A-Za-z0-9!#$&^_.+-]{1,128}(?:;[\x20-\x7e]{0,128})?")
_TOKEN = re.compile(r"[A-Za-z0-9-]{1,64}")


class Garbled(ValueError):
    """What the other side says cannot be meant."""


def checked(url: str) -> str:
    """*url* without a slash at its end; raises ValueError unless it is http or https with a host, and perhaps a port and a path."""
    if _URL.fullmatch(url) is None or "/.." in url:
        raise ValueError("is http:// or https:// with a host, perhaps a port and a path, and nothing else")
    return url.rstrip("/")


def identity(*parts: str) -> str:
    """A short name of a store, made of what is only its own (address and bucket, host and folder) and telling none of it."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def hop(identities: Iterable[str]) -> str:
    """The value of *HOP*: one hop, and whose."""
    return ", ".join(("1", *sorted(identities)))


def met(value: str, identities: Iterable[str]) -> bool:
    """Whether the *HOP* header *value* names one of the stores *identities*."""
    return not {word.strip() for word in value.split(",")}.isdisjoint(identities)


def is_type(content_type: str) -> bool:
    """Whether *content_type* is one, of bounded length and safe in a header."""
    return _TYPE.fullmatch(content_type) is not None


def described(meta: ObjectMeta) -> dict[str, str]:
    """The headers that say what *meta* says, but for the size."""
    headers = {
        "Content-Type": meta.content_type if is_type(meta.content_type) else "application/octet-stream",
        "ETag": f'"{meta.etag}"',
        "Last-Modified": format_datetime(meta.modified, usegmt=True),
        STORE: OK,
    }
    if meta.sha256 is not None:
        headers["Repr-Digest"] = f"sha-256=:{b64encode(bytes.fromhex(meta.sha256)).decode()}:"
    return headers


def meta_of(key: Key, headers: Mapping[str, str], size: int, store: str, content_type: str | None = None) -> ObjectMeta:
    """What *headers* say of an object of *size* bytes, of *content_type* where they are not of it; raises Garbled."""
    etag = _ETAG.fullmatch(headers.get("ETag", ""))
    content_type = content_type or headers.get("Content-Type", "")
    if etag is None or not is_type(content_type):
        raise Garbled("the answer has no ETag or no Content-Type that can be right")
    is_ours = generations.is_generation(etag[1])
    modified = generations.began(etag[1]) if is_ours else _date(headers.get("Last-Modified", ""))
    return ObjectMeta(key, size, content_type, etag[1], modified, sha256_of(headers), store)


def sha256_of(headers: Mapping[str, str]) -> str | None:
    """The SHA-256 of the whole object, lower-case hex (Repr-Digest, RFC 9530 section 3); None where there is none."""
    given = _DIGEST.search(headers.get("Repr-Digest", ""))
    return None if given is None else b64decode(given[1]).hex()


def size_of(text: str | None) -> int:
    """The number of bytes that *text* says; raises Garbled."""
    if text is None or not _SIZE.fullmatch(text) or int(text) > MAX_SIZE:
        raise Garbled("the answer does not say how many bytes it has")
    return int(text)


def content_range(text: str | None) -> tuple[int, int, int]:
    """First byte, byte behind the last, and size of the whole (RFC 9110 section 14.4; 0, 0 for ``*``); raises Garbled."""
    match = _CONTENT_RANGE.fullmatch(text or "")
    if match is None:
        raise Garbled("the answer does not say which bytes it has")
    if match[1] is None:
        return 0, 0, size_of(match[3])
    return int(match[1]), int(match[2]) + 1, size_of(match[3])


def code_of(headers: Mapping[str, str]) -> str | None:
    """What the answer says of itself: ``ok`` or a problem's code; None: it does not come from a store of ours."""
    code = headers.get(STORE, "")
    return code if _TOKEN.fullmatch(code) else None


def line(found: Listed) -> bytes:
    """One line of a list."""
    return json.dumps([found.key, found.size, found.modified.isoformat()]).encode() + b"\n"


def listed(text: bytes) -> Listed | None:
    """What a `line` says, None for a name that is no key; raises Garbled."""
    try:
        key, size, modified = json.loads(text)
        when = datetime.fromisoformat(modified)
    except (ValueError, TypeError, RecursionError):
        raise Garbled("a line of the list cannot be read") from None
    if not isinstance(key, str) or type(size) is not int or not 0 <= size <= MAX_SIZE or when.tzinfo is None:
        raise Garbled("a line of the list cannot be meant")
    try:
        return Listed(parse(key), size, when.astimezone(UTC))
    except BadKey:
        return None


def _date(text: str) -> datetime:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        raise Garbled("the answer has no Last-Modified that can be read") from None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)

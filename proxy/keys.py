"""The grammar of object keys, minting them, whose they are, and what a stored variant is called. Pure; knows no disk."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import NewType
from urllib.parse import quote, unquote_to_bytes
from uuid import uuid4

from proxy.errors import BadKey

Key = NewType("Key", str)
"""The name of an object: segments joined by slashes, valid by `parse`. Never normalised: NFC and NFD are two keys."""

PREFIX = "/api/media/"
"""What precedes a key in the address of its object."""
MAX_KEY_BYTES = 1024
MAX_OWNER_BYTES = 128
RESERVED = ".media-proxy"
"""No segment begins so: the stores keep the name for themselves."""
FORMAT_TAG = "variant1"
REMEMBERED = 2_048
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\\]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def parse(text: str) -> Key:
    """*text*, already decoded, as a key; raises BadKey."""
    if not text or _CONTROLS.search(text):
        raise BadKey("a key has no control characters and no backslash, and is not empty")
    if len(text.encode()) > MAX_KEY_BYTES:
        raise BadKey(f"a key has at most {MAX_KEY_BYTES} bytes")
    for segment in text.split("/"):
        if segment in {"", ".", ".."}:
            raise BadKey("the parts of a key between its slashes are not empty, . or ..")
        if segment.lower().startswith(RESERVED):
            raise BadKey("this name is reserved")
    return Key(text)


@lru_cache(REMEMBERED)
def from_target(raw: str) -> Key:
    """The key in the path of a request, *raw* as it was sent: decoded once, strictly; raises BadKey."""
    if _BAD_ESCAPE.search(raw):
        raise BadKey("a percent sign in an address is written %25")
    try:
        return parse(unquote_to_bytes(raw).decode())
    except UnicodeError:
        raise BadKey("a key is UTF-8") from None


def mint(owner: str, extension: str) -> Key:
    """A new key of *owner*, which nobody has used and nobody can guess."""
    return parse(f"{owner}/{uuid4()}.{extension}")


def owner(key: Key) -> str:
    """Whose key it is: its first segment."""
    return key.partition("/")[0]


def valid_owner(subject: str) -> bool:
    """Whether a token's sub can be the first segment of keys."""
    try:
        return "/" not in parse(subject) and len(subject.encode()) <= MAX_OWNER_BYTES
    except BadKey:
        return False


def encoded(key: Key) -> str:
    """*key* for an address, percent-encoded but for A-Z a-z 0-9 - . _ ~ and the slashes."""
    return quote(key, safe="/")


def variants_prefix(key: Key) -> str:
    """What the names of all variants of *key* begin with; it ends in a slash."""
    return hashlib.sha256(key.encode()).hexdigest()[:32] + "/"


def variant(key: Key, etag: str, canonical: str, revision: int) -> Key:
    """The name of what *canonical* makes of version *etag* of *key*, by revision *revision* of the pipeline."""
    parts = "\0".join((FORMAT_TAG, key, etag, canonical, str(revision)))
    return Key(variants_prefix(key) + hashlib.sha256(parts.encode()).hexdigest()[:40])

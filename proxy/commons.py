"""What the processes of one service share of objects and renditions: who finds something out tells the others.

A value that is not there, damaged, another's or of another version of this module is a miss. Nothing rests on any of them:
without a `SharedCache` every process finds out by itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from processors.errors import BadParameter, Corrupt, MediaError, TooCostly, Unsupported
from processors.values import Rendered
from proxy import keys
from proxy.keys import Key
from proxy.ports import Bus, ObjectMeta, SharedCache

TOPIC = "changed"
META_TTL_S = 5.0
ABSENT_TTL_S = 2.0
CHANGED_TTL_S = 30.0
"""For which nothing is told of a key that has changed: longer than any question to the stores that began before."""
RENDITION_TTL_S = 3600.0
PASSING_TTL_S = 10.0
REFUSAL_TTL_S = 60.0
DIGEST_BYTES = 16
VERSION = b"1"
REFUSALS: dict[str, type[MediaError]] = {kind.slug: kind for kind in (BadParameter, Corrupt, TooCostly, Unsupported)}
"""What a rendition can be refused with for good."""


@dataclass(frozen=True, slots=True)
class Absent:
    """No store has the object: known for a moment."""


class Commons:
    """Tells and asks through *shared*; a change is said on *bus*, so that all drop what they remember of the key.

    Renditions of more than *max_bytes* are not told.
    """

    def __init__(self, shared: SharedCache, bus: Bus, max_bytes: int) -> None:
        self._shared = shared
        self._bus = bus
        self._max_bytes = max_bytes

    @property
    def hears(self) -> bool:
        """Whether changes that others make are heard of at once."""
        return self._bus.is_whole

    def listen(self, changed: Callable[[Key], None], missed: Callable[[], None]) -> None:
        """Have *changed* called with each key that another process has changed, and *missed* when one may not have been heard."""
        self._bus.listen(TOPIC, lambda word: changed(Key(word)), missed)

    async def changed(self, key: Key) -> None:
        """Tell all that *key* is not what it was. No meta that was asked for before is told from now on."""
        await self._shared.set(_meta_name(key), _packed(_meta_name(key), {}), CHANGED_TTL_S)
        await self._bus.say(TOPIC, key)

    async def meta(self, key: Key) -> ObjectMeta | Absent | None:
        """What another has found out of *key* within the last seconds; None: nothing."""
        found = await self._get(_meta_name(key))
        if found is None:
            return None
        head, _ = found
        if head.get("absent") == key:
            return Absent()
        if head.get("key") != key:
            return None
        return ObjectMeta(**{**head, "key": key, "modified": datetime.fromtimestamp(head["modified"], UTC)})

    async def tell_meta(self, meta: ObjectMeta) -> None:
        """Let others know of *meta*, unless the key has changed a moment ago."""
        head = {
            **{name: getattr(meta, name) for name in ("key", "size", "content_type", "etag", "sha256", "store")},
            "modified": meta.modified.timestamp(),
        }
        name = _meta_name(meta.key)
        await self._shared.add(name, _packed(name, head), META_TTL_S)

    async def tell_absent(self, key: Key) -> None:
        """Let others know that no store has *key*, unless it has changed a moment ago."""
        await self._shared.add(_meta_name(key), _packed(_meta_name(key), {"absent": key}), ABSENT_TTL_S)

    async def rendition(self, name: Key) -> Rendered | None:
        """The rendition *name* if another has made it; raises what another was refused it with."""
        found = await self._get(_rendition_name(name))
        if found is None:
            return None
        head, data = found
        if "refused" in head:
            raise REFUSALS[head["refused"]](head["detail"], **head["members"])
        return Rendered(data, head["type"], head["width"], head["height"], tuple(head["degraded"]))

    async def tell_rendition(self, name: Key, rendered: Rendered) -> bool:
        """Let others have the rendition; false if it is too large. What is *degraded* stays for some seconds only."""
        if len(rendered.data) > self._max_bytes:
            return False
        head = {
            **{"type": rendered.content_type, "width": rendered.width, "height": rendered.height},
            "degraded": rendered.degraded,
        }
        shared_name = _rendition_name(name)
        ttl_s = PASSING_TTL_S if rendered.degraded else RENDITION_TTL_S
        await self._shared.set(shared_name, _packed(shared_name, head, rendered.data), ttl_s)
        return True

    async def tell_refusal(self, name: Key, refusal: MediaError) -> None:
        """Let others know why the rendition *name* cannot be made."""
        if refusal.slug not in REFUSALS:
            return
        head = {"refused": refusal.slug, "detail": refusal.detail, "members": refusal.members}
        await self._shared.set(_rendition_name(name), _packed(_rendition_name(name), head), REFUSAL_TTL_S)

    async def drop_rendition(self, *names: Key) -> None:
        """Let nobody have these any more."""
        await self._shared.delete(*map(_rendition_name, names))

    async def _get(self, name: str) -> tuple[dict[str, Any], bytes] | None:
        value = await self._shared.get(name) if self._shared.is_there else None
        return None if value is None else _unpacked(name, value)


def _meta_name(key: Key) -> str:
    return f"m:{keys.variants_prefix(key)[:-1]}"


def _rendition_name(name: Key) -> str:
    return f"r:{name}"


def _digest(name: str, body: bytes) -> bytes:
    # Bound to its name: the answer to another question is no answer.
    digest = hashlib.sha256(name.encode() + b"\0")
    digest.update(body)
    return digest.digest()[:DIGEST_BYTES]


def _packed(name: str, head: dict[str, Any], data: bytes = b"") -> bytes:
    words = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    body = b"".join((len(words).to_bytes(4, "big"), len(data).to_bytes(4, "big"), words, data))
    return b"".join((VERSION, _digest(name, body), body))


def _unpacked(name: str, value: bytes) -> tuple[dict[str, Any], bytes] | None:
    # The head and the data behind it; None for what is not whole, not ours, or not of this name.
    start = 1 + DIGEST_BYTES
    body = memoryview(value)[start:]
    if value[:1] != VERSION or len(body) < 8 or value[1:start] != _digest(name, bytes(body)):
        return None
    size, length = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
    if len(body) != 8 + size + length:
        return None
    head: dict[str, Any] = json.loads(bytes(body[8 : 8 + size]))
    return head, bytes(body[8 + size :])

"""Objects of another store become ours: some at a time, each once, with its digest checked, and on from where it broke off."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

from processors import formats
from processors.errors import MediaError
from proxy import amendments, generations, keys, mapping, streams
from proxy.backup import Memory
from proxy.errors import BadKey, BadRequest, Conflict, NotFound, QuotaExceeded
from proxy.keys import Key
from proxy.ports import Asset, Body, Catalogue, Listed, ObjectMeta, ObjectReader, State
from proxy.workforce import worked

HEAD_BYTES = 4096
MOST_TOLD = 1_000
MD5_CHARS = 32


class Source(Protocol):
    """Where objects come from; names need not be keys."""

    def names(self, prefix: str = "") -> AsyncGenerator[Listed, None]: ...

    async def open(self, key: Key) -> ObjectReader: ...


class Target(Protocol):
    """Where they go."""

    async def head(self, key: Key) -> ObjectMeta: ...

    async def open(self, key: Key) -> ObjectReader: ...

    async def put(
        self, key: Key, body: Body, content_type: str, *, size: int, etag: str, metadata: Mapping[str, str]
    ) -> ObjectMeta: ...


class What(StrEnum):
    """What became of an object."""

    COPIED = "copied"
    THERE = "there"
    """it was there already, from a run that was killed"""
    SKIPPED = "skipped"
    """a rule leaves it out"""
    CLASH = "clash"
    """two names become one key, or the key is taken by something else"""
    UNNAMED = "unnamed"
    """what it becomes is no key"""
    REFUSED = "refused"
    """its type is none that is taken at an upload, or it would have to be changed (SVG)"""
    DAMAGED = "damaged"
    """the bytes that came are not those of the source's digest"""
    GONE = "gone"
    """it was removed meanwhile"""
    FAILED = "failed"
    """a store did not take or give it"""


GOOD = frozenset({What.COPIED, What.THERE, What.SKIPPED})


@dataclass(slots=True)
class Report:
    """How far it is, and what became of how many; *troubles* are the first of those that a person must look at."""

    total: int = 0
    done: int = 0
    copied: int = 0
    copied_bytes: int = 0
    before: int = 0
    """had been done by runs before this"""
    outcomes: dict[str, int] = field(default_factory=dict)
    troubles: list[dict[str, str]] = field(default_factory=list)

    def note(self, what: What, name: str, key: str, reason: str = "") -> None:
        """Count it, and keep it if it is a trouble."""
        self.outcomes[what] = self.outcomes.get(what, 0) + 1
        self.done += 1
        if what not in GOOD and len(self.troubles) < MOST_TOLD:
            self.troubles.append({"what": what, "name": name, "key": key, "reason": reason})

    @property
    def is_good(self) -> bool:
        """Whether nothing is left for a person."""
        return not set(self.outcomes) - GOOD


class _Damaged(Exception):
    """The bytes are not those of the source's own digest."""


class _Refused(Exception):
    """It is of a type that is not taken."""


@dataclass
class Migration:
    """Carries what *source* has to *target* under the keys of *rules*; *state* remembers what is done, through a kill too.

    Before a put it remembers that it begins: what was put, but not remembered as done, when a run was killed is known again,
    since a put is atomic, and is not copied twice. Other objects that have the key already are never touched.
    With *catalogue* each object gets a record, of the owner that its key names. Only types that an upload may have are taken,
    by their first bytes, unless *any_type*. A *dry* run copies nothing, and tells *planned* of each name and its key.
    """

    source: Source
    target: Target
    rules: mapping.Mapping
    state: Memory
    at_once: int
    catalogue: Catalogue | None = None
    any_type: bool = False
    is_dry: bool = False
    planned: Callable[[str, str], None] = lambda name, key: None
    report: Report = field(default_factory=Report)

    async def run(self, prefix: str = "") -> Report:
        """All of it; raises Unavailable where the source cannot be listed."""
        await worked(self._found(prefix), self._one, self.at_once)
        return self.report

    async def _found(self, prefix: str) -> AsyncGenerator[Listed, None]:
        async with aclosing(self.source.names(prefix)) as names:
            async for found in names:
                self.report.total += 1
                yield found

    async def _one(self, found: Listed) -> None:
        name, report = found.key, self.report
        done = self.state.get("done", name)
        if done is not None and json.loads(done)[:2] == _version(found):
            report.before += 1
            report.done += 1
            return
        said = self.rules.key(name)
        if said is None:
            report.note(What.SKIPPED, name, "")
            return
        try:
            key = keys.parse(said)
        except BadKey as error:
            report.note(What.UNNAMED, name, said, error.detail)
            return
        holder = self.state.get("keys", key)
        if holder not in {None, name}:
            report.note(What.CLASH, name, key, f"{holder} becomes it too")
            return
        self.state.put("keys", key, name)
        if self.is_dry:
            self.planned(name, key)
            report.note(What.COPIED, name, key)
            return
        try:
            what, sha256 = await self._carried(found, key)
        except NotFound:
            report.note(What.GONE, name, key)
        except (_Damaged, _Refused) as error:
            report.note(What.DAMAGED if isinstance(error, _Damaged) else What.REFUSED, name, key, str(error))
        except (Conflict, QuotaExceeded) as error:
            report.note(What.CLASH, name, key, error.detail)
        except MediaError as error:
            report.note(What.FAILED, name, key, error.detail)
        else:
            self.state.put("done", name, json.dumps([*_version(found), key, sha256]))
            report.note(what, name, key)

    async def _carried(self, found: Listed, key: Key) -> tuple[What, str]:
        etag = generations.of(found.modified - generations.EPOCH, _seed(found))
        begun, done = self.state.get("begun", found.key), self.state.get("done", found.key)
        there = await self._head(key)
        if there is not None and begun is not None and json.loads(begun) == _version(found) and there.size == found.size:
            sha256 = there.sha256 or await self._digest_there(key)
            await self._record(key, there, sha256, {})
            return What.THERE, sha256
        if there is not None and done is None and begun is None:
            raise Conflict("there is another object of this key")
        self.state.put("begun", found.key, json.dumps(_version(found)))
        return What.COPIED, await self._copied(found, key, etag)

    async def _copied(self, found: Listed, key: Key, etag: str) -> str:
        async with await self.source.open(found.key) as reader:
            sha256, md5 = streams.Digest(), hashlib.md5(usedforsecurity=False)
            head, whole = await streams.peek(reader.chunks, HEAD_BYTES)
            content_type = self._type(head, reader.meta.content_type)
            wanted = reader.meta

            async def checked() -> AsyncIterator[bytes]:
                async for chunk in sha256.through(whole):
                    md5.update(chunk)
                    yield chunk
                if wanted.sha256 not in {None, sha256.hex}:
                    raise _Damaged("its SHA-256 is another")
                if _is_md5(wanted.etag) and md5.hexdigest() != wanted.etag:
                    raise _Damaged("its MD5 is not the source's ETag")

            meta = await self.target.put(key, checked(), content_type, size=wanted.size, etag=etag, metadata=wanted.metadata)
        if meta.sha256 not in {None, sha256.hex}:
            raise _Damaged("the target has other bytes")
        await self._record(key, meta, sha256.hex, wanted.metadata)
        self.report.copied += 1
        self.report.copied_bytes += wanted.size
        return sha256.hex

    def _type(self, head: bytes, said: str) -> str:
        if self.any_type:
            return said
        try:
            format = formats.sniff(head)
        except MediaError as error:
            raise _Refused(error.detail) from None
        if format.name == "svg":
            raise _Refused("drawings must be cleaned: upload it")
        return format.mime

    async def _head(self, key: Key) -> ObjectMeta | None:
        try:
            return await self.target.head(key)
        except NotFound:
            return None

    async def _digest_there(self, key: Key) -> str:
        digest = streams.Digest()
        async with await self.target.open(key) as reader:
            await streams.drained(digest.through(reader.chunks))
        return digest.hex

    async def _record(self, key: Key, meta: ObjectMeta, sha256: str, said: Mapping[str, str]) -> None:
        if self.catalogue is None:
            return
        asset = Asset(
            key, keys.owner(key), key.rpartition("/")[2], meta.content_type, meta.size, sha256, meta.etag, meta.modified,
            meta.store, state=State.READY,
        )  # fmt: skip
        before = await self.catalogue.get(key)
        if before is None:
            await self.catalogue.add(_with(asset, said))
        elif before.etag != asset.etag:
            await self.catalogue.replace(asset, before)


def _with(asset: Asset, said: Mapping[str, Any]) -> Asset:
    """*asset* with those of the source's metadata that a record may have."""
    for name, value in said.items():
        try:
            asset = amendments.Amendment.read({"metadata": {name.replace(" ", "_"): value}}).of(asset)
        except BadRequest:
            continue
    return replace(asset)


def _version(found: Listed) -> list[Any]:
    return [found.size, found.modified.isoformat()]


def _seed(found: Listed) -> str:
    return hashlib.sha256(json.dumps([found.key, *_version(found)]).encode()).hexdigest()


def _is_md5(etag: str) -> bool:
    return len(etag) == MD5_CHARS and not set(etag) - set("0123456789abcdef")

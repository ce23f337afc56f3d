"""The protocols between services and adapters, and the values that cross them.

An adapter has the methods and inherits nothing. One method is one request to the other side, so costs can be read.
Sizes are bytes, times are aware UTC, etags are opaque and unquoted, ranges are half open (``start <= n < stop``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, Self, runtime_checkable

from processors.batch import Batch
from processors.values import Inspected, Rendered
from proxy.errors import RangeNotSatisfiable
from proxy.keys import Key

if TYPE_CHECKING:
    from proxy.selection import Selection

Body = AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """What a store knows of one object. *etag* is the generation of the write (`generations`), equal on every store that has it;
    of what others put into a bucket it is the store's own. *sha256* is lower-case hex, or None where the store does not hold it.
    *store* is the name of the one that has it.
    """

    key: Key
    size: int
    content_type: str
    etag: str
    modified: datetime
    sha256: str | None = None
    store: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
    """what other programs said of it when they put it there (``x-amz-meta-…``)"""


@dataclass(frozen=True, slots=True)
class Listed:
    """What a store's list tells of one object: on S3 neither its type nor the metadata that we gave it."""

    key: Key
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A part of an object, like a slice: ``(0, 10)`` the first ten, ``(5, None)`` all from 5, ``(-5, None)`` the last five."""

    start: int
    stop: int | None = None

    def within(self, size: int) -> ByteRange:
        """The same range in an object of *size* bytes, both ends known; raises RangeNotSatisfiable if no byte is in it."""
        start = max(0, size + self.start) if self.start < 0 else self.start
        stop = size if self.stop is None else min(self.stop, size)
        if start >= stop:
            raise RangeNotSatisfiable("no byte of the object lies in the range", size=size)
        return ByteRange(start, stop)

    def length(self) -> int:
        """How many bytes a range with both ends known has."""
        assert self.stop is not None
        return self.stop - self.start


@dataclass(slots=True)
class ObjectReader:
    """An open object: iterate it for its chunks, leave ``async with`` to close the source.

    *span* is what will come, both ends known; None stands for the whole of an object (also of an empty one).
    *file* is the open file if the bytes are one, for sendfile; *path* its name, for another process (the name may be
    gone when it looks: the object was overwritten, and only the open file still has the old bytes). *data* is all of it,
    if it is in memory already. *parts* opens any other range of the same version, where the object is to be read in parts.
    """

    meta: ObjectMeta
    chunks: Body
    span: ByteRange | None = None
    file: BinaryIO | None = None
    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)
    closing: Callable[[], Awaitable[None]] | None = field(default=None, repr=False)
    parts: Callable[[ByteRange], Awaitable[ObjectReader]] | None = field(default=None, repr=False)

    @property
    def length(self) -> int:
        """How many bytes will come."""
        return self.meta.size if self.span is None else self.span.length()

    def __aiter__(self) -> Body:
        return self.chunks

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Release the source; further calls do nothing."""
        closing, self.closing = self.closing, None
        if closing is not None:
            await closing()


Admit = Callable[[ObjectReader], Awaitable[None]]
"""Called with the staged, not yet visible object; what it raises undoes the put."""


class Backend(Protocol):
    """An object store. Raises NotFound, RangeNotSatisfiable, and what makes another store worth a try: StorageFull, Unavailable.

    StoreRefused (credentials, a missing bucket) and Conflict (a key that this store cannot hold) are for a person to mend.
    Nothing of its library's comes through.
    """

    @property
    def name(self) -> str:
        """What it is called in labels and records."""
        ...

    async def head(self, key: Key) -> ObjectMeta: ...

    async def open(self, key: Key, span: ByteRange | None = None) -> ObjectReader:
        """The object, or *span* of it, in one round trip. Bytes and meta are of one version, also while it is overwritten."""
        ...

    async def put(
        self,
        key: Key,
        body: Body,
        content_type: str,
        admit: Admit | None = None,
        *,
        size: int | None = None,
        etag: str | None = None,
    ) -> ObjectMeta:
        """Store *body*, read once. Atomic: readers see the old object or the whole new one, and it is durable on return.

        *admit* sees the staged bytes before anybody else can. If the body or *admit* raises, or this is cancelled, the
        exception comes through unchanged and the key stays as it was. *size* is the body's, where it is known: it must be
        exact, else the put raises BadRequest. *etag* is given for a copy of a write that has a generation already.
        """
        ...

    async def delete(self, key: Key) -> None:
        """Remove the object; idempotent."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[Listed]:
        """The objects whose keys begin with *prefix*, in no order, in constant memory; those of a store that fails midway end in
        Unavailable.
        """
        ...

    async def ping(self) -> None:
        """Raise Unavailable if a write would not work now."""
        ...


@runtime_checkable
class Presigner(Protocol):
    """A store that clients can fetch from by themselves."""

    async def presign_get(self, key: Key, expires_s: int) -> str | None:
        """An address that gives the object to whoever has it, for *expires_s* seconds; None where its store cannot presign."""
        ...


class State(StrEnum):
    """Where an asset is in its life. Only READY ones are shown. PENDING and DELETED ones are work to finish or undo; a QUARANTINED
    one stays, counts for its owner, and nobody gets its bytes: it is for admins to look at, to mark READY again, or to remove."""

    PENDING = "pending"
    READY = "ready"
    QUARANTINED = "quarantined"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Asset:
    """The record of one object. *store* names the backend that holds it; *duration_s* is of films and sound, in seconds."""

    key: Key
    owner: str
    filename: str | None
    content_type: str
    size: int
    sha256: str
    etag: str
    created: datetime
    store: str
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None
    state: State = State.PENDING
    idempotency_key: str | None = None
    details: Mapping[str, Any] | None = None
    """what the renderer says of it (`Inspected.details`, with its frames and alpha); None if it was never asked"""
    focal: str | None = None
    """the point that every crop shall keep, as ``XxY``"""
    source: Key | None = None
    """what it was made of; it goes when that goes"""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """what its owner says of it: names, and texts, numbers, true or false"""
    revision: int = 0
    """how often the record has changed"""
    embedded: Mapping[str, Any] | None = None
    """what its makers wrote into it (`Inspected.embedded`); None if nobody looked yet, and in lists, which go without"""
    labels: Mapping[str, float] | None = None
    """what a model has named in it, and how sure it is, 0 to 1"""
    classified: str | None = None
    """which classifiers have said that"""
    sanitised: bool = False
    """whether what was sent had to be changed (SVG): told at the upload, and not recorded"""
    optimised: bool = False
    """whether it has fewer bytes than were sent, and the same pixels: told at the upload, and not recorded"""
    unscanned: bool = False
    """whether a scanner has still to look at it: until then it is withheld"""
    reason: Mapping[str, str] | None = None
    """why it is QUARANTINED: told with that, and not recorded"""

    @property
    def lasting(self) -> State:
        """The state that it comes to when its object is whole."""
        return State.QUARANTINED if self.unscanned else State.READY

    @property
    def is_taken(self) -> bool:
        """Whether it came to its end as an upload, and nobody has found it bad."""
        return self.state is State.READY or (self.state is State.QUARANTINED and self.unscanned)


@dataclass(frozen=True, slots=True)
class Page:
    """Some assets, and the cursor of the next page (None: this was the last)."""

    assets: list[Asset]
    cursor: str | None


class Catalogue(Protocol):
    """The durable records. Every write is committed on return. Raises Unavailable when the database does not answer."""

    async def add(self, asset: Asset, reserved: Sequence[str] = ()) -> None:
        """Record *asset*; raises Conflict if its key, or its owner's idempotency key, is already taken, and QuotaExceeded.

        It takes the place of what was *reserved* for it under these names (`quotas.Quotas`).
        """
        ...

    async def replace(self, asset: Asset, before: Asset) -> None:
        """Let *asset*, READY or QUARANTINED as *before* is, stand in its place; raises Conflict if that write is no more, and
        QuotaExceeded. What the owner said of it stays: name, focal point, metadata, the key that makes the upload idempotent;
        jobs do not.
        """
        ...

    async def get(self, key: Key) -> Asset | None: ...

    async def find(self, owner: str, idempotency_key: str) -> Asset | None:
        """The owner's asset in any state but DELETED that was stored under *idempotency_key*."""
        ...

    async def mark(self, key: Key, state: State, more: Mapping[str, Any] | None = None) -> None:
        """Move the asset to *state*; nothing happens if there is none. A DELETED one stays so, without its idempotency key.

        *more* is said to those who are told of it.
        """
        ...

    async def remove(self, key: Key, etag: str | None = None) -> None:
        """Drop the record; idempotent. With *etag* only where it is of that write, and READY or QUARANTINED."""
        ...

    async def page(self, owner: str, limit: int, cursor: str | None = None, selection: Selection | None = None) -> Page:
        """The owner's assets of *selection*, or all READY ones, newest first; raises BadRequest for a cursor that is not of it."""
        ...

    async def many(self, keys: Sequence[Key]) -> dict[Key, Asset]:
        """The READY assets among *keys*, some hundreds at most, in one request, as in a list."""
        ...

    async def describe(self, key: Key, etag: str, details: Mapping[str, Any], embedded: Mapping[str, Any]) -> None:
        """Keep *details* and what is *embedded* with the asset, if it is still the write *etag*."""
        ...

    async def amend(self, asset: Asset) -> bool:
        """Let what its owner says of a READY asset, its focal point and its metadata, be as *asset* has it.

        False, and nothing happens, if the record is of another revision by now.
        """
        ...

    async def unfinished(self) -> list[Asset]:
        """Every PENDING and DELETED asset: what a process left in the middle."""
        ...

    async def quarantined(self, limit: int, after: Key | None = None) -> list[Key]:
        """Up to *limit* keys of assets that are QUARANTINED, or PENDING and `lasting` so, in order, beyond *after*."""
        ...

    async def kept(self, limit: int, after: Key | None = None) -> list[Asset]:
        """Up to *limit* READY and QUARANTINED assets of all owners, by key, beyond *after*."""
        ...

    async def derived(self, key: Key) -> list[Asset]:
        """What was made of *key*, in whatever state."""
        ...

    async def recorded(self, keys: Sequence[Key]) -> set[Key]:
        """Those of *keys*, some hundreds at most, that have a record in whatever state."""
        ...

    async def ping(self) -> None: ...


class Bus(Protocol):
    """Words between the processes of one service: short, and heard by all the others within milliseconds, or lost.

    Nothing may rest on a word: it only makes others see sooner what they would find in the stores or in the catalogue.
    """

    @property
    def is_whole(self) -> bool:
        """Whether what others say is heard now, all of it."""
        ...

    def listen(self, topic: str, heard: Callable[[str], None], missed: Callable[[], None]) -> None:
        """Have *heard* called with each word that others say under *topic*, and *missed* when some may have been lost.

        Both return at once. What this process says itself it does not hear.
        """
        ...

    async def say(self, topic: str, word: str) -> None:
        """Tell all others *word*, of 4 KiB at most; never raises, and takes 50 ms at most."""
        ...


class SharedCache(Protocol):
    """Values that the processes of one service share for a while. Each may vanish at any moment, all of them too.

    Nothing raises and nothing takes longer than 50 ms: what cannot be had is not there. Names are ours and short.
    """

    @property
    def is_there(self) -> bool:
        """Whether it makes sense to ask: false while what holds the values does not answer, and where there is none."""
        ...

    async def get(self, name: str) -> bytes | None: ...

    async def set(self, name: str, value: bytes, ttl_s: float) -> None:
        """Keep *value* for *ttl_s* seconds at most."""
        ...

    async def add(self, name: str, value: bytes, ttl_s: float) -> None:
        """As `set`, but only where nothing is kept under *name*."""
        ...

    async def delete(self, *names: str) -> None: ...

    async def take(self, name: str, holder: str, ttl_s: float) -> float:
        """Take the lease *name* for *ttl_s* seconds: 0.0 if *holder* has it now, also when nobody can be asked; else the
        seconds after which the present holder's ends unless it is renewed.
        """
        ...

    async def renew(self, name: str, holder: str, ttl_s: float) -> None:
        """Let the lease go on, if it is still the holder's."""
        ...

    async def release(self, name: str, holder: str) -> None:
        """Give the lease up, if it is still the holder's."""
        ...


@dataclass(frozen=True, slots=True)
class CleanBody:
    """A body as it is to be stored; *is_changed* tells whether it is another than came, and *before* is that one then."""

    body: Body
    size: int
    is_changed: bool
    before: Body | None = None


class Renderer(Protocol):
    """Makes pictures of stored objects, in bounded time and memory. Raises Unsupported, Corrupt, TooCostly, Busy."""

    @property
    def places(self) -> int:
        """How many jobs there may be at one time, in work and waiting: more need not be begun."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in work and nobody waits."""
        ...

    async def inspect(self, source: ObjectReader) -> Inspected:
        """What the whole file is, decoded once from end to end, so that what passes can be rendered later."""
        ...

    async def render(self, source: ObjectReader, batch: Batch) -> None:
        """Answer those who wait in *batch*, one by one; what keeps all of them from being made is raised."""
        ...

    def cleaned(self, body: Body, *, must: bool = True) -> AbstractAsyncContextManager[CleanBody]:
        """A drawing (SVG) without what could act or reach outwards, or a picture in fewer bytes, for as long as the context lasts.

        Unless it *must* be done, what cannot be done is left as it came, and nothing is raised for that.
        """
        ...


__all__ = [
    "Admit",
    "Asset",
    "Backend",
    "Body",
    "Bus",
    "ByteRange",
    "Catalogue",
    "CleanBody",
    "Inspected",
    "Listed",
    "ObjectMeta",
    "ObjectReader",
    "Page",
    "Presigner",
    "Rendered",
    "Renderer",
    "SharedCache",
    "State",
]

"""Uploads that are promised before they come: what is promised to whom, and the bytes on their way to where nobody reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from processors import formats
from processors.errors import Unsupported
from processors.formats import Format
from proxy import keys
from proxy.claims import Claims, Clock, utc_now
from proxy.errors import AlreadyUploaded, BadRequest, Conflict, Forbidden, NotFound, RateLimited, StorageFull, TooLarge
from proxy.grants import check_declared, fitted_body
from proxy.keys import Key
from proxy.ports import Backend, Body, ObjectMeta
from proxy.promises import Address, Promise, PromiseBook, Stage, UploadSigner, Way
from proxy.quotas import Quotas, of_promise
from proxy.tickets import Ticket, Tickets

STAGED = "presigned/"
"""What the names of all that has come and was not confirmed begin with."""
MOST_OPEN = 1_000
LIFETIME_S = 3_600

log = structlog.get_logger(__name__)


def staged_key(key: Key) -> Key:
    """Where the bytes lie that are to become *key*."""
    return keys.parse(STAGED + key)


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to upload, as they say it: *size* exact or None, for *expires_s* seconds."""

    filename: str | None
    format: Format
    size: int | None
    expires_s: int

    @classmethod
    def read(cls, document: Mapping[str, Any], most_s: int) -> Wish:
        """The wish in a JSON *document*; raises BadRequest and Unsupported. It may hold for *most_s* seconds at most."""
        filename, claimed = document.get("filename"), document.get("contentType")
        if filename is not None and not isinstance(filename, str):
            raise BadRequest("filename is text", param="filename")
        if not isinstance(claimed, str):
            raise BadRequest("contentType says what will be uploaded, such as image/jpeg", param="contentType")
        format = formats.by_mime(claimed.partition(";")[0].strip().lower())
        if format is None:
            raise Unsupported("this type is not taken here", param="contentType")
        size, expires_s = document.get("size"), document.get("expiresIn", min(LIFETIME_S, most_s))
        if size is not None and (type(size) is not int or size < 1):
            raise BadRequest("size is the number of bytes, 1 or more", param="size")
        if type(expires_s) is not int or not 1 <= expires_s <= most_s:
            raise BadRequest(f"expiresIn is a number of seconds from 1 to {most_s}", param="expiresIn")
        return cls(filename, format, size, expires_s)


class Promising:
    """Makes promises. *max_bytes* tells how large a body of a type may be; what was promised counts until *keep* after its end."""

    def __init__(
        self, book: PromiseBook, max_bytes: Callable[[str], int], quotas: Quotas, keep: timedelta, clock: Clock = utc_now
    ) -> None:
        self._book = book
        self._max_bytes = max_bytes
        self._quotas = quotas
        self._keep = keep
        self._clock = clock

    async def make(self, owner: str, wish: Wish, way: Way) -> Promise:
        """A promise for a new key; raises TooLarge, RateLimited and QuotaExceeded."""
        limit = self._max_bytes(wish.format.mime)
        if wish.size is not None and wish.size > limit:
            raise TooLarge(f"a body of this type may have {limit} bytes", max_bytes=limit)
        now = self._clock()
        if await self._book.open_count(owner, now) >= MOST_OPEN:
            raise RateLimited(f"{MOST_OPEN} uploads are promised to you already", headers={"Retry-After": "60"})
        ends = now + timedelta(seconds=wish.expires_s)
        promise = Promise(
            keys.mint(owner, wish.format.extension), owner, wish.format.mime, wish.size, limit, way, ends, now, wish.filename
        )  # fmt: skip
        await self._quotas.reserve(of_promise(promise.key), owner, wish.size or 0, now, ends + self._keep)
        await self._book.add(promise)
        return promise


class Presigned:
    """Addresses that take one upload each: the store's where it has them and is *signable*, else ours, which `receive` serves.

    What comes to ours goes to *staged*, *most_bytes* of it in all.
    """

    def __init__(
        self,
        promising: Promising,
        book: PromiseBook,
        claims: Claims,
        staged: Backend,
        media: Backend,
        tickets: Tickets,
        most_bytes: int,
        signer: UploadSigner | None = None,
        signable: Callable[[], bool] = lambda: True,
        clock: Clock = utc_now,
    ) -> None:
        self._promising = promising
        self._book = book
        self._claims = claims
        self._staged = staged
        self._media = media
        self._tickets = tickets
        self._most_bytes = most_bytes
        self._signer = signer
        self._signable = signable
        self._clock = clock

    async def offer(self, owner: str, wish: Wish, *, form: bool) -> tuple[Promise, Address]:
        """A promise, and the address to send the bytes to; with *form* one for the form of a browser."""
        store = self._signer is not None and self._signable()
        promise = await self._promising.make(owner, wish, Way.STORE if store else Way.OURS)
        address = None
        if store and self._signer is not None:
            sign = self._signer.presign_post if form else self._signer.presign_put
            address = await sign(promise, wish.expires_s)
        return promise, address or self._own(promise, form=form)

    def _own(self, promise: Promise, *, form: bool) -> Address:
        method = "POST" if form else "PUT"
        ends = int(promise.expires.timestamp())
        ticket = Ticket(method, promise.key, promise.content_type, promise.size, promise.max_bytes, ends, promise.filename)
        headers = {"Content-Type": promise.content_type}
        if form:
            return Address(self._tickets.address(ticket), method, {}, headers)
        headers |= {} if promise.size is None else {"Content-Length": str(promise.size)}
        return Address(self._tickets.address(ticket), method, headers)

    async def admit(self, ticket: Ticket) -> Promise:
        """The promise behind *ticket*; raises AlreadyUploaded, and Forbidden when it was taken back."""
        promise = await self._book.get(ticket.key) or await self._adopted(ticket)
        _check_open(promise)
        return promise

    async def _adopted(self, ticket: Ticket) -> Promise:
        # Made by a process that has another catalogue, and the same secret.
        try:
            await self._media.head(ticket.key)
        except NotFound:
            pass
        else:
            raise AlreadyUploaded
        ends = datetime.fromtimestamp(ticket.expires, UTC)
        promise = Promise(
            ticket.key, keys.owner(ticket.key), ticket.content_type, ticket.size, ticket.max_bytes, Way.OURS, ends, self._clock(),
            ticket.filename,
        )  # fmt: skip
        try:
            await self._book.add(promise)
        except Conflict:
            return await self._book.get(ticket.key) or promise
        return promise

    async def receive(self, promise: Promise, body: Body, content_type: str | None, size: int | None) -> ObjectMeta:
        """Take *body*, which says to be *content_type* and to have *size* bytes, to where it waits to be confirmed.

        Nothing is read of one that is refused for what it says. Raises Unsupported, TooLarge, BadRequest, StorageFull, Conflict.
        """
        check_declared(promise, content_type, size)
        key, expected = promise.key, promise.size if size is None else size
        async with self._claims.alone(key):
            _check_open(await self._book.get(key) or promise)
            if not await self._book.reserve(key, expected or promise.max_bytes, self._most_bytes, self._clock()):
                raise StorageFull("there is no room for uploads that wait to be confirmed", headers={"Retry-After": "60"})
            meta = await self._staged.put(staged_key(key), fitted_body(promise, body), promise.content_type, size=expected)
            if not await self._book.move(key, [Stage.OPEN], Stage.ARRIVED, self._clock()):
                await self._staged.delete(staged_key(key))
                raise Forbidden("what was promised has been taken back")
        log.info("upload.arrived", key=key, size=meta.size)
        return meta


def _check_open(promise: Promise) -> None:
    if promise.stage is Stage.WITHDRAWN:
        raise Forbidden("what was promised has been taken back")
    if promise.stage is not Stage.OPEN:
        raise AlreadyUploaded

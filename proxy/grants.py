"""Who may upload now: the holder of a token of theirs, or of one that is good for a single upload."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jwt

from processors import formats
from processors.errors import Unsupported
from proxy import keys, streams
from proxy.auth import MAX_TOKEN_BYTES, Action, Tokens, require_right
from proxy.claims import Claims, Clock, utc_now
from proxy.errors import AlreadyUploaded, BadRequest, TooLarge, Unauthorized
from proxy.ingest import Incoming, Ingest, Promised
from proxy.keys import Key
from proxy.ports import Asset, Body
from proxy.promises import Promise, PromiseBook, Stage, Way
from proxy.quotas import Quotas, Room, of_promise

KIND = "upload+jwt"
AUDIENCE = "media-upload"
"""What tells these tokens from those of `auth`, beside their secret: neither is taken for the other."""


class UploadTokens:
    """Mints and reads the tokens of single uploads (JWT, HS256): signed with the first of *secrets*, read with any."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = tuple(secrets)

    def mint(self, promise: Promise) -> str:
        """The token of *promise*; what it names is said for its holder's sake, the promise is what counts."""
        claims: dict[str, Any] = {
            "aud": AUDIENCE, "sub": promise.owner, "key": promise.key, "type": promise.content_type,
            "iat": int(time.time()), "exp": int(promise.expires.timestamp()),
        }  # fmt: skip
        claims |= {} if promise.size is None else {"size": promise.size}
        return jwt.encode(claims, self._secrets[0], algorithm="HS256", headers={"typ": KIND})

    def is_one(self, token: str) -> bool:
        """Whether *token* says that it is such a token."""
        try:
            return len(token) <= MAX_TOKEN_BYTES and jwt.get_unverified_header(token).get("typ") == KIND
        except (jwt.PyJWTError, ValueError, RecursionError):
            return False

    def key(self, token: str) -> Key:
        """The key that *token* is for; raises Unauthorized. Whether its time is over is the promise's to say."""
        for secret in self._secrets:
            try:
                claims = jwt.decode(
                    token,
                    secret,
                    algorithms=["HS256"],
                    audience=AUDIENCE,
                    options={"require": ["aud", "sub", "key", "exp", "iat"], "verify_exp": False, "verify_iat": False},
                )
                return keys.parse(claims["key"])
            except jwt.InvalidSignatureError:
                continue
            except (jwt.PyJWTError, BadRequest, ValueError, TypeError, RecursionError) as error:
                raise Unauthorized("the token does not hold") from error
        raise Unauthorized("the token does not hold")


@dataclass(frozen=True, slots=True)
class Grant:
    """What a request may upload: anything as *owner*, or the one thing that was *promised*."""

    owner: str
    promised: Promise | None = None
    is_admin: bool = False

    @property
    def payer(self) -> str | None:
        """Whose share of uploads this takes; None: nobody's."""
        return None if self.is_admin else self.owner

    def check(self, content_type: str | None, size: int | None) -> None:
        """Raise what keeps an upload from beginning that says to be *content_type* and to have *size* bytes (None: unsaid).

        AlreadyUploaded, Unsupported, TooLarge, BadRequest.
        """
        if self.promised is not None:
            if self.promised.stage is not Stage.OPEN:
                raise AlreadyUploaded("what the token was made for is here already")
            check_declared(self.promised, content_type, size)


def check_declared(promise: Promise, content_type: str | None, size: int | None) -> None:
    """Compare what a sender says with what was promised; raises Unsupported, TooLarge, BadRequest."""
    if formats.claimed_kind(content_type) is not None:
        claimed = formats.by_mime((content_type or "").partition(";")[0].strip().lower())
        if claimed is None or claimed.mime != promise.content_type:
            raise Unsupported(f"this upload was promised to be {promise.content_type}")
    if size is not None and size > (promise.max_bytes if promise.size is None else promise.size):
        limit = promise.max_bytes if promise.size is None else promise.size
        raise TooLarge(f"this upload may have {limit} bytes", max_bytes=limit)
    if size is not None and promise.size not in {None, size}:
        raise BadRequest(f"this upload was promised to have {promise.size} bytes")


def fitted_body(promise: Promise, body: Body) -> Body:
    """*body*, as far as it has as many bytes as were promised; raises TooLarge and BadRequest."""
    limit = promise.max_bytes if promise.size is None else promise.size
    return streams.sized(streams.limited(body, lambda: limit), promise.size)


def format_of(promise: Promise) -> formats.Format:
    """What was promised."""
    format = formats.by_mime(promise.content_type)
    if format is None:  # promised by a version that took more
        raise Unsupported("this type is not taken any more")
    return format


class Grants:
    """Lets uploads begin, go on and come to their end."""

    def __init__(
        self,
        tokens: Tokens,
        upload_tokens: UploadTokens,
        book: PromiseBook,
        claims: Claims,
        ingest: Ingest,
        quotas: Quotas,
        clock: Clock = utc_now,
    ) -> None:
        self._quotas = quotas
        self._tokens = tokens
        self._upload_tokens = upload_tokens
        self._book = book
        self._claims = claims
        self._ingest = ingest
        self._clock = clock

    async def admit(self, authorization: Sequence[str]) -> Grant:
        """Who sends the *authorization* headers of one request; raises Unauthorized and Forbidden. Asked for each request anew."""
        token = authorization[0].partition(" ")[2].strip() if len(authorization) == 1 else ""
        if not self._upload_tokens.is_one(token):
            principal = require_right(self._tokens.bearer(authorization), Action.WRITE)
            return Grant(principal.owner, is_admin=principal.is_admin)
        promise = await self._book.get(self._upload_tokens.key(token))
        if promise is None or promise.way is not Way.TOKEN or promise.stage is Stage.WITHDRAWN:
            raise Unauthorized("the token has been taken back")
        if self._clock() >= promise.expires:
            raise Unauthorized("the token has expired")
        return Grant(promise.owner, promise)

    async def of_promise(self, key: Key) -> Grant:
        """What a token for *key* lets, where the upload began with it, whether or not its time is over; raises Unauthorized."""
        promise = await self._book.get(key)
        if promise is None or promise.stage is Stage.WITHDRAWN:
            raise Unauthorized("the token has been taken back")
        return Grant(promise.owner, promise)

    async def check_again(self, grant: Grant) -> None:
        """Raise Unauthorized if what *grant* stands on was taken back since, and AlreadyUploaded if it was used."""
        if grant.promised is None:
            return
        promise = await self._book.get(grant.promised.key)
        if promise is None or promise.stage is Stage.WITHDRAWN:
            raise Unauthorized("the token has been taken back")
        if promise.stage is not Stage.OPEN:
            raise AlreadyUploaded("what the token was made for is here already")

    async def store(self, grant: Grant, incoming: Incoming, idempotency_key: str | None = None) -> Asset:
        """Store what *grant* lets, as `Ingest.store`: under the promised key, once, and if it is still allowed at the end."""
        promise = grant.promised
        if promise is None:
            return await self._ingest.store(grant.owner, incoming, idempotency_key)
        grant.check(incoming.claimed_type, incoming.length)
        fitted = replace(incoming, body=fitted_body(promise, incoming.body), filename=incoming.filename or promise.filename)
        room = Room(self._quotas, promise.owner, fitted.length, of_promise(promise.key), promise.expires)
        async with self._claims.alone(promise.key):
            await self.check_again(grant)
            promised = Promised(promise.key, format_of(promise), partial(self.check_again, grant))
            async with room.taken(fitted.body) as body:
                fitted = replace(fitted, body=body, reserved=(room.name,))
                asset = await self._ingest.store(promise.owner, fitted, promised=promised)
            await self._book.move(promise.key, [Stage.OPEN], Stage.KEPT, self._clock())
        return asset

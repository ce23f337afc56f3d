"""The proxy's branches of the exception family; its root is `processors.errors.MediaError`."""

from __future__ import annotations

from typing import Any

from processors.errors import MediaError


class BadRequest(MediaError):
    """The request cannot be understood (RFC 9110 section 15.5.1)."""

    status = 400
    slug = "bad-request"
    title = "The request is not understood"


class BadKey(BadRequest):
    """The object key breaks the grammar of `proxy.keys`."""

    slug = "bad-key"
    title = "The key is not valid"


class Unauthorized(MediaError):
    """No token, or one that does not hold (RFC 6750 section 3)."""

    status = 401
    slug = "unauthorized"
    title = "A valid token is needed"

    def __init__(self, detail: str = "", **members: Any) -> None:
        members.pop("headers", None)
        super().__init__(detail, headers={"WWW-Authenticate": 'Bearer realm="media"'}, **members)


class Forbidden(MediaError):
    """The caller is known and may not do this."""

    status = 403
    slug = "forbidden"
    title = "This is not allowed"


class BadSignature(Forbidden):
    """The signature of an address does not hold for it."""

    slug = "bad-signature"
    title = "The signature of this address does not hold"


class ExpiredAddress(Forbidden):
    """A signed address beyond its ``exp``."""

    slug = "expired"
    title = "This address has expired"


class NotOffered(Forbidden):
    """A rendition that only holders of a signature or of ``media:transform`` may ask for. *param* names what is in the way."""

    slug = "not-offered"
    title = "This rendition is not offered to everybody"


class StoreRefused(MediaError):
    """A store does not let us in, or has no such bucket: no other store is tried, since a person must mend this (502)."""

    status = 502
    slug = "store-refused"
    title = "A store refused the request"


class LoopDetected(MediaError):
    """The request has been through a media proxy already (RFC 5842 section 7.2)."""

    status = 508
    slug = "loop"
    title = "Media proxies ask each other in a circle"


class NotFound(MediaError):
    """No such object, or it is somebody else's: the two look the same."""

    status = 404
    slug = "not-found"
    title = "There is nothing here"


class MethodNotAllowed(MediaError):
    """The route exists, not for this method."""

    status = 405
    slug = "method-not-allowed"
    title = "This method is not allowed here"


class TooSlow(MediaError):
    """The client sent nothing, or too little, for too long."""

    status = 408
    slug = "too-slow"
    title = "The request came too slowly"


class Conflict(MediaError):
    """The request contradicts the state of things, such as a second request under an Idempotency-Key still in work."""

    status = 409
    slug = "conflict"
    title = "The request conflicts with another"


class NotUploaded(Conflict):
    """What was promised has not been uploaded yet, or not to its end."""

    slug = "not-uploaded"
    title = "Nothing has been uploaded yet"


class AlreadyUploaded(Conflict):
    """The address or the token was good for one upload, and that has been made."""

    slug = "already-uploaded"
    title = "This has been uploaded already"


class OffsetMismatch(Conflict):
    """Bytes for another place of an upload than its end. *expected* is where it ends."""

    slug = "offset-mismatch"
    title = "The upload goes on at another offset"


class Incomplete(Conflict):
    """An upload is to be finished that has holes. *missing* are the first of its missing chunks."""

    slug = "incomplete"
    title = "Parts of the upload are missing"


class PreconditionFailed(MediaError):
    """If-Match or If-Unmodified-Since does not hold (RFC 9110 section 13.1)."""

    status = 412
    slug = "precondition-failed"
    title = "A precondition does not hold"


class UnknownVersion(PreconditionFailed):
    """A version of tus that is not spoken here; Tus-Version says which are."""

    slug = "tus-version"
    title = "This version of tus is not spoken here"


class TooLarge(MediaError):
    """A body beyond its limit. *max_bytes* is the limit."""

    status = 413
    slug = "too-large"
    title = "The body is too large"


class QuotaExceeded(MediaError):
    """The owner may not have more. Not 507: clients try again what fails with 5xx, and here something must be deleted first."""

    status = 413
    slug = "quota-exceeded"
    title = "The quota is used up"


class RangeNotSatisfiable(MediaError):
    """No byte of the object lies in the range (RFC 9110 section 15.5.17). *size* is the object's, in bytes."""

    status = 416
    slug = "range-not-satisfiable"
    title = "The range lies outside the object"

    def __init__(self, detail: str = "", *, size: int, **members: Any) -> None:
        members.pop("headers", None)
        super().__init__(detail, headers={"Content-Range": f"bytes */{size}"}, size=size, **members)


class IdempotencyReused(MediaError):
    """The Idempotency-Key already stands for other bytes."""

    status = 422
    slug = "idempotency-key-reused"
    title = "The Idempotency-Key belongs to another upload"


class Infected(MediaError):
    """A scanner has found something in the bytes. *signature* is what it calls that."""

    status = 422
    slug = "infected"
    title = "The file is infected"


class Unscannable(MediaError):
    """The scanner cannot look through all of the bytes: they are too many, or packed too deep."""

    status = 422
    slug = "unscannable"
    title = "The file cannot be scanned"


class Locked(MediaError):
    """Another request is at work on the same upload, or takes over from this one (RFC 4918 section 11.3)."""

    status = 423
    slug = "locked"
    title = "Another request is at work on this upload"

    def __init__(self, detail: str = "", **members: Any) -> None:
        members.pop("headers", None)
        super().__init__(detail, headers={"Retry-After": "1"}, **members)


class RateLimited(MediaError):
    """The caller has asked for more than its share: again after the seconds in Retry-After."""

    status = 429
    slug = "rate-limited"
    title = "Too many requests"


class ChecksumMismatch(MediaError):
    """The bytes of a request do not add up to its Upload-Checksum; they are thrown away (tus 1.0, extension checksum)."""

    status = 460
    slug = "checksum-mismatch"
    title = "The checksum is wrong"


class NotProvided(MediaError):
    """The service is not equipped for this; an operator can change that (RFC 9110 section 15.6.2)."""

    status = 501
    slug = "not-provided"
    title = "This service is not equipped for it"


class Unavailable(MediaError):
    """A part that is needed does not answer; nothing was lost, try again."""

    status = 503
    slug = "unavailable"
    title = "A part of the service does not answer"

    def __init__(self, detail: str = "", *, retry_after_s: int = 5, **members: Any) -> None:
        members.pop("headers", None)
        super().__init__(detail, headers={"Retry-After": str(retry_after_s)}, **members)


class StorageFull(MediaError):
    """No store has room for the body."""

    status = 507
    slug = "storage-full"
    title = "There is no space left"


class StartError(RuntimeError):
    """What keeps the service from starting: no answer to a request, but one sentence for the operator that says what to do."""

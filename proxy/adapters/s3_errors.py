"""What an S3 store's failures mean to us, said in one place, and the kinds of stores with their quirks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aiohttp import ClientError as TransportError
from botocore.exceptions import BotoCoreError, ClientError, SSLError
from botocore.parsers import ResponseParserError

from processors.errors import MediaError
from proxy.errors import Conflict, NotFound, StorageFull, StoreRefused, Unavailable


@dataclass(frozen=True, slots=True)
class Profile:
    """The quirks of one kind of store. *etag_is_md5*: of an object put in one piece, unless it is encrypted.

    *drops_cut_bodies*: a PUT whose connection breaks leaves nothing. versitygw 1.8.0 stores what came until then as a whole
    object, so where this is not known, a body goes out only with a digest of all of it: from a file, or in parts.
    *equal_parts*: all but the last part have one size. *takes_once*: an address signed with If-None-Match: * takes one body; where
    what came of a cut one stays it must not be asked for, or nobody could send it again. *takes_forms*: POST with a policy.
    """

    path_style: bool = True
    drops_cut_bodies: bool = False
    equal_parts: bool = False
    etag_is_md5: bool = False
    takes_once: bool = False
    takes_forms: bool = True


PROFILES = {
    "aws": Profile(path_style=False, drops_cut_bodies=True, etag_is_md5=True, takes_once=True),
    "minio": Profile(drops_cut_bodies=True, etag_is_md5=True, takes_once=True),
    "versitygw": Profile(etag_is_md5=True),
    "garage": Profile(etag_is_md5=True),
    "r2": Profile(equal_parts=True, etag_is_md5=True, takes_forms=False),
    "generic": Profile(),
}


@dataclass(frozen=True, slots=True)
class SettingNames:
    """What the settings of a store are called, for sentences that say which one is wrong."""

    endpoint: str = "its endpoint"
    tls: str = "whether it speaks https"
    access_key: str = "its access key"
    secret_key: str = "its secret key"  # noqa: S105
    region: str = "its region"
    bucket: str = "its bucket"


MISSING = frozenset({"NoSuchKey", "NotFound", "404", "NoSuchVersion"})
FULL = frozenset({
    "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage", "QuotaExceeded", "StorageFull", "EntityTooLarge",
})  # fmt: skip
UNFIT = frozenset({
    "XMinioObjectExistsAsDirectory", "XMinioInvalidObjectName", "XMinioInvalidResourceName", "KeyTooLongError", "KeyTooLong",
    "ObjectParentIsFile", "ParentIsObject", "ExistingObjectIsDirectory", "DirectoryObjectContainsData", "InvalidURI",
    "InvalidObjectName",
})  # fmt: skip
PASSING = frozenset({
    "RequestTimeout", "OperationAborted", "ConditionalRequestConflict", "IncompleteBody", "BadDigest",
    "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch", "ServerBusy", "SlowDown", "SlowDownRead", "SlowDownWrite",
    "TooManyRequests", "ClientDisconnected", "NoSuchUpload", "TemporaryRedirect", "InternalError", "InvalidPart",
})  # fmt: skip
"""4xx that say nothing about our settings; a 5xx is passing whatever its code."""


def code_of(error: ClientError) -> str:
    """The store's word for it; the number of the status where the answer had no body, as those to HEAD."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: ClientError) -> int:
    """The HTTP status."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def meaning(error: ClientError) -> MediaError:
    """What an answer that is a failure means. Answers that are none (304, 412, 416) are for who asked: they do not come here."""
    code, status = code_of(error), status_of(error)
    if code in MISSING:
        return NotFound("no object has this key")
    if code in FULL or status == 507:
        return StorageFull("the store has no room for the body")
    if code in UNFIT:
        return Conflict("the store cannot hold an object of this key beside what it has")
    if code == "NoSuchBucket":
        return StoreRefused("the store has no such bucket")
    if code in PASSING or status >= 500 or status in {408, 429}:
        return Unavailable("the store cannot do it now")
    return StoreRefused(f"the store refused the request ({code[:60]})")


@contextmanager
def translated() -> Iterator[None]:
    """Turns what the S3 library raises into ours: NotFound, StorageFull, Conflict, StoreRefused, Unavailable."""
    try:
        yield
    except ClientError as error:
        raise meaning(error) from error
    except (BotoCoreError, ResponseParserError, TransportError, OSError) as error:
        raise Unavailable("the store does not answer") from error


def explained(cause: BaseException | None, names: SettingNames, bucket: str) -> MediaError:
    """A failure of a check as a sentence for the operator that names the setting to look at."""
    if isinstance(cause, SSLError):
        return StoreRefused(f"https does not work with the store: {_tls(cause)}; see {names.tls} and {names.endpoint}")
    if not isinstance(cause, ClientError):
        return Unavailable(f"nothing that speaks S3 answers: is it running, and are {names.endpoint} and {names.tls} right?")
    code, message = code_of(cause), str(cause.response.get("Error", {}).get("Message", ""))
    if "HTTPS server" in message or "plain HTTP request was sent" in message:
        return StoreRefused(f"the store speaks https and was asked in http: change {names.tls}")
    if code in {"InvalidAccessKeyId", "XAdminUserNotFound"}:  # the latter is versitygw's
        return StoreRefused(f"the store does not know the access key: see {names.access_key}")
    if code == "SignatureDoesNotMatch":
        return StoreRefused(f"the secret does not belong to the access key: see {names.secret_key}")
    if code in {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException", "InvalidRegion",
                "InvalidLocationConstraint", "301"}:  # fmt: skip
        region = str(cause.response.get("Error", {}).get("Region", ""))
        return StoreRefused(f"the store is in another region{f', {region}' if region else ''}: set {names.region}")
    if code == "RequestTimeTooSkewed":
        return StoreRefused("the clocks of this machine and of the store differ by more than the store allows: set them")
    if code in {"NoSuchBucket", "404"}:
        return StoreRefused(f"there is no bucket {bucket!r}: make it, or name another in {names.bucket}")
    if code in {"InvalidBucketName", "BucketAlreadyExists"}:
        return StoreRefused(f"no bucket of ours can be called {bucket!r}: name another in {names.bucket}")
    if code in {"AccessDenied", "403", "AllAccessDisabled", "Forbidden"}:
        return StoreRefused(f"{names.access_key} may not list, make or use the bucket {bucket!r} of {names.bucket}")
    return meaning(cause)


def _tls(error: SSLError) -> str:
    wrong = getattr(error.kwargs.get("error"), "certificate_error", None)
    if wrong is None:
        return "its port speaks something else"
    return f"its certificate is not trusted ({getattr(wrong, 'verify_message', '') or 'it does not hold'})"

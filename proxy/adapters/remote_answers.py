"""What the answers of another media proxy mean to us, and its silence; and the sentences for who set it up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiohttp import ClientConnectorDNSError, ClientError, ClientResponse, ClientResponseError, ClientSSLError

from processors.errors import MediaError
from proxy import peer
from proxy.errors import (
    BadKey,
    Conflict,
    LoopDetected,
    NotFound,
    PreconditionFailed,
    RangeNotSatisfiable,
    StorageFull,
    StoreRefused,
    TooLarge,
    TooSlow,
    Unavailable,
)

UNTRUSTED = "the other media proxy does not take our token: both need the same JWT_SECRET, or MEDIA_PROXY_TOKEN with media:admin"
LOOP = (
    "the media proxy at MEDIA_PROXY_URL is this one, has a store in common with it, or names a further one in its MEDIA_PROXY_URL"
)
MISLED = "what answers at MEDIA_PROXY_URL is no media proxy, or one too old to be a store"


def refusal(response: ClientResponse, expected: int) -> MediaError | None:
    """What an answer other than the *expected* one means to us."""
    status, code = response.status, peer.code_of(response.headers)
    if code is None:
        # From a web server before the other proxy, or whatever else is there: its 404 says nothing of an object.
        return Unavailable("the store does not answer") if status >= 500 or status in {408, 429} else StoreRefused(MISLED)
    if code == peer.OK:
        return None if status == expected else Unavailable(f"the store answers {status} where it should not")
    if status == 416:
        try:
            return RangeNotSatisfiable(size=peer.content_range(response.headers.get("Content-Range"))[2])
        except peer.Garbled as error:
            return Unavailable(str(error))
    if status in {401, 403}:
        return StoreRefused(UNTRUSTED)
    meant = MEANINGS.get(code or "")
    if meant is not None:
        return meant()
    return Unavailable("the store cannot do it now") if status >= 500 else StoreRefused(f"the store refused the request ({code})")


MEANINGS: dict[str, Callable[[], MediaError]] = {
    NotFound.slug: lambda: NotFound("no object has this key"),
    PreconditionFailed.slug: lambda: PreconditionFailed("it is another version by now"),
    Conflict.slug: lambda: Conflict("the store cannot hold this object"),
    BadKey.slug: lambda: Conflict("the store cannot hold an object of this key"),
    TooLarge.slug: lambda: TooLarge("the body is larger than the store takes"),
    TooSlow.slug: lambda: TooSlow("the body came too slowly for the store"),
    LoopDetected.slug: lambda: LoopDetected(LOOP),
    StorageFull.slug: lambda: StorageFull("the store has no room for the body"),
    StoreRefused.slug: lambda: StoreRefused("a store of the other media proxy refused the request: see its log"),
}


@contextmanager
def translated() -> Iterator[None]:
    """Turns what the library raises into Unavailable."""
    try:
        yield
    except (ClientError, TimeoutError, OSError) as error:
        raise Unavailable("the store does not answer") from error


def explained(failure: MediaError) -> MediaError:
    """*failure* as a sentence for the operator, which names the setting to look at."""
    cause = failure.__cause__
    if isinstance(cause, ClientSSLError):
        return StoreRefused("https does not work with MEDIA_PROXY_URL: its port speaks none, or its certificate is not trusted")
    if isinstance(cause, ClientConnectorDNSError):
        return Unavailable("the host in MEDIA_PROXY_URL has no address")
    if isinstance(cause, ClientResponseError):
        return StoreRefused("what answers at MEDIA_PROXY_URL speaks no http: should it be https?")
    if cause is not None:
        return Unavailable("nothing answers at MEDIA_PROXY_URL: is the other media proxy running, and are host and port right?")
    return failure

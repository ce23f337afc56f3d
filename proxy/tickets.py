"""Our own addresses for uploads: who holds one may send what it names, without a token (format tag ``mpu1``). Pure.

Everything is under the signature: method, key (whose first segment is the owner), type, size, end, name of the file.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode

from proxy import keys
from proxy.errors import BadSignature, ExpiredAddress
from proxy.keys import Key

PREFIX = "/api/upload/presigned/"
SIGNATURE_BYTES = 24
MAX_FIELDS = 8


@dataclass(frozen=True, slots=True)
class Ticket:
    """What an address lets its holder do until *expires* (seconds since 1970). *size* is exact; None: up to *max_bytes*."""

    method: str
    key: Key
    content_type: str
    size: int | None
    max_bytes: int
    expires: int
    filename: str | None = None


class Tickets:
    """Signs addresses with the first of *secrets*, and takes those of all of them."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = tuple(secrets)

    def address(self, ticket: Ticket) -> str:
        """The path and the query of *ticket*."""
        pairs = [("exp", str(ticket.expires)), ("max", str(ticket.max_bytes)), ("type", ticket.content_type)]
        pairs += [] if ticket.size is None else [("size", str(ticket.size))]
        pairs += [] if ticket.filename is None else [("name", ticket.filename)]
        pairs.append(("s", _signature(self._secrets[0], ticket.method, ticket.key, pairs)))
        return f"{PREFIX}{keys.encoded(ticket.key)}?{_query(pairs)}"

    def read(self, method: str, key: Key, query: str, now: float) -> Ticket:
        """The ticket in a request's raw *query*; raises BadSignature for whatever is not as it was signed, and ExpiredAddress."""
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=MAX_FIELDS)
        except ValueError:
            raise BadSignature from None
        given = [value for name, value in pairs if name == "s"]
        signed = [pair for pair in pairs if pair[0] != "s"]
        if len(given) != 1 or not any(
            hmac.compare_digest(_signature(secret, method, key, signed).encode(), given[0].encode()) for secret in self._secrets
        ):
            raise BadSignature
        told = dict(signed)
        if now >= int(told["exp"]):
            raise ExpiredAddress
        size = int(told["size"]) if "size" in told else None
        return Ticket(method, key, told["type"], size, int(told["max"]), int(told["exp"]), told.get("name"))


def _signature(secret: bytes, method: str, key: str, pairs: Sequence[tuple[str, str]]) -> str:
    text = f"mpu1\n{method}\n{quote(key, safe='/')}\n{_query(sorted(pairs))}"
    return urlsafe_b64encode(hmac.digest(secret, text.encode(), hashlib.sha256)[:SIGNATURE_BYTES]).decode()


def _query(pairs: Sequence[tuple[str, str]]) -> str:
    return urlencode(pairs, quote_via=quote, safe="")

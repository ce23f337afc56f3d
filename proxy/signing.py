"""Signed addresses: who holds one may have what it names, without a token (format tag ``mp1``, docs/signing.md).

Small enough to copy into a back end that hands such addresses out: standard library only. *parameters* are canonical names and
values, as the address says them.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from unicodedata import normalize
from urllib.parse import quote

SIGNATURE_BYTES = 24
LEEWAY_S = 30


def string_to_sign(key: str, parameters: Mapping[str, str]) -> str:
    """The text under the signature: *key* in NFC, and the *parameters* without ``s`` and without those that ``any`` frees."""
    free = {"s", *parameters.get("any", "").split(",")}
    pairs = sorted((name, value) for name, value in parameters.items() if name not in free)
    return f"mp1\n{quote(normalize('NFC', key), safe='/')}\n{_query(pairs)}"


def sign(secret: bytes, key: str, parameters: Mapping[str, str]) -> str:
    """The signature ``s``: 32 characters of base64url."""
    mac = hmac.digest(secret, string_to_sign(key, parameters).encode(), hashlib.sha256)
    return urlsafe_b64encode(mac[:SIGNATURE_BYTES]).decode()


def address(secret: bytes, key: str, parameters: Mapping[str, str]) -> str:
    """The key and the signed query, as they follow ``/api/media/`` in an address."""
    pairs = [*sorted(parameters.items()), ("s", sign(secret, key, parameters))]
    return f"{quote(key, safe='/')}?{_query(pairs)}"


class Signatures:
    """Signs addresses with the first of up to four secrets, and verifies them against all.

    ``kid:secret`` gives a secret a name; the ``kid`` of an address picks it. With *eternal* an address needs no ``exp``.
    """

    def __init__(self, secrets: Sequence[str], *, eternal: bool = False) -> None:
        named = (secret.rpartition(":") for secret in secrets)
        self._secrets = [(kid, secret.encode()) for kid, _, secret in named]
        self._eternal = eternal

    def address(self, key: str, parameters: Mapping[str, str]) -> str:
        """As `address`, with the secret that ``kid`` names, else the first; raises LookupError if there is none."""
        kid = parameters.get("kid")
        secret = next((secret for name, secret in self._secrets if kid is None or name == kid), None)
        if secret is None:
            raise LookupError("no secret of this name" if self._secrets else "no secret")
        return address(secret, key, parameters)

    def verify(self, key: str, parameters: Mapping[str, str], now: float | None = None) -> str | None:
        """None if the address holds, else the code of why not: ``bad-signature`` or ``expired``. Constant in time."""
        expires = parameters.get("exp", "0" if self._eternal else "")
        given = parameters.get("s", "").encode()
        kid = parameters.get("kid")
        fits = [
            hmac.compare_digest(sign(secret, key, parameters).encode(), given)
            for name, secret in self._secrets
            if kid is None or name == kid
        ]
        if not any(fits) or not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
            return "bad-signature"
        if "exp" not in parameters:
            return None
        return "expired" if (time.time() if now is None else now) >= int(expires) + LEEWAY_S else None


def _query(pairs: Sequence[tuple[str, str]]) -> str:
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)

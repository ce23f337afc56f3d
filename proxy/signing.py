"""Signed addresses: who holds one may read what it names, without a token (images.md section 4; format tag ``mp1``).

Small enough to copy into a back end that hands such addresses out: standard library only.
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
    """The text under the signature: *key* in NFC, and the canonical *parameters* without ``s`` and those that ``any`` frees."""
    free = {"s", *parameters.get("any", "").split(",")}
    pairs = sorted((name, value) for name, value in parameters.items() if name not in free)
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
    return f"mp1\n{quote(normalize('NFC', key), safe='/')}\n{query}"


def sign(secret: bytes, key: str, parameters: Mapping[str, str]) -> str:
    """The signature ``s``: 32 characters of base64url."""
    mac = hmac.digest(secret, string_to_sign(key, parameters).encode(), hashlib.sha256)
    return urlsafe_b64encode(mac[:SIGNATURE_BYTES]).decode()


class Signatures:
    """Verifies addresses against up to four secrets; ``kid:secret`` names one, and ``kid`` in an address picks it."""

    def __init__(self, secrets: Sequence[str]) -> None:
        named = (secret.rpartition(":") for secret in secrets)
        self._secrets = [(kid, secret.encode()) for kid, _, secret in named]

    def verify(self, key: str, parameters: Mapping[str, str], now: float | None = None) -> str | None:
        """None if the address holds, else the code of why not: ``bad-signature`` or ``expired``. Constant in time."""
        expires = parameters.get("exp", "")
        given = parameters.get("s", "").encode()
        kid = parameters.get("kid")
        fits = [
            hmac.compare_digest(sign(secret, key, parameters).encode(), given)
            for name, secret in self._secrets
            if kid is None or name == kid
        ]
        if not any(fits) or not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
            return "bad-signature"
        return "expired" if (time.time() if now is None else now) >= int(expires) + LEEWAY_S else None

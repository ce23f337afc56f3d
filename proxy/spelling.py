"""How values are written in the environment: sizes, lists, rates, and the bounds that many settings share."""

from __future__ import annotations

import os
import re
from base64 import b64decode
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr

from proxy import rates
from proxy.rates import Rate

WEAK_SECRETS = frozenset({"secret", "changeme", "change-me", "password", "your-256-bit-secret", "your-secret-key", "jwt-secret"})
MIB = 1 << 20
GIB = 1 << 30
SIZES = {"": 1, "B": 1, "K": 1 << 10, "KIB": 1 << 10, "M": MIB, "MIB": MIB, "G": GIB, "GIB": GIB}


def size(value: Any) -> Any:
    """Bytes from a text such as 64M; raises ValueError."""
    match = re.fullmatch(r"(\d{1,15})\s*([A-Za-z]{0,3})", value.strip()) if isinstance(value, str) else None
    if match is None:
        return value
    factor = SIZES.get(match[2].upper())
    if factor is None:
        raise ValueError("is a number of bytes, such as 67108864, 64M or 5G")
    return int(match[1]) * factor


def listed(value: Any) -> Any:
    """The items of a text that has them between commas or spaces."""
    return tuple(item for item in re.split(r"[\s,]+", value) if item) if isinstance(value, str) else value


def absolute(url: str) -> str:
    """An http or https address as it is used; raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("is an http or https address without user and query, such as https://media.example")
    return url.rstrip("/")


def is_weak(secret: str) -> bool:
    """Whether *secret* can be guessed."""
    return len(secret.encode()) < 32 or secret.lower().strip() in WEAK_SECRETS or len(set(secret)) < 8


def webhook_key(secret: SecretStr) -> bytes:
    """The key in a secret of Standard Webhooks; raises ValueError."""
    prefix, found, text = secret.get_secret_value().partition("whsec_")
    if prefix or not found:
        raise ValueError
    return b64decode(text, validate=True)


def cores() -> int:
    """The cores this process may use, which in a container are fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _rates(value: Any) -> Any:
    if isinstance(value, str):
        return () if value.strip().lower() in {"off", "none"} else rates.parse(value)
    return value


Bytes = Annotated[int, BeforeValidator(size), Field(gt=0, le=1 << 50)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1, le=100_000)]
StoreProfile = Literal["minio", "versitygw", "garage", "r2", "aws", "generic"]
Rates = Annotated[tuple[Rate, ...], BeforeValidator(_rates)]
Texts = Annotated[tuple[str, ...], BeforeValidator(listed)]

"""How values are written in the environment: sizes, lists, rates, addresses and secrets, and the bounds that settings share."""

from __future__ import annotations

import os
import re
from base64 import b64decode
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, IPvAnyNetwork, SecretStr

from processors.grammar import SPELLINGS
from proxy import clamd_address, peer, rates, redis_address
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


def _postgresql(url: SecretStr) -> SecretStr:
    parts = urlsplit(url.get_secret_value())
    if parts.scheme not in {"postgresql", "postgres"} or parts.path in {"", "/"}:
        raise ValueError("is an address such as postgresql://user:secret@host/db; leave it out to keep the records in SQLite")
    return url


def _redis(url: SecretStr) -> SecretStr:
    redis_address.parse(url.get_secret_value())
    return url


def _clamd(url: str) -> str:
    clamd_address.parse(url)
    return url


def _origin(origin: str) -> str:
    if not re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+", origin):
        raise ValueError("lists exact origins, such as https://app.example (no path, no *)")
    return origin


def _optimisations(names: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := set(names) - {"jpeg", "png"}:
        raise ValueError(f"lists jpeg and png, and not {min(unknown)[:16]}")
    return names


def _without_meaning(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.~-]{1,64}", name):
        raise ValueError("lists names of parameters, such as msclkid (letters, digits, . _ ~ -)")
    if name in SPELLINGS:
        raise ValueError(f"cannot have {name}, which means something here")
    return name


def _strong(secret: SecretStr) -> SecretStr:
    if is_weak(secret.get_secret_value()):
        raise ValueError("needs 32 bytes or more that nobody can guess; `openssl rand -base64 48` makes some")
    return secret


def _all_strong(secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    if any(is_weak(secret.get_secret_value().rpartition(":")[2]) for secret in secrets):
        raise ValueError("needs 32 bytes or more in each secret; `openssl rand -base64 48` makes some")
    return secrets


def _signs(secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    try:
        if not all(24 <= len(webhook_key(secret)) <= 64 for secret in secrets):
            raise ValueError
    except ValueError:
        raise ValueError("is whsec_ and 24 to 64 bytes in Base64; `media-proxy events secret` makes one") from None
    return secrets


Bytes = Annotated[int, BeforeValidator(size), Field(gt=0, le=1 << 50)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1, le=100_000)]
StoreProfile = Literal["minio", "versitygw", "garage", "r2", "aws", "generic"]
Rates = Annotated[tuple[Rate, ...], BeforeValidator(_rates)]
Texts = Annotated[tuple[str, ...], BeforeValidator(listed)]
ParameterNames = Annotated[tuple[Annotated[str, AfterValidator(_without_meaning)], ...], BeforeValidator(listed)]
Optimisations = Annotated[Texts, AfterValidator(_optimisations)]
Networks = Annotated[tuple[IPvAnyNetwork, ...], BeforeValidator(listed)]

Address = Annotated[str, AfterValidator(absolute)]
Addresses = Annotated[tuple[Address, ...], BeforeValidator(listed)]
PeerAddress = Annotated[str, AfterValidator(peer.checked)]
DatabaseAddress = Annotated[SecretStr, AfterValidator(_postgresql)]
ClamdAddress = Annotated[str, AfterValidator(_clamd)]
RedisAddress = Annotated[SecretStr, AfterValidator(_redis)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], BeforeValidator(listed)]

Secret = Annotated[SecretStr, AfterValidator(_strong)]
Secrets = Annotated[tuple[SecretStr, ...], BeforeValidator(listed), AfterValidator(_all_strong)]
WebhookSecrets = Annotated[tuple[SecretStr, ...], BeforeValidator(listed), AfterValidator(_signs)]

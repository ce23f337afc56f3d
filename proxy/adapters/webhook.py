"""The back end that is told of events: POST, signed in the manner of Standard Webhooks (standardwebhooks.com)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import socket
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

from proxy.events import Event

DEADLINE_S = 15.0
CONNECT_S = 5.0
MOST_READ_BYTES = 1 << 16
AT_ONCE = 16


class Webhook:
    """Posts events to *url*. Enter it. *secrets* sign all of them, the first being the one to stay.

    Redirects are not followed. Unless it *may_be_private*, no address of a private network is called, whatever the name says.
    """

    def __init__(self, url: str, secrets: Sequence[bytes], *, may_be_private: bool) -> None:
        self._url = url
        self._secrets = tuple(secrets)
        self._may_be_private = may_be_private
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        resolver: AbstractResolver = DefaultResolver()
        # A connection for each event: on one that stays, what a receiver answers too much is taken for the answer to the next.
        connector = aiohttp.TCPConnector(
            limit=AT_ONCE, force_close=True, resolver=resolver if self._may_be_private else _Public(resolver)
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=DEADLINE_S, connect=CONNECT_S),
            trust_env=False,
            auto_decompress=False,
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._session is not None:
            await self._session.close()

    async def __call__(self, event: Event) -> str | None:
        """Send it; None when the answer is 2xx, else why it was not taken."""
        assert self._session is not None
        host = urlsplit(self._url).hostname or ""
        if not self._may_be_private and not _is_public_literal(host):
            return "the address is of a private network"
        body = event.body.encode()
        now = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "sav3-media-proxy",
            "webhook-id": event.id,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(self._secrets, event.id, now, body),
        }
        try:
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                await answer.content.read(MOST_READ_BYTES)
                return None if 200 <= answer.status < 300 else f"it answered {answer.status}"
        except TimeoutError:
            return f"it did not answer within {DEADLINE_S:g} seconds"
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            return "the address is of a private network" if isinstance(error.__cause__, _Private) else f"{type(error).__name__}"


def signature(secrets: Sequence[bytes], id: str, timestamp: int, body: bytes) -> str:
    """The header ``webhook-signature``: one for each of *secrets*, separated by blanks."""
    signed = f"{id}.{timestamp}.".encode() + body
    return " ".join(f"v1,{base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()}" for secret in secrets)


class _Private(OSError):
    """A name leads to a private network."""


class _Public(AbstractResolver):
    """Resolves names to public addresses alone: what is called is what was looked at."""

    def __init__(self, resolver: AbstractResolver) -> None:
        self._resolver = resolver

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        public = [place for place in found if _is_public(place["host"])]
        if not public:
            raise _Private("no public address")
        return public

    async def close(self) -> None:
        await self._resolver.close()


def _is_public_literal(host: str) -> bool:
    # Names are for the resolver; it is not asked for addresses.
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return _is_public(host)


def _is_public(address: str) -> bool:
    found: Any = ipaddress.ip_address(address.partition("%")[0])
    found = getattr(found, "ipv4_mapped", None) or found
    return bool(found.is_global and not found.is_multicast)

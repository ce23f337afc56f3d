"""Clients of aiobotocore that stream: one pass over a body, no retries of their own, no redirects, nothing from the environment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession

from processors.errors import Busy
from proxy.adapters.outgoing import Deadlines
from proxy.adapters.s3_errors import Profile

SILENCE_S = 300.0
"""The transport's own limit, beyond all of ours."""


class Places:
    """As many transfers at once as a pool has connections. Who waits, waits here: a full pool is no slow store."""

    def __init__(self, count: int, seconds: float) -> None:
        self._free = asyncio.Semaphore(count)
        self._seconds = seconds

    async def take(self) -> None:
        """One place, to be given back by `leave`; raises Busy if none becomes free in time."""
        try:
            async with asyncio.timeout(self._seconds):
                await self._free.acquire()
        except TimeoutError:
            raise Busy("too many transfers are under way") from None

    def leave(self) -> None:
        """Give it back."""
        self._free.release()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """A place for as long as the context lasts; raises Busy."""
        await self.take()
        try:
            yield
        finally:
            self.leave()


class _Direct:
    """A session of aiohttp that takes no redirect: a store must not choose where we connect, and a body goes out once."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def request(self, method: str, **options: Any) -> Any:
        return self._session.request(method, allow_redirects=False, **options)


class DirectSession(AIOHTTPSession):  # type: ignore[misc]
    """aiobotocore's transport; it has no option for redirects, so what it sends through is wrapped."""

    async def _get_session(self, proxy_url: str | None) -> Any:
        return _Direct(await super()._get_session(proxy_url))


@cache
def session() -> AioSession:
    """What all clients of the process are made by: the description of S3 in it takes 12 MiB and 0.1 s.

    It reads neither the profiles nor the files of the AWS tools: our settings are all there is.
    """
    return AioSession(
        session_vars={
            "profile": (None, None, None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
    )


def client(
    *,
    endpoint_url: str | None,
    region: str,
    access_key: str,
    secret_key: str,
    profile: Profile,
    deadlines: Deadlines,
    connections: int,
) -> AbstractAsyncContextManager[Any]:
    """A client with a pool of *connections*. Bodies go out unsigned, in one pass."""
    config = AioConfig(
        signature_version="s3v4",
        # The next two and the body's own iteration are what makes a one-pass stream: the defaults read a body twice, or send it
        # in a framing that some stores keep as part of the object (seaweedfs/seaweedfs#6847).
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if profile.path_style else "virtual", "payload_signing_enabled": False},
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=connections,
        connect_timeout=deadlines.connect,
        read_timeout=SILENCE_S,
        ignore_configured_endpoint_urls=True,
        http_session_cls=DirectSession,
    )
    made: AbstractAsyncContextManager[Any] = session().create_client(
        "s3",
        region_name=region,
        endpoint_url=endpoint_url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        verify=not (endpoint_url or "https").startswith("http:"),  # without TLS the list of authorities is not read
        config=config,
    )
    return made


def keep_region(opened: Any) -> None:
    """Let a wrong region be an error: the SDK would send the request again elsewhere, and a body goes out once."""

    def decided(context: dict[str, Any], **_: Any) -> None:
        context.setdefault("s3_redirect", {})["redirected"] = True

    opened.meta.events.register_last("before-parameter-build.s3", decided)

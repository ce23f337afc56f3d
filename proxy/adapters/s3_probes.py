"""Looks at an S3 store that the port of all stores does not allow: conditional writes, presigned addresses. For the doctor."""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import urlsplit

from aiohttp import ClientConnectorDNSError, ClientError, ClientSession, ClientSSLError, ClientTimeout

from proxy.adapters.s3 import S3Backend
from proxy.adapters.s3_errors import translated
from proxy.errors import Conflict, NotFound, StoreRefused, Unavailable
from proxy.keys import Key
from proxy.promises import Address

FETCH_S = 10.0
LIFETIME_S = 60
_CODE = re.compile(rb"<Code>([A-Za-z0-9]{1,60})</Code>")


async def heeds_conditions(backend: S3Backend, key: Key) -> bool:
    """Whether If-None-Match: * keeps a PUT from overwriting, which shows only when it is really tried twice."""
    try:
        await backend.call("put_object", Key=key, Body=b"first", IfNoneMatch="*")
        try:
            await backend.call("put_object", Key=key, Body=b"other", IfNoneMatch="*")
        except (StoreRefused, Conflict):
            return True
        return False
    finally:
        await backend.delete(key)


async def fetched(backend: S3Backend, key: Key, setting: str) -> None:
    """Fetch an object by a presigned address, at the public name in *setting*; raises StoreRefused or Unavailable, with advice."""
    try:
        await backend.call("put_object", Key=key, Body=b"presigned")
        await _fetch(await backend.presign_get(key, LIFETIME_S), b"presigned", setting)
    finally:
        await backend.delete(key)


async def uploaded(address: Address, data: bytes, setting: str, key_setting: str) -> None:
    """Send *data* to a presigned *address*, at the public name in *setting*; raises StoreRefused or Unavailable, with advice."""
    status, answer = await _asked(address.method, address.url, setting, headers=address.headers, data=data)
    code = _code(answer)
    if code in {"AccessDenied", "InvalidAccessKeyId", "XAdminUserNotFound"}:
        raise StoreRefused(f"the key that signs addresses for uploads may not write where they lead ({code}): see {key_setting}")
    if status != 200:
        raise _unfit(address.url, setting, status, code)


async def rights(client: Any, temp: str, media: str, key: Key) -> list[str]:
    """What the key of *client* may do beside writing to the bucket *temp*: whoever sees it in an address could try."""
    tries: list[tuple[str, str, dict[str, Any]]] = [
        (f"list {temp}", "list_objects_v2", {"Bucket": temp, "MaxKeys": 1}),
        (f"list {media}", "list_objects_v2", {"Bucket": media, "MaxKeys": 1}),
        (f"write to {media}", "put_object", {"Bucket": media, "Key": key, "Body": b""}),
    ]
    found = []
    for what, operation, parameters in tries:
        try:
            with translated():
                async with asyncio.timeout(FETCH_S):
                    await getattr(client, operation)(**parameters)
        except (StoreRefused, NotFound):
            continue
        found.append(what)
    return found


async def _fetch(url: str, expected: bytes, setting: str) -> None:
    status, data = await _asked("GET", url, setting)
    if status != 200 or data != expected:
        raise _unfit(url, setting, status, _code(data))


async def _asked(method: str, url: str, setting: str, **sent: Any) -> tuple[int, bytes]:
    host = urlsplit(url).netloc
    try:
        async with (
            ClientSession(timeout=ClientTimeout(total=FETCH_S)) as session,
            session.request(method, url, allow_redirects=False, **sent) as answer,
        ):
            return answer.status, await answer.content.read(4096)
    except ClientConnectorDNSError as error:
        raise Unavailable(f"the public name {host} has no address here: see {setting}") from error
    except ClientSSLError as error:
        raise StoreRefused(f"https does not work with the public name {host}: see {setting} and its certificate") from error
    except (ClientError, OSError, TimeoutError) as error:
        raise Unavailable(f"nobody answers at the public name {host}: see {setting}") from error


def _code(data: bytes) -> str | None:
    code = _CODE.search(data)
    return None if code is None else code[1].decode()


def _unfit(url: str, setting: str, status: int, code: str | None) -> StoreRefused:
    host = urlsplit(url).netloc
    if code == "SignatureDoesNotMatch":
        return StoreRefused(
            f"the signature does not hold at {host}: a web server before the store changes the Host header or the path,"
            f" or {setting} is not the name under which the store is reached"
        )
    return StoreRefused(f"{host} does not do as a presigned address says ({status}, {code or 'no answer of S3'}): see {setting}")

"""Looks at an S3 store that the port of all stores does not allow: conditional writes, presigned addresses. For the doctor."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from aiohttp import ClientConnectorDNSError, ClientError, ClientSession, ClientSSLError, ClientTimeout

from proxy.adapters.s3 import S3Backend
from proxy.errors import Conflict, StoreRefused, Unavailable
from proxy.keys import Key

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


async def _fetch(url: str, expected: bytes, setting: str) -> None:
    host = urlsplit(url).netloc
    try:
        async with (
            ClientSession(timeout=ClientTimeout(total=FETCH_S)) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            status, data = answer.status, await answer.content.read(4096)
    except ClientConnectorDNSError as error:
        raise Unavailable(f"the public name {host} has no address here: see {setting}") from error
    except ClientSSLError as error:
        raise StoreRefused(f"https does not work with the public name {host}: see {setting} and its certificate") from error
    except (ClientError, OSError, TimeoutError) as error:
        raise Unavailable(f"nobody answers at the public name {host}: see {setting}") from error
    if status == 200 and data == expected:
        return
    code = _CODE.search(data)
    if code is not None and code[1] == b"SignatureDoesNotMatch":
        raise StoreRefused(
            f"the signature does not hold at {host}: a web server before the store changes the Host header or the path,"
            f" or {setting} is not the name under which the store is reached"
        )
    what = code[1].decode() if code is not None else "no answer of S3"
    raise StoreRefused(f"{host} does not give the object at a presigned address ({status}, {what}): see {setting}")

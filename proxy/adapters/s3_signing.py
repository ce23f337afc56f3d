"""Addresses of an S3 store that take uploads: signed for its public endpoint, into a bucket that nobody reads."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from proxy.adapters import s3_client
from proxy.adapters.outgoing import Deadlines
from proxy.adapters.s3_errors import PROFILES, translated
from proxy.promises import Address, Promise


class S3UploadSigner:
    """Signs, and asks nobody. The key is shown in every address: let it be one that may write to *bucket* alone.

    Names in the bucket are *prefix* and the promised key. A store that keeps what came of a body that was cut gets only
    uploads whose size is known, since a signature over the size lets no other one pass.
    """

    def __init__(
        self, *, endpoint_url: str, region: str, access_key: str, secret_key: str, bucket: str, prefix: str, profile: str
    ) -> None:
        self._profile = PROFILES[profile]
        self._bucket = bucket
        self._prefix = prefix
        self._opening = s3_client.client(
            endpoint_url=endpoint_url,
            region=region,
            access_key=access_key,
            secret_key=secret_key,
            profile=self._profile,
            deadlines=Deadlines(),
            connections=1,
        )
        self._client: Any = None

    async def __aenter__(self) -> Self:
        self._client = await self._opening.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._opening.__aexit__(kind, error, trace)

    async def presign_put(self, promise: Promise, expires_s: int) -> Address | None:
        """An address for one PUT of exactly this type and, where it is known, size; once only, where the store sees to that."""
        if not self._takes(promise):
            return None
        given: dict[str, Any] = {"ContentType": promise.content_type}
        given |= {} if promise.size is None else {"ContentLength": promise.size}
        given |= {"IfNoneMatch": "*"} if self._profile.takes_once else {}
        with translated():
            url: str = await self._client.generate_presigned_url(
                "put_object", Params={"Bucket": self._bucket, "Key": self._prefix + promise.key, **given}, ExpiresIn=expires_s
            )
        names = {"ContentType": "Content-Type", "ContentLength": "Content-Length", "IfNoneMatch": "If-None-Match"}
        return Address(url, "PUT", {names[name]: str(value) for name, value in given.items()})

    async def presign_post(self, promise: Promise, expires_s: int) -> Address | None:
        """A form for one POST, with a policy on its type and size."""
        if not self._takes(promise) or not self._profile.takes_forms:
            return None
        least, most = (1, promise.max_bytes) if promise.size is None else (promise.size, promise.size)
        conditions = [{"Content-Type": promise.content_type}, ["content-length-range", least, most]]
        with translated():
            form = await self._client.generate_presigned_post(
                self._bucket,
                self._prefix + promise.key,
                Fields={"Content-Type": promise.content_type},
                Conditions=conditions,
                ExpiresIn=expires_s,
            )
        return Address(str(form["url"]), "POST", {}, {str(name): str(value) for name, value in form["fields"].items()})

    def _takes(self, promise: Promise) -> bool:
        return self._profile.drops_cut_bodies or promise.size is not None

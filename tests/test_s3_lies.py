"""The S3 store against a server that lies, and against settings that are wrong."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from proxy import keys
from proxy.adapters.outgoing import Deadlines
from proxy.adapters.s3 import S3Backend
from proxy.adapters.s3_errors import SettingNames
from proxy.errors import Conflict, NotFound, StartError, StorageFull, StoreRefused, Unavailable
from proxy.ports import Body, ByteRange
from tests.contracts.bodies import body, read
from tests.kit import stores
from tests.kit.lying_s3 import Held, LyingS3
from tests.kit.ports import free_port

KEY = keys.parse("u7/a.jpg")
JPEG = "image/jpeg"
MIB = 1 << 20
HASTE = Deadlines(connect=1.0, continue_=1.0, answer=5.0, progress=5.0, commit=5.0, pauses=(0.01, 0.02))
NAMES = SettingNames(
    endpoint="MINIO_ENDPOINT", tls="MINIO_USE_SSL", access_key="MINIO_ACCESS_KEY", secret_key="MINIO_SECRET_KEY",
    region="MINIO_REGION", bucket="MINIO_BUCKET_NAME",
)  # fmt: skip


@pytest.fixture
async def liar() -> AsyncIterator[LyingS3]:
    async with LyingS3() as store:
        yield store


def on(liar: LyingS3, folder: Path, **settings: Any) -> S3Backend:
    """A backend that believes *liar* to be a MinIO."""
    given = {"bucket": "b", "endpoint_url": liar.endpoint, "profile": "minio", "deadlines": HASTE, "names": NAMES}
    keys_given = {"region": "us-east-1", "access_key": "key", "secret_key": "secret", "spool": folder / "spool"}
    return S3Backend("minio", **(given | keys_given | settings))


@pytest.fixture
async def backend(liar: LyingS3, tmp_path: Path) -> AsyncIterator[S3Backend]:
    async with on(liar, tmp_path) as opened:
        yield opened


def in_parts() -> Body:
    """A body of three parts."""
    return body(*(bytes([number]) * MIB for number in range(20)))


WHOLE = b"".join(bytes([number]) * MIB for number in range(20))


# -- writes -----------------------------------------------------------------------------------------------------------


async def test_a_store_that_never_asks_for_the_body_is_left_with_the_body_unread(backend: S3Backend, liar: LyingS3) -> None:
    liar.lies.never_continue = True
    taken: list[bytes] = []

    async def counted() -> AsyncIterator[bytes]:
        taken.append(b"x")
        yield b"x"

    async with asyncio.timeout(30):
        with pytest.raises(Unavailable):
            await backend.put(KEY, counted(), JPEG, size=1)
    assert taken == []


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "SlowDown", Unavailable),
        (500, "InternalError", Unavailable),
        (507, "XMinioStorageFull", StorageFull),
        (403, "QuotaExceeded", StorageFull),
        (403, "AccessDenied", StoreRefused),
        (403, "InvalidAccessKeyId", StoreRefused),
        (403, "SignatureDoesNotMatch", StoreRefused),
        (400, "AuthorizationHeaderMalformed", StoreRefused),
        (403, "RequestTimeTooSkewed", StoreRefused),
        (404, "NoSuchBucket", StoreRefused),
        (400, "KeyTooLongError", Conflict),
        (409, "XMinioObjectExistsAsDirectory", Conflict),
        (400, "RequestTimeout", Unavailable),
        (418, "Unheard", StoreRefused),
    ],
)
async def test_each_refusal_has_its_meaning_and_costs_the_body_nothing(
    backend: S3Backend, liar: LyingS3, status: int, code: str, kind: type[Exception]
) -> None:
    taken: list[bytes] = []

    async def counted() -> AsyncIterator[bytes]:
        taken.append(b"x")
        yield b"x"

    liar.lies.answers["PutObject"] = deque([(status, code)])
    with pytest.raises(kind):
        await backend.put(KEY, counted(), JPEG, size=1)
    assert taken == []
    assert liar.objects == {}


@pytest.mark.parametrize("size", [None, 3 * MIB])
async def test_a_put_whose_answer_is_lost_is_settled_by_asking(backend: S3Backend, liar: LyingS3, size: int | None) -> None:
    liar.lies.lost = {"PutObject"}
    meta = await backend.put(KEY, body(bytes(MIB), bytes(2 * MIB)), JPEG, size=size)
    assert await backend.head(KEY) == meta
    assert liar.asked["PutObject"] == 1


@pytest.mark.parametrize("size", [None, 3])
async def test_bytes_that_the_store_says_it_got_otherwise_are_not_kept(backend: S3Backend, liar: LyingS3, size: int | None) -> None:
    liar.lies.flips = True
    with pytest.raises(Unavailable):
        await backend.put(KEY, body(b"abc"), JPEG, size=size)
    assert liar.objects == {}


@pytest.mark.parametrize("stores_it", [True, False])
@pytest.mark.parametrize("times", [1, 2])
async def test_an_error_in_the_good_answer_to_complete_is_read(
    backend: S3Backend, liar: LyingS3, stores_it: bool, times: int
) -> None:
    liar.lies.complete_error, liar.lies.complete_stores = times, stores_it
    await backend.put(KEY, in_parts(), JPEG)
    assert await read(await backend.open(KEY)) == WHOLE
    assert liar.asked["CompleteMultipartUpload"] == (1 if stores_it else times + 1)
    assert liar.uploads == {}


async def test_a_complete_that_never_works_leaves_nothing(backend: S3Backend, liar: LyingS3) -> None:
    liar.lies.complete_error = 99
    with pytest.raises(Unavailable):
        await backend.put(KEY, in_parts(), JPEG)
    assert (liar.objects, liar.uploads) == ({}, {})


@pytest.mark.parametrize("operation", ["CompleteMultipartUpload", "UploadPart"])
async def test_an_upload_in_parts_survives_a_lost_answer(backend: S3Backend, liar: LyingS3, operation: str) -> None:
    liar.lies.lost = {operation}
    await backend.put(KEY, in_parts(), JPEG)
    assert await read(await backend.open(KEY)) == WHOLE
    assert liar.uploads == {}


async def test_a_part_is_sent_again_and_one_that_is_refused_ends_the_upload(backend: S3Backend, liar: LyingS3) -> None:
    liar.lies.answers["UploadPart"] = deque([(503, "SlowDown"), (500, "InternalError")])
    await backend.put(KEY, in_parts(), JPEG)
    assert await read(await backend.open(KEY)) == WHOLE
    liar.lies.answers["UploadPart"] = deque([(507, "XMinioStorageFull")])
    with pytest.raises(StorageFull):
        await backend.put(KEY, in_parts(), JPEG)
    assert await read(await backend.open(KEY)) == WHOLE
    assert liar.uploads == {}


async def test_an_upload_that_cannot_be_aborted_now_is_aborted_later(backend: S3Backend, liar: LyingS3) -> None:
    liar.lies.answers["UploadPart"] = deque([(507, "XMinioStorageFull")])
    liar.lies.answers["AbortMultipartUpload"] = deque([(503, "SlowDown")])
    with pytest.raises(StorageFull):
        await backend.put(KEY, in_parts(), JPEG)
    assert len(liar.uploads) == 1
    await backend.ping()
    assert liar.uploads == {}


async def test_parts_are_equal_where_they_must_be_and_none_is_missing(liar: LyingS3, tmp_path: Path) -> None:
    async with on(liar, tmp_path, profile="r2") as backend:
        await backend.put(KEY, in_parts(), JPEG)
    assert liar.completed == [[8 * MIB, 8 * MIB, 4 * MIB]]
    assert liar.objects[KEY].data == WHOLE


# -- reads ------------------------------------------------------------------------------------------------------------


async def test_a_body_that_ends_early_is_asked_for_again_from_there(backend: S3Backend, liar: LyingS3) -> None:
    await backend.put(KEY, body(WHOLE), JPEG, size=len(WHOLE))
    liar.lies.short = deque([3 * MIB, 0, MIB])
    assert await read(await backend.open(KEY)) == WHOLE
    assert liar.asked["GetObject"] == 4


async def test_a_body_that_never_comes_ends_in_unavailable(backend: S3Backend, liar: LyingS3) -> None:
    await backend.put(KEY, body(WHOLE), JPEG, size=len(WHOLE))
    liar.lies.short = deque([0] * 99)
    with pytest.raises(Unavailable):
        await read(await backend.open(KEY))
    assert liar.asked["GetObject"] < 10


@pytest.mark.parametrize("lie", [{"told_length": 5}, {"told_length": -1}, {"other_bytes": True}])
async def test_a_range_that_is_not_the_one_asked_for_is_not_passed_on(
    backend: S3Backend, liar: LyingS3, lie: dict[str, Any]
) -> None:
    await backend.put(KEY, body(b"0123456789"), JPEG, size=10)
    vars(liar.lies).update(lie)
    with pytest.raises(Unavailable):
        await read(await backend.open(KEY, ByteRange(2, 6)))


async def test_a_missing_bucket_is_not_a_missing_object(backend: S3Backend, liar: LyingS3) -> None:
    with pytest.raises(NotFound):
        await backend.head(KEY)
    liar.has_bucket = False
    for asked in (backend.head(KEY), backend.open(KEY), backend.ping()):
        with pytest.raises(StoreRefused):
            await asked


async def test_a_store_does_not_choose_where_we_connect(backend: S3Backend, liar: LyingS3) -> None:
    async with LyingS3() as elsewhere:
        elsewhere.objects[KEY] = Held(b"not ours", JPEG, {})
        liar.lies.redirect = elsewhere.endpoint
        for asked in (backend.head(KEY), backend.open(KEY), backend.put(KEY, body(b"x"), JPEG, size=1), backend.ping()):
            with pytest.raises((Unavailable, StoreRefused)):
                await asked
        assert elsewhere.asked == {}


async def test_a_list_comes_page_by_page_and_holds_keys_only(backend: S3Backend, liar: LyingS3) -> None:
    names = {f"u/{number:05}" for number in range(2_500)}
    liar.objects = {name: Held(b"x", JPEG, {}) for name in names | {"u/folder/", "u//x"}}
    liar.asked.clear()
    assert {found.key async for found in backend.list("u/")} == names
    assert liar.asked == {"ListObjectsV2": 3}


# -- wrong settings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["versitygw", "minio"])
@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"secret_key": "wrong"}, "MINIO_SECRET_KEY"),
        ({"access_key": "nobody"}, "MINIO_ACCESS_KEY"),
        ({"region": "eu-west-9"}, "MINIO_REGION"),
        ({"bucket": "No_Bucket"}, "MINIO_BUCKET_NAME"),
    ],
)
async def test_a_wrong_setting_stops_the_start_with_its_name(
    profile: str, wrong: dict[str, str], named: str, tmp_path: Path
) -> None:
    backend = stores.shared(profile).backend(tmp_path, names=NAMES, deadlines=HASTE, **wrong)
    with pytest.raises(StartError, match=named) as refused:
        await backend.__aenter__()
    assert "\n" not in str(refused.value)
    assert "wrong" not in str(refused.value)


@pytest.mark.parametrize(
    ("code", "named"), [("AccessDenied", "MINIO_ACCESS_KEY.*MINIO_BUCKET_NAME"), ("RequestTimeTooSkewed", "clocks")]
)
async def test_a_bucket_that_may_not_be_made_and_a_clock_that_is_wrong_are_said(
    liar: LyingS3, code: str, named: str, tmp_path: Path
) -> None:
    liar.has_bucket = False
    liar.lies.answers["CreateBucket"] = deque([(403, code)])
    with pytest.raises(StartError, match=named):
        await on(liar, tmp_path).__aenter__()


async def test_doctor_can_ask_a_store_that_refuses_us(liar: LyingS3, tmp_path: Path) -> None:
    liar.lies.answers["ListObjectsV2"] = deque([(403, "SignatureDoesNotMatch")] * 2)
    async with on(liar, tmp_path, strict=False) as backend:
        with pytest.raises(StoreRefused, match="MINIO_SECRET_KEY"):
            await backend.check()
        await backend.check()


async def test_a_host_that_does_not_answer_is_no_reason_not_to_start_and_is_named(tmp_path: Path) -> None:
    port = free_port()
    async with on(LyingS3(), tmp_path, endpoint_url=f"http://127.0.0.1:{port}") as backend:
        with pytest.raises(Unavailable, match="MINIO_ENDPOINT"):
            await backend.check()


async def test_a_name_that_does_not_resolve_is_said_as_well(tmp_path: Path) -> None:
    async with on(LyingS3(), tmp_path, endpoint_url="http://store.invalid:9000") as backend:
        with pytest.raises(Unavailable, match="MINIO_ENDPOINT"):
            await backend.check()


@asynccontextmanager
async def speaking_tls(folder: Path) -> AsyncIterator[int]:
    """The port of a server that speaks TLS under a certificate which nobody trusts, and nothing within."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
    signed = certificate.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )  # fmt: skip
    (folder / "pair.pem").write_bytes(secret + signed)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "pair.pem")

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(answered, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_https_and_http_taken_for_each_other_are_said(liar: LyingS3, tmp_path: Path) -> None:
    async with on(liar, tmp_path, endpoint_url=liar.endpoint.replace("http:", "https:"), strict=False) as backend:
        with pytest.raises(StoreRefused, match="MINIO_USE_SSL"):
            await backend.check()
    async with speaking_tls(tmp_path) as port:
        async with on(liar, tmp_path, endpoint_url=f"http://127.0.0.1:{port}", strict=False) as backend:
            with pytest.raises((StoreRefused, Unavailable), match="MINIO_USE_SSL"):
                await backend.check()
        async with on(liar, tmp_path, endpoint_url=f"https://localhost:{port}", strict=False) as backend:
            with pytest.raises(StoreRefused, match=r"certificate.*MINIO_USE_SSL"):
                await backend.check()

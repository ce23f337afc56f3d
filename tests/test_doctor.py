"""media-proxy doctor: what it says of stores that work, and of each thing that can be wrong, with what to do about it."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from proxy import disk_probes, doctor, probes
from proxy.adapters.memory import MemoryBackend
from proxy.doctor import Check, Finding, State, Trouble
from proxy.errors import NotFound, StartError, StoreRefused, Unavailable
from proxy.keys import Key
from proxy.ports import Admit, Body, ByteRange, Listed, ObjectMeta, ObjectReader
from tests.kit.minio_admin import account
from tests.kit.ports import free_port
from tests.kit.postgres import PostgresServer
from tests.kit.processor import TOKEN, RunningProcessor
from tests.kit.server import KEPT_VARIABLES, REPOSITORY, SECRET, RunningServer
from tests.kit.stores import ObjectStore

pytestmark = pytest.mark.stack

DOCTOR_S = 60.0
ROW = re.compile(r"(\S+) {2,}(\S.*?) {2,}(ok|warning|broken|skipped)\s*(.*)")
EVERY_S3_CHECK = (
    *("reach", "clock", "access", "100-continue", "round trip", "cut upload", "range"),
    *("multipart", "conditional PUT", "presigned"),
)


@dataclass(frozen=True)
class Report:
    """What the command said. *rows* are state and detail by store and check."""

    status: int
    text: str
    rows: dict[tuple[str, str], tuple[str, str]]

    def said(self, store: str, check: str, state: State) -> str:
        """The detail of a row, which must be in *state*."""
        assert self.rows[store, check][0] == state, self.text
        return self.rows[store, check][1]

    def states(self, store: str) -> dict[str, str]:
        """The state of each check of *store*."""
        return {check: state for (one, check), (state, _) in self.rows.items() if one == store}


@pytest.fixture
def examine(tmp_path: Path) -> Callable[..., Report]:
    """Runs ``media-proxy doctor`` on the given variables and no others."""

    def run(**env: str) -> Report:
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        given = {"JWT_SECRET": SECRET, "MEDIA_DATA_DIR": str(tmp_path / "media-data"), "PYTHONPATH": str(REPOSITORY), **env}
        done = subprocess.run(
            [sys.executable, "-m", "proxy", "doctor"],
            env=kept | given,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DOCTOR_S,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert SECRET not in done.stdout + done.stderr
        found = (
            re.fullmatch(r"(\S+) {2,}(\S.*?) {2,}(ok|warning|broken|skipped)\s*(.*)", line) for line in done.stdout.splitlines()
        )
        rows = {(row[1], row[2]): (row[3], row[4]) for row in found if row is not None}
        return Report(done.returncode, done.stdout + done.stderr, rows)

    return run


def at(store: ObjectStore, **more: str) -> dict[str, str]:
    """The settings of a MinIO that is *store*."""
    return {
        "MINIO_ENDPOINT": "127.0.0.1",
        "MINIO_PORT": str(store.port),
        "MINIO_ACCESS_KEY": store.access_key,
        "MINIO_SECRET_KEY": store.secret_key,
        "MINIO_PROFILE": store.profile,
        "MINIO_BUCKET_NAME": store.bucket(),
        **more,
    }


NOBODY = {"MINIO_ENDPOINT": "127.0.0.1", "MINIO_ACCESS_KEY": "a", "MINIO_SECRET_KEY": "b" * 40}


# -- stores that work -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["minio", "versitygw"])
def test_a_real_store_in_order_has_nothing_but_ok(
    examine: Callable[..., Report], request: pytest.FixtureRequest, kind: str
) -> None:
    store = request.getfixturevalue(kind)
    settings = at(store)
    report = examine(**settings)
    assert report.status == 0, report.text
    assert {state for state, _ in report.rows.values()} == {"ok"}, report.text
    assert {*EVERY_S3_CHECK, "bucket sav3-thumbnails", "bucket sav3-temp"} <= report.states("minio").keys()
    assert {"writable", "one disk", "room"} <= report.states("local").keys()
    assert store.secret_key not in report.text
    assert examine(**settings).text == report.text, "the same findings are the same text"
    assert "\x1b" not in report.text


def test_without_another_store_the_disk_is_looked_at(examine: Callable[..., Report]) -> None:
    report = examine()
    assert report.status == 0
    assert {store for store, _ in report.rows} == {"local", "films"}


def test_nothing_stays_behind(examine: Callable[..., Report], minio: ObjectStore, tmp_path: Path) -> None:
    settings = at(minio)
    examine(**settings)
    assert list((minio.data / settings["MINIO_BUCKET_NAME"]).rglob("*.bin*")) == []
    assert list(tmp_path.iterdir()) == []


def test_a_running_service_is_not_disturbed(examine: Callable[..., Report], server: RunningServer) -> None:
    assert examine(MEDIA_DATA_DIR=str(server.data)).status == 0
    assert server.client("somebody").get("/api/health/ready").status == 200


# -- S3: what can be wrong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["minio", pytest.param("versitygw", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"MINIO_SECRET_KEY": "no-secret-of-this-store-0123456789"}, "MINIO_SECRET_KEY"),
        ({"MINIO_ACCESS_KEY": "nobody"}, "MINIO_ACCESS_KEY"),
        ({"MINIO_BUCKET_NAME": "No_Bucket"}, "MINIO_BUCKET_NAME"),
        ({"MINIO_REGION": "eu-central-9"}, "MINIO_REGION"),
    ],
)
def test_what_the_store_refuses_names_its_setting(
    examine: Callable[..., Report], request: pytest.FixtureRequest, kind: str, wrong: dict[str, str], named: str
) -> None:
    report = examine(**at(request.getfixturevalue(kind), **wrong))
    assert report.status == 1
    assert named in report.said("minio", "access", State.BROKEN)
    assert report.states("minio")["reach"] == "ok"
    assert report.states("minio")["round trip"] == "skipped"
    assert wrong.get("MINIO_SECRET_KEY", "\0") not in report.text


def test_a_port_where_nobody_listens_names_where(examine: Callable[..., Report]) -> None:
    report = examine(**NOBODY, MINIO_PORT=str(free_port()))
    said = report.said("minio", "reach", State.BROKEN)
    assert report.status == 1
    assert "nobody listens" in said
    assert "MINIO_PORT" in said
    assert set(report.states("minio").values()) == {"broken", "skipped"}
    assert report.states("local")["writable"] == "ok"


def test_a_host_without_an_address_is_told_from_one_that_is_away(examine: Callable[..., Report]) -> None:
    report = examine(**NOBODY | {"MINIO_ENDPOINT": "no-such-host.invalid"})
    assert "has no address" in report.said("minio", "reach", State.BROKEN)


def test_https_to_a_port_that_speaks_none_names_the_switch(examine: Callable[..., Report], minio: ObjectStore) -> None:
    report = examine(**at(minio, MINIO_USE_SSL="true"))
    said = report.said("minio", "reach", State.BROKEN)
    assert "speaks no https" in said
    assert "MINIO_USE_SSL" in said


def test_a_certificate_that_nobody_vouches_for_is_called_so(examine: Callable[..., Report], tls_port: int) -> None:
    report = examine(**NOBODY, MINIO_PORT=str(tls_port), MINIO_USE_SSL="true")
    assert "is not trusted" in report.said("minio", "reach", State.BROKEN)


def test_http_to_a_port_that_speaks_https_names_the_switch(examine: Callable[..., Report], tls_port: int) -> None:
    report = examine(**NOBODY, MINIO_PORT=str(tls_port), MINIO_USE_SSL="false")
    assert "MINIO_USE_SSL" in report.said("minio", "access", State.BROKEN)


def test_a_store_that_keeps_the_half_of_an_upload_is_caught(examine: Callable[..., Report], versitygw: ObjectStore) -> None:
    """versitygw 1.8.0 stores what came until the line broke; as its own profile it gets bodies that it can check."""
    report = examine(**at(versitygw, MINIO_PROFILE="minio"))
    assert report.status == 1
    assert "MINIO_PROFILE" in report.said("minio", "cut upload", State.BROKEN)


def test_a_public_name_is_broken_only_where_clients_are_sent_there(examine: Callable[..., Report], minio: ObjectStore) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    report = examine(**at(minio, MINIO_PUBLIC_ENDPOINT=nobody))
    assert report.status == 1
    assert "MINIO_PUBLIC_ENDPOINT" in report.said("minio", "upload address", State.BROKEN)
    assert "MINIO_PUBLIC_ENDPOINT" in report.said("minio", "presigned", State.WARNING)
    report = examine(**at(minio, MINIO_PUBLIC_ENDPOINT=nobody, MEDIA_DELIVERY="redirect"))
    assert report.status == 1
    assert "MINIO_PUBLIC_ENDPOINT" in report.said("minio", "presigned", State.BROKEN)


def test_the_key_that_addresses_for_uploads_show_is_tried(examine: Callable[..., Report], minio: ObjectStore) -> None:
    settings = at(minio, MINIO_PUBLIC_ENDPOINT=minio.endpoint, MINIO_TEMP_BUCKET_NAME=minio.bucket())
    puts = {"Action": ["s3:PutObject"], "Resource": [f"arn:aws:s3:::{settings['MINIO_TEMP_BUCKET_NAME']}/presigned/*"]}
    mighty = {"Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]}
    for statement, state, words in ((puts, State.OK, ""), (mighty, State.WARNING, f"write to {settings['MINIO_BUCKET_NAME']}")):
        access_key, secret_key = account(minio, statement)
        report = examine(**settings, MINIO_UPLOAD_ACCESS_KEY=access_key, MINIO_UPLOAD_SECRET_KEY=secret_key)
        assert words in report.said("minio", "upload address", state)


def test_two_stores_that_are_one_place_are_caught(examine: Callable[..., Report], minio: ObjectStore) -> None:
    settings = at(minio)
    again = {
        "S3_BUCKET_NAME": settings["MINIO_BUCKET_NAME"],
        "S3_ENDPOINT_URL": minio.endpoint.replace("127.0.0.1", "localhost"),
        "AWS_ACCESS_KEY_ID": minio.access_key,
        "AWS_SECRET_ACCESS_KEY": minio.secret_key,
        "S3_PROFILE": "minio",
    }
    report = examine(**settings, **again)
    assert report.status == 1
    assert "minio and s3 are one place" in report.said("all", "apart", State.BROKEN)
    report = examine(**settings, **again | {"S3_BUCKET_NAME": minio.bucket()})
    assert report.said("all", "apart", State.OK) == ""


# -- another media proxy ----------------------------------------------------------------------------------------------


def test_another_media_proxy_is_examined_too(examine: Callable[..., Report], server: RunningServer) -> None:
    report = examine(MEDIA_PROXY_URL=server.url)
    assert report.status == 0, report.text
    expected = {"reach", "clock", "access", "100-continue", "round trip", "cut upload", "range"}
    assert report.states("proxy") == dict.fromkeys(expected, "ok")


def test_a_proxy_that_names_itself_hears_of_it(examine: Callable[..., Report], server: RunningServer) -> None:
    report = examine(MEDIA_PROXY_URL=server.url, MEDIA_DATA_DIR=str(server.data))
    assert report.status == 1
    assert "MEDIA_PROXY_URL is this one" in report.said("proxy", "access", State.BROKEN)


def test_a_token_that_the_other_proxy_does_not_take_names_the_settings(
    examine: Callable[..., Report], server: RunningServer
) -> None:
    report = examine(MEDIA_PROXY_URL=server.url, MEDIA_PROXY_TOKEN=server.token("me", scope="media:read"))
    assert "MEDIA_PROXY_TOKEN" in report.said("proxy", "access", State.BROKEN)


def test_what_is_no_media_proxy_is_called_so(examine: Callable[..., Report], minio: ObjectStore) -> None:
    report = examine(MEDIA_PROXY_URL=minio.endpoint)
    assert "MEDIA_PROXY_URL is no media proxy" in report.said("proxy", "access", State.BROKEN)


# -- the disk, and the settings ---------------------------------------------------------------------------------------


def test_a_disk_that_cannot_be_written_names_the_folder(examine: Callable[..., Report], tmp_path: Path) -> None:
    report = examine(MEDIA_DATA_DIR="/proc/media-data")  # read-only for root, too
    assert report.status == 1
    assert "MEDIA_DATA_DIR" in report.said("local", "writable", State.BROKEN)
    (tmp_path / "file").write_text("")
    report = examine(MEDIA_DATA_DIR=str(tmp_path / "file" / "media-data"))
    assert "MEDIA_DATA_DIR" in report.said("local", "writable", State.BROKEN)


async def test_a_full_disk_is_broken_and_a_tight_one_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    monkeypatch.setattr(disk_probes, "TIGHT_BYTES", free * 4)
    monkeypatch.setattr(disk_probes, "FULL_BYTES", 0)
    with pytest.raises(Trouble, match="MEDIA_DATA_DIR") as tight:
        await disk_probes.room(tmp_path / "media-data")
    monkeypatch.setattr(disk_probes, "FULL_BYTES", free * 4)
    with pytest.raises(Trouble, match="MEDIA_DATA_DIR") as full:
        await disk_probes.room(tmp_path / "media-data")
    assert (tight.value.works, full.value.works) == (True, False)


def test_settings_that_cannot_be_used_are_another_status(examine: Callable[..., Report]) -> None:
    report = examine(MINIO_ENDPOINT="127.0.0.1")
    assert report.status == 2
    assert "MINIO_ACCESS_KEY" in report.text


# -- what no store here does ------------------------------------------------------------------------------------------


class Odd(MemoryBackend):
    """A store that says and keeps other things than it was told."""

    def __init__(self, *, framed: bool = False, ranges: bool = True, lists: bool = True, deletes: bool = True) -> None:
        super().__init__(name="odd")
        self._framed, self._ranges, self._lists, self._deletes = framed, ranges, lists, deletes

    async def put(
        self, key: Key, body: Body, content_type: str, admit: Admit | None = None, *, size: int | None = None,
        etag: str | None = None,
    ) -> ObjectMeta:  # fmt: skip
        if not self._framed:
            return await super().put(key, body, content_type, admit, size=size, etag=etag)

        async def framed() -> AsyncIterator[bytes]:
            async for chunk in body:
                yield f"{len(chunk):x};chunk-signature=0\r\n".encode() + chunk + b"\r\n"

        return await super().put(key, framed(), content_type)

    async def open(self, key: Key, span: ByteRange | None = None) -> ObjectReader:
        return await super().open(key, span if self._ranges else None)

    async def list(self, prefix: str = "") -> AsyncIterator[Listed]:
        async for one in super().list(prefix):
            if self._lists:
                yield one

    async def delete(self, key: Key) -> None:
        if self._deletes:
            await super().delete(key)


async def test_a_store_that_keeps_the_framing_of_an_upload_is_caught_by_its_bytes() -> None:
    with pytest.raises(Trouble, match="framing"):
        await probes.round_trip(Odd(framed=True))


async def test_a_store_that_does_not_list_or_delete_is_caught() -> None:
    with pytest.raises(Trouble, match="does not list"):
        await probes.round_trip(Odd(lists=False))
    with pytest.raises(Trouble, match="was deleted"):
        await probes.round_trip(Odd(deletes=False))


async def test_a_store_that_ignores_ranges_is_caught() -> None:
    with pytest.raises(Trouble, match="ranges"):
        await probes.ranges(Odd(ranges=False))


async def test_a_store_that_never_asks_for_a_body_is_told_from_one_that_fails() -> None:
    class Unasking(MemoryBackend):
        async def put(
            self, key: Key, body: Body, content_type: str, admit: Admit | None = None, *, size: int | None = None,
            etag: str | None = None,
        ) -> ObjectMeta:  # fmt: skip
            raise Unavailable

    with pytest.raises(Trouble, match="100-continue"):
        await probes.asks(Unasking())


@pytest.mark.parametrize(("off", "state"), [(0, State.OK), (60, State.WARNING), (-60, State.WARNING), (900, State.BROKEN)])
async def test_clocks_that_differ_are_told_by_the_date_of_an_answer(off: int, state: State) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=off), usegmt=True)
    async with answering(f"HTTP/1.1 403 Forbidden\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n".encode()) as url:
        findings = [one async for one in doctor.examined("s3", [Check("clock", lambda: probes.clock(url))])]
    assert findings[0].state is state


@pytest.mark.parametrize("said", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nDate: soon\r\n\r\n", b"", b"\0" * 100_000])
async def test_an_answer_without_a_date_is_a_warning(said: bytes) -> None:
    async with answering(said) as url:
        with pytest.raises(Trouble) as trouble:
            await probes.clock(url)
    assert trouble.value.works


async def test_what_comes_behind_a_vital_check_that_failed_is_skipped() -> None:
    async def well() -> str:
        return "seen"

    async def ill() -> str:
        raise Unavailable("away")

    async def poor() -> str:
        raise Trouble("slow", works=True)

    async def refused() -> str:
        try:
            raise StoreRefused("see THE_SETTING")
        except StoreRefused as cause:
            raise StartError("It cannot be used.") from cause

    async def lost() -> str:
        raise NotFound("nothing")

    checks = [
        *(Check("a", well), Check("b", poor, vital=True), Check("c", lost)),
        *(Check("d", refused), Check("e", ill, vital=True), Check("f", well)),
    ]
    findings = [one async for one in doctor.examined("s", checks)]
    assert [(one.check, one.state, one.detail) for one in findings] == [
        *(("a", "ok", "seen"), ("b", "warning", "slow"), ("c", "broken", "nothing")),
        *(("d", "broken", "see THE_SETTING"), ("e", "broken", "away"), ("f", "skipped", "")),
    ]
    assert doctor.verdict(findings) == "3 broken; 1 to look at."


def test_a_table_has_columns() -> None:
    table = doctor.lines([Finding("minio", "reach", State.OK), Finding("s3", "round trip", State.BROKEN, "mend it")])
    assert [line for _, line in table] == ["minio  reach       ok", "s3     round trip  broken   mend it"]


# -- servers of these tests -------------------------------------------------------------------------------------------


@asynccontextmanager
async def answering(said: bytes) -> AsyncIterator[str]:
    """A port that says *said* to every request."""

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture(scope="module")
def tls_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A port of this machine that speaks https with a certificate of its own making."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nobody.invalid")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with _in_a_thread(context) as port:
        yield port


@contextmanager
def _in_a_thread(context: ssl.SSLContext) -> Iterator[int]:
    loop = asyncio.new_event_loop()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = loop.run_until_complete(asyncio.start_server(accepted, "127.0.0.1", 0, ssl=context))
    loop.set_exception_handler(lambda *_: None)  # handshakes that fail are what it is for
    thread = Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_database_that_fits_is_ok_and_what_is_wrong_with_it_is_said(
    examine: Callable[..., Report], postgres_url: str, postgres_server: PostgresServer
) -> None:
    fitting = examine(DATABASE_URL=postgres_url)
    assert fitting.said("database", "tables", "ok") == "made at the first start"
    assert fitting.states("database") == {"tables": "ok", "connections": "ok"}
    greedy = examine(DATABASE_URL=postgres_url, MEDIA_DATABASE_CONNECTIONS="500")
    assert "MEDIA_DATABASE_CONNECTIONS" in greedy.said("database", "connections", "warning")
    postgres_server.query("CREATE TABLE alembic_version AS SELECT '9999'::varchar AS version_num", postgres_url.rpartition("/")[2])
    assert "newer" in examine(DATABASE_URL=postgres_url).said("database", "tables", "broken")


@pytest.mark.parametrize("wrong", ["secret", "port"])
def test_a_database_that_does_not_let_us_in_is_broken_and_its_secret_is_not_shown(
    examine: Callable[..., Report], postgres_server: PostgresServer, wrong: str
) -> None:
    port = f":{postgres_server.port}/"
    url = {
        "secret": postgres_server.url().replace(postgres_server.password, "no-such-word"),
        "port": postgres_server.url().replace(port, f":{free_port()}/"),
    }[wrong]
    report = examine(DATABASE_URL=url)
    assert report.status == 1
    assert "DATABASE_URL" in report.said("database", "tables", "broken")
    assert report.states("database")["connections"] == "skipped"
    assert "no-such-word" not in report.text
    assert postgres_server.password not in report.text


def test_a_processor_is_reached_and_takes_our_token(examine: Callable[..., Report], tmp_path: Path) -> None:
    with RunningProcessor(tmp_path / "processor") as processor:
        report = examine(PROCESSOR_URL=processor.url, PROCESSOR_TOKEN=TOKEN)
        assert set(report.states("processor").values()) == {"ok"}
        report = examine(PROCESSOR_URL=processor.url, PROCESSOR_TOKEN="a secret that the processor does not have")
        assert report.status == 1
        assert "PROCESSOR_TOKEN" in report.said("processor", "token", "broken")


def test_what_is_no_processor_is_named(examine: Callable[..., Report], server: RunningServer) -> None:
    assert "PROCESSOR_URL" in examine(PROCESSOR_URL=server.url).said("processor", "token", "broken")

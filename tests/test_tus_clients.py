"""The clients that people really use, from PyPI and npm: whole uploads, cut ones, and what they do when a server dies."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import aiotus
import pytest
from requests import RequestException
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError

from tests import pictures
from tests.kit import node
from tests.kit.client import Client
from tests.kit.files import padded
from tests.kit.ports import free_port
from tests.kit.raw import Wire
from tests.kit.server import RunningServer
from tests.kit.tus import BYTES, MIB, TUS, begun
from tests.kit.waiting import until

SIZE = 6 * MIB + 12_345
PAGE = (Path(__file__).parents[1] / "docs" / "resumable.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that knows its own address, on a port that it keeps when it is started again."""
    port = free_port()
    env = {"MEDIA_PORT": str(port), "MEDIA_PUBLIC_URL": f"http://127.0.0.1:{port}"}
    with RunningServer(tmp_path_factory.mktemp("public"), env) as running:
        yield running


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A file of some MiB that is taken."""
    path = tmp_path / "film.jpg"
    path.write_bytes(padded(pictures.jpeg(320, 240), SIZE))
    return path


def check(client: Client, place: str, file: Path) -> None:
    """What lies at *place*, an upload's or an object's, is *file*."""
    path = re.sub(r"^https?://[^/]+", "", place)
    if "/api/uploads/" in path:
        head = client.request("HEAD", path, TUS)
        assert head.status == 200, head
        path = re.sub(r"^https?://[^/]+", "", head.headers["Content-Location"])
    assert hashlib.sha256(client.get(path).body).digest() == hashlib.sha256(file.read_bytes()).digest()


def received(server: RunningServer) -> float:
    return server.metric("media_received_bytes_total", route="tus-upload") + server.metric(
        "media_received_bytes_total", route="tus"
    )


# -- tuspy --------------------------------------------------------------------------------------------------------------


def tuspy(server: RunningServer, owner: str) -> TusClient:
    return TusClient(f"{server.url}/api/uploads", headers={"Authorization": f"Bearer {server.token(owner)}"})


@pytest.mark.parametrize("options", [
    {}, {"chunk_size": MIB}, {"chunk_size": MIB, "upload_checksum": True}, {"chunk_size": MIB, "metadata": {"filename": "a b.jpg"}},
])  # fmt: skip
def test_tuspy_uploads(server: RunningServer, owner: str, film: Path, options: dict[str, Any]) -> None:
    with film.open("rb") as file:
        uploader = tuspy(server, owner).uploader(file_stream=file, **options)
        uploader.upload()
    check(server.client(owner), uploader.url, film)
    assert [asset["filename"] for asset in server.client(owner).assets()] == [options.get("metadata", {}).get("filename")]


def test_tuspy_goes_on_where_it_stopped(server: RunningServer, owner: str, film: Path) -> None:
    with film.open("rb") as file:
        first = tuspy(server, owner).uploader(file_stream=file, chunk_size=MIB)
        first.upload(stop_at=2 * MIB)
    with film.open("rb") as file:
        again = tuspy(server, owner).uploader(file_stream=file, chunk_size=MIB, url=first.url)
        assert again.offset == 2 * MIB
        again.upload()
    check(server.client(owner), first.url, film)


def test_tuspy_goes_on_when_the_server_was_killed(public: RunningServer, owner: str, film: Path) -> None:
    with film.open("rb") as file:
        uploader = tuspy(public, owner).uploader(file_stream=file, chunk_size=MIB)
        uploader.upload(stop_at=2 * MIB)
        public.kill()
        with pytest.raises((RequestException, TusCommunicationError)):
            uploader.upload()
        public.start()
        tuspy(public, owner).uploader(file_stream=file, chunk_size=MIB, url=uploader.url).upload()
    check(public.client(owner), uploader.url, film)


def test_tuspy_is_told_when_its_upload_is_gone(server: RunningServer, owner: str, film: Path) -> None:
    with film.open("rb") as file:
        first = tuspy(server, owner).uploader(file_stream=file, chunk_size=MIB)
        first.upload(stop_at=2 * MIB)
        assert server.client(owner).request("DELETE", first.url, TUS).status == 204
        with pytest.raises(TusCommunicationError) as told:
            tuspy(server, owner).uploader(file_stream=file, chunk_size=MIB, url=first.url)
        assert told.value.status_code == 404
        anew = tuspy(server, owner).uploader(file_stream=file, chunk_size=MIB)
        anew.upload()
    check(server.client(owner), anew.url, film)


async def test_tuspy_uploads_asynchronously(server: RunningServer, owner: str, film: Path) -> None:
    with film.open("rb") as file:
        uploader = tuspy(server, owner).async_uploader(file_stream=file, chunk_size=MIB)
        await uploader.upload()
    await asyncio.to_thread(check, server.client(owner), uploader.url, film)


# -- aiotus -------------------------------------------------------------------------------------------------------------


async def test_aiotus_uploads_and_reads_its_metadata(public: RunningServer, owner: str, film: Path) -> None:
    headers = {"Authorization": f"Bearer {public.token(owner)}"}
    with film.open("rb") as file:
        location = await aiotus.upload(
            f"{public.url}/api/uploads", file, {"filename": b"aiotus.jpg"}, headers=headers, chunksize=MIB
        )
    assert location is not None
    assert await aiotus.metadata(location, headers=headers) == {"filename": b"aiotus.jpg"}
    async with aiohttp.ClientSession() as session:
        told = await aiotus.core.configuration(session, f"{public.url}/api/uploads")
    assert told.protocol_versions == ["1.0.0"]
    assert "concatenation" in told.protocol_extensions
    await asyncio.to_thread(check, public.client(owner), str(location), film)


class Deadly(io.BytesIO):
    """A file that does *kill* when it is read from *at* for the first time, and then sets `killed`."""

    def __init__(self, data: bytes, at: int, kill: Callable[[], None]) -> None:
        super().__init__(data)
        self.at, self.kill = at, kill
        self.killed = threading.Event()

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() == self.at and not self.killed.is_set():
            self.kill()
            self.killed.set()
        return super().read(size)


async def test_aiotus_outlives_a_server_that_is_killed(public: RunningServer, owner: str, film: Path) -> None:
    file = Deadly(film.read_bytes(), 2 * MIB, public.kill)
    headers = {"Authorization": f"Bearer {public.token(owner)}"}
    patience = aiotus.RetryConfiguration(retry_attempts=60, max_retry_period_seconds=1)
    upload = asyncio.create_task(aiotus.upload(f"{public.url}/api/uploads", file, config=patience, headers=headers, chunksize=MIB))
    assert await asyncio.to_thread(file.killed.wait, 60)
    await asyncio.to_thread(public.start)
    location = await upload
    assert location is not None
    await asyncio.to_thread(check, public.client(owner), str(location), film)
    assert await asyncio.to_thread(received, public) == SIZE - 2 * MIB, "the new process was sent what was missing, no more"


async def test_aiotus_puts_several_files_together(public: RunningServer, owner: str, film: Path, tmp_path: Path) -> None:
    data = film.read_bytes()
    parts = []
    for number, at in enumerate(range(0, SIZE, SIZE // 3 + 1)):
        part = tmp_path / f"part{number}"
        part.write_bytes(data[at : at + SIZE // 3 + 1])
        parts.append(part.open("rb"))
    headers = {"Authorization": f"Bearer {public.token(owner)}"}
    location = await aiotus.upload_multiple(
        f"{public.url}/api/uploads", parts, {"filename": b"whole.jpg"}, headers=headers, chunksize=MIB
    )
    for opened in parts:
        opened.close()
    assert location is not None
    await asyncio.to_thread(check, public.client(owner), str(location), film)


# -- tus-js-client in Node ------------------------------------------------------------------------------------------------


def config(server: RunningServer, owner: str, film: Path, **options: Any) -> dict[str, Any]:
    return {
        "endpoint": f"{server.url}/api/uploads",
        "token": server.token(owner),
        "file": str(film),
        "storage": str(film.parent / "urls.json"),
        "options": options,
    }


@pytest.mark.parametrize("options", [
    {}, {"chunkSize": 500 << 10}, {"overridePatchMethod": True}, {"uploadDataDuringCreation": True},
    {"uploadDataDuringCreation": True, "chunkSize": MIB}, {"uploadLengthDeferred": True, "chunkSize": MIB}, {"parallelUploads": 3},
])  # fmt: skip
def test_tus_js_client_uploads(server: RunningServer, owner: str, film: Path, options: dict[str, Any]) -> None:
    ran = node.run("upload.cjs", config(server, owner, film, **options))
    assert ran.status == 0, ran.errors
    check(server.client(owner), ran.lines[-1]["place"] or ran.lines[-1]["url"], film)
    assert [asset["filename"] for asset in server.client(owner).assets()] == ["from node.jpg"]


@pytest.mark.parametrize("options", [{}, {"chunkSize": MIB}])
def test_tus_js_client_that_was_killed_sends_no_acknowledged_byte_again(
    public: RunningServer, owner: str, film: Path, options: dict[str, Any]
) -> None:
    before = received(public)
    killed = node.run("upload.cjs", config(public, owner, film, **options) | {"dieAt": 3 * MIB})
    assert killed.status == -signal.SIGKILL
    again = node.run("upload.cjs", config(public, owner, film, **options))
    assert again.status == 0, again.errors
    assert again.lines[0] == {"resumes": 1}
    check(public.client(owner), again.lines[-1]["place"], film)
    assert received(public) - before <= SIZE + MIB, "a piece that was cut by RST may have to come again, and no more"


def test_tus_js_client_outlives_a_server_that_is_killed(public: RunningServer, owner: str, film: Path) -> None:
    film.write_bytes(padded(pictures.jpeg(320, 240), 40 * MIB))
    running = node.program("upload.cjs", config(public, owner, film, chunkSize=MIB, retryDelays=[200] * 300))
    assert running.stdout is not None
    for line in running.stdout:
        if '"accepted":5242880' in line:
            break
    public.kill()
    public.start()
    ran = node.ended(running)
    assert ran.status == 0, ran.errors
    check(public.client(owner), ran.lines[-1]["place"], film)


def test_tus_js_client_begins_anew_when_its_upload_is_gone(server: RunningServer, owner: str, film: Path) -> None:
    assert node.run("upload.cjs", config(server, owner, film, chunkSize=MIB) | {"dieAt": 3 * MIB}).status == -signal.SIGKILL
    (stored,) = (url for url in re.findall(r"/api/uploads/[0-9a-f]{32}", (film.parent / "urls.json").read_text()))
    assert server.client(owner).request("DELETE", stored, TUS).status == 204
    again = node.run("upload.cjs", config(server, owner, film))
    assert again.status == 0, again.errors
    check(server.client(owner), again.lines[-1]["place"], film)


def test_tus_js_client_ends_its_upload_and_nothing_is_left(server: RunningServer, owner: str, film: Path) -> None:
    ended = node.run("upload.cjs", config(server, owner, film, chunkSize=MIB) | {"endAt": 3 * MIB})
    assert ended.status == 0, ended.errors
    path = re.sub(r"^https?://[^/]+", "", ended.lines[-1]["ended"])
    assert server.client(owner).request("HEAD", path, TUS).status == 404
    assert not (server.data / "uploads" / path.rpartition("/")[2]).exists()
    assert server.client(owner).assets() == []
    again = node.run("upload.cjs", config(server, owner, film))
    assert again.status == 0, again.errors
    assert again.lines[0] == {"resumes": 0}
    check(server.client(owner), again.lines[-1]["place"], film)


# -- curl -----------------------------------------------------------------------------------------------------------------


def test_the_commands_in_the_docs_upload_with_curl(server: RunningServer, owner: str, film: Path) -> None:
    lines = PAGE.partition("By hand:\n\n```sh\n")[2].partition("```")[0].replace("http://127.0.0.1:10020", server.url)
    film.rename(film.parent / "film.mp4")
    done = subprocess.run(
        ["bash", "-euc", lines], cwd=film.parent, env={**os.environ, "TOKEN": server.token(owner)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    place = re.search(r"^Content-Location: (\S+)", done.stdout, re.MULTILINE)
    assert place is not None, done.stdout
    check(server.client(owner), place[1], film.parent / "film.mp4")


def test_curl_that_was_killed_goes_on_where_the_server_is(server: RunningServer, owner: str, film: Path) -> None:
    data = film.read_bytes()
    upload = begun(server.client(owner), len(data))
    said = {**TUS, "Authorization": f"Bearer {server.token(owner)}"}

    def curl(*options: str, **headers: str) -> list[str]:
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in {**said, **headers}.items()]
        return ["curl", "-sSi", *options, *(part for line in lines for part in ("-H", line)), f"{server.url}{upload.path}"]

    patch = functools.partial(curl, "-X", "PATCH", "-T", "-", Content_Type=BYTES["Content-Type"])
    with subprocess.Popen(patch(Upload_Offset="0"), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as sending:
        assert sending.stdin is not None
        sending.stdin.write(data[: 3 * MIB])
        sending.stdin.flush()
        assert until(lambda: grown(server, upload.id))
        sending.kill()
    head = subprocess.run(curl("-I"), capture_output=True, text=True, timeout=60, check=True).stdout
    found = re.search(r"^Upload-Offset: (\d+)", head, re.MULTILINE)
    assert found is not None, head
    at = int(found[1])
    assert 2 * MIB + MIB // 2 < at <= 3 * MIB, "what came before the kill is kept"
    done = subprocess.run(patch(Upload_Offset=str(at)), input=data[at:], capture_output=True, timeout=60, check=True).stdout
    place = re.search(rb"^Content-Location: (\S+)", done, re.MULTILINE)
    assert place is not None, done
    check(server.client(owner), place[1].decode(), film)


def test_the_chunk_commands_in_the_docs_work(server: RunningServer, owner: str, film: Path) -> None:
    size = 6 * MIB
    film.write_bytes(padded(pictures.jpeg(320, 240), size))
    lines = PAGE.partition("## Numbered chunks\n\n```sh\n")[2].partition("```")[0].replace("http://127.0.0.1:10020", server.url)
    start, put, complete = re.findall(r"^curl.*?[^\\]$", lines, re.MULTILINE | re.DOTALL)
    script = f"""
    SESSION=$({start.replace("73400320", str(size)).replace("curl", "curl -s")} | sed 's/.*"sessionId": "\\([0-9a-f]*\\)".*/\\1/')
    split -d -a 1 -b 5242880 film.jpg chunk
    for n in 1 0; do {put.replace("chunk3", "chunk$n").replace("$SESSION/3", "$SESSION/$n")}; done
    {complete}
    """
    done = subprocess.run(
        ["bash", "-euc", script], cwd=film.parent, env={**os.environ, "TOKEN": server.token(owner)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert until(lambda: len(server.client(owner).assets()) == 1), done.stdout
    check(server.client(owner), server.client(owner).assets()[0]["url"], film)


# -- behind nginx -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["default", "recommended"])
def fronted(request: pytest.FixtureRequest, server: RunningServer, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """How the nginx before the server is set up, and its address."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        assert os.environ.get("CI") != "true", "nginx must be there in CI"
        pytest.skip("nginx is not installed")
    port = free_port()
    lines = PAGE.partition("```nginx\n")[2].partition("```")[0]
    if request.param == "default":
        lines = "client_max_body_size 0; location / { proxy_pass http://127.0.0.1:10020; }"
    lines = lines.replace("http://127.0.0.1:10020", server.url)
    places = "".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    file = tmp_path / "nginx.conf"
    file.write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}"
        f"http {{ access_log off; {places} server {{ listen 127.0.0.1:{port}; {lines} }} }}"
    )
    running = subprocess.Popen([nginx, "-c", file, "-p", tmp_path], stderr=subprocess.DEVNULL)
    try:
        assert until(lambda: listens(port)), "nginx did not start"
        yield request.param, f"http://127.0.0.1:{port}"
    finally:
        running.kill()
        running.wait()


def test_uploads_go_through_nginx_and_what_is_cut_goes_on(
    fronted: tuple[str, str], server: RunningServer, owner: str, film: Path
) -> None:
    kind, url = fronted
    client = Client(url, server.token(owner))
    data = film.read_bytes()
    upload = begun(client, len(data))
    with Wire("127.0.0.1", int(url.rpartition(":")[2])) as wire:
        headers = {**BYTES, "Upload-Offset": "0", "Authorization": f"Bearer {client.token}", "Content-Length": str(len(data))}
        wire.request("PATCH", upload.path, headers)
        wire.send(data[: 3 * MIB])
        if kind == "recommended":
            assert until(lambda: grown(server, upload.id))
    # nginx keeps a body to itself until it is whole unless it is told not to: nothing of this one has come.
    assert until(lambda: upload.head().status == 200)
    assert (upload.offset() > 2 * MIB) == (kind == "recommended")
    ran = node.run("upload.cjs", {**config(server, owner, film, uploadUrl=f"{url}{upload.path}"), "endpoint": f"{url}/api/uploads"})
    assert ran.status == 0, ran.errors
    check(client, ran.lines[-1]["place"], film)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def grown(server: RunningServer, id: str) -> bool:
    """Whether almost all of what was sent is in the file of the upload."""
    return (server.data / "uploads" / id).stat().st_size > 2 * MIB + MIB // 2

"""The examples of docs/uploads.md, run as they stand there: curl, pages, Python, Kotlin."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests import pictures
from tests.browser import chromium, opened
from tests.kit import kotlin
from tests.kit.client import Client
from tests.kit.files import padded
from tests.kit.server import RunningServer
from tests.kit.snippets import SERVICE, snippet, snippets
from tests.kit.tus import MIB
from tests.test_browser_tus import origin, service

__all__ = ["origin", "service"]

PHOTO = padded(pictures.jpeg(320, 240), MIB + 77)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(PHOTO)
    return path


def check(client: Client, address: str, data: bytes = PHOTO) -> None:
    """What lies at *address* is *data*."""
    path = re.sub(r"^https?://[^/]+", "", address)
    assert hashlib.sha256(client.get(path).body).digest() == hashlib.sha256(data).digest()


# -- a terminal, and Python -----------------------------------------------------------------------------------------------


def test_the_command_uploads(server: RunningServer, owner: str, photo: Path) -> None:
    done = subprocess.run(
        ["bash", "-euc", snippet("uploads", "curl", "sh", server.url)], cwd=photo.parent, capture_output=True, text=True,
        env={**os.environ, "TOKEN": server.token(owner)}, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (asset,) = server.client(owner).assets()
    assert asset["filename"] == "photo.jpg"
    check(server.client(owner), asset["url"])


def program(heading: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(snippet("uploads", heading, "python"), heading, "exec"), names)
    return names


def test_python_uploads_and_says_why_it_was_refused(server: RunningServer, owner: str, photo: Path) -> None:
    upload = program("Python")["upload"]
    record = upload(photo, server.token(owner), server.url)
    assert record["filename"] == "photo.jpg"
    check(server.client(owner), record["url"])
    photo.write_bytes(b"MZ no picture" * 90)
    with pytest.raises(RuntimeError, match="unsupported-type: "):
        upload(photo, server.token(owner), server.url)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # tuspy leaves a file open
def test_python_uploads_resumably(server: RunningServer, owner: str, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photo.parent)
    upload = program("Python, resumably")["upload_resumably"]
    place = upload(photo, server.token(owner), server.url)
    head = server.client(owner).head(re.sub(r"^https?://[^/]+", "", place), {"Tus-Resumable": "1.0.0"})
    check(server.client(owner), head.headers["Content-Location"])


# -- a page of another origin ---------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running


def script(heading: str, name: str, address: str) -> str:
    """The function *name* of the page's snippets; packages come as globals there."""
    (code,) = [code for code in snippets("uploads", heading, "js") if f"function {name}(" in code]
    return re.sub(r"^import .*$", "", code, flags=re.MULTILINE).replace(SERVICE, address)


@pytest.mark.asyncio(loop_scope="module")
async def test_pages_upload_with_fetch_xhr_tus_uppy_and_to_a_promised_place(
    browser: Browser, service: RunningServer, origin: str, owner: str, photo: Path
) -> None:
    token = service.token(owner)
    client = service.client(owner)
    async with opened(browser, origin) as page:
        await page.goto("/")
        await page.set_input_files("#file", photo)
        globals_ = "const file = document.querySelector('#file').files[0]; const Tus = Uppy.Tus; Uppy = Uppy.Uppy;"
        await page.add_script_tag(content=globals_)

        await page.add_script_tag(content=script("A page, by fetch", "upload", service.url))
        check(client, (await page.evaluate("token => upload(file, token)", token))["url"])
        refused = await page.evaluate("token => upload(new File(['MZ'.repeat(400)], 'a.exe'), token).catch(e => e.code)", token)
        assert refused == "unsupported-type"

        await page.add_script_tag(content=script("A page, with progress", "uploadWithProgress", service.url))
        record, shares = await page.evaluate(
            "async token => { const told = []; return [await uploadWithProgress(file, token, s => told.push(s)), told]; }", token
        )
        check(client, record["url"])
        assert shares[-1] == 1
        stopped = """token => { const stop = new AbortController();
            const ended = uploadWithProgress(file, token, () => {}, stop.signal).catch((problem) => problem.code);
            stop.abort(); return ended; }"""
        assert await page.evaluate(stopped, token) == "aborted"

        await page.add_script_tag(content=script("tus-js-client", "uploadResumably", service.url))
        check(client, await page.evaluate("token => uploadResumably(file, token, () => {})", token))

        await page.add_script_tag(content=script("Uppy", "uploader", service.url))
        uppy = """async token => {
            const uppy = uploader(token), places = [];
            uppy.on("media-stored", (address) => places.push(address));
            uppy.addFile({ name: file.name, type: file.type, data: file });
            const { failed } = await uppy.upload();
            return [failed.map((each) => String(each.error)), places[0]]; }"""
        failed, address = await page.evaluate(uppy, token)
        assert failed == []
        check(client, address)

        names = program("Without a login")
        place = names["place_for"]("photo.jpg", "image/jpeg", len(PHOTO), token, service.url)
        await page.add_script_tag(content=script("Without a login", "uploadTo", service.url))
        assert await page.evaluate("place => uploadTo(place, file)", place) == place["key"]
        assert await page.evaluate("place => uploadTo(place, file)", place) == place["key"], "again, as if the answer was lost"
        check(client, names["confirmed"](place["key"], token, service.url)["url"])
    assert {asset["filename"] for asset in client.assets()} == {"photo.jpg"}


# -- apps -----------------------------------------------------------------------------------------------------------------


KOTLIN = """
fun main(arguments: Array<String>) {
    val (service, token, path, known) = arguments
    val upload = ResumableUpload(service, token)
    val file = File(path)
    val place = known.ifEmpty { upload.begin(file) }
    println(place)
    if (arguments.size > 4) return
    println(upload.send(file, place))
}
"""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_kotlin_uploads_and_goes_on_where_it_was(server: RunningServer, owner: str, photo: Path) -> None:
    data = padded(pictures.jpeg(320, 240), 20 * MIB)
    photo.write_bytes(data)
    command = [*kotlin.compiled(snippet("uploads", "Kotlin", "kotlin") + KOTLIN, photo.parent), server.url, server.token(owner)]

    def run(*arguments: str) -> list[str]:
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    check(server.client(owner), run(str(photo), "")[1], data)
    (place,) = run(str(photo), "", "begin")
    half = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
    assert server.client(owner).request("PATCH", place, half, data[: 9 * MIB]).status == 204
    before = server.metric("media_received_bytes_total", route="tus-upload")
    check(server.client(owner), run(str(photo), place)[1], data)
    assert server.metric("media_received_bytes_total", route="tus-upload") - before == 11 * MIB, "no byte was sent twice"


def test_what_was_not_run_says_so() -> None:
    page = (Path(__file__).parents[1] / "docs" / "uploads.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^```(\w+)$", page, re.MULTILINE)) == {"sh", "js", "python", "kotlin", "swift"}
    assert "### Swift\n\n**Not tested**" in page

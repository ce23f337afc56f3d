"""tus-js-client and Uppy in a real browser, in a page of another origin: whole, and over a reload in the middle."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests import pictures
from tests.browser import chromium, opened
from tests.kit import node
from tests.kit.files import padded
from tests.kit.server import RunningServer
from tests.kit.tus import MIB

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIZE = 6 * MIB + 777


class Quiet(SimpleHTTPRequestHandler):
    """A web server that writes no log; the page beside the packages."""

    def translate_path(self, path: str) -> str:
        return str(node.SCRIPTS / "page.html") if path == "/" else super().translate_path(path)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """The address of the page."""
    handler = functools.partial(Quiet, directory=str(node.modules()))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def service(origin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A service that lets pages of that origin ask."""
    with RunningServer(tmp_path_factory.mktemp("service"), {"MEDIA_CORS_ORIGINS": origin}) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all of this module."""
    async with chromium() as running:
        yield running


@pytest.mark.parametrize("client", ["withTus", "withUppy"])
@pytest.mark.parametrize("until", [None, 3 * MIB])
async def test_a_page_of_another_origin_uploads_also_over_a_reload(
    browser: Browser, service: RunningServer, origin: str, owner: str, tmp_path: Path, client: str, until: int | None
) -> None:
    file = tmp_path / "photo.jpg"
    file.write_bytes(padded(pictures.jpeg(320, 240), SIZE))
    wish = {"endpoint": f"{service.url}/api/uploads", "token": service.token(owner)}
    received = functools.partial(service.metric, "media_received_bytes_total", route="tus-upload")
    before = received()
    async with opened(browser, origin) as page:
        await page.goto("/")
        await page.set_input_files("#file", file)
        if until is not None:
            await page.evaluate(f"(wish) => {{ window.{client}(wish); }}", wish | {"until": until})
            await page.wait_for_function("window.held !== undefined")
            await page.reload()
            await page.set_input_files("#file", file)
        place = await page.evaluate(f"(wish) => window.{client}(wish)", wish)
    body = (await asyncio.to_thread(service.client(owner).get, place)).body
    assert hashlib.sha256(body).digest() == hashlib.sha256(file.read_bytes()).digest()
    assert received() - before == SIZE, "no byte was sent twice"

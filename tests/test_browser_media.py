"""Media opened by their own address in a real browser: what is media plays there, what is active does not run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from proxy import keys
from proxy.adapters.local import LocalBackend
from tests import pictures
from tests.browser import chromium, opened
from tests.kit.client import Client, media
from tests.kit.server import RunningServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

ACTIVE = {
    "page.html": ("text/html", b"<!doctype html><title>quiet</title><script>document.title = 'ran'</script>"),
    "drawing.svg": (
        "image/svg+xml",
        b"<svg xmlns='http://www.w3.org/2000/svg'><title>quiet</title><script>document.title = 'ran'</script></svg>",
    ),
    "page.xhtml": (
        "application/xhtml+xml",
        b"<html xmlns='http://www.w3.org/1999/xhtml'><head><title>quiet</title>"
        b"<script>document.title = 'ran'</script></head></html>",
    ),
    "nothing-known": ("application/x-unknown", b"<script>document.title = 'ran'</script>"),
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all of this module."""
    async with chromium() as running:
        yield running


@pytest.mark.parametrize("make", [pictures.webm, pictures.mp3])
async def test_a_film_and_a_sound_play_at_their_own_address(
    browser: Browser, server: RunningServer, client: Client, make: Callable[[], bytes]
) -> None:
    record = client.stored(make())
    async with opened(browser, server.url) as page:
        await page.goto(record["url"])
        # A browser shows sound, too, in a video element of its own page; no timer runs there, so the test asks again.
        async with asyncio.timeout(30):
            while not (seconds := await page.evaluate("document.querySelector('video, audio')?.duration || 0")):
                await page.screenshot()
        assert seconds == pytest.approx(1, abs=0.2)


async def test_a_preview_of_a_film_plays_and_a_player_may_seek_in_it(
    browser: Browser, server: RunningServer, client: Client
) -> None:
    address = f"{media(client.stored(pictures.dawn('mp4'))['key'])}?dur=2&w=64&format=mp4"
    async with opened(browser, server.url) as page:
        await page.set_content(f'<video muted preload="auto" src="{server.url}{address}"></video>')
        seek = """async () => {
            const film = document.querySelector("video");
            await new Promise(done => { film.onseeked = done; film.currentTime = 1.5; });
            return [film.currentTime, film.duration, film.videoWidth];
        }"""
        assert await page.evaluate(seek) == [1.5, pytest.approx(2, abs=0.1), 64]


async def test_what_could_run_script_is_a_download_and_runs_in_no_frame(
    browser: Browser, serve: Callable[..., RunningServer]
) -> None:
    server = serve()
    server.stop()
    async with LocalBackend(server.data / "media") as store:
        for name, (content_type, data) in ACTIVE.items():
            await store.put(keys.parse(f"u/{name}"), body(data), content_type)
    server.start()
    async with opened(browser, "about:blank") as page:
        for name in ACTIVE:
            address = f"{server.url}/api/media/u/{name}"
            async with page.expect_download() as download:
                await page.evaluate("address => { location.href = address }", address)
            assert (await download.value).suggested_filename.startswith(name)
        await page.set_content("".join(f'<iframe src="{server.url}/api/media/u/{name}"></iframe>' for name in ACTIVE))
        await page.wait_for_load_state("networkidle")
        assert "ran" not in [await frame.title() for frame in page.frames]


async def body(data: bytes) -> AsyncIterator[bytes]:
    """*data* as a body."""
    yield data

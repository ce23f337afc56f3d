"""What can be made of films and sound, on the page at /: ordered, followed, ended, played."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests import pictures
from tests.browser import chromium, holds, opened
from tests.console import card, sign_in
from tests.kit import films
from tests.kit.client import Client
from tests.kit.server import RunningServer

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all of this module."""
    films.provided()
    async with chromium() as running:
        yield running


async def looked_at(page: Page, name: str) -> None:
    """Open the file and wait for what can be made of it."""
    await page.get_by_role("button", name=f"View {name}").click()
    await expect(page.get_by_role("heading", name="Made of it")).to_be_visible()


async def make(page: Page, profile: str) -> None:
    await page.get_by_label("What to make").select_option(profile)
    await page.get_by_role("button", name="Make it").click()


async def test_a_smaller_film_is_ordered_followed_and_played(browser: Browser, server: RunningServer, client: Client) -> None:
    client.stored(pictures.dawn("mp4"), "video/mp4", filename="dawn.mp4")
    async with opened(browser, server.url) as page:
        await sign_in(page, client)
        await looked_at(page, "dawn.mp4")
        await make(page, "360p")
        await page.get_by_role("button", name="Play 360p").click()
        player = page.get_by_label("dawn.mp4, 360p")
        await expect(player).to_have_js_property("error", None)
        await holds(page, "document.querySelector('#viewer-stage video').videoWidth > 0")
        assert "/360p-" in str(await player.evaluate("player => player.currentSrc"))
        await page.reload()
        await expect(card(page, "dawn.mp4")).to_be_visible()
        await expect(page.get_by_role("list", name="Your uploads").get_by_role("listitem")).to_have_count(1)
        await looked_at(page, "dawn.mp4")
        await expect(page.get_by_role("button", name="Copy link to 360p")).to_be_visible()


async def test_an_order_is_cancelled_and_given_again(browser: Browser, serve: Callable[..., RunningServer]) -> None:
    server = serve(MEDIA_JOB_WORKERS="0")
    server.client("me").stored(pictures.wav(), "audio/wav", filename="tone.wav")
    async with opened(browser, server.url) as page:
        await sign_in(page, server.client("me"))
        await looked_at(page, "tone.wav")
        assert await page.get_by_label("What to make").locator("option").all_text_contents() == ["aac", "opus"]
        await make(page, "opus")
        await expect(page.get_by_text("Waiting for a worker")).to_be_visible()
        await page.get_by_role("button", name="Cancel opus").click()
        await expect(page.get_by_text("Canceled", exact=True)).to_be_visible()
        await page.get_by_role("button", name="Make opus again").click()
        await expect(page.get_by_text("Waiting for a worker")).to_be_visible()
        assert [job["state"] for job in server.client("me").get("/api/jobs").json["jobs"]] == ["waiting", "canceled"]


async def test_what_cannot_be_made_says_why(browser: Browser, server: RunningServer, client: Client, tmp_path: Path) -> None:
    whole = films.long(tmp_path, 4)
    client.stored(whole[: len(whole) // 2], "video/mp4", filename="cut.mp4")
    async with opened(browser, server.url) as page:
        await sign_in(page, client)
        await looked_at(page, "cut.mp4")
        await make(page, "360p")
        await expect(page.get_by_role("list", name="Made of it").get_by_text("The file is damaged.")).to_be_visible()
        await expect(page.get_by_role("button", name="Make 360p again")).to_be_visible()


async def test_a_click_in_the_scenes_of_a_film_or_the_shape_of_a_sound_leads_there(
    browser: Browser, server: RunningServer, client: Client
) -> None:
    client.stored(pictures.dawn("mp4"), "video/mp4", filename="dawn.mp4")
    client.stored(pictures.wav(), "audio/wav", filename="tone.wav")
    async with opened(browser, server.url) as page:
        await sign_in(page, client)
        for name, media in (("dawn.mp4", "video"), ("tone.wav", "audio")):
            await looked_at(page, name)
            strip = page.locator(".strip img")
            await expect(strip).to_have_js_property("complete", True)
            await holds(page, f"document.querySelector('#viewer-stage {media}').readyState > 0")
            box = await strip.bounding_box()
            assert box is not None
            await strip.click(position={"x": box["width"] / 2, "y": box["height"] / 2})
            places = await page.locator(f"#viewer-stage {media}").evaluate("media => [media.currentTime, media.duration]")
            assert places[0] == pytest.approx(places[1] / 2, rel=0.1)
            await page.get_by_role("button", name="Close").click()

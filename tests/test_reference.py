"""The page at /docs: the whole description of the API, readable on any screen, found by words and by addresses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.browser import CONTRAST, SCREENSHOTS, chromium, opened
from tests.kit.client import Client
from tests.kit.server import RunningServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEVICES: dict[str, dict[str, Any]] = {
    "phone": {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True},
    "desktop": {"viewport": {"width": 1280, "height": 900}},
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as found:
        yield found


TOLD = """all => all.flatMap((heading) => [...heading.querySelectorAll(".method")].map(
  (method) => `${method.textContent.toLowerCase()} ${heading.querySelector("code").textContent}`))"""
"""Each method and its path, of all headings."""


async def written(page: Page) -> None:
    """Open the page and wait until it is whole."""
    await page.goto("/docs")
    await expect(page.get_by_role("heading", name="Problems", level=2)).to_be_visible()


@pytest.mark.parametrize(("device", "scheme"), [
    ("phone", "dark"), pytest.param("desktop", "light", marks=pytest.mark.slow),
    pytest.param("phone", "light", marks=pytest.mark.slow), pytest.param("desktop", "dark", marks=pytest.mark.slow),
])  # fmt: skip
async def test_every_operation_can_be_read_on_any_screen(browser: Browser, server: RunningServer, device: str, scheme: str) -> None:
    paths = server.client().get("/api/openapi.json").json["paths"]
    async with opened(browser, server.url, color_scheme=scheme, **DEVICES[device]) as page:
        await written(page)
        told = set(await page.locator("details h3").evaluate_all(TOLD))
        assert told == {f"{method} {path}" for path, item in paths.items() for method in item if method != "parameters"}
        SCREENSHOTS.mkdir(exist_ok=True)
        await page.screenshot(path=SCREENSHOTS / f"reference-{device}-{scheme}.png")
        for all_open in (False, True):
            await page.evaluate("open => document.querySelectorAll('details').forEach(each => { each.open = open; })", all_open)
            assert [text for text in await page.evaluate(CONTRAST) if text["ratio"] < text["needed"]] == []
            assert await page.evaluate("document.documentElement.scrollWidth") <= DEVICES[device]["viewport"]["width"]
        await page.locator("#getMedia").screenshot(path=SCREENSHOTS / f"reference-{device}-{scheme}-open.png")
        named = await page.locator("body").aria_snapshot()
        assert "undefined" not in named
        assert "[object" not in named


async def test_words_narrow_the_page_down_and_an_empty_line_shows_all(browser: Browser, server: RunningServer) -> None:
    async with opened(browser, server.url) as page:
        await written(page)
        shown = page.locator("details[data-words]:visible")
        everything = await shown.count()
        await page.get_by_role("searchbox", name="Find").fill("srcset Query")
        await expect(page.get_by_role("status").filter(has_text="1 operation")).to_be_visible()
        await expect(shown).to_have_count(1)
        await expect(shown).to_have_id("queryAssets")
        await expect(page.locator("#index a:visible")).to_have_text(["post/assets/query"])
        await page.get_by_role("searchbox", name="Find").fill("xylophone")
        await expect(shown).to_have_count(0)
        await page.get_by_role("searchbox", name="Find").fill("")
        await expect(shown).to_have_count(everything)


async def test_the_address_in_a_problem_leads_to_what_it_means(browser: Browser, server: RunningServer, stranger: Client) -> None:
    problem = stranger.get("/api/assets").json
    async with opened(browser, server.url) as page:
        await page.goto(problem["type"])
        await expect(page.locator(f"#{problem['code']}")).to_be_in_viewport()
        assert await page.locator(f"#{problem['code']} + dd").inner_text() == f"401: {problem['title']}."


async def test_an_address_opens_its_operation_and_links_lead_to_records(browser: Browser, server: RunningServer) -> None:
    async with opened(browser, server.url) as page:
        await page.goto("/docs#upload")
        await expect(page.locator("#upload")).to_have_attribute("open", "")
        await page.locator("#upload").get_by_role("link", name="Asset", exact=True).click()
        await expect(page.locator("#schema-Asset")).to_have_attribute("open", "")
        await expect(page.locator("#schema-Asset").get_by_text("sha256", exact=True)).to_be_in_viewport()
        await page.get_by_role("link", name="Your media").click()
        await expect(page.get_by_role("heading", name="Upload", exact=True)).to_be_visible()
        await page.get_by_role("link", name="API reference").click()
        await expect(page.get_by_role("heading", name="API reference")).to_be_visible()


async def test_the_command_beside_an_operation_works_as_it_stands(browser: Browser, server: RunningServer, owner: str) -> None:
    async with opened(browser, server.url) as page:
        await page.goto("/docs#usage")
        text = await page.locator("#usage .example pre").inner_text()
    assert text == f'curl -H "Authorization: Bearer $TOKEN" "{server.url}/api/usage"'

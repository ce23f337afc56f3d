"""The page at / for everybody: tokens, keyboard, screen readers, phones, light and dark."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, FileChooser, expect

from tests import pictures
from tests.browser import SCREENSHOTS, chromium, opened
from tests.console import NOT_ACCEPTED, Visit, card, choose, faint, loaded, picture, row, sign_in, small_targets, tab_to
from tests.kit.client import Client
from tests.kit.server import RunningServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

EMPTY = "Nothing here yet"
PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all of this module."""
    SCREENSHOTS.mkdir(exist_ok=True)
    async with chromium() as running:
        yield running


@pytest.fixture
def visit(browser: Browser, server: RunningServer) -> Visit:
    """Opens pages of the shared server."""
    return lambda url=server.url, **options: opened(browser, url, **options)


async def test_the_token_of_the_address_is_taken_once_and_kept_for_the_tab(
    visit: Visit, server: RunningServer, client: Client, owner: str
) -> None:
    async with visit() as page:
        await sign_in(page, client)
        assert page.url == f"{server.url}/"
        assert await page.evaluate("[history.length, localStorage.length, document.cookie]") == [2, 0, ""]
        await expect(page.get_by_role("banner").get_by_text(owner)).to_be_visible()
        await page.reload()
        await expect(page.get_by_role("banner").get_by_text(owner)).to_be_visible()
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_label("Access token")).to_be_focused()
        assert await page.evaluate("sessionStorage.length") == 0
        await expect(page.get_by_role("region", name="Your uploads")).to_be_hidden()


async def test_a_token_that_does_not_hold_says_why(visit: Visit, server: RunningServer, client: Client, owner: str) -> None:
    async with visit() as page:
        await page.goto("/")
        field = page.get_by_label("Access token")
        for token, reason in (
            ("", "Paste a token first."),
            ("hello", "This is not an access token."),
            (server.token(owner, lifetime_s=-90), "This token expired"),
            (server.token(owner)[:-3] + "AAA", "The server did not accept the token."),
        ):
            await field.fill(token)
            await field.press("Enter")
            await expect(page.get_by_role("alert").filter(has_text=reason)).to_be_visible()
            await expect(field).to_be_focused()
        await field.fill(f"Bearer {client.token}\n")
        await expect(field).to_have_attribute("type", "password")
        await page.get_by_role("button", name="Show token").click()
        await expect(field).to_have_attribute("type", "text")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_text(EMPTY)).to_be_visible()


async def test_files_chosen_before_the_sign_in_wait_for_it(visit: Visit, client: Client) -> None:
    async with visit() as page:
        await page.goto("/")
        await choose(page, picture())
        await expect(row(page, "harbour.png").get_by_text("Waits for sign-in")).to_be_visible()
        await expect(page.get_by_label("Access token")).to_be_focused()
        await page.keyboard.insert_text(str(client.token))
        await page.keyboard.press("Enter")
        await expect(card(page, "harbour.png")).to_be_visible()


async def test_a_token_that_expires_on_the_page_ends_the_session_with_a_sentence(
    visit: Visit, server: RunningServer, owner: str
) -> None:
    async with visit() as page:
        await page.clock.install(time=time.time())
        await sign_in(page, server.client(owner, lifetime_s=600))
        await page.clock.fast_forward("11:00")
        await expect(page.get_by_role("alert").filter(has_text="Your token expired")).to_be_visible()
        await expect(page.get_by_role("region", name="Your uploads")).to_be_hidden()


async def test_everything_can_be_done_by_keyboard_alone(visit: Visit, client: Client) -> None:
    async with visit() as page:
        chooser: asyncio.Future[FileChooser] = asyncio.get_running_loop().create_future()

        def came(opened_chooser: FileChooser) -> None:
            chooser.set_result(opened_chooser)

        page.once("filechooser", came)
        await sign_in(page, client)
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("main")).to_be_focused()
        await tab_to(page, "Choose files")
        await page.keyboard.press("Enter")
        await (await chooser).set_files([picture("a.png"), picture("b.png")])
        await expect(page.get_by_text("2 files: 2 uploaded")).to_be_visible()
        await tab_to(page, "Clear finished")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name="Choose files")).to_be_focused()
        first = await page.locator(".card .name").first.inner_text()
        await tab_to(page, f"View {first}")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog", name=first)).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name=f"View {first}")).to_be_focused()
        await tab_to(page, f"Delete {first}")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name="Keep it")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name=f"Delete {first}")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name="Keep it")).to_be_focused()
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text(f"{first} is deleted.")).to_be_visible()
        await expect(page.get_by_role("button", name="View")).to_be_focused()
        [left] = client.assets()
        assert left["filename"] != first


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", ["desktop", "phone"])
async def test_the_page_is_readable_in_both_schemes_and_fits_a_phone(
    visit: Visit, client: Client, scheme: str, device: str
) -> None:
    client.stored(pictures.jpeg(1200, 300), filename="a panorama with a very long name, as people give them.jpg")
    client.stored(pictures.jpeg(400, 600), filename="portrait.jpg")
    client.stored(pictures.jpeg(900, 600), filename="harbour.jpg")
    client.stored(pictures.mp3(), filename="tone.mp3")
    options = PHONE if device == "phone" else {}
    async with visit(color_scheme=scheme, **options) as page:
        await page.goto("/")
        await expect(page.get_by_label("Access token")).to_be_visible()
        await page.get_by_role("button", name="Sign in").click()
        assert await faint(page) == []
        await page.screenshot(path=SCREENSHOTS / f"{device}-{scheme}-sign-in.png")
        await sign_in(page, client)
        await choose(page, NOT_ACCEPTED, picture("tiny.png", 40, 30))
        await expect(page.get_by_text("2 files: 1 uploaded, 1 failed")).to_be_visible()
        await loaded(page)
        assert page.viewport_size is not None
        assert await page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
        assert await faint(page) == []
        await page.screenshot(path=SCREENSHOTS / f"{device}-{scheme}.png", full_page=True)
        assert await small_targets(page) == []
        await page.get_by_role("button", name="View harbour.jpg").click()
        await expect(page.get_by_role("dialog").get_by_role("status").filter(has_text="× ")).to_be_visible()
        assert await faint(page) == []
        assert await page.get_by_role("dialog").evaluate("d => d.scrollWidth <= d.clientWidth")
        await page.screenshot(path=SCREENSHOTS / f"{device}-{scheme}-viewer.png")


async def test_the_page_has_landmarks_headings_and_a_name_for_everything(visit: Visit, client: Client) -> None:
    client.stored(pictures.png(64, 48), filename="a.png")
    client.stored(pictures.png(64, 48), filename="b.png")
    async with visit() as page:
        await sign_in(page, client)
        await expect(page.get_by_role("button", name="View")).to_have_count(2)
        for landmark in ("banner", "main", "contentinfo"):
            await expect(page.get_by_role(landmark)).to_have_count(1)
        assert await page.get_by_role("heading").all_inner_texts() == ["Your media", "Upload", "Your uploads"]
        tree = await page.locator("body").aria_snapshot()
        named = re.findall(r'- (button|link|textbox|img|list|region)\b(?: "([^"]*)")?', tree)
        assert all(name for _, name in named), tree
        buttons = [name for role, name in named if role == "button"]
        assert len(set(buttons)) == len(buttons), "no two buttons are called the same"
        assert await page.get_attribute("html", "lang") == "en"

"""The page at /: files go up, appear, are copied, looked at and deleted, also on a bad line."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Route, expect

from tests import pictures
from tests.browser import Line, LossyRelay, chromium, opened
from tests.console import NOT_ACCEPTED, Visit, card, choose, drop, picture, row, sign_in, widths
from tests.kit.client import Client
from tests.kit.server import RunningServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

Serve = Callable[..., RunningServer]
EMPTY = "Nothing here yet"
HOSTILE = "<img src=x onerror=alert(1)>\u202e \"gnp.exe' & %22co.png"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all of this module."""
    async with chromium() as running:
        yield running


@pytest.fixture
def visit(browser: Browser, server: RunningServer) -> Visit:
    """Opens pages of the shared server."""
    return lambda url=server.url, **options: opened(browser, url, **options)


async def test_a_chosen_picture_moves_its_bar_and_appears_at_the_width_it_needs(visit: Visit, client: Client) -> None:
    async with visit() as page:
        await sign_in(page, client)
        await expect(page.get_by_text(EMPTY)).to_be_visible()
        line = Line(page)
        await line.limit(1_000_000)
        await choose(page, picture(width=900, height=600))
        bar = page.get_by_role("progressbar", name="Progress of harbour.png")
        await expect(bar).to_have_attribute("value", re.compile(r"^[1-9]\d$"))
        await expect(row(page, "harbour.png").get_by_text(re.compile(r"^Uploading, \d+ %$"))).to_be_visible()
        await line.limit(None)
        await expect(page.get_by_role("status").filter(has_text="1 file: 1 uploaded")).to_be_visible()
        image = card(page, "harbour.png").get_by_role("img", name="harbour.png")
        await expect(image).to_have_js_property("complete", True)
        source, shown_px, srcset = await image.evaluate("i => [i.currentSrc, i.clientWidth, i.srcset]")
        assert widths(srcset) == [160, 320, 480, 640, 900]
        assert f"?w={next(width for width in widths(srcset) if width >= shown_px)}&format=auto" in source
        [record] = client.assets()
        assert (record["filename"], record["width"], record["height"]) == ("harbour.png", 900, 600)


async def test_of_several_files_three_are_on_the_way_at_once(visit: Visit, client: Client) -> None:
    async with visit() as page:
        await sign_in(page, client)
        await page.evaluate(
            """() => {
              window.most = 0;
              const count = () => document.querySelectorAll("[data-state=sending], [data-state=checking]").length;
              new MutationObserver(() => { window.most = Math.max(window.most, count()); })
                .observe(document.querySelector("#queue"), { subtree: true, childList: true, attributes: true });
            }"""
        )
        await Line(page).limit(3_000_000)
        await choose(page, *(picture(f"{number}.png", 300, 300) for number in range(7)))
        await expect(page.get_by_text("7 files: 7 uploaded")).to_be_visible()
        assert await page.evaluate("window.most") == 3
        await expect(page.get_by_role("button", name="View")).to_have_count(7)
        await page.get_by_role("button", name="Clear finished").click()
        await expect(page.get_by_role("list", name="Files being uploaded").get_by_role("listitem")).to_have_count(0)


async def test_a_file_can_be_dropped_anywhere_and_its_hostile_name_stays_text(visit: Visit, client: Client) -> None:
    async with visit() as page:
        await sign_in(page, client)
        await drop(page, pictures.png(64, 48), HOSTILE, "image/png")
        shown = HOSTILE.replace("\u202e ", " ")
        await expect(card(page, shown).get_by_role("img")).to_have_js_property("naturalWidth", 64)
        await card(page, shown).get_by_role("button", name="Delete").click()
        await expect(page.get_by_role("dialog").get_by_role("heading")).to_have_text(f"Delete {shown}?")


async def test_what_the_server_refuses_is_said_at_the_file(browser: Browser, serve: Serve) -> None:
    small = serve(MEDIA_MAX_BYTES_IMAGE="96K")
    async with opened(browser, small.url) as page:
        await sign_in(page, small.client("me"))
        await choose(
            page, NOT_ACCEPTED, picture("big.png"),
            {"name": "broken.png", "mimeType": "image/png", "buffer": pictures.png(100, 100)[:600]},
        )  # fmt: skip
        await expect(page.get_by_text("3 files: 3 failed")).to_be_visible()
        await expect(row(page, "program.exe").get_by_text("This type of file is not accepted.")).to_be_visible()
        await expect(row(page, "big.png").get_by_text("A body of this type may have 96 KiB.")).to_be_visible()
        await expect(row(page, "broken.png").get_by_text("The file is damaged.")).to_be_visible()
        assert small.client("me").assets() == []
        await expect(page.get_by_role("button", name="Try again")).to_have_count(0)
        await row(page, "big.png").get_by_role("button", name="Remove").click()
        await expect(row(page, "broken.png")).to_be_focused()


async def test_a_cancelled_upload_stores_nothing_and_can_be_tried_again(visit: Visit, client: Client) -> None:
    async with visit() as page:
        await sign_in(page, client)
        line = Line(page)
        await line.limit(50_000)
        await choose(page, picture())
        await page.get_by_role("button", name="Cancel: harbour.png").click()
        await expect(page.get_by_text("1 file: 1 cancelled")).to_be_visible()
        await expect(page.get_by_role("button", name="Try again: harbour.png")).to_be_focused()
        assert client.assets() == []
        await line.limit(None)
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("1 file: 1 uploaded")).to_be_visible()
        await expect(page.get_by_role("button", name="Remove harbour.png from the list")).to_be_focused()


async def test_an_upload_whose_answer_was_lost_is_stored_once_when_it_is_tried_again(
    visit: Visit, server: RunningServer, client: Client
) -> None:
    async with LossyRelay(server.port) as relay, visit(relay.url) as page:
        await sign_in(page, client)
        relay.losing = True
        await choose(page, picture())
        await expect(page.get_by_text("The server did not answer.")).to_be_visible()
        assert relay.lost >= 1
        assert len(client.assets()) == 1
        relay.losing = False
        await page.get_by_role("button", name="Try again: harbour.png").click()
        await expect(card(page, "harbour.png")).to_be_visible()
        assert len(client.assets()) == 1


async def test_thumbnails_keep_their_place_before_a_byte_of_them_has_come(visit: Visit, client: Client) -> None:
    for width, height in ((600, 400), (200, 600), (900, 90), (40, 30)):
        client.stored(pictures.png(width, height), filename=f"{width}x{height}.png")
    async with visit() as page:
        released = asyncio.Event()

        async def held(route: Route) -> None:
            await released.wait()
            await route.continue_()

        await page.route("**/api/media/**", held)
        await sign_in(page, client)
        await expect(page.locator(".card img")).to_have_count(4)
        measure = "() => [...document.querySelectorAll('.card, .card img')].map(e => e.getBoundingClientRect().toJSON())"
        before = await page.evaluate(measure)
        released.set()
        for image in await page.locator(".card img").all():
            await expect(image).not_to_have_js_property("naturalWidth", 0)
            width, height, ratio = await image.evaluate("i => [i.clientWidth, i.clientHeight, i.naturalWidth / i.naturalHeight]")
            assert width / height == pytest.approx(ratio, rel=0.05)
        assert await page.evaluate(measure) == before


async def test_more_than_a_page_is_loaded_on_demand(visit: Visit, client: Client) -> None:
    data = pictures.png(16, 16)
    for number in range(26):
        client.stored(data, filename=f"{number}.png")
    async with visit() as page:
        await sign_in(page, client)
        await expect(page.get_by_role("button", name="View")).to_have_count(24)
        await page.get_by_role("button", name="Load more").click()
        await expect(page.get_by_role("button", name="View")).to_have_count(26)
        await expect(page.get_by_role("button", name="View 1.png", exact=True)).to_be_focused()
        await expect(page.get_by_role("button", name="Load more")).to_be_hidden()


async def test_a_link_is_copied_and_opens_the_file(visit: Visit, server: RunningServer, client: Client, stranger: Client) -> None:
    record = client.stored(pictures.png(64, 48), filename="a.png")
    async with visit(permissions=["clipboard-read", "clipboard-write"]) as page:
        await sign_in(page, client)
        await page.get_by_role("button", name="Copy link to a.png").click()
        await expect(page.get_by_role("status").filter(has_text="Link to a.png copied.")).to_be_visible()
        copied = await page.evaluate("navigator.clipboard.readText()")
        assert copied == server.url + record["url"]
        assert stranger.get(copied.removeprefix(server.url)).status == 200


@pytest.mark.parametrize("command", [True, False], ids=["by the old command", "by hand"])
async def test_without_a_clipboard_a_link_can_still_be_copied(visit: Visit, client: Client, command: bool) -> None:
    """Browsers have no clipboard for pages on plain http of another machine, which is where a first try often runs."""
    client.stored(pictures.png(64, 48), filename="a.png")
    async with visit() as page:
        await page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
        if not command:
            await page.add_init_script("document.execCommand = () => false")
        await sign_in(page, client)
        await page.get_by_role("button", name="Copy link to a.png").click()
        if command:
            await expect(page.get_by_text("Link to a.png copied.")).to_be_visible()
            await expect(page.get_by_role("button", name="Copy link to a.png")).to_be_focused()
            return
        field = page.get_by_role("dialog", name="Copy this address").get_by_role("textbox")
        await expect(field).to_be_focused()
        assert await field.evaluate("f => f.value.slice(f.selectionStart, f.selectionEnd)") == await field.input_value() != ""
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="Copy link to a.png")).to_be_focused()


async def test_the_viewer_shows_any_size_fit_and_format_with_its_address(
    visit: Visit, server: RunningServer, client: Client, stranger: Client
) -> None:
    client.stored(pictures.png(600, 400), filename="a.png")
    async with visit() as page:
        await sign_in(page, client)
        await page.get_by_role("button", name="View a.png").click()
        dialog = page.get_by_role("dialog", name="a.png")
        await dialog.get_by_role("button", name="320 px wide").click()
        await expect(dialog.get_by_role("status").filter(has_text="320 × 213")).to_be_visible()
        await dialog.get_by_label("Height, px").fill("100")
        await dialog.get_by_label("Width, px").fill("100")
        await dialog.get_by_label("Fit").select_option("cover")
        await dialog.get_by_label("Crop towards").select_option("attention")
        await dialog.get_by_label("Format", exact=True).select_option("webp")
        await expect(dialog.get_by_role("status").filter(has_text="100 × 100 · WEBP")).to_be_visible()
        address = await dialog.get_by_label("Address").input_value()
        assert address.endswith("?w=100&h=100&fit=cover&g=attention&format=webp")
        assert await dialog.get_by_role("link", name="Open in a new tab").get_attribute("href") == address
        assert stranger.get(address.removeprefix(server.url)).headers["Content-Type"] == "image/webp"
        await dialog.get_by_label("Width, px").fill("99999")
        await expect(dialog.locator("#viewer-result.problem")).to_contain_text("8192")
        await dialog.get_by_role("button", name="Original").click()
        await expect(dialog.get_by_role("status").filter(has_text="600 × 400 · PNG")).to_be_visible()


async def test_films_have_a_poster_and_films_and_sound_play(visit: Visit, client: Client) -> None:
    client.stored(pictures.webm(), filename="film.webm")
    client.stored(pictures.mp3(), filename="tone.mp3")
    async with visit() as page:
        await sign_in(page, client)
        await expect(card(page, "film.webm").get_by_role("img")).to_have_js_property("naturalWidth", 160)
        await expect(card(page, "tone.mp3").get_by_role("img")).to_have_count(0)
        for name, player in (("film.webm", "video"), ("tone.mp3", "audio")):
            await page.get_by_role("button", name=f"View {name}").click()
            seconds = await page.locator(player).evaluate(
                "async (p) => { await new Promise((met) => p.readyState ? met() : (p.onloadedmetadata = met)); return p.duration; }"
            )
            assert seconds == pytest.approx(1, abs=0.2)
            await page.keyboard.press("Escape")
            await expect(page.locator(player)).to_have_count(0)


async def test_where_only_owners_may_read_pictures_come_with_the_token(browser: Browser, serve: Serve) -> None:
    private = serve(MEDIA_READ_ACCESS="owner")
    me = private.client("me")
    record = me.stored(pictures.png(600, 400), filename="a.png")
    assert private.client().get(record["url"]).status == 401
    async with opened(browser, private.url) as page:
        await sign_in(page, me)
        await expect(page.get_by_text("Only you can open these files.")).to_be_visible()
        await expect(card(page, "a.png").get_by_role("img")).to_have_js_property("naturalWidth", 320)
        await page.get_by_role("button", name="View a.png").click()
        await expect(page.get_by_role("dialog").get_by_role("status").filter(has_text="600 × 400")).to_be_visible()
        await expect(page.get_by_text("This address opens only with your token")).to_be_visible()
        await expect(page.get_by_role("link", name="Open in a new tab")).to_be_hidden()


async def test_deleting_removes_the_file_for_everybody(visit: Visit, client: Client, stranger: Client) -> None:
    record = client.stored(pictures.png(64, 48), filename="a.png")
    async with visit() as page:
        await sign_in(page, client)
        delete = page.get_by_role("button", name="Delete a.png")
        await delete.evaluate("button => { button.click(); document.getElementById('confirm-no').click(); button.click() }")
        await page.get_by_role("dialog", name="Delete a.png?").get_by_role("button", name="Delete").click()
        await expect(page.get_by_role("heading", name="Your uploads")).to_be_focused()
        await expect(page.get_by_text(EMPTY)).to_be_visible()
        assert stranger.get(record["url"]).status == 404

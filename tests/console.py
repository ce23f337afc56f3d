"""The moves that people make on the page at /, for its tests."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from playwright.async_api import FilePayload, Locator, Page, expect

from tests import pictures
from tests.browser import CONTRAST
from tests.kit.client import Client

Visit = Callable[..., AbstractAsyncContextManager[Page]]
"""Opens a page of the shared server, or of the address given: ``async with visit(color_scheme="dark") as page``."""

NOT_ACCEPTED: FilePayload = {"name": "program.exe", "mimeType": "", "buffer": b"MZ" + bytes(600)}


def picture(name: str = "harbour.png", width: int = 600, height: int = 400) -> FilePayload:
    """A picture as the file chooser gives it; not compressed, so that it has three bytes for each pixel."""
    return {"name": name, "mimeType": "image/png", "buffer": pictures.png(width, height, compression=0)}


async def sign_in(page: Page, client: Client) -> None:
    """Open the page with an address such as the start prints."""
    await page.goto(f"/#token={client.token}")
    await expect(page.get_by_role("region", name="Your uploads")).to_be_visible()


def card(page: Page, name: str) -> Locator:
    """The file in the gallery."""
    return _item(page, "Your uploads", name)


def row(page: Page, name: str) -> Locator:
    """The file in the list of uploads."""
    return _item(page, "Files being uploaded", name)


def _item(page: Page, list_name: str, name: str) -> Locator:
    items = page.get_by_role("list", name=list_name, exact=True).get_by_role("listitem")
    return items.filter(has=page.get_by_text(name, exact=True))


async def choose(page: Page, *files: FilePayload) -> None:
    """Give *files* through the file chooser."""
    async with page.expect_file_chooser() as chooser:
        await page.get_by_role("button", name="Choose files").click()
    await (await chooser.value).set_files(files)


async def choose_path(page: Page, path: Path, button: str = "Choose files") -> None:
    """Give the file at *path* through the chooser that *button* opens; its time of change comes along."""
    async with page.expect_file_chooser() as chooser:
        await page.get_by_role("button", name=button, exact=True).click()
    await (await chooser.value).set_files(path)


async def drop(page: Page, data: bytes, name: str, content_type: str) -> None:
    """Drag a file onto the page and let it go somewhere on it, far from the button."""
    carried = await page.evaluate_handle(
        """([encoded, name, type]) => {
          const carried = new DataTransfer();
          carried.items.add(new File([Uint8Array.from(atob(encoded), (char) => char.charCodeAt(0))], name, { type }));
          return carried;
        }""",
        [base64.b64encode(data).decode(), name, content_type],
    )
    await page.dispatch_event("footer", "dragenter", {"dataTransfer": carried})
    await expect(page.get_by_text("Drop to upload")).to_be_visible()
    await page.dispatch_event("footer", "drop", {"dataTransfer": carried})
    await expect(page.get_by_text("Drop to upload")).to_be_hidden()


async def loaded(page: Page) -> None:
    """Wait for every thumbnail, each of which loads when it comes near the view."""
    for image in await page.locator(".card img").all():
        await image.scroll_into_view_if_needed()
        await expect(image).to_have_js_property("complete", True)
        await expect(image).not_to_have_js_property("naturalWidth", 0)


async def faint(page: Page) -> list[str]:
    """The texts and edges of the page that are too faint, each with its contrast and what it needs."""
    measured = await page.evaluate(CONTRAST)
    assert len(measured) > 10, "the script saw the page"
    return [f"{one['what']}: {one['ratio']:.2f} < {one['needed']}" for one in measured if one["ratio"] < one["needed"]]


async def small_targets(page: Page) -> list[str]:
    """What can be pressed and is less than 44 px high or wide."""
    found = await page.evaluate(
        """() => [...document.querySelectorAll("button, a:not(.skip), input, select")]
          .map((e) => [e, e.getBoundingClientRect()]).filter(([, box]) => box.width && (box.height < 44 || box.width < 44))
          .map(([e, box]) => `${e.textContent || e.id}: ${box.width} x ${box.height}`)"""
    )
    return [str(target) for target in found]


async def tab_to(page: Page, name: str) -> None:
    """Press Tab until what is called *name* has the focus, and shows it."""
    called = "e => e.getAttribute('aria-label') ?? e.textContent + (e.querySelector('img')?.alt ?? '')"
    for _ in range(40):
        await page.keyboard.press("Tab")
        focused = page.locator(":focus")
        if await focused.count() and name in await focused.evaluate(called):
            assert await focused.evaluate("e => parseInt(getComputedStyle(e).outlineWidth)") >= 2, f"{name} shows its focus"
            return
    raise AssertionError(f"Tab never reaches {name}")


def widths(srcset: str) -> list[int]:
    """The width descriptors of a srcset."""
    return [int(width) for width in re.findall(r" (\d+)w", srcset)]

"""A real Chromium for tests: found where the system has it, with the flags of a machine without a screen."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, CDPSession, Dialog, Page, async_playwright, expect

from tests.kit.waiting import STEP_S

NAMES = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
ABSENT = "no Chromium, or not what playwright's driver needs: apt-get install chromium libatomic1, or on macOS install Chrome"
SCREENSHOTS = Path(__file__).parent / "screenshots"
DEADLINE_MS = 30_000

CONTRAST = """() => {
  const channel = (value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * channel(r / 255) + 0.7152 * channel(g / 255) + 0.0722 * channel(b / 255);
  const rgba = (text) => {
    const found = text.match(/[\\d.]+/g).map(Number);
    return found.length === 3 ? [...found, 1] : found;
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const behind = (element) => {
    if (element === null) return rgba(getComputedStyle(document.body).backgroundColor);
    const own = rgba(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own : over(own, behind(element.parentElement));
  };
  const ratio = (a, b) => {
    const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
  };
  const shown = (element) =>
    element.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && !element.closest(".unseen");
  const found = [];
  const walker = document.createTreeWalker(document.querySelector("dialog[open]") ?? document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !shown(element) || ["SCRIPT", "STYLE", "OPTION"].includes(element.tagName)) continue;
    const style = getComputedStyle(element);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
    const background = behind(element);
    found.push({ what: text.slice(0, 40), ratio: ratio(over(rgba(style.color), background), background), needed: large ? 3 : 4.5 });
  }
  for (const control of document.querySelectorAll("input:not([type=file]), select, .panel button, .stage + * button")) {
    if (!shown(control) || control.disabled) continue;
    const edge = rgba(getComputedStyle(control).borderTopColor);
    const around = behind(control.parentElement);
    found.push({ what: `edge of ${control.id || control.textContent}`, ratio: ratio(over(edge, around), around), needed: 3 });
  }
  return found;
}"""
"""The contrast of every text that is seen and of the edges of fields, as WCAG 2.2 counts it (1.4.3, 1.4.11)."""


async def holds(page: Page, expression: str) -> None:
    """Return once *expression* is true in the page; raises TimeoutError after 30 s.

    It is asked from here, since Page.wait_for_function asks a second time by eval, which the policy of our page forbids.
    """
    async with asyncio.timeout(DEADLINE_MS / 1000):
        while not await page.evaluate(expression):  # noqa: ASYNC110 - the page has no event for it
            await asyncio.sleep(STEP_S)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The browser; the test is skipped where there is none, and fails in CI."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None or not await _driver_runs():
        (pytest.fail if os.environ.get("CI", "").lower() in {"1", "true", "yes"} else pytest.skip)(ABSENT)
    async with async_playwright() as playwright:
        expect.set_options(timeout=DEADLINE_MS)
        browser = await playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        try:
            yield browser
        finally:
            await browser.close()


async def _driver_runs() -> bool:
    # Playwright brings a node of its own, which wants libatomic: a fresh Debian has none.
    command = (sys.executable, "-m", "playwright", "--version")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)
    return await process.wait() == 0


@asynccontextmanager
async def opened(browser: Browser, url: str, **options: Any) -> AsyncIterator[Page]:
    """A page in a context of its own; at its end no script has failed and the content policy was never broken."""
    context = await browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "base_url": url, **options})
    context.set_default_timeout(DEADLINE_MS)
    faults: list[str] = []
    try:
        page = await context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: _answered(dialog, faults))
        page.on("console", lambda message: faults.append(message.text) if "Content Security Policy" in message.text else None)
        yield page
    finally:
        await context.close()
    assert faults == []


async def _answered(dialog: Dialog, faults: list[str]) -> None:
    # Whether to leave is asked by the browser itself, and only of somebody who would lose something: here they always go.
    if dialog.type != "beforeunload":
        faults.append(f"a script opened {dialog.type}")
    await dialog.accept()


class Line:
    """How fast a page may send. One CDP session for all of its life: the limit of an earlier session would stay."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._session: CDPSession | None = None

    async def limit(self, bytes_per_s: int | None, *, cut: bool = False) -> None:
        """Let the page send no faster than this; None lifts the limit. *cut* ends what is on its way, and lets nothing begin."""
        if self._session is None:
            self._session = await self._page.context.new_cdp_session(self._page)
            await self._session.send("Network.enable")
        throughput = -1 if bytes_per_s is None else bytes_per_s
        conditions = {"offline": cut, "latency": 0, "downloadThroughput": -1, "uploadThroughput": throughput}
        await self._session.send("Network.emulateNetworkConditions", conditions)


class LossyRelay:
    """A TCP relay to the server on *port* that, while *losing*, swallows every answer to an upload and hangs up."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.losing = False
        self.lost = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> LossyRelay:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        below_reader, below_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        uploading = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as directions:
                directions.create_task(self._up(reader, below_writer, uploading))
                await self._down(below_reader, writer, uploading)
                raise ConnectionResetError
        except* (ConnectionError, TimeoutError):
            pass
        finally:
            for stream in (writer, below_writer):
                stream.close()
                with suppress(ConnectionError):
                    await stream.wait_closed()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, uploading: asyncio.Event) -> None:
        while chunk := await reader.read(1 << 16):
            if chunk.startswith(b"POST /api/upload"):
                uploading.set()
            elif chunk.startswith((b"GET ", b"DELETE ")):
                uploading.clear()
            writer.write(chunk)
            await writer.drain()
        raise ConnectionResetError

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, uploading: asyncio.Event) -> None:
        while chunk := await reader.read(1 << 16):
            if self.losing and uploading.is_set():
                self.lost += 1
                return
            writer.write(chunk)
            await writer.drain()

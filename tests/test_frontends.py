"""The examples of docs/frontends.md in a real Chromium, in a page of another origin."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Route

from tests import pictures
from tests.browser import chromium, opened
from tests.kit import films
from tests.kit.client import Client, media
from tests.kit.ports import free_port
from tests.kit.server import RunningServer
from tests.kit.snippets import SERVICE, snippets
from tests.test_browser_tus import origin
from tests.test_jobs import begun, ended

__all__ = ["origin"]

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.stack]

PACKAGES = {"thumbhash": "/thumbhash/thumbhash.js", "blurhash": "/blurhash/dist/esm/index.js", "hls.js": "/hls.js/dist/hls.mjs"}
PHOTO = pictures.jpeg(1600, 1200)


@pytest.fixture(scope="module")
def service(origin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A service that gives pages of that origin whole addresses."""
    port = free_port()
    env = {"MEDIA_CORS_ORIGINS": origin, "MEDIA_PORT": str(port), "MEDIA_PUBLIC_URL": f"http://127.0.0.1:{port}"}
    with RunningServer(tmp_path_factory.mktemp("service"), env) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as running:
        yield running


async def learn(page: Page, heading: str, name: str, address: str) -> None:
    """Give the page the function *name* of the docs."""
    (code,) = [code for code in snippets("frontends", heading, "js") if f"function {name}(" in code]
    for package, place in PACKAGES.items():
        code = code.replace(f'from "{package}"', f'from "{place}"')
    await page.add_script_tag(content=f"{code.replace(SERVICE, address)}\nwindow.{name} = {name};", type="module")
    await page.wait_for_function("name => typeof window[name] === 'function'", arg=name)


def html(heading: str, url: str, place: int = 0) -> str:
    """A block of HTML of the docs, for the object at *url*."""
    return snippets("frontends", heading, "html")[place].replace("KEY", url)


async def seen(page: Page, selector: str) -> str:
    """The address that the browser has chosen and shown."""
    await page.wait_for_function(
        "selector => { const image = document.querySelector(selector); return image?.complete && image.naturalWidth > 0; }",
        arg=selector,
    )
    chosen: str = await page.evaluate("selector => document.querySelector(selector).currentSrc", selector)
    return chosen


@pytest.mark.parametrize(("width", "ratio", "chosen"), [(360, 2, 960), (1280, 1, 1280), (500, 1, 640)])
async def test_a_picture_is_as_large_as_its_screen_needs_and_has_a_placeholder_until_then(
    browser: Browser, service: RunningServer, origin: str, owner: str, width: int, ratio: int, chosen: int
) -> None:
    client = service.client(owner)
    key = client.stored(PHOTO)["key"]
    held: list[str] = []
    shown = asyncio.Event()

    async def hold(route: Route) -> None:
        held.append(route.request.url)
        await shown.wait()
        await route.continue_()

    async with opened(browser, origin, viewport={"width": width, "height": 700}, device_scale_factor=ratio) as page:
        await page.goto("/")
        await learn(page, "What a page needs to know", "pictures", service.url)
        await learn(page, "One picture", "responsive", service.url)
        await page.route("**/api/media/**", hold)
        await page.evaluate(
            """async ([key, token]) => {
                document.body.innerHTML = "<style>body { margin: 0 }</style><main></main>";
                const [asset] = await pictures([key, key + ".gone"], token);
                const image = responsive(asset, { alt: "a photo", first: true });
                document.querySelector("main").append(image);
                const later = responsive(asset, { alt: "another" });
                later.id = "later";
                later.style.marginTop = "9000px";
                document.querySelector("main").append(later);
            }""",
            [key, service.token(owner)],
        )
        await page.wait_for_function("document.images[0].getBoundingClientRect().height > 0")
        before = await page.evaluate("document.images[0].getBoundingClientRect().toJSON()")
        assert before["height"] == pytest.approx(before["width"] * 0.75, abs=1), "its room is kept"
        assert "data:image/png" in await page.evaluate("getComputedStyle(document.images[0]).backgroundImage")
        assert len(held) == 1, "the one below is not asked for"
        shown.set()
        address = await seen(page, "img")
        assert re.search(r"[?&]w=(\d+)", address)[1] == str(chosen)  # type: ignore[index]
        assert "v=" in address
        assert await page.evaluate("document.images[0].getBoundingClientRect().toJSON()") == before, "nothing has moved"
        assert await page.evaluate("getComputedStyle(document.images[0]).backgroundImage") == "none"
        await page.evaluate("document.querySelector('#later').scrollIntoView()")
        assert await seen(page, "#later") == address
        answer = client.get(address.removeprefix(service.url))
        assert "immutable" in answer.headers["Cache-Control"]


async def test_blurhash_is_a_picture_too(browser: Browser, service: RunningServer, origin: str, owner: str) -> None:
    client = service.client(owner)
    record = client.get(f"/api/assets/{client.stored(PHOTO)['key']}").json
    async with opened(browser, origin) as page:
        await page.goto("/")
        await learn(page, "One picture", "blurred", service.url)
        await page.evaluate(
            "asset => { const image = new Image(); image.src = blurred(asset); document.body.append(image); }", record
        )
        assert (await seen(page, "img")).startswith("data:image/png")
        assert await page.evaluate("[document.images[0].naturalWidth, document.images[0].naturalHeight]") == [32, 24]


async def test_picture_elements_choose_format_and_crop(browser: Browser, service: RunningServer, origin: str, owner: str) -> None:
    url = service.url + media(service.client(owner).stored(PHOTO)["key"])
    async with opened(browser, origin, viewport={"width": 500, "height": 900}) as page:
        await page.goto("/")
        await page.evaluate("text => { document.body.innerHTML = text; }", html("Formats by name", url))
        assert (await seen(page, "img")).endswith("format=avif")
        await page.evaluate("text => { document.body.innerHTML = text; }", html("Another crop for a small screen", url))
        assert "h=400" in await seen(page, "img")
        assert await page.evaluate("document.images[0].naturalWidth / document.images[0].naturalHeight") == 1
        await page.set_viewport_size({"width": 1200, "height": 900})
        await page.wait_for_function("document.images[0].currentSrc.includes('ar=16:9')")
        await seen(page, "img")
        assert await page.evaluate("document.images[0].naturalWidth / document.images[0].naturalHeight") == pytest.approx(
            16 / 9, abs=0.01
        )


async def test_a_film_costs_its_poster_until_it_is_played(
    browser: Browser, service: RunningServer, origin: str, owner: str
) -> None:
    client = service.client(owner)
    url = service.url + media(client.stored(pictures.dawn("mp4"))["key"])
    asked: list[str] = []
    async with opened(browser, origin) as page:
        await page.goto("/")
        page.on("request", lambda request: asked.append(request.url) if "/api/media/" in request.url else None)
        await page.evaluate("text => { document.body.innerHTML = text; }", html("Films", url))
        async with page.expect_response(lambda answer: "w=640" in answer.url) as poster:
            pass
        assert (await poster.value).headers["content-type"] in {"image/avif", "image/webp"}
        assert [address for address in asked if "w=640" not in address] == []
        await page.evaluate("async () => { const film = document.querySelector('video'); film.muted = true; await film.play(); }")
        assert await page.evaluate("document.querySelector('video').videoWidth") > 0
    track = client.get(url.removeprefix(service.url) + "?sprite=5x4&w=160&format=vtt")
    assert track.text.startswith("WEBVTT")


@pytest.mark.timeout(240)
async def test_hls_plays_as_the_docs_say(browser: Browser, service: RunningServer, origin: str, owner: str) -> None:
    films.provided()
    client: Client = service.client(owner)
    job: dict[str, Any] = ended(client, begun(client, client.stored(pictures.mp4(320, 240, seconds=3))["key"], "hls"))
    async with opened(browser, origin) as page:
        await page.goto("/")
        await learn(page, "Films", "play", service.url)
        length = """async (address) => {
            const film = document.createElement("video");
            document.body.append(film);
            film.muted = true;
            play(film, address);
            await new Promise((done, failed) => { film.onloadeddata = done; film.onerror = failed; });
            return film.duration; }"""
        assert await page.evaluate(length, job["results"][0]["url"]) == pytest.approx(3, abs=0.3)

"""Large files on the page at /: nothing acknowledged is sent twice, whatever happens to the line, the server or the page."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Request, Route, ViewportSize, expect

from tests import pictures
from tests.browser import SCREENSHOTS, Line, chromium, holds, opened
from tests.console import Visit, card, choose, choose_path, faint, picture, row, sign_in, small_targets
from tests.kit.client import Client
from tests.kit.files import padded
from tests.kit.ports import free_port
from tests.kit.server import RunningServer
from tests.kit.tus import MIB, TUS
from tests.kit.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

Serve = Callable[..., RunningServer]
SIZE = 24 * MIB
NAME = "film.jpg"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all of this module."""
    SCREENSHOTS.mkdir(exist_ok=True)
    async with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of this module's own: what it has received is counted."""
    with RunningServer(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A large file that is taken."""
    path = tmp_path_factory.mktemp("film") / NAME
    path.write_bytes(padded(pictures.jpeg(320, 240), SIZE))
    return path


@pytest.fixture
def visit(browser: Browser, server: RunningServer) -> Visit:
    """Opens pages of the server."""
    return lambda url=server.url, **options: opened(browser, url, **options)


async def begun(page: Page, film: Path) -> Line:
    """Choose the film on a line so slow that it stays under way, and wait until some of it has gone."""
    line = Line(page)
    await line.limit(2 * MIB)
    await choose_path(page, film)
    await expect(row(page, NAME).get_by_role("progressbar")).to_have_attribute("value", re.compile(r"^([2-9]|\d\d)$"))
    return line


async def address(page: Page) -> str:
    """Where the one unfinished upload of the page is, as it noted that."""
    [place] = await page.evaluate("Object.keys(localStorage)")
    return str(place).removeprefix("media.upload.")


def received(server: RunningServer) -> float:
    """The bytes of resumable uploads that have come in all."""
    return server.metric("media_received_bytes_total", route="tus-upload")


def settled(server: RunningServer, client: Client, path: str) -> int:
    """The offset, exactly: to ask for it by HEAD ends whoever still sends."""
    answer = client.request("HEAD", path, TUS)
    assert answer.status == 200, answer
    return int(answer.headers["Upload-Offset"])


async def test_a_large_file_goes_in_slices_with_its_speed_and_the_time_that_is_left(
    visit: Visit, client: Client, film: Path
) -> None:
    async with visit() as page:
        await sign_in(page, client)
        sizes: list[int] = []

        def sent(request: Request) -> None:
            if request.method == "PATCH":
                sizes.append(int(request.headers.get("content-length", 0)))

        page.on("request", sent)
        line = await begun(page, film)
        await expect(row(page, NAME).get_by_text(re.compile(r"^Uploading, \d+ %$"))).to_be_visible()
        pace = re.compile(r"^[\d.]+ (KiB|MiB) of 24 MiB · [\d.]+ MiB/s · (\d+ s|a few seconds) left$")
        await expect(row(page, NAME).get_by_text(pace)).to_be_visible()
        bar = page.get_by_role("progressbar", name=f"Progress of {NAME}")
        await expect(bar).to_have_attribute("aria-valuetext", re.compile(r"^\d+ %, .* left$"))
        await line.limit(None)
        await expect(page.get_by_text("1 file: 1 uploaded")).to_be_visible()
        await expect(card(page, NAME).get_by_role("img")).not_to_have_js_property("naturalWidth", 0)
        [record] = client.assets()
        assert (record["filename"], record["size"], record["contentType"]) == (NAME, SIZE, "image/jpeg")
        assert len(sizes) > 1
        await holds(page, "localStorage.length === 0")


async def test_pause_stops_the_bytes_and_resume_goes_on(visit: Visit, server: RunningServer, client: Client, film: Path) -> None:
    async with visit() as page:
        await sign_in(page, client)
        before = received(server)
        line = await begun(page, film)
        await page.get_by_role("button", name=f"Pause: {NAME}").click()
        await expect(row(page, NAME).get_by_text("Paused", exact=True)).to_be_visible()
        await expect(page.get_by_text("1 file: 1 paused")).to_be_visible()
        stopped = settled(server, client, await address(page))
        await line.limit(None)
        await choose(page, picture())
        await expect(card(page, "harbour.png")).to_be_visible()
        assert settled(server, client, await address(page)) == stopped < SIZE
        await expect(page.get_by_role("button", name=f"Resume: {NAME}")).to_be_visible()
        await page.get_by_role("button", name=f"Resume: {NAME}").click()
        await expect(card(page, NAME)).to_be_visible()
        assert received(server) - before == SIZE


async def test_after_a_reload_the_same_file_goes_on_and_nothing_acknowledged_is_sent_again(
    visit: Visit, server: RunningServer, client: Client, film: Path, tmp_path: Path
) -> None:
    async with visit() as page:
        await sign_in(page, client)
        before = received(server)
        line = await begun(page, film)
        noted = await page.evaluate("JSON.stringify(localStorage)")
        assert NAME in noted
        assert str(client.token) not in noted
        place = await address(page)
        await page.reload()
        await line.limit(None)
        await expect(row(page, NAME).get_by_text("Choose the same file again to go on")).to_be_visible()
        await expect(page.get_by_text("1 file: 1 to be chosen again")).to_be_visible()
        percent = int(settled(server, client, place) / SIZE * 100)
        await expect(page.get_by_role("progressbar", name=f"Progress of {NAME}")).to_have_attribute("value", str(percent))
        other = tmp_path / NAME
        other.write_bytes(film.read_bytes()[:-1] + b"?")
        stamp = film.stat().st_mtime_ns
        for changed, times in ((other, (stamp, stamp)), (film, (stamp, stamp))):
            os.utime(changed, ns=times)
        await choose_path(page, other, f"Choose file: {NAME}")
        await expect(row(page, NAME).get_by_text("That is another file")).to_be_visible()
        await choose_path(page, film, f"Choose file: {NAME}")
        await expect(page.get_by_text("1 file: 1 uploaded")).to_be_visible()
        assert received(server) - before == SIZE
        [record] = client.assets()
        assert record["sha256"] == hashlib.sha256(film.read_bytes()).hexdigest()


async def test_a_server_that_is_killed_and_comes_back_gets_the_rest(browser: Browser, serve: Serve, film: Path) -> None:
    server = serve(MEDIA_PORT=str(free_port()))
    me = server.client("me")
    async with opened(browser, server.url) as page:
        await sign_in(page, me)
        line = Line(page)
        await line.limit(4 * MIB)
        async with page.expect_response(lambda answer: answer.request.method == "PATCH") as answer:
            await choose_path(page, film)
        acknowledged = int((await (await answer.value).all_headers())["upload-offset"])
        server.kill()
        await expect(row(page, NAME).get_by_text(re.compile(r"^The server does not answer\. Goes on in \d+ s\.$"))).to_be_visible()
        await expect(page.get_by_text("1 file: 1 interrupted")).to_be_visible()
        await line.limit(None)
        await asyncio.to_thread(server.start)
        await page.evaluate("dispatchEvent(new Event('online'))")
        await expect(card(page, NAME)).to_be_visible()
        assert 0 < received(server) <= SIZE - acknowledged < SIZE
        [record] = me.assets()
        assert record["sha256"] == hashlib.sha256(film.read_bytes()).hexdigest()


async def test_cancel_removes_what_the_server_has(visit: Visit, client: Client, film: Path) -> None:
    async with visit() as page:
        await sign_in(page, client)
        line = await begun(page, film)
        place = await address(page)
        await page.get_by_role("button", name=f"Cancel: {NAME}").click()
        await expect(page.get_by_text("1 file: 1 cancelled")).to_be_visible()
        await expect(row(page, NAME).get_by_text("Cancelled", exact=True)).to_be_visible()
        assert client.request("HEAD", place, TUS).status == 404
        await holds(page, "localStorage.length === 0")
        await line.limit(None)
        await page.get_by_role("button", name=f"Try again: {NAME}").click()
        await expect(card(page, NAME)).to_be_visible()


async def test_what_an_earlier_page_began_can_be_cancelled_without_its_file(visit: Visit, client: Client, film: Path) -> None:
    async with visit() as page:
        await sign_in(page, client)
        await begun(page, film)
        place = await address(page)
        await page.reload()
        await page.get_by_role("button", name=f"Cancel: {NAME}").click()
        await expect(row(page, NAME)).to_have_count(0)
        await expect(page.get_by_role("button", name="Choose files")).to_be_focused()
        assert client.request("HEAD", place, TUS).status == 404
        await holds(page, "localStorage.length === 0")


async def test_a_token_that_expires_in_the_middle_is_asked_for_anew_and_the_upload_goes_on(
    visit: Visit, server: RunningServer, owner: str, film: Path
) -> None:
    async with visit() as page:
        await page.clock.install(time=time.time())
        await sign_in(page, server.client(owner, lifetime_s=600))
        before = received(server)
        line = await begun(page, film)
        await page.clock.fast_forward("11:00")
        await expect(page.get_by_role("alert").filter(has_text="Your token expired")).to_be_visible()
        await expect(row(page, NAME).get_by_text("Waits for sign-in")).to_be_visible()
        await line.limit(None)
        await page.get_by_label("Access token").fill(server.token(owner))
        await page.keyboard.press("Enter")
        await expect(card(page, NAME)).to_be_visible()
        assert received(server) - before == SIZE


async def test_a_token_that_the_server_refuses_in_the_middle_is_asked_for_anew(
    visit: Visit, server: RunningServer, client: Client, film: Path
) -> None:
    async with visit() as page:
        await sign_in(page, client)
        line = await begun(page, film)
        refused = {"title": "Unauthorized", "status": 401, "detail": "the key was changed", "code": "unauthorized"}

        async def refuse(route: Route) -> None:
            if route.request.method == "PATCH":
                await route.fulfill(status=401, json=refused, content_type="application/problem+json")
            else:
                await route.continue_()

        await page.route("**/api/uploads/*", refuse)
        await line.limit(None)
        await expect(row(page, NAME).get_by_text("Waits for sign-in")).to_be_visible()
        await expect(page.get_by_role("alert").filter(has_text="The server did not accept the token.")).to_be_visible()
        await page.unroute("**/api/uploads/*")
        await page.get_by_label("Access token").fill(str(client.token))
        await page.keyboard.press("Enter")
        await expect(card(page, NAME)).to_be_visible()
        assert len(client.assets()) == 1


async def test_faults_on_the_way_are_got_over_without_a_hand(
    visit: Visit, server: RunningServer, client: Client, film: Path
) -> None:
    """Something in between that takes small requests only, a server that is busy, a line that is cut, a lock."""
    async with visit() as page:
        await sign_in(page, client)
        before = received(server)
        answers: list[int | None] = [413, 503, 0, None, 0, 423]

        async def fail(route: Route) -> None:
            answer = answers.pop(0) if answers and route.request.method == "PATCH" else 0
            if answer is None:
                await route.abort("connectionreset")
            elif answer:
                await route.fulfill(status=answer, body="<h1>sorry</h1>", content_type="text/html")
            else:
                await route.continue_()

        await page.route("**/api/uploads/*", fail)
        await choose_path(page, film)
        await eventually(lambda: not answers)
        await page.unroute("**/api/uploads/*")
        await expect(card(page, NAME)).to_be_visible()
        assert received(server) - before == SIZE
        assert len(client.assets()) == 1


async def test_what_the_server_does_not_know_any_more_begins_anew(visit: Visit, client: Client, film: Path) -> None:
    async with visit() as page:
        await sign_in(page, client)
        line = await begun(page, film)
        await page.get_by_role("button", name=f"Pause: {NAME}").click()
        assert client.request("DELETE", await address(page), TUS).status == 204
        await page.get_by_role("button", name=f"Resume: {NAME}").click()
        await expect(page.get_by_text(f"The server has no part of {NAME} any more: it begins anew.")).to_be_visible()
        await line.limit(None)
        await expect(card(page, NAME)).to_be_visible()
        await holds(page, "localStorage.length === 0")


async def test_an_upload_that_is_gone_is_dropped_from_the_next_page_with_a_word(visit: Visit, client: Client, film: Path) -> None:
    async with visit() as page:
        await sign_in(page, client)
        await begun(page, film)
        await page.get_by_role("button", name=f"Pause: {NAME}").click()
        assert client.request("DELETE", await address(page), TUS).status == 204
        await page.reload()
        await expect(page.get_by_text(f"{NAME}: The server has no part of it any more.")).to_be_visible()
        await expect(row(page, NAME)).to_have_count(0)
        await holds(page, "localStorage.length === 0")


async def test_a_large_file_that_is_not_taken_says_why(visit: Visit, client: Client, tmp_path: Path) -> None:
    zeros = tmp_path / "zeros.bin"
    zeros.write_bytes(bytes(9 * MIB))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(pictures.jpeg(320, 240)[:600] + bytes(9 * MIB))
    async with visit() as page:
        await sign_in(page, client)
        await choose_path(page, zeros)
        await choose_path(page, broken)
        await expect(row(page, "zeros.bin").get_by_text("This type of file is not accepted.")).to_be_visible()
        await expect(row(page, "broken.jpg").get_by_text("The file is damaged.")).to_be_visible()
        assert client.assets() == []
        await holds(page, "localStorage.length === 0")


async def test_when_the_answer_to_the_last_bytes_is_lost_what_came_of_them_is_still_told(
    visit: Visit, client: Client, tmp_path: Path
) -> None:
    good, broken = tmp_path / "good.jpg", tmp_path / "broken.jpg"
    good.write_bytes(padded(pictures.jpeg(320, 240), 9 * MIB))
    broken.write_bytes(pictures.jpeg(320, 240)[:600] + bytes(9 * MIB))
    lost: list[int] = []

    async def lose(route: Route) -> None:
        if route.request.method == "PATCH" and int(route.request.headers["upload-offset"]):
            lost.append((await route.fetch()).status)
            await route.abort("connectionreset")
        else:
            await route.continue_()

    async with visit() as page:
        await sign_in(page, client)
        await page.route("**/api/uploads/*", lose)
        await choose_path(page, good)
        await expect(card(page, "good.jpg")).to_be_visible()
        await choose_path(page, broken)
        await expect(row(page, "broken.jpg").get_by_text("The file is damaged.")).to_be_visible()
        assert lost == [204, 422]
        assert len(client.assets()) == 1
        await holds(page, "localStorage.length === 0")


async def test_a_file_that_is_all_there_at_a_reload_need_not_be_chosen_again(visit: Visit, client: Client, tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_bytes(padded(pictures.jpeg(320, 240), 9 * MIB))
    arrived = asyncio.Event()

    async def keep(route: Route) -> None:
        if route.request.method == "PATCH" and int(route.request.headers["upload-offset"]):
            await route.fetch()
            arrived.set()  # and the page is never told
        else:
            await route.continue_()

    async with visit() as page:
        await sign_in(page, client)
        await page.route("**/api/uploads/*", keep)
        await choose_path(page, path)
        await arrived.wait()
        await page.reload()
        await expect(page.get_by_text("1 file: 1 uploaded")).to_be_visible()
        await expect(card(page, NAME)).to_be_visible()
        assert len(client.assets()) == 1
        await holds(page, "localStorage.length === 0")


async def test_another_tab_leaves_an_upload_alone_until_its_tab_is_closed(visit: Visit, client: Client, film: Path) -> None:
    async with visit() as page:
        slices: list[str] = []

        async def the_first(route: Route) -> None:
            if route.request.method == "PATCH":
                slices.append(route.request.url)
            if len(slices) < 2:  # it does not come to its end however long the rest takes, nor does the page send more when it goes
                await route.continue_()

        await page.route("**/api/uploads/*", the_first)
        await sign_in(page, client)
        await begun(page, film)
        other = await page.context.new_page()
        await sign_in(other, client)
        await choose(other, picture())
        await expect(card(other, "harbour.png")).to_be_visible()
        await expect(row(other, NAME)).to_have_count(0)
        await page.close()
        await expect(row(other, NAME).get_by_text("Choose the same file again to go on")).to_be_visible()
        await choose_path(other, film)
        await expect(card(other, NAME)).to_be_visible()


async def test_somebody_else_in_the_same_browser_is_told_of_nothing(
    visit: Visit, server: RunningServer, client: Client, owner: str, film: Path
) -> None:
    async with visit() as page:
        await sign_in(page, client)
        await begun(page, film)
        await page.get_by_role("button", name="Sign out").click()
        await sign_in(page, server.client(f"{owner}-other"))
        await page.reload()
        await choose(page, picture())
        await expect(card(page, "harbour.png")).to_be_visible()
        await expect(row(page, NAME)).to_have_count(0)
        await page.get_by_role("button", name="Sign out").click()
        await sign_in(page, client)
        await expect(row(page, NAME).get_by_text("Choose the same file again to go on")).to_be_visible()


async def test_every_state_of_a_large_file_is_readable_in_both_schemes_and_fits_a_phone(
    visit: Visit, client: Client, film: Path, tmp_path: Path
) -> None:
    async def cut(route: Route) -> None:
        await (route.abort("connectionreset") if route.request.method == "PATCH" else route.continue_())

    names = [NAME, "a film with a very long name, as people give them to their films.jpg", "regatta.jpg", "tunnel.jpg"]
    paths = [film, *(tmp_path / name for name in names[1:])]
    for path in paths[1:]:
        path.write_bytes(film.read_bytes())
    async with visit(reduced_motion="reduce") as page:  # or the colours of the other scheme would come only after a while
        await sign_in(page, client)
        line = await begun(page, film)
        await page.reload()
        await expect(row(page, NAME).get_by_text(re.compile("^[1-9].* of 24 MiB$"))).to_be_visible()
        await choose_path(page, paths[1])
        await expect(row(page, names[1]).get_by_text(re.compile(r"^Uploading, [1-9]"))).to_be_visible()
        await page.get_by_role("button", name=f"Pause: {names[1]}").click()
        await line.limit(MIB // 4)
        await choose_path(page, paths[2])
        await expect(row(page, names[2]).get_by_text("left")).to_be_visible()
        await page.route("**/api/uploads/*", cut)
        await choose_path(page, paths[3])
        await expect(page.get_by_text("4 files: 1 on the way, 1 interrupted, 1 paused, 1 to be chosen again")).to_be_visible()
        names_of_buttons = await page.get_by_role("button").evaluate_all("all => all.map(e => e.ariaLabel || e.textContent)")
        assert len(set(names_of_buttons)) == len(names_of_buttons), "no two buttons are called the same"
        for device, viewport in (("desktop", {"width": 1280, "height": 900}), ("phone", {"width": 360, "height": 740})):
            await page.set_viewport_size(ViewportSize(**viewport))
            for scheme in ("light", "dark"):
                await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
                assert await page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
                assert await faint(page) == []
                assert await small_targets(page) == []
                await page.screenshot(path=SCREENSHOTS / f"{device}-{scheme}-uploads.png", full_page=True)

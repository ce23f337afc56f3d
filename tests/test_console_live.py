"""The page at /, as things happen elsewhere: what arrives and goes, how far it is, what a record says, how much room is left."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, Request, Route, expect

from tests import pictures
from tests.browser import SCREENSHOTS, Line, chromium, holds, opened
from tests.console import Visit, card, choose_path, faint, row, sign_in, small_targets
from tests.kit.client import Client, FilePart, form, form_type, media
from tests.kit.files import padded
from tests.kit.ports import free_port
from tests.kit.server import RunningServer
from tests.kit.tus import MIB, TUS, Upload, begun, metadata
from tests.kit.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

EMPTY = "Nothing here yet"
HOSTILE = "<img src=x onerror=alert(1)>\u202e gnp.exe"
PHONE = {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}
PHOTO = pictures.jpeg(300, 200)
REASON = "<script>alert(2)</script> was found in it"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all of this module."""
    SCREENSHOTS.mkdir(exist_ok=True)
    async with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of this module's own, with quotas, which comes back at the same address."""
    env = {"MEDIA_PORT": str(free_port()), "MEDIA_QUOTA_BYTES": "4M", "MEDIA_QUOTA_OBJECTS": "3"}
    with RunningServer(tmp_path_factory.mktemp("bounded"), env) as running:
        yield running


@pytest.fixture
def visit(browser: Browser, server: RunningServer) -> Visit:
    """Opens pages of the shared server."""
    return lambda url=server.url, **options: opened(browser, url, **options)


def state(page: Page) -> Locator:
    """What the page says of the stream."""
    return page.locator("#live-state")


def elsewhere(page: Page, name: str) -> Locator:
    """The file in the list of what is uploaded elsewhere."""
    files = page.get_by_role("list", name="Files being uploaded elsewhere").get_by_role("listitem")
    return files.filter(has=page.get_by_text(name, exact=True))


def detail(page: Page, term: str) -> Locator:
    """What the open record says of *term*."""
    return page.locator("#details > dt", has_text=re.compile(f"^{term}$")).locator("xpath=following-sibling::dd[1]")


def quarantine(server: RunningServer, owner: str, record: dict[str, Any], reason: str) -> None:
    """Do what a scanner does: the state and the event in one transaction. The owner hears of it with what comes next."""
    kind, created = "asset.quarantined", int(time.time() * 1_000_000)
    body = json.dumps({"type": kind, "data": record | {"reason": reason}})
    event = ("evt_scanned", kind, record["key"], owner, body, created, "silent", 0, created)
    names = "id, kind, key, owner, body, created, delivery, attempts, due"
    with closing(sqlite3.connect(server.data / "catalogue.sqlite")) as database, database:
        database.execute("UPDATE assets SET state = 'quarantined' WHERE key = ?", (record["key"],))
        database.execute(f"INSERT INTO events ({names}) VALUES ({', '.join('?' * len(event))})", event)


async def live(page: Page, client: Client) -> None:
    """Sign in and wait for the stream."""
    await sign_in(page, client)
    await expect(state(page)).to_have_text("Live")


async def look_away(page: Page, is_hidden: bool) -> None:
    """Have the page believe that nobody looks at it, or that somebody does again."""
    await page.evaluate(
        """(hidden) => {
          Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        is_hidden,
    )


async def test_what_is_stored_elsewhere_appears_and_what_is_deleted_there_disappears(visit: Visit, client: Client) -> None:
    old = client.stored(PHOTO, filename="old.jpg")
    async with visit() as page:
        await live(page, client)
        await expect(card(page, "old.jpg")).to_be_visible()
        record = client.stored(PHOTO, filename=HOSTILE)
        shown = HOSTILE.replace("\u202e", "")
        await expect(card(page, shown).get_by_role("img")).not_to_have_js_property("naturalWidth", 0)
        await expect(page.get_by_role("status").filter(has_text=f"{shown} has arrived.")).to_be_visible()
        assert await page.locator(".card .name").all_inner_texts() == [shown, "old.jpg"], "the newest comes first"
        await card(page, shown).get_by_role("button", name="Delete").focus()
        client.delete(media(record["key"]))
        await expect(card(page, shown)).to_have_count(0)
        await expect(page.get_by_role("button", name="View old.jpg")).to_be_focused()
        await page.get_by_role("button", name="View old.jpg").click()
        client.delete(media(old["key"]))
        await expect(page.get_by_role("dialog")).to_be_hidden()
        await expect(page.get_by_text(EMPTY)).to_be_visible()


async def test_an_upload_elsewhere_shows_how_far_it_is_and_then_what_has_become_of_it(visit: Visit, client: Client) -> None:
    film = padded(PHOTO, 4 * MIB)
    async with visit() as page:
        await live(page, client)
        good = begun(client, len(film), {"Upload-Metadata": metadata(filename=f"{HOSTILE} phone")})
        name = f"{HOSTILE} phone".replace("\u202e", "")
        good.append(film[:MIB], 0)
        await expect(elsewhere(page, name).get_by_text("Uploading, 25 %")).to_be_visible()
        bar = page.get_by_role("progressbar", name=f"Progress of {name}, elsewhere")
        await expect(bar).to_have_attribute("value", "25")
        good.append(film[MIB : 3 * MIB], MIB)
        await expect(elsewhere(page, name).get_by_text("Uploading, 75 %")).to_be_visible()
        await expect(elsewhere(page, name).get_by_text("3 MiB of 4 MiB")).to_be_visible()
        good.append(film[3 * MIB :], 3 * MIB)
        await expect(card(page, name)).to_be_visible()
        await expect(page.get_by_role("region", name="Uploading elsewhere")).to_be_hidden()


async def test_an_upload_elsewhere_that_is_refused_or_given_up_says_so_or_goes(visit: Visit, client: Client) -> None:
    def begin(name: str) -> Upload:
        upload = begun(client, 2 * MIB, {"Upload-Metadata": metadata(filename=name)})
        upload.append(bytes(MIB), 0)
        return upload

    async with visit() as page:
        await page.clock.install()
        await live(page, client)
        bad, lost, still = begin("bad.bin"), begin("lost.bin"), begin("still.bin")
        for name in ("bad.bin", "lost.bin", "still.bin"):
            await expect(elsewhere(page, name)).to_be_visible()
        assert bad.append(bytes(MIB), MIB).status == 415
        client.request("DELETE", lost.path, TUS)
        await page.clock.run_for(10_000)
        await expect(elsewhere(page, "lost.bin")).to_have_count(0)
        await expect(elsewhere(page, "bad.bin").get_by_text("This type of file is not accepted.")).to_be_visible()
        await expect(elsewhere(page, "still.bin").get_by_text("Interrupted")).to_be_visible()
        await elsewhere(page, "bad.bin").get_by_role("button", name="Remove bad.bin from the list").click()
        await expect(elsewhere(page, "bad.bin")).to_have_count(0)
        await expect(page.get_by_role("button", name="Choose files")).to_be_focused()
        client.request("DELETE", still.path, TUS)


async def test_a_form_from_elsewhere_shows_how_far_it_is(visit: Visit, server: RunningServer, client: Client) -> None:
    body = form(FilePart(padded(PHOTO, 6 * MIB), "curl.jpg", "image/jpeg"))
    headers = {"Authorization": f"Bearer {client.token}", "Content-Type": form_type(), "Content-Length": str(len(body))}
    async with visit() as page:
        await live(page, client)
        with server.wire() as wire:
            wire.request("POST", "/api/upload", headers, body[: 3 * MIB])
            sent = 3 * MIB
            while not await elsewhere(page, "curl.jpg").count():
                wire.send(body[sent : sent + 512])
                sent += 512
            await expect(elsewhere(page, "curl.jpg").get_by_text(re.compile(r"Uploading, 5\d %"))).to_be_visible()
            wire.send(body[sent:])
            await expect(card(page, "curl.jpg")).to_be_visible()
        await expect(page.get_by_role("region", name="Uploading elsewhere")).to_be_hidden()


async def test_what_this_page_sends_is_not_told_a_second_time(visit: Visit, client: Client, tmp_path: Path) -> None:
    async with visit() as page:
        await live(page, client)
        await page.evaluate(
            """() => {
              window.told = [];
              for (const id of ["elsewhere-list", "announcement"])
                new MutationObserver(() => window.told.push(document.getElementById(id).textContent))
                  .observe(document.getElementById(id), { childList: true });
            }"""
        )
        await Line(page).limit(8_000_000)
        for name, size in (("own large.jpg", 12 * MIB), ("own small.jpg", 7 * MIB)):
            path = tmp_path / name
            path.write_bytes(padded(PHOTO, size))
            await choose_path(page, path)
        for name in ("own large.jpg", "own small.jpg"):
            await expect(row(page, name).get_by_text("Uploaded", exact=True)).to_be_visible()
        await expect(page.locator(".card")).to_have_count(2)
        client.stored(PHOTO, filename="other.jpg")
        await expect(page.get_by_role("status").filter(has_text="other.jpg has arrived.")).to_be_visible()
        assert [text for text in await page.evaluate("window.told") if "own" in text] == []


async def test_after_a_break_the_page_learns_what_it_has_missed(browser: Browser, bounded: RunningServer, owner: str) -> None:
    client = bounded.client(owner)
    gone = client.stored(PHOTO, filename="gone.jpg")
    async with opened(browser, bounded.url) as page:
        await live(page, client)
        client.stored(PHOTO, filename="first.jpg")
        await expect(card(page, "first.jpg")).to_be_visible()
        await page.evaluate(
            """() => new MutationObserver((_, seen) => {
                 if (!document.getElementById("live-state").textContent.startsWith("Not live")) return;
                 window.wasTold = true;
                 seen.disconnect();
               }).observe(document.getElementById("live-state"), { childList: true })"""
        )
        bounded.kill()
        await holds(page, "window.wasTold")
        bounded.start()
        client.delete(media(gone["key"]))
        client.stored(PHOTO, filename="second.jpg")
        await page.evaluate("dispatchEvent(new Event('online'))")
        await expect(card(page, "second.jpg")).to_be_visible()
        await expect(card(page, "gone.jpg")).to_have_count(0)
        await expect(state(page)).to_have_text("Live")


async def test_a_page_that_nobody_looks_at_listens_no_longer_and_catches_up(
    browser: Browser, bounded: RunningServer, owner: str
) -> None:
    client = bounded.client(owner)
    old = client.stored(PHOTO, filename="old.jpg")
    async with opened(browser, bounded.url) as page:
        await live(page, client)
        await eventually(lambda: bounded.metric("media_event_listeners") == 1)
        await look_away(page, True)
        await eventually(lambda: bounded.metric("media_event_listeners") == 0)
        client.delete(media(old["key"]))
        client.stored(PHOTO, filename="new.jpg")
        await look_away(page, False)
        await expect(card(page, "new.jpg")).to_be_visible()
        await expect(card(page, "old.jpg")).to_have_count(0)
    await eventually(lambda: bounded.metric("media_event_listeners") == 0)


async def test_a_new_token_takes_the_stream_over_and_another_owner_starts_anew(
    visit: Visit, server: RunningServer, client: Client, owner: str
) -> None:
    async with visit() as page:
        asked: list[dict[str, str]] = []

        def note(request: Request) -> None:
            if request.url.endswith("/api/events"):
                asked.append(request.headers)

        page.on("request", note)
        await live(page, client)
        client.stored(PHOTO, filename="one.jpg")
        await expect(card(page, "one.jpg")).to_be_visible()
        fresh = server.token(owner, lifetime_s=1800)
        await page.evaluate("token => { location.hash = `token=${token}`; }", fresh)
        await eventually(lambda: len(asked) == 2)
        assert asked[1]["authorization"] == f"Bearer {fresh}"
        assert asked[1]["last-event-id"].startswith("evt_")
        client.stored(PHOTO, filename="two.jpg")
        await expect(card(page, "two.jpg")).to_be_visible()
        await page.evaluate("token => { location.hash = `token=${token}`; }", server.token(f"{owner}-x"))
        await eventually(lambda: len(asked) == 3)
        assert "last-event-id" not in asked[2]
        await expect(page.locator(".card")).to_have_count(0)


async def test_a_stream_that_is_refused_says_why(visit: Visit, server: RunningServer, client: Client, owner: str) -> None:
    async with visit() as page:
        answers = [{"status": 429, "headers": {"Retry-After": "1"}}, {"status": 503}]

        async def refuse(route: Route) -> None:
            if answers:
                await route.fulfill(**answers.pop(0), content_type="application/problem+json", body="{}")
            else:
                await route.continue_()

        await page.route("**/api/events", refuse)
        await sign_in(page, client)
        await expect(state(page)).to_have_text(re.compile("too many of your pages"))
        await expect(state(page)).to_have_text("Live")
        assert answers == []
        writer = server.client(owner, scope="media:write")
        await page.evaluate("token => { location.hash = `token=${token}`; }", writer.token)
        await expect(state(page)).to_have_text("Not live: your token does not allow it")


async def test_the_record_of_a_file_is_told_in_full_and_stays_text(visit: Visit, client: Client) -> None:
    record = client.stored(pictures.jpeg(900, 600), filename=HOSTILE)
    async with visit() as page:

        async def add(route: Route) -> None:
            answer = await route.fetch()
            hostile = {"metadata": {HOSTILE: HOSTILE, "album": "Sea"}, "presets": {"card": "ready", "hero": "pending"}}
            await route.fulfill(json=await answer.json() | hostile)

        await page.route(f"**/api/assets/{record['key']}", add)
        await live(page, client)
        shown = HOSTILE.replace("\u202e", "")
        await card(page, shown).get_by_role("button", name="View").click()
        for term, said in (
            ("State", "Ready"), ("File name", shown), ("Type", "JPEG (image/jpeg)"), ("Dimensions", "900 × 600 px"),
            ("Size", f"{record['size']:,} bytes"), ("Owner", record["key"].split("/")[0]), ("Key", record["key"]),
            ("SHA-256", record["sha256"]), ("Main colour", record["colour"]), ("Presets", "hero: being made"), ("Metadata", "Sea"),
        ):  # fmt: skip
            await expect(detail(page, term)).to_contain_text(said)
        await expect(detail(page, "Metadata").locator("dt").first).to_have_text(shown)
        await expect(detail(page, "Stored").locator("time")).to_have_attribute("datetime", record["createdAt"])
        links = detail(page, "Renditions").get_by_role("link")
        assert await links.all_inner_texts() == ["320 px", "640 px"]
        address = await links.first.evaluate("link => link.href")
        assert client.get(address.partition("/api/")[1] + address.partition("/api/")[2]).status == 200
        await page.get_by_role("button", name="Copy the digest").click()
        await expect(page.get_by_role("dialog").get_by_role("status").filter(has_text="The digest is copied.")).to_be_visible()


async def test_a_focal_point_is_set_by_a_click_or_two_numbers_and_taken_away(visit: Visit, client: Client) -> None:
    key = client.stored(pictures.jpeg(900, 600), filename="harbour.jpg")["key"]

    def focal() -> list[float] | None:
        point: list[float] | None = client.get(f"/api/assets/{key}").json["focal"]
        return point

    async with visit() as page:
        await live(page, client)
        await page.get_by_role("button", name="View harbour.jpg").click()
        form = page.get_by_role("form", name="Focal point")
        save, left, top = (
            form.get_by_role("button", name="Save"),
            form.get_by_label("From the left"),
            form.get_by_label("From the top"),
        )
        await expect(save).to_be_disabled()
        picture = form.locator("img")
        await expect(picture).not_to_have_js_property("naturalWidth", 0)
        await picture.scroll_into_view_if_needed()
        box = await picture.bounding_box()
        assert box is not None
        await picture.click(position={"x": box["width"] * 0.25, "y": box["height"] * 0.75})
        await page.keyboard.press("Enter")
        await expect(form.get_by_role("button", name="Clear")).to_be_visible()
        x, y = focal() or [0, 0]
        assert abs(x - 0.25) < 0.01
        assert abs(y - 0.75) < 0.01
        await left.fill("101")
        await expect(save).to_be_disabled()
        await left.fill("60")
        await top.fill("12.5")
        async with page.expect_response(f"**/api/assets/{key}"):
            await top.press("Enter")
        assert focal() == [0.6, 0.125]
        await form.get_by_role("button", name="Clear").click()
        await expect(left).to_have_value("")
        assert focal() is None


async def test_a_focal_point_that_was_changed_elsewhere_meanwhile_is_shown_and_not_overwritten(
    visit: Visit, client: Client
) -> None:
    key = client.stored(pictures.jpeg(900, 600), filename="harbour.jpg")["key"]
    async with visit() as page:

        async def race(route: Route) -> None:
            if route.request.method == "PATCH":
                await route.fulfill(status=412, content_type="application/problem+json", body='{"code": "precondition-failed"}')
            else:
                await route.continue_()

        await page.route(f"**/api/assets/{key}", race)
        await live(page, client)
        await page.get_by_role("button", name="View harbour.jpg").click()
        form = page.get_by_role("form", name="Focal point")
        await form.get_by_label("From the left").fill("10")
        await form.get_by_label("From the top").fill("20")
        patched = client.request(
            "PATCH", f"/api/assets/{key}", {"Content-Type": "application/json"}, json.dumps({"focal": [0.7, 0.8]}).encode()
        )
        assert patched.status == 200
        await form.get_by_role("button", name="Save").click()
        await expect(form.get_by_role("alert")).to_have_text("This was changed elsewhere meanwhile: what it says now is shown.")
        await expect(form.get_by_label("From the left")).to_have_value("70")
        await expect(form.get_by_label("From the top")).to_have_value("80")


async def test_a_quarantined_file_says_so_with_the_reason(visit: Visit, server: RunningServer, client: Client, owner: str) -> None:
    record = client.stored(PHOTO, filename="doubtful.jpg")
    async with visit() as page:
        await live(page, client)
        await expect(card(page, "doubtful.jpg")).to_be_visible()
        quarantine(server, owner, record, REASON)
        client.stored(PHOTO, filename="next.jpg")
        doubtful = card(page, "doubtful.jpg")
        await expect(doubtful.get_by_text("Quarantined", exact=True)).to_be_visible()
        await expect(doubtful.get_by_role("button", name="Copy link")).to_be_hidden()
        await doubtful.get_by_role("button", name="View").click()
        await expect(detail(page, "State")).to_have_text(f"Quarantined: nobody can open it. {REASON}")
        await expect(page.get_by_role("dialog").get_by_text("It is quarantined: nobody can open it.", exact=True)).to_be_visible()
        await expect(page.get_by_label("Address", exact=True)).to_be_hidden()


async def test_usage_is_shown_beside_the_quota_and_says_when_it_is_near(
    browser: Browser, bounded: RunningServer, owner: str
) -> None:
    client = bounded.client(owner)
    async with opened(browser, bounded.url) as page:
        await live(page, client)
        group = page.get_by_role("group", name="Space used")
        await expect(group.get_by_text("0 of 3 files")).to_be_visible()
        client.stored(padded(PHOTO, 2 * MIB), filename="half.jpg")
        await expect(group.get_by_text("2 MiB of 4 MiB")).to_be_visible()
        meter = group.get_by_role("meter", name="2 MiB of 4 MiB")
        await expect(meter).to_have_js_property("value", 0.5)
        upload = begun(client, MIB + MIB // 2)
        upload.append(bytes(MIB), 0)
        await expect(group.get_by_text("3.5 MiB of 4 MiB")).to_be_visible()
        await expect(group.get_by_text("1.5 MiB of it for unfinished uploads")).to_be_visible()
        await expect(group.get_by_role("status")).to_have_text("The quota is almost used up.")
        client.request("DELETE", upload.path, TUS)
        client.stored(PHOTO)
        client.stored(PHOTO)
        await expect(group.get_by_text("3 of 3 files")).to_be_visible()
        await expect(group.get_by_role("status")).to_have_text("The quota is used up: delete something to make room.")


async def test_without_a_quota_usage_is_a_sum(visit: Visit, client: Client) -> None:
    client.stored(padded(PHOTO, MIB), filename="one.jpg")
    async with visit() as page:
        await live(page, client)
        group = page.get_by_role("group", name="Space used")
        await expect(group.get_by_text("1 file", exact=True)).to_be_visible()
        await expect(group.get_by_text("1 MiB used", exact=True)).to_be_visible()
        await expect(group.get_by_role("meter")).to_have_count(0)


@pytest.mark.parametrize(("device", "scheme"), [("desktop", "light"), ("phone", "dark")])
async def test_what_is_live_is_readable_in_both_schemes_and_fits_a_phone(
    browser: Browser, bounded: RunningServer, owner: str, scheme: str, device: str
) -> None:
    client = bounded.client(owner)
    client.stored(pictures.jpeg(900, 600), filename="harbour.jpg")
    async with opened(browser, bounded.url, color_scheme=scheme, **(PHONE if device == "phone" else {})) as page:
        await live(page, client)
        name = "a film with a very long name, as phones give them.mp4"
        begun(client, 3 * MIB + MIB // 2, {"Upload-Metadata": metadata(filename=name)}).append(bytes(2 * MIB), 0)
        begun(client, 1000, {"Upload-Metadata": metadata(filename="bad.bin")}).append(bytes(1000), 0)
        await expect(page.get_by_text("Uploading, 57 %")).to_be_visible()
        await expect(elsewhere(page, "bad.bin").get_by_text("This type of file is not accepted.")).to_be_visible()
        await expect(page.get_by_text("The quota is almost used up.")).to_be_visible()
        assert await faint(page) == []
        assert await small_targets(page) == []
        assert page.viewport_size is not None
        assert await page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
        await page.screenshot(path=SCREENSHOTS / f"{device}-{scheme}-live.png", full_page=True)
        await page.get_by_role("button", name="View harbour.jpg").click()
        await expect(detail(page, "Renditions")).to_be_visible()
        assert await faint(page) == []
        assert await small_targets(page) == []
        assert await page.get_by_role("dialog").evaluate("d => d.scrollWidth <= d.clientWidth")
        await detail(page, "Renditions").scroll_into_view_if_needed()
        await page.screenshot(path=SCREENSHOTS / f"{device}-{scheme}-details.png")


async def test_the_page_passes_a_message_on_whatever_pieces_it_comes_in(visit: Visit) -> None:
    text = ': still here\n\nid: evt_1\nevent: asset.stored\ndata: {"a":\ndata: "ü"}\n\nretry: 3000\ndata: x\r\n\r\n'
    async with visit() as page:
        await page.goto("/")
        found = await page.evaluate(
            """async ([bytes, sizes]) => {
              const { hear } = await import(new URL("console/messages.js", location));
              const all = [];
              for (const size of sizes) {
                const heard = [];
                let at = 0;
                const body = new ReadableStream({ pull(stream) {
                  if (at >= bytes.length) stream.close();
                  else stream.enqueue(Uint8Array.from(bytes.slice(at, at += size)));
                } });
                await hear(body, (message) => heard.push([message.id, message.type, message.data]), () => {});
                all.push(heard);
              }
              return all;
            }""",
            [list(text.encode()), [1, 2, 3, 7, 1000]],
        )
        wanted = [["evt_1", "asset.stored", '{"a":\n"ü"}'], [None, "message", "x"]]
        assert found == [wanted] * 5
        endless = """async () => {
          const { hear } = await import(new URL("console/messages.js", location));
          const piece = new TextEncoder().encode("data: " + "x".repeat(65536));
          const body = new ReadableStream({ pull: (stream) => stream.enqueue(piece) });
          return hear(body, () => {}, () => {}).then(() => "ended", (error) => error.message);
        }"""
        assert await page.evaluate(endless) == "a message without an end"

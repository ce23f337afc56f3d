"""Films in several sizes for players that choose: HLS, made by a job, delivered as any object, and played in a real browser."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import urljoin

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from proxy.signing import address
from tests import pictures
from tests.browser import chromium, opened
from tests.kit import films, node
from tests.kit.client import Client, media
from tests.kit.server import RunningServer
from tests.test_browser_tus import Quiet
from tests.test_jobs import begun, ended

SECRET = "correct-horse-battery-staple-twice-over"
SECONDS = 20
PROFILES = '[hls]\ncontainer = "hls"\nheights = [360, 240, 144]\n[small]\ncontainer = "mp4"\nheight = 240\n'


@pytest.fixture(scope="module", autouse=True)
def _ffmpeg() -> None:
    films.provided()


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    """The address of another origin, which has hls.js."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(node.modules()))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def service(page: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("hls")
    (folder / "profiles.toml").write_text(PROFILES)
    env = {"MEDIA_PROFILES": str(folder / "profiles.toml"), "MEDIA_CORS_ORIGINS": page, "MEDIA_URL_SECRETS": SECRET}
    with RunningServer(folder / "server", env) as running:
        yield running


@pytest.fixture(scope="module")
def made(service: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The job that has made a film of twenty seconds, 426 × 240 with a tone, into HLS."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    picture = ["-f", "lavfi", "-i", f"testsrc2=size=426x240:rate=25:duration={SECONDS}"]
    sound = ["-f", "lavfi", "-i", f"sine=frequency=440:duration={SECONDS}"]
    encoded = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", "-y", str(path)]
    subprocess.run(["ffmpeg", "-v", "error", *picture, *sound, *encoded], check=True, timeout=60)
    client = service.client("me")
    job = ended(client, begun(client, client.stored(path.read_bytes())["key"], "hls"))
    assert job["state"] == "done", job
    return job


def master(job: dict[str, Any]) -> str:
    return str(job["results"][0]["url"])


def test_sizes_are_never_larger_than_the_film_and_their_cuts_lie_at_the_same_moments(
    service: RunningServer, made: dict[str, Any]
) -> None:
    client = service.client()
    names = [result["key"].rpartition("/")[2] for result in made["results"]]
    assert names == ["master.m3u8", *(f"{name}.{kind}" for name in ("240p", "144p", "sound") for kind in ("m3u8", "mp4"))]
    text = client.get(master(made)).text
    found = re.findall(r"BANDWIDTH=(\d+),AVERAGE-BANDWIDTH=(\d+),CODECS=\"(.*?)\",RESOLUTION=(\d+)x(\d+)", text)
    assert [(entry[2], entry[3], entry[4]) for entry in found] == [
        ("avc1.640015,mp4a.40.2", "426", "240"),
        ("avc1.64000C,mp4a.40.2", "256", "144"),
    ]
    assert all(int(most) >= int(average) > 0 for most, average, *_ in found)
    cuts = [re.findall(r"#EXTINF:([\d.]+)", client.get(urljoin(master(made), f"{name}.m3u8")).text) for name in ("240p", "144p")]
    assert cuts[0] == cuts[1] == ["6.000000", "6.000000", "6.000000", "2.000000"]


def test_another_player_plays_all_of_it(service: RunningServer, made: dict[str, Any]) -> None:
    address = service.url + master(made)
    command = ["ffmpeg", "-v", "error", "-i", address, "-map", "0:v:0", "-map", "0:a:0", "-f", "null", "-"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    told = subprocess.run(
        ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", address],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert float(told.stdout) == pytest.approx(SECONDS, abs=0.1)


def test_each_file_has_its_type_its_ranges_and_its_caching(service: RunningServer, made: dict[str, Any]) -> None:
    client = service.client()
    for result in made["results"]:
        answer = client.get(result["url"])
        kind = "application/vnd.apple.mpegurl" if result["key"].endswith("m3u8") else "video/mp4"
        assert (answer.status, answer.headers["Content-Type"], answer.headers["Accept-Ranges"]) == (200, kind, "bytes")
        assert "Content-Disposition" not in answer.headers
        assert "public" in answer.headers["Cache-Control"]
        assert client.get(result["url"], {"Range": "bytes=10-19"}).body == answer.body[10:20]


def test_who_has_signed_the_first_playlist_has_all_of_the_film_until_then(
    service: RunningServer, made: dict[str, Any], owner: str
) -> None:
    # In a service where nothing can be read without, so that each part is proved to be signed.
    folder = service.data.parent / "signed"
    shutil.copytree(service.data, folder / "media-data", dirs_exist_ok=True)
    with RunningServer(folder, {"MEDIA_READ_ACCESS": "signed", "MEDIA_URL_SECRETS": SECRET, "MEDIA_JOB_WORKERS": "0"}) as server:
        stranger = server.client()
        assert stranger.get(master(made)).status == 401
        signed = "/api/media/" + address(SECRET.encode(), made["results"][0]["key"], {"exp": str(int(time.time()) + 600)})
        answer = stranger.get(signed)
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/vnd.apple.mpegurl")
        assert stranger.get(signed, {"If-None-Match": answer.headers["ETag"]}).status == 304
        command = ["ffmpeg", "-v", "error", "-i", server.url + signed, "-map", "0:v:0", "-map", "0:a:0", "-f", "null", "-"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (ran.returncode, ran.stderr) == (0, "")


def test_nobody_may_send_a_playlist(service: RunningServer) -> None:
    text = b'#EXTM3U\n#EXT-X-MAP:URI="file:///etc/passwd"\n#EXTINF:6,\nhttp://127.0.0.1:9/\n#EXT-X-ENDLIST\n'
    for content_type in ("application/vnd.apple.mpegurl", "video/mp4"):
        assert service.client("me").upload(text, content_type, "film.mp4").status == 415


def test_all_of_it_goes_with_its_source(service: RunningServer) -> None:
    client = service.client("me")
    key = client.stored(pictures.mp4(320, 240, seconds=3))["key"]
    job = ended(client, begun(client, key, "hls"))
    assert [client.get(result["url"]).status for result in job["results"]] == [200] * 5, "without sound"
    assert client.delete(media(key)).status == 204
    assert [client.get(result["url"]).status for result in job["results"]] == [404] * 5
    assert not [asset for asset in client.assets() if asset["key"].startswith(key)]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all of this module."""
    async with chromium() as running:
        yield running


SEEK = """async ([player, address, to]) => {
  const film = document.querySelector("video");
  if (player === "hls") {
    await new Promise(done => { const tag = document.createElement("script"); tag.src = "hls.js/dist/hls.min.js"; tag.onload = done;
      document.head.append(tag); });
    const player = new Hls({ enableWorker: false });
    player.loadSource(address);
    player.attachMedia(film);
    window.levels = new Promise(done => player.on(Hls.Events.MANIFEST_PARSED, (_, told) => done(told.levels.length)));
  } else film.src = address;
  if (!film.readyState) await new Promise((done, failed) => { film.onloadedmetadata = done; film.onerror = failed; });
  await new Promise(done => { film.onseeked = done; film.currentTime = to; });
  if (film.readyState < 3) await new Promise(done => { film.oncanplay = done; });
  return [film.currentTime, film.duration, await (window.levels ?? 0)];
}"""


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("profile", "levels"), [("hls", 2), ("small", 0)])
async def test_a_browser_seeks_in_what_was_made(
    browser: Browser, service: RunningServer, made: dict[str, Any], page: str, profile: str, levels: int
) -> None:
    client: Client = service.client("me")
    job = made if profile == "hls" else ended(client, begun(client, made["key"], profile))
    async with opened(browser, page) as tab:
        await tab.goto("/")
        await tab.evaluate("document.body.innerHTML = '<video muted>'")
        to = SECONDS - 3.5
        place, length, seen = await tab.evaluate(SEEK, [profile, service.url + job["results"][0]["url"], to])
        assert (place, seen) == (to, levels)
        assert length == pytest.approx(SECONDS, abs=0.2)

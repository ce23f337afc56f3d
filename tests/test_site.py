"""The docs as a site: every page is in it and found, every link leads somewhere, and no other host is asked for anything."""

from __future__ import annotations

import functools
import html
import re
import shutil
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.etree import ElementTree

import pytest

from proxy.settings import Settings
from tests.browser import CONTRAST, chromium, opened

ROOT = Path(__file__).parents[1]
ELSEWHERE = re.compile(
    r"""(?:<(?:script|img|iframe|source|video|audio|use)\b[^>]*?(?:src|href)=|<link\b[^>]*?href=|url\()["']?((?:https?:)?//[^"')\s]+)"""
)


def build(clone: Path, place: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "properdocs", "build", "--strict", "--site-dir", str(place)]
    return subprocess.run(command, cwd=clone, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    built = build(ROOT, place)
    assert built.returncode == 0, built.stderr
    return place


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What the site is built from, to be changed."""
    for name in ("docs", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("properdocs.yml", *(path.name for path in ROOT.glob("*.md"))):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_every_page_is_in_the_site_and_in_its_navigation(site: Path) -> None:
    home = (site / "index.html").read_text(encoding="utf-8")
    links = set(re.findall(r'<a href="([\w-]+\.html)" class="dropdown-item', home))
    assert {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")} <= links
    assert {"changelog.html", "contributing.html"} <= links
    assert "SAV3 media proxy" in home, "the README is its first page"


def test_no_anchor_ends_the_script_of_the_theme(site: Path) -> None:
    """It looks them up as CSS selectors: `#413` is none."""
    pages = [path for path in site.glob("*.html") if path.name != "404.html"]
    anchors = {found for path in pages for found in re.findall(r'<h[1-6] id="([^"]*)"', path.read_text(encoding="utf-8"))}
    assert len(anchors) > 100
    assert {anchor for anchor in anchors if not re.match(r"[^\W\d]", anchor)} == set()


def test_no_other_host_is_asked_for_anything(site: Path) -> None:
    files = [path for path in site.rglob("*") if path.suffix in {".html", ".css", ".svg"}]
    assert len(files) > 20
    assert {found for path in files for found in ELSEWHERE.findall(path.read_text(encoding="utf-8"))} == set()


def test_every_link_that_leads_nowhere_is_named_and_stops_the_build(clone: Path) -> None:
    links = ("[a](nowhere.md)", "[a](api.md#nowhere)", "[a](#nowhere)", "![a](nowhere.svg)")
    page = clone / "docs" / "start.md"
    page.write_text("\n\n".join([page.read_text(encoding="utf-8"), *links]), encoding="utf-8")
    built = build(clone, clone / "site")
    assert built.returncode != 0
    assert built.stderr.count("'start.md'") == len(links), built.stderr


def test_a_page_that_nobody_named_is_in_the_navigation_under_its_heading(clone: Path) -> None:
    (clone / "docs" / "fresh.md").write_text(
        "# Fresh *water*\n\nSee [the tests](../tests/test_site.py) and [the readme](../README.md#what-it-is).\n"
    )
    assert build(clone, clone / "site").returncode == 0
    page = (clone / "site" / "fresh.html").read_text(encoding="utf-8")
    assert re.search(r'<a href="fresh.html"[^>]*>Fresh', page)
    assert "See the tests and" in page, "a link to a source file is plain text"
    assert 'href="index.html#what-it-is"' in page


def test_the_page_of_all_settings_has_each_with_its_default_and_bounds(site: Path) -> None:
    page = (site / "settings.html").read_text(encoding="utf-8")
    rows = dict(re.findall(r"<tr>\s*<td><code>([A-Z0-9_]+)</code></td>(.*?)</tr>", page, re.DOTALL))
    assert list(rows) == [name.upper() for name in Settings.model_fields]
    for name, field in Settings.model_fields.items():
        assert str(field.description).partition("`")[0] in html.unescape(rows[name.upper()])
    for name, told in {
        "MEDIA_PORT": "<td>whole number, from 0 to 65535</td>\n<td><code>10020</code></td>",
        "MEDIA_MAX_BYTES_SVG": "<td>bytes, above 0 to 16M</td>\n<td><code>4M</code></td>",
        "MEDIA_READ_ACCESS": "<td><code>public</code>, <code>owner</code>, <code>signed</code></td>\n<td><code>public</code></td>",
        "MEDIA_URL_SECRETS": "<td>list of secrets, 4 at most</td>\n<td>–</td>",
    }.items():
        assert told in rows[name]


def test_the_pictures_of_the_architecture_name_modules_that_there_are() -> None:
    modules = {path.stem for package in ("proxy", "processors") for path in (ROOT / package).rglob("*.py")}
    drawn = sorted((ROOT / "docs" / "pictures").glob("*.svg"))
    assert len(drawn) == 3
    for path in drawn:
        words = {text.text for text in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text") if text.get("class") == "m"}
        named = {name for line in words for name in str(line).split(" · ") if re.fullmatch(r"[a-z_0-9]+", name)}
        assert named
        assert named - modules == set(), path.name


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_can_be_read_on_a_phone_and_asks_nobody_else(site: Path, scheme: str) -> None:
    handler = functools.partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            async with (
                chromium() as browser,
                opened(browser, url, viewport={"width": 390, "height": 800}, color_scheme=scheme) as page,
            ):
                asked: list[str] = []
                page.on("request", lambda request: asked.append(request.url))
                for path in sorted(site.glob("*.html")):
                    await page.goto(f"/{path.name}")
                    assert await page.evaluate("document.documentElement.scrollWidth") <= 390, path.name
                    faint = [text for text in await page.evaluate(CONTRAST) if text["ratio"] < text["needed"]]
                    assert faint == [], path.name
                assert {address for address in asked if not address.startswith((url, "data:"))} == set()
        finally:
            server.shutdown()
            thread.join()


class Quiet(SimpleHTTPRequestHandler):
    """A web server that writes no log."""

    def log_message(self, format: str, *arguments: object) -> None:
        pass

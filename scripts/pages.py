"""What the build of the docs adds to ProperDocs: pages from elsewhere, links that GitHub understands, colours of code.

The files in docs/ have two readers: a forge, which shows them as they lie there, and the site. A link that leaves docs/ leads to
a page of the site where there is one (README, CHANGELOG, CONTRIBUTING), and is plain text where it leads to a source file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import reference
from properdocs.structure.files import File, Files
from pygments.formatters import HtmlFormatter

ROOT = Path(__file__).resolve().parent.parent
FROM_THE_ROOT = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
LINK = re.compile(r"(?<!\!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
LAST = "Operate"
"""Where pages stand that the navigation does not name."""


def on_config(config: Any) -> Any:
    """Anchors as GitHub makes them, and every page in the navigation."""
    config["mdx_configs"].setdefault("toc", {})["slugify"] = slug
    named = set(FROM_THE_ROOT.values()) | {name for chapter in config["nav"] for page in chapter.values() for name in names(page)}
    others = sorted(path.name for path in (ROOT / "docs").glob("*.md") if path.name not in named)
    for chapter in config["nav"]:
        if LAST in chapter:
            chapter[LAST] += [{heading(ROOT / "docs" / name): name} for name in others]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the root, the page of all settings, and the colours of code in both schemes."""
    for name, page in FROM_THE_ROOT.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
    files.append(
        File.generated(
            config, "settings.md", content=reference.page((ROOT / "docs" / "configuration.md").read_text(encoding="utf-8"))
        )
    )
    files.append(File.generated(config, "style/code.css", content=colours()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The links of a page as they are from its place in the site."""
    folder = Path() if page.file.src_uri in FROM_THE_ROOT.values() else Path("docs")

    def moved(match: re.Match[str]) -> str:
        text, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        path, mark, anchor = target.partition("#")
        place = (ROOT / folder / path).resolve().relative_to(ROOT)
        if place.parts[0] == "docs":
            return f"[{text}]({place.relative_to('docs').as_posix()}{mark}{anchor})"
        page = FROM_THE_ROOT.get(place.as_posix())
        return f"[{text}]({page}{mark}{anchor})" if page else text

    # Code is left as it is: every second part lies in a fence.
    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if index % 2 else LINK.sub(moved, part) for index, part in enumerate(parts))


def slug(text: str, separator: str) -> str:
    """The anchor of a heading, as GitHub makes it, save that none begins with a digit."""
    made = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", separator)
    # The theme looks anchors up as CSS selectors, which do not begin with a digit: its script would end there.
    return f"_{made}" if made[:1].isdigit() else made


def names(page: Any) -> list[str]:
    """The files that an entry of the navigation leads to."""
    return (
        [page]
        if isinstance(page, str)
        else [name for entry in page for name in (entry.values() if isinstance(entry, dict) else [entry])]
    )


def heading(path: Path) -> str:
    """The first heading of the page at *path*."""
    found = re.search(r"^# (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else path.stem


def colours() -> str:
    """Pygments' rules for light and dark."""
    light = HtmlFormatter(style="default").get_style_defs(".codehilite")
    dark = HtmlFormatter(style="github-dark").get_style_defs("[data-bs-theme=dark] .codehilite")
    return f"{light}\n{dark}\n"

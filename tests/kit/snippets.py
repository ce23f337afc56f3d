"""The code that stands in the docs, to be run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
SERVICE = "http://127.0.0.1:10020"
"""What the examples are for."""


def snippets(page: str, heading: str, language: str) -> list[str]:
    """The blocks of *language* under *heading* of docs/*page*.md, as far as the next heading of the same level or above."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    found = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert found is not None, f"docs/{page}.md has no heading {heading}"
    # Lines of comments within a block begin like headings: blocks first.
    rest = re.split(r"(^```.*?^```$)", text[found.end() :], flags=re.MULTILINE | re.DOTALL)
    blocks = []
    for part in rest:
        if block := re.match(rf"```{language}\n(.*)```$", part, re.DOTALL):
            blocks.append(block[1])
        elif not part.startswith("```") and re.search(rf"^#{{1,{len(found[1])}}} ", part, re.MULTILINE):
            break
    assert blocks, f"there is no {language} under {heading} of docs/{page}.md"
    return blocks


def snippet(page: str, heading: str, language: str, service: str = SERVICE) -> str:
    """The first of them, for the service at the address *service*."""
    return snippets(page, heading, language)[0].replace(SERVICE, service)

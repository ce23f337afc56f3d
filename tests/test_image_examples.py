"""The pictures of docs/images.md are what the service makes by the query beside them. MEDIA_WRITE_EXAMPLES=1 makes them anew."""

from __future__ import annotations

import os
import re

import pytest
import pyvips

from tests.kit.client import media
from tests.kit.server import RunningServer
from tests.kit.similarity import ssim
from tests.kit.snippets import DOCS

PAGE = (DOCS / "images.md").read_text(encoding="utf-8")
EXAMPLES = [(query, name) for query, name in re.findall(r"!\[([^\]]+)\]\((pictures/[\w-]+\.webp)\)", PAGE)]


def test_each_picture_is_what_its_query_makes(server: RunningServer, owner: str) -> None:
    key = server.client(owner).stored((DOCS / "pictures" / "lake.jpg").read_bytes())["key"]
    assert len(EXAMPLES) > 20
    for query, name in EXAMPLES:
        answer = server.client(owner).get(media(key, f"{query}&format=webp"))
        assert answer.status == 200, f"{query}: {answer!r}"
        if os.environ.get("MEDIA_WRITE_EXAMPLES"):
            (DOCS / name).write_bytes(answer.body)
        shown, made = (pyvips.Image.new_from_buffer(data, "") for data in ((DOCS / name).read_bytes(), answer.body))
        assert ssim(shown, made) > 0.98, query


def test_the_query_stands_beside_each_picture() -> None:
    for line in PAGE.splitlines():
        if found := re.match(r"\| !\[([^\]]+)\]\([^)]*\) \|(.*)", line):
            query, beside = found.groups()
            said = re.search(r"`\??([^`]+)`", beside)
            if said is not None and "fit=inside" not in said[1]:
                assert query.endswith(said[1]), line


@pytest.mark.parametrize("name", sorted(path.name for path in (DOCS / "pictures").glob("*.webp")))
def test_no_picture_lies_there_for_nothing(name: str) -> None:
    assert f"pictures/{name}" in {place for _, place in EXAMPLES}

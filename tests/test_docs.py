"""What can be set, asked, measured and refused is in the docs, and what the docs name is there."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import pytest

import proxy.errors as _whole_family  # noqa: F401 - its classes are found as subclasses
from processors.errors import MediaError
from processors.formats import FORMATS
from proxy.app import create_service, token_maker
from proxy.settings import Settings
from tests.kit.server import RunningServer

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
}
API, CONFIGURATION, OPERATIONS = (PAGES[f"docs/{name}.md"] for name in ("api", "configuration", "operations"))
OPENAPI: dict[str, Any] = json.loads((resources.files("proxy") / "openapi.json").read_text(encoding="utf-8"))


@pytest.fixture
async def routes(tmp_path: Path) -> set[tuple[str, str]]:
    """Every (method, path) that the service answers."""
    settings = Settings(media_data_dir=tmp_path / "media-data", media_render_workers=1)
    async with create_service(settings, token_maker(settings)[0]) as service:
        return {
            (route.method, resource.canonical)
            for resource in service.runner.app.router.resources()
            for route in resource
            if route.method not in {"OPTIONS", "*"}
        }


def family(kind: type[MediaError] = MediaError) -> Iterator[type[MediaError]]:
    """The whole family of problems."""
    yield kind
    for child in kind.__subclasses__():
        yield from family(child)


def rows(page: str) -> dict[str, str]:
    """The lines of a page's tables by the code in their first column."""
    return {match[1]: match[0] for match in re.finditer(r"^\| `([^`]+)`.*$", page, re.MULTILINE)}


def test_every_setting_is_in_the_docs_and_no_other() -> None:
    named = {name for name in rows(CONFIGURATION) if name.isupper()}
    assert named == {name.upper() for name in Settings.model_fields}


def test_the_docs_name_the_defaults_that_hold() -> None:
    for name, field in Settings.model_fields.items():
        said = rows(CONFIGURATION)[name.upper()].split("|")[2].strip()
        first = said.strip("`").partition("`")[0]
        if field.default is None or field.default == ():
            assert said.startswith(("–", "`HS256`")), name
        else:
            assert Settings.from_env({name.upper(): first}) == Settings(), f"{name.upper()} is not {first} by default"


async def test_every_route_is_in_the_docs(routes: set[tuple[str, str]]) -> None:
    assert {path for _, path in routes if f"{path}`" not in API} == set()


def test_the_openapi_document_is_of_this_version() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert OPENAPI["info"]["version"] == declared == metadata.version("sav3-media-proxy")
    assert f"## [{declared}]" in PAGES["CHANGELOG.md"]
    assert "## [Unreleased]" in PAGES["CHANGELOG.md"]


def test_every_problem_code_is_in_the_docs_with_its_status() -> None:
    table = rows(API)
    for kind in family():
        assert kind.slug in table, f"{kind.__name__} is not in docs/api.md"
        assert f"| {kind.status} |" in table[kind.slug]


def test_every_type_that_is_taken_is_in_the_docs() -> None:
    assert {format.mime for format in FORMATS.values() if f"`{format.mime}`" not in API} == set()


def test_every_metric_is_in_the_docs_and_no_other(server: RunningServer) -> None:
    text = server.client().get("/metrics").text
    measured = {match[1] for match in re.finditer(r"^# HELP (media_\w+)", text, re.MULTILINE)}
    measured -= {name for name in measured if name.endswith("_created")}
    assert {name for name in rows(OPERATIONS) if name.startswith("media_")} == measured


def test_every_event_of_the_log_is_in_the_docs() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "proxy").rglob("*.py"))
    events = set(re.findall(r'\blog\.\w+\(\s*"([a-z_.]+)"', code))
    named = {event for row in OPERATIONS.splitlines() if row.startswith("| `") for event in re.findall(r"`([a-z_.]+)`", row)}
    assert len(events) > 10
    assert events - named == set()


def test_the_readme_begins_with_the_two_commands() -> None:
    code = re.search(r"```sh\n(.*?)```", PAGES["README.md"], re.DOTALL)
    assert code is not None
    assert [line.partition("#")[0].strip() for line in code[1].splitlines()] == ["make serve", "make test"]
    assert PAGES["README.md"].index("make serve") < 200


def test_every_link_between_the_pages_leads_somewhere() -> None:
    for name, text in PAGES.items():
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
            path = (ROOT / name).parent / target if target else ROOT / name
            assert path.exists(), f"{name} links to {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
                slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
                assert anchor in slugs, f"{name} links to {target}#{anchor}"


def test_every_version_is_pinned_and_no_package_index_is_named() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.match(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.]*(; .*)?$", pin)] == []
    pinned = {re.split("[=;]", pin)[0].lower().replace("_", "-") for pin in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needs = [project["dependencies"], *project["optional-dependencies"].values()]
    asked = {re.split(r"[\[>]", need)[0].lower() for group in needs for need in group}
    assert asked - pinned == set()

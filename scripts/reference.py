"""The page of all settings, from `proxy.settings` when the site is built: what each takes, its default, where it is explained."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

from proxy.settings import Settings
from proxy.spelling import GIB, MIB, size

OPENING = """# All settings

Each with what it takes and what holds without it, as `proxy/settings.py` of this version says. \
[Configuration](configuration.md) explains them. Sizes are bytes and take `K`, `M` and `G`; times are seconds; \
lists have blanks or commas between.

| setting | takes | default | |
|---|---|---|---|
"""
KINDS = {"boolean": "true, false", "integer": "whole number", "number": "seconds", "string": "text"}
FORMATS = {"password": "secret", "path": "path", "ipvanynetwork": "network", "uri": "address"}


def page(configuration: str) -> str:
    """The page in Markdown; *configuration* is the text of docs/configuration.md, whose sections it leads to."""
    schema = Settings.model_json_schema()
    places = dict(sections(configuration))
    lines = []
    for name, field in Settings.model_fields.items():
        described = schema["properties"][name]
        sized = any(getattr(each, "func", None) is size for each in conditions(field))
        title, anchor = places.get(name.upper(), ("Configuration", "configuration"))
        about = f"{described['description']}. [{title}](configuration.md#{anchor})"
        lines.append(
            f"| `{name.upper()}` | {takes(described, schema['$defs'], sized)} | {default(described['default'], sized)} | {about} |"
        )
    return OPENING + "\n".join(lines) + "\n"


def sections(configuration: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Each setting, and the heading under which its row stands with that heading's anchor."""
    title = ""
    for line in configuration.splitlines():
        if heading := re.match(r"##+ (.*)", line):
            title = heading[1]
        elif row := re.match(r"\| `([A-Z][A-Z0-9_]+)` \|", line):
            yield row[1], (title, re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-"))


def conditions(field: Any) -> Iterator[Any]:
    """What is asked of a field's value, also where the value may be left out."""
    yield from field.metadata
    for part in get_args(field.annotation):
        yield from getattr(part, "__metadata__", ())


def takes(described: dict[str, Any], shared: dict[str, Any], sized: bool) -> str:
    """What may stand in a setting, in words."""
    described = next((each for each in described.get("anyOf", ()) if each.get("type") != "null"), described)
    if "$ref" in described:
        described = shared[described["$ref"].rpartition("/")[2]]
    if "enum" in described:
        return ", ".join(f"`{value}`" for value in described["enum"])
    if words := re.fullmatch(r"\(\?i\)\^\(([\w|]+)\)\$", described.get("pattern", "")):
        return ", ".join(f"`{word}`" for word in words[1].split("|"))
    if described["type"] == "array":
        items = described["items"]
        most = f", {described['maxItems']} at most" if "maxItems" in described else ""
        if items.get("$ref", "").endswith("/Rate"):
            return "rates, such as `600/hour`"
        return f"list of {takes(items, shared, False).removesuffix('s')}s{most}"
    kind = "bytes" if sized else FORMATS.get(described.get("format", ""), KINDS[described["type"]])
    return kind + bounds(described, sized)


def bounds(described: dict[str, Any], sized: bool) -> str:
    """The least and the most, where there are such."""
    least = described.get("minimum", described.get("ge"))
    above = described.get("exclusiveMinimum", described.get("gt"))
    most = described.get("maximum", described.get("le"))
    lower = (
        f"above {above}" if least is None and above is not None else f"from {written(least, sized)}" if least is not None else ""
    )
    upper = f"to {written(most, sized)}" if most is not None else ""
    return f", {lower} {upper}".rstrip() if lower or upper else ""


def default(value: Any, sized: bool) -> str:
    """The default as it would stand in the environment."""
    if value is None or value == []:
        return "–"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{written(value, sized)}`"


def written(value: Any, sized: bool) -> str:
    """A value as the environment has it."""
    if isinstance(value, list):
        return " ".join(written(each, False) for each in value)
    if sized and isinstance(value, int):
        for factor, letter in ((GIB, "G"), (MIB, "M"), (1024, "K")):
            if value and value % factor == 0:
                return f"{value // factor}{letter}"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

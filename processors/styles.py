"""CSS within an SVG, without anything that could reach out of the document: what is not surely harmless is left out. Pure.

Rules are taken apart and written anew, so a browser reads what was checked, however the text before was broken. Each kept piece
is balanced in its quotes and brackets, calls only functions that are listed here, and refers to nothing but fragments.
"""

from __future__ import annotations

import re

MAX_DEPTH = 4
_FUNCTIONS_TEXT = """
    url rgb rgba hsl hsla hwb lab lch oklab oklch color color-mix var calc min max clamp matrix matrix3d translate translatex
    translatey translate3d translatez scale scalex scaley scale3d scalez rotate rotatex rotatey rotatez rotate3d skew skewx skewy
    perspective blur brightness contrast drop-shadow grayscale hue-rotate invert opacity saturate sepia circle ellipse inset
    polygon path linear-gradient radial-gradient cubic-bezier steps
"""
_FUNCTIONS = frozenset(_FUNCTIONS_TEXT.split())
_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
_LAST_WORD = re.compile(r"\s*([\w-]*)")  # of a text that is read backwards: forwards it would take quadratic time
_FRAGMENT = re.compile(r"""url\(\s*(?:#[^\s'"()\\]+|'#[^'"()\\]+'|"#[^'"()\\]+")\s*\)""", re.IGNORECASE)
_URL = re.compile(r"url\s*\(", re.IGNORECASE)
_BARRED = re.compile(r"[\\<>@{};\x00-\x08\x0b\x0e-\x1f\x7f]|javascript|expression|-moz-binding|behavior|://", re.IGNORECASE)
_PROPERTY = re.compile(r"-{0,2}[A-Za-z][\w-]*")
_SELECTOR = re.compile(r"[\w\s.#:,>+~*\[\]=\"'()^$|%-]+")
_GROUPS = re.compile(r"@(?:media|supports|(?:-webkit-)?keyframes)\b[\w\s:,()%.<>=/-]*", re.IGNORECASE)
_QUOTED = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"")


def is_harmless(value: str) -> bool:
    """Whether the value of a property or an attribute stays within the document."""
    if _BARRED.search(value):
        return False
    if "(" not in value and ")" not in value:
        return not _has_open_quotes(value)
    return (
        len(_URL.findall(value)) == len(_FRAGMENT.findall(value))
        and all(_called(before) in _FUNCTIONS for before in value.split("(")[:-1])
        and _is_balanced(value)
    )


def _called(before: str) -> str:
    word = _LAST_WORD.match(before[::-1])
    assert word is not None
    return word[1][::-1].lower()


def declarations(text: str) -> str:
    """The harmless ones among the declarations of a rule or a style attribute."""
    kept = []
    for declaration in _COMMENT.sub(" ", text).split(";"):
        name, colon, value = declaration.partition(":")
        if colon and _PROPERTY.fullmatch(name.strip()) and not _BARRED.search(name) and is_harmless(value):
            kept.append(f"{name.strip()}:{value.strip()}")
    return ";".join(kept)


def sheet(text: str, depth: int = 0) -> str:
    """The harmless rules of a style sheet; of those that begin with @, groups by medium, support and key frame."""
    if not depth:
        text = _COMMENT.sub(" ", text)
    kept: list[str] = []
    at = 0
    while True:
        opened = text.find("{", at)
        if opened < 0:
            return "".join(kept)
        prelude = text[at:opened].rpartition(";")[2].strip()  # statements such as @import have no block
        closed = _end_of_block(text, opened)
        block = text[opened + 1 : closed]
        at = closed + 1
        if _GROUPS.fullmatch(prelude) and depth < MAX_DEPTH and _is_balanced(prelude):
            kept.append(f"{prelude}{{{sheet(block, depth + 1)}}}")
        elif _SELECTOR.fullmatch(prelude) and _is_balanced(prelude) and not _URL.search(prelude):
            kept.append(f"{prelude}{{{declarations(block)}}}")


def _end_of_block(text: str, opened: int) -> int:
    depth = 0
    for brace in re.compile(r"[{}]").finditer(text, opened):
        depth += 1 if brace[0] == "{" else -1
        if not depth:
            return brace.start()
    return len(text)


def _has_open_quotes(value: str) -> bool:
    return bool(re.search(r"['\"]", _QUOTED.sub("", value)))


def _is_balanced(value: str) -> bool:
    bare = _QUOTED.sub("", value)
    return not re.search(r"['\"]", bare) and bare.count("(") == bare.count(")") and bare.count("[") == bare.count("]")

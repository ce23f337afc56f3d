"""What a client says of its screen and its wishes in headers, in place of ``auto`` in a query (client hints, Save-Data). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from processors.grammar import Query
from processors.transform import SAVING
from proxy import ladder

WIDTH = ("Sec-CH-Width", "Width")
DENSITY = ("Sec-CH-DPR", "DPR")
SAVE = "Save-Data"
AUTO = "auto"
_NUMBER = re.compile(r"\d{1,5}(?:\.\d{1,6})?", re.ASCII)


def resolved(query: Query, headers: Mapping[str, str]) -> Query:
    """*query* without ``w=auto`` and ``dpr=auto``: a step of the ladder that is large enough, or nothing where nothing is said.

    A width that a client says is in device pixels already, so no dpr is multiplied in.
    """
    if not any(value == AUTO and name != "format" for name, value in query.pairs):
        return query
    said = dict(query.pairs)
    if said.get("w") == AUTO:
        del said["w"]
        if width := _number(WIDTH, headers):
            said |= {"w": str(ladder.up(width))}
            said.pop("dpr", None)
    if said.get("dpr") == AUTO:
        del said["dpr"]
        if density := _number(DENSITY, headers):
            said["dpr"] = ladder.density_up(density)
    if said.get("q") == AUTO and headers.get(SAVE, "").strip().lower() == "on":
        said["q"] = SAVING
    return Query.of(said)


def asked(query: Query) -> tuple[str, ...]:
    """The hints that *query* would have clients send."""
    return (*(WIDTH if query.get("w") == AUTO else ()), *(DENSITY if query.get("dpr") == AUTO else ()))


def vary(query: Query) -> tuple[str, ...]:
    """The headers on which the answer to *query* depends."""
    accept = ("Accept",) if query.get("format") == AUTO else ()
    return (*accept, *((SAVE,) if query.get("q") == AUTO else ()), *asked(query))


def _number(names: tuple[str, ...], headers: Mapping[str, str]) -> float:
    texts = (headers.get(name, "").strip() for name in names)
    return next((float(text) for text in texts if _NUMBER.fullmatch(text)), 0.0)

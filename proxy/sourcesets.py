"""Addresses of one picture at several widths, for the ``srcset`` of a page: signed where addresses are signed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from processors import formats, grammar
from processors.errors import BadParameter
from processors.formats import Kind
from processors.quantities import MAX_SIDE_PX
from processors.transform import CUES, DATA_FORMATS, MOVING
from proxy import addresses, keys, ladder
from proxy.conditions import version_name
from proxy.errors import BadKey, BadRequest
from proxy.keys import Key
from proxy.ports import Asset
from proxy.signing import Signatures

MAX_KEYS = 100
MAX_WIDTHS = 32
WIDTHS = (320, 640, 960, 1280, 1920)
LIFETIME_S = 24 * 3600
MAX_LIFETIME_S = 31 * 24 * 3600
SHOWN = frozenset((Kind.IMAGE, Kind.DRAWING, Kind.VIDEO))
"""of what there are renditions"""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller wants to know: of which *keys*, and in which *widths* and *format* its page shows them."""

    keys: tuple[Key, ...]
    widths: tuple[int, ...] = WIDTHS
    format: str = "auto"
    lifetime_s: int = LIFETIME_S

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Wish:
        """The wish in a JSON object; raises BadRequest, which names the member."""
        if unknown := document.keys() - {"keys", "widths", "format", "expires"}:
            raise BadRequest("only keys, widths, format and expires are known here", param=min(unknown)[:32])
        lifetime_s = document.get("expires", LIFETIME_S)
        if type(lifetime_s) is not int or not 1 <= lifetime_s <= MAX_LIFETIME_S:
            raise BadRequest(f"expires is a number of seconds from 1 to {MAX_LIFETIME_S}", param="expires")
        return cls(
            _keys(document.get("keys")),
            _widths(document.get("widths", WIDTHS)),
            _format(document.get("format", "auto")),
            lifetime_s,
        )


class SourceSets:
    """Makes the addresses; *signatures* signs them, None leaves them bare."""

    def __init__(self, signatures: Signatures | None) -> None:
        self._signatures = signatures

    def addresses(self, asset: Asset, wish: Wish) -> dict[int, str]:
        """The path and query of each width that is no larger than the picture, and of its own; none for what has no picture.

        A width of the ladder is left free by the signature, so one signature serves all of these.
        """
        format = formats.by_mime(asset.content_type)
        if format is None or format.kind not in SHOWN or asset.width is None:
            return {}
        own = min(asset.width, MAX_SIDE_PX)
        widths = {width for width in wish.widths if width < own} | ({own} if own <= max(wish.widths) else set())
        ends = addresses.end(wish.lifetime_s)
        return {width: self._address(asset, width, wish.format, ends) for width in sorted(widths)}

    def _address(self, asset: Asset, width: int, format: str, ends: int) -> str:
        parameters = {"format": format, "v": version_name(asset.etag, asset.focal), "w": str(width)}
        if self._signatures is None:
            return f"{keys.PREFIX}{keys.encoded(asset.key)}?{urlencode(parameters)}"
        parameters |= {"exp": str(ends)} | ({"any": "w"} if width in ladder.WIDTHS else {})
        return keys.PREFIX + self._signatures.address(asset.key, parameters)


def _keys(given: Any) -> tuple[Key, ...]:
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_KEYS or not all(isinstance(key, str) for key in given):
        raise BadRequest(f"keys is a list of 1 to {MAX_KEYS} keys", param="keys")
    try:
        return tuple(map(keys.parse, given))
    except BadKey as error:
        raise BadRequest(f"one of the keys is none: {error.detail}", param="keys") from error


def _widths(given: Any) -> tuple[int, ...]:
    if (
        not isinstance(given, list | tuple)
        or not 1 <= len(given) <= MAX_WIDTHS
        or not all(type(width) is int and 1 <= width <= MAX_SIDE_PX for width in given)
    ):
        raise BadRequest(f"widths is a list of 1 to {MAX_WIDTHS} numbers from 1 to {MAX_SIDE_PX}", param="widths")
    return tuple(given)


def _format(given: Any) -> str:
    try:
        name = grammar.read(f"format={given}").get("format") or "" if isinstance(given, str) and given.isalnum() else ""
    except BadParameter:
        name = ""
    if name in DATA_FORMATS | {"", CUES, *MOVING}:
        raise BadRequest("format is one of a picture, or auto", param="format")
    return name

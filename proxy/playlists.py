"""Playlists of films behind signed addresses: each address in them is signed, too, until the same moment. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from proxy.keys import Key
from proxy.signing import Signatures

MAX_BYTES = 4 << 20
_URI = re.compile(r'URI="([^"]+)"')


def signed(text: str, key: Key, said: Mapping[str, str], signatures: Signatures) -> str:
    """The playlist *text* at *key*, which was asked for as *said*: its files' names with ``exp``, ``kid`` and a signature."""
    kept = {name: said[name] for name in ("exp", "kid") if name in said}
    folder = key.rpartition("/")[0]

    def address(name: str) -> str:
        return signatures.address(f"{folder}/{name}", kept).rpartition("/")[2]

    lines = (
        _URI.sub(lambda match: f'URI="{address(match[1])}"', line) if line.startswith("#") or not line else address(line)
        for line in text.split("\n")
    )
    return "\n".join(lines)

"""What owners say of their assets, as a JSON merge patch (RFC 7396) says it: the focal point, and metadata of their own. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from proxy.errors import BadRequest
from proxy.ports import Asset

MOST_NAMES = 50
MOST_BYTES = 8_192
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Amendment:
    """What changes: *says_focal* a focal point (``XxY``, or None for none), and each name in *metadata*, None for one to go."""

    says_focal: bool
    focal: str | None
    metadata: Mapping[str, Any]

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Amendment:
        """What a merge patch of a record says; raises BadRequest."""
        if not document or document.keys() - {"focal", "metadata"}:
            param = min(document.keys() - {"focal", "metadata"}, default="focal")[:32]
            raise BadRequest("only focal and metadata can be changed here", param=param)
        metadata = document.get("metadata", {})
        if not isinstance(metadata, dict):
            raise BadRequest("metadata is an object of names and what they mean", param="metadata")
        for name, value in metadata.items():
            _check(name, value)
        return cls("focal" in document, _point(document.get("focal")), metadata)

    def of(self, asset: Asset) -> Asset:
        """*asset* as it then is; raises BadRequest where its metadata would be too much."""
        merged = {name: value for name, value in {**asset.metadata, **self.metadata}.items() if value is not None}
        if len(merged) > MOST_NAMES:
            raise BadRequest(f"there may be {MOST_NAMES} names in metadata", param="metadata")
        if len(json.dumps(merged, ensure_ascii=False).encode()) > MOST_BYTES:
            raise BadRequest(f"metadata may have {MOST_BYTES} bytes as JSON", param="metadata")
        return replace(asset, focal=self.focal if self.says_focal else asset.focal, metadata=merged)


def _check(name: str, value: Any) -> None:
    if not _NAME.fullmatch(name):
        raise BadRequest("a name in metadata is up to 64 of A-Z a-z 0-9 _ . : -, and begins with a letter or _", param="metadata")
    if isinstance(value, str) and not _CONTROLS.search(value):
        return
    if value is None or isinstance(value, bool) or (isinstance(value, int | float) and math.isfinite(value) and abs(value) < 1e300):
        return
    raise BadRequest("what a name in metadata means is text without controls, a number, true, false, or null", param="metadata")


def _point(given: Any) -> str | None:
    if given is None:
        return None
    if not isinstance(given, list) or len(given) != 2 or not all(type(part) in (int, float) and 0 <= part <= 1 for part in given):
        raise BadRequest("focal is two numbers from 0 to 1, from the left and from the top, or null", param="focal")
    return "x".join(f"{part:.4f}".rstrip("0").rstrip(".") for part in given)

"""The shared set of real and made media files, where it lies beside the checkout; in CI it must."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[3] / "shared" / "media"
ABSENT = "the shared media set is not beside this checkout (../shared/media)"


def required() -> bool:
    """Whether its absence is a failure and not a reason to skip."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def present() -> bool:
    """Whether the set is there."""
    return (FOLDER / "manifest.json").is_file()


@cache
def manifest() -> dict[str, Any]:
    """The manifest; one without files where the set is absent."""
    if not present():
        return {"files": [], "odd_names": {"names": []}}
    loaded = json.loads((FOLDER / "manifest.json").read_text())
    assert isinstance(loaded, dict)
    return loaded


def data(file: str) -> bytes:
    """The bytes of *file*, a name in the manifest."""
    return (FOLDER / file).read_bytes()

"""What can be said of a picture without showing it: its colours, and what stands for it meanwhile. Workers only."""

from __future__ import annotations

import io
from base64 import b64encode
from typing import Any

import pyvips

from processors import likeness, placeholders, steps
from processors.geometry import unturned
from processors.placeholders import Miniature

MINIATURE_PX = 48
"""The longer side of what the placeholders are made of: 4 ms, where 100 pixels take 20 for the same few terms."""
MAX_PROFILE_CHARS = 80
_SPACES = {"b-w": "grey", "grey16": "grey", "rgb16": "srgb", "rgb": "srgb", "srgb": "srgb", "scrgb": "scrgb"}
_BITS = {"uchar": 8, "ushort": 16, "float": 32}


def described(image: pyvips.Image, turn: int) -> dict[str, Any]:
    """What is said of *image*, which lies as it does in its file and is read once, from top to bottom, by this.

    ``colourSpace``, ``profile``, ``bits``, ``orientation``; ``colour`` (rrggbb, the one most of what is visible has),
    ``thumbhash`` (base64), ``blurhash``; ``fingerprint`` (`likeness`).
    """
    said: dict[str, Any] = {
        "orientation": turn,
        "colourSpace": _SPACES.get(image.interpretation, image.interpretation),
        "profile": _profile(image),
        "bits": _bits(image),
    }
    small = miniature(image, turn)
    return said | {
        "colour": placeholders.dominant(small),
        "thumbhash": b64encode(placeholders.thumbhash(small)).decode(),
        "blurhash": placeholders.blurhash(small),
        "fingerprint": likeness.fingerprint(small),
    }


def miniature(image: pyvips.Image, turn: int) -> Miniature:
    """The picture at a few pixels, upright, in sRGB with alpha; all of its rows are read."""
    width, height = unturned((image.width, image.height), turn)
    scale = min(1.0, MINIATURE_PX / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    for step in (steps.resized(unturned(size, turn)), steps.in_srgb, steps.upright(turn)):
        image = step(image)
    image = image.colourspace("srgb")
    image = image if image.hasalpha() else image.addalpha()
    return Miniature(image.width, image.height, bytes(image.cast("uchar").write_to_memory()))


def _bits(image: pyvips.Image) -> int:
    name = "bits-per-sample"
    told = int(image.get(name)) if image.get_typeof(name) else 0
    return told if told > _BITS["uchar"] else _BITS.get(image.format, 8)  # fewer are those of a palette's indexes


def _profile(image: pyvips.Image) -> str | None:
    # The description in an ICC profile, None without one or for one that is broken.
    if not image.get_typeof("icc-profile-data"):
        return None
    from PIL import ImageCms  # noqa: PLC0415 - Pillow is 9 MiB that only pictures with profiles pay

    try:
        text = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(image.get("icc-profile-data"))))
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    return "".join(letter for letter in text if letter.isprintable()).strip()[:MAX_PROFILE_CHARS] or None

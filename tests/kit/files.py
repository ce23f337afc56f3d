"""Files of an exact size that still decode."""

from __future__ import annotations

COMMENT_BYTES = 60_000


def padded(jpeg: bytes, size: int) -> bytes:
    """The same JPEG with comments before the picture, *size* bytes in all."""
    missing = size - len(jpeg)
    comments = bytearray()  # bytes that grow are copied whole each time: 40 MiB took 12 s
    while missing:
        take = min(missing, COMMENT_BYTES)
        take -= 4 if 0 < missing - take < 4 else 0
        comments += b"\xff\xfe" + (take - 2).to_bytes(2, "big") + b" " * (take - 4)
        missing -= take
    return jpeg[:2] + bytes(comments) + jpeg[2:]

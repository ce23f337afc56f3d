"""How two processes talk: words as JSON behind their length, and bytes behind the words."""

from __future__ import annotations

import asyncio
import json
from typing import Any

MAX_WORDS_BYTES = 1 << 20
MAX_DATA_BYTES = 256 << 20
LIMIT_BYTES = 1 << 20

Words = dict[str, Any]


class Broken(Exception):
    """The other side has gone, or speaks nonsense."""


async def heard(reader: asyncio.StreamReader) -> tuple[Words, bytes]:
    """The next words and the bytes behind them; raises Broken."""
    try:
        size = int.from_bytes(await reader.readexactly(4), "big")
        if size > MAX_WORDS_BYTES:
            raise Broken
        words = json.loads(await reader.readexactly(size))
        length = int(words.pop("size", 0))
        if not 0 <= length <= MAX_DATA_BYTES:
            raise Broken
        return words, await reader.readexactly(length) if length else b""
    except (OSError, EOFError, ValueError, AttributeError) as error:
        raise Broken from error


def put(writer: asyncio.StreamWriter, words: Words, data: bytes = b"") -> None:
    """Send *words*, and *data* behind them; what the other side does not take yet stays in memory."""
    writer.write(_head(words, data))
    if data:
        writer.write(data)


def packed(words: Words, data: bytes = b"") -> bytes:
    """*words* and *data* as one message."""
    return _head(words, data) + data


def unpacked(message: bytes) -> tuple[Words, bytes]:
    """What a message says; raises Broken."""
    try:
        end = 4 + int.from_bytes(message[:4], "big")
        words = json.loads(message[4:end])
        if words.pop("size", 0) != len(message) - end:
            raise Broken
    except (ValueError, AttributeError) as error:
        raise Broken from error
    return words, message[end:]


def _head(words: Words, data: bytes) -> bytes:
    text = json.dumps(words | ({"size": len(data)} if data else {})).encode()
    return len(text).to_bytes(4, "big") + text

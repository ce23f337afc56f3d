"""What newsrooms write into pictures: IPTC-IIM 4.2, by itself (TIFF) or among the resources of Photoshop (JPEG). Pure."""

from __future__ import annotations

from collections.abc import Mapping

from processors import texts

PHOTOSHOP = b"Photoshop 3.0\0"
RESOURCE = 0x0404
MAX_BYTES = 1 << 20
MAX_DATASETS = 1000
MAX_VALUE_BYTES = 8000
NAMES: Mapping[int, str] = {
    **{5: "title", 25: "keyword", 55: "day", 60: "time", 80: "creator", 90: "city", 92: "sublocation", 95: "state"},
    **{101: "country", 105: "headline", 110: "credit", 116: "copyright", 120: "description"},
}
"""The datasets of the application record that are read (IIM 4.2, chapter 6)."""
_MARK, _LONG = 0x1C, 0x8000
_ENVELOPE, _APPLICATION, _CHARSET = 1, 2, 90
_UTF_8 = b"\x1b%G"


def datasets(block: bytes) -> bytes | None:
    """The datasets within the resources of Photoshop; None if there are none."""
    at = len(PHOTOSHOP)
    while block.startswith(PHOTOSHOP) and block[at : at + 4] == b"8BIM" and at + 7 <= len(block):
        number = int.from_bytes(block[at + 4 : at + 6])
        name_bytes = 1 + block[at + 6]
        data = at + 6 + name_bytes + name_bytes % 2 + 4
        size = int.from_bytes(block[data - 4 : data])
        if number == RESOURCE:
            return block[data : data + size]
        at = data + size + size % 2
    return None


def read(block: bytes) -> dict[str, list[str]]:
    """The texts in *block* by our `NAMES`, in order; as far as lengths are true."""
    data = (datasets(block) or b"") if block.startswith(PHOTOSHOP) else block
    found: dict[str, list[bytes]] = {}
    is_utf_8 = False
    at = 0
    for _ in range(MAX_DATASETS):
        if at + 5 > min(len(data), MAX_BYTES) or data[at] != _MARK:
            break
        record, number, size = data[at + 1], data[at + 2], int.from_bytes(data[at + 3 : at + 5])
        at += 5
        if size & _LONG:  # the length of the length follows (IIM 4.2, 1.5c)
            more = size - _LONG
            size = int.from_bytes(data[at : at + more]) if more <= 4 else MAX_BYTES
            at += more
        value = data[at : at + size]
        if len(value) < size:
            break
        at += size
        if (record, number) == (_ENVELOPE, _CHARSET):
            is_utf_8 = value == _UTF_8
        elif record == _APPLICATION and number in NAMES:
            found.setdefault(NAMES[number], []).append(value[:MAX_VALUE_BYTES])
    return {
        name: [value.decode("utf-8", "ignore") if is_utf_8 else texts.decoded(value) for value in values]
        for name, values in found.items()
    }

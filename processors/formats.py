"""The table of formats: what we take, what we make, and how its first bytes look.

The signatures are our own because a body's type decides which decoder sees it, and libraries guess. On a set of 281 files
puremagic calls AVIF and most HEIC pictures films, and filetype takes PNG files with a damaged signature for sound ones and
names types (JPEG XL in a box, gzip, programs) that must be refused. Here every type is known by its structure, or is none of ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from processors.errors import Unsupported

HEAD_BYTES = 4096
"""How much of a file's beginning `sniff` wants to see; less only if the file is shorter."""


class Kind(StrEnum):
    """What a body is for its reader.

    A DRAWING is SVG, a picture that could act. OTHER is what a sender may claim and we do not take.
    """

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    DRAWING = "drawing"
    DOCUMENT = "document"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Format:
    """One row of the table. *decodes*: we can make pictures of it. *shown*: browsers show it in an ``img`` or a player."""

    name: str
    mime: str
    extension: str
    kind: Kind
    decodes: bool = False
    encodes: bool = False
    animates: bool = False
    alpha: bool = False
    shown: bool = True


_TABLE = (
    Format("jpeg", "image/jpeg", "jpg", Kind.IMAGE, decodes=True, encodes=True),
    Format("png", "image/png", "png", Kind.IMAGE, decodes=True, encodes=True, alpha=True),
    Format("gif", "image/gif", "gif", Kind.IMAGE, decodes=True, encodes=True, animates=True, alpha=True),
    Format("webp", "image/webp", "webp", Kind.IMAGE, decodes=True, encodes=True, animates=True, alpha=True),
    Format("avif", "image/avif", "avif", Kind.IMAGE, decodes=True, encodes=True, alpha=True),
    Format("heic", "image/heic", "heic", Kind.IMAGE, decodes=True, alpha=True, shown=False),
    Format("heif", "image/heif", "heif", Kind.IMAGE, decodes=True, alpha=True, shown=False),
    Format("tiff", "image/tiff", "tiff", Kind.IMAGE, decodes=True, alpha=True, shown=False),
    Format("bmp", "image/bmp", "bmp", Kind.IMAGE, decodes=True, alpha=True),
    Format("ico", "image/vnd.microsoft.icon", "ico", Kind.IMAGE, decodes=True, alpha=True),
    Format("svg", "image/svg+xml", "svg", Kind.DRAWING, decodes=True, alpha=True),
    Format("mp4", "video/mp4", "mp4", Kind.VIDEO, decodes=True, encodes=True, animates=True),
    Format("mov", "video/quicktime", "mov", Kind.VIDEO, decodes=True, shown=False),
    Format("webm", "video/webm", "webm", Kind.VIDEO, decodes=True),
    Format("mkv", "video/matroska", "mkv", Kind.VIDEO, decodes=True, shown=False),
    Format("ogv", "video/ogg", "ogv", Kind.VIDEO, decodes=True),
    Format("mp3", "audio/mpeg", "mp3", Kind.AUDIO, decodes=True),
    Format("ogg", "audio/ogg", "ogg", Kind.AUDIO, decodes=True),
    Format("wav", "audio/wav", "wav", Kind.AUDIO, decodes=True),
    Format("flac", "audio/flac", "flac", Kind.AUDIO, decodes=True),
    Format("m4a", "audio/mp4", "m4a", Kind.AUDIO, decodes=True),
    Format("aac", "audio/aac", "aac", Kind.AUDIO, decodes=True),
    Format("pdf", "application/pdf", "pdf", Kind.DOCUMENT, shown=False),
)
FORMATS: Mapping[str, Format] = MappingProxyType({format.name: format for format in _TABLE})
PLAYLIST = Format("hls", "application/vnd.apple.mpegurl", "m3u8", Kind.VIDEO)
"""What we make and nobody may send: it says where else to look."""

_BY_MIME = {format.mime: format for format in (*_TABLE, PLAYLIST)} | {
    "image/jpg": FORMATS["jpeg"],
    "image/apng": FORMATS["png"],
    "image/x-ms-bmp": FORMATS["bmp"],
    "image/x-icon": FORMATS["ico"],
    "video/x-matroska": FORMATS["mkv"],
    "audio/mp3": FORMATS["mp3"],
    "audio/x-wav": FORMATS["wav"],
    "audio/wave": FORMATS["wav"],
    "audio/x-flac": FORMATS["flac"],
    "audio/x-m4a": FORMATS["m4a"],
}

# Types that say nothing: what clients send that do not know, or that describe the envelope.
_NO_CLAIM = frozenset(
    ("application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded", "application/x-binary")
)
_CLAIMS = {
    "application/pdf": Kind.DOCUMENT,
    "application/x-pdf": Kind.DOCUMENT,
    "application/mp4": Kind.VIDEO,
    "application/ogg": Kind.AUDIO,
    "image/svg+xml": Kind.DRAWING,
}
_MAIN_TYPES = {"image": Kind.IMAGE, "video": Kind.VIDEO, "audio": Kind.AUDIO}
# Containers of films that often hold sound alone (a browser's recorder says audio/webm or audio/mp4), and the reverse.
_EITHER = frozenset(("mp4", "mov", "webm", "mkv", "ogv", "ogg", "m4a"))
# What senders cannot tell apart, since it takes more than a name to: the members of each are taken for one another.
_ALIKE = (frozenset(("mp4", "mov", "m4a")), frozenset(("webm", "mkv")), frozenset(("ogv", "ogg")), frozenset(("heic", "heif")))


def by_mime(mime: str) -> Format | None:
    """The format that a stored object's type names, without parameters and in lower case; None if it is none of ours."""
    return _BY_MIME.get(mime)


def claimed_kind(content_type: str | None) -> Kind | None:
    """The kind that a sender's Content-Type claims; None where it claims nothing, OTHER for what we never take (text, XML, …)."""
    mime = (content_type or "").partition(";")[0].strip().lower()
    main, slash, sub = mime.partition("/")
    if not (main and slash and sub) or mime in _NO_CLAIM or main == "multipart":
        return None
    return _CLAIMS.get(mime) or _MAIN_TYPES.get(main, Kind.OTHER)


def agree(format: Format, content_type: str | None) -> bool:
    """Whether a body of *format* may come under a sender's Content-Type: equal in kind, or a container that has both kinds."""
    claimed = claimed_kind(content_type)
    if claimed is None or claimed is format.kind:
        return True
    return format.name in _EITHER and claimed in (Kind.VIDEO, Kind.AUDIO)


def is_promised(format: Format, promised: Format) -> bool:
    """Whether a body of *format* may have the name of one that was promised to be *promised*: the same, or all but the same."""
    return format is promised or any({format.name, promised.name} <= alike for alike in _ALIKE)


def sniff(head: bytes) -> Format:
    """The format of a file that begins with *head* (HEAD_BYTES of it, or all); raises Unsupported for all that is not ours."""
    name = _name(head)
    if name is None:
        raise Unsupported("the body is empty" if not head else "the content is not of a type that is taken here")
    return FORMATS[name]


def _name(head: bytes) -> str | None:
    if head[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head[:4] in (b"RIFF", b"RF64"):
        return {b"WEBP": "webp", b"WAVE": "wav"}.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _iso_media(head)
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return None if head[8:10] == b"CR" else "tiff"  # CR: a camera's raw file (CR2)
    if head[:4] == b"\x1aE\xdf\xa3":
        return _matroska(head)
    if head[:4] == b"OggS":
        return _ogg(head)
    if head[:8] == b"fLaC\0\0\0\x22" or head[:8] == b"fLaC\x80\0\0\x22":
        return "flac"
    if head[:5] == b"%PDF-":
        return "pdf"
    if head[:3] == b"ID3":
        return "mp3" if _is_id3(head) else None
    if head.lstrip(_BLANK)[:1] == b"<" or head[:4] in (b"\xff\xfe<\0", b"\xfe\xff\0<"):
        return "svg" if _is_drawing(head) else None
    if head[:1] == b"\xff":
        return _frames(head)
    if head[:2] == b"BM":
        return "bmp" if _is_bitmap(head) else None
    if head[:4] == b"\0\0\1\0":
        return "ico" if _is_icon(head) else None
    return "mov" if head[4:8] in (b"moov", b"mdat", b"wide", b"pnot") and _is_classic_quicktime(head) else None


_PICTURE_BRANDS = (
    ("avif", frozenset((b"avif", b"avis"))),
    ("heic", frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"))),
    ("heif", frozenset((b"mif1", b"mif2", b"msf1"))),
)
_SOUND_BRANDS = frozenset((b"M4A ", b"M4B ", b"M4P "))
_FILM_BRANDS = frozenset(
    (
        *(b"isom", b"avc1", b"hvc1", b"hev1", b"av01", b"mp41", b"mp42", b"mp71", b"mmp4", b"M4V ", b"M4VH", b"M4VP", b"f4v "),
        *(b"F4V ", b"dash", b"msdh", b"msix", b"cmfc", b"cmff", b"cmfs", b"MSNV", b"XAVC", b"NDSC", b"NDSH", b"NDSM", b"NDSP"),
        *(b"iso%c" % digit for digit in b"23456789abc"),
        *(b"3gp%c" % digit for digit in b"456789"),
        *(b"3g2a", b"3g2b", b"3g2c", b"3gs7", b"3ge6", b"3gg6"),
    )
)


def _iso_media(head: bytes) -> str | None:
    # ISO/IEC 14496-12: ftyp has a major brand, a version, then compatible brands. Pictures also carry film brands (an AVIF
    # sequence lists iso8), so the major brand is asked first and the picture brands before the others.
    size = int.from_bytes(head[:4], "big")
    if not 16 <= size <= len(head):
        return None
    major = head[8:12]
    brands = frozenset((major, *(head[at : at + 4] for at in range(16, size - 3, 4))))
    if major == b"qt  ":
        return "mov"
    if major in _SOUND_BRANDS:
        return "m4a"
    if major in _FILM_BRANDS:
        return "mp4"
    for name, wanted in _PICTURE_BRANDS:
        if brands & wanted:
            return name
    return "mp4" if brands & _FILM_BRANDS else None


def _is_classic_quicktime(head: bytes) -> bool:
    # Before ftyp (2001) a film began with its first box; what follows that box must be one too, where it is in sight.
    size = int.from_bytes(head[:4], "big")
    following = head[size + 4 : size + 8]
    if head[4:8] == b"moov":
        return head[12:16] in (b"mvhd", b"cmov", b"rmra")
    return size == 1 or size > HEAD_BYTES or following in (b"moov", b"mdat", b"free", b"skip", b"wide")


def _matroska(head: bytes) -> str | None:
    # EBML (RFC 8794): a size, then elements; DocType (0x4282) says whose file this is.
    size, at = _varint(head, 4)
    end = min(len(head), at + size)
    while at + 2 < end:
        width = 1 if head[at] & 0x80 else 2
        identifier = head[at : at + width]
        length, at = _varint(head, at + width)
        if identifier == b"\x42\x82":
            return {b"webm": "webm", b"matroska": "mkv"}.get(head[at : at + length].rstrip(b"\0"))
        at += length
    return None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    first = data[at] if at < len(data) else 0
    if not first:
        return 0, len(data)
    width = 9 - first.bit_length()
    return int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1), at + width


def _ogg(head: bytes) -> str | None:
    # RFC 3533: the first pages each begin one stream and hold its codec's mark.
    at, found = 0, None
    while head[at : at + 4] == b"OggS" and len(head) > at + 27:
        table = head[at + 27 : at + 27 + head[at + 26]]
        body = at + 27 + len(table)
        mark = head[body : body + 8]
        if mark.startswith(b"\x80theora"):
            return "ogv"
        if mark.startswith((b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ")):
            found = "ogg"
        at = body + sum(table)
    return found


def _is_id3(head: bytes) -> bool:
    # ID3v2: version, revision, flags and a size of four bytes of seven bits.
    return len(head) >= 10 and head[3] in (2, 3, 4) and head[4] != 0xFF and all(byte < 0x80 for byte in head[6:10])


_BITRATES = {  # kbit/s of layer III, by index, of MPEG 1 and of MPEG 2 and 2.5
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def _frames(head: bytes) -> str | None:
    # A frame's header is 12 bits of sync and little more, which noise has too: the frame must end where the next one begins.
    for name, length_of in (("mp3", _mp3_frame), ("aac", _adts_frame)):
        length = length_of(head, 0)
        if length and length_of(head, length):
            return name
    return None


def _mp3_frame(data: bytes, at: int) -> int:
    header = data[at : at + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:  # layer III
        return 0
    version, bitrate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or rate == 3 or not 0 < bitrate < 15 or header[3] & 3 == 2:
        return 0
    bits = _BITRATES[3 if version == 3 else 2][bitrate] * 1000
    return (144 if version == 3 else 72) * bits // _RATES[version][rate] + (header[2] >> 1 & 1)


def _adts_frame(data: bytes, at: int) -> int:
    header = data[at : at + 7]
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0 or header[2] >> 2 & 15 > 12:
        return 0
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return length if length > 7 else 0


def _is_bitmap(head: bytes) -> bool:
    return head[6:10] == bytes(4) and int.from_bytes(head[14:18], "little") in (12, 40, 52, 56, 64, 108, 124)


def _is_icon(head: bytes) -> bool:
    # One entry of the directory: size, colours, a zero, planes, bits, then length and place of the picture behind the directory.
    count, entry = int.from_bytes(head[4:6], "little"), head[6:22]
    if not 1 <= count <= 255 or len(entry) < 16 or entry[3]:
        return False
    length, place = int.from_bytes(entry[8:12], "little"), int.from_bytes(entry[12:16], "little")
    return length >= 40 and place >= 6 + 16 * count


_BLANK = b"\xef\xbb\xbf \t\r\n"
_PROLOGUE = re.compile(r"\ufeff?(?:\s+|<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^\[>]*(?:\[.*?\]\s*)?>)*", re.DOTALL)
_ROOT = re.compile(r"<(?:[A-Za-z_][\w.-]*:)?svg[\s/>]")


def _is_drawing(head: bytes) -> bool:
    # XML 1.0, section 2.8: what may stand before the root. Whether that is in the namespace of SVG is told by a parser later.
    text = head.decode("utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", "replace")
    prologue = _PROLOGUE.match(text)
    return prologue is not None and _ROOT.match(text, prologue.end()) is not None and "http://www.w3.org/2000/svg" in text

"""What a file says beside its pixels, and how much of it a rendition may carry on: ``meta=none``, ``copyright``, ``keep``."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from processors import exif, iptc

MAX_BLOCK_BYTES = 60_000
"""of one block; a JPEG has no room for 64 KiB"""
NONE, KEEP = "none", "keep"
_ORIENTATION = re.compile(rb"""(tiff:Orientation(?:=["']|>)\s*)[2-8]""")
_THUMBNAILS = re.compile(rb"<xmp:Thumbnails>.*?</xmp:Thumbnails>", re.DOTALL)
_APPENDED = (b"ns.adobe.com/hdr-gain-map/", b"ns.google.com/photos/1.0/container/", b"ns.google.com/photos/1.0/camera/")
"""XMP of these namespaces tells of pictures behind the picture, which a rendition does not have"""


@dataclass(frozen=True, slots=True)
class Metadata:
    """The blocks of a file: EXIF, XMP, and IPTC within the resources of Photoshop; None where it has none."""

    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None

    def leaving(self, policy: str | None) -> Metadata:
        """What a rendition carries: nothing by ``none``, all by ``keep``, else copyright and artist alone.

        What is kept tells of no turn, since the pixels are turned, and has no thumbnail, since that shows what was cut away.
        """
        if policy == NONE:
            return Metadata()
        if policy != KEEP:
            return Metadata(exif=exif.rights(self.exif or b""))
        kept = exif.upright(self.exif or b""), _upright(self.xmp or b""), _texts(self.iptc or b"")
        return Metadata(*(block if block and len(block) <= MAX_BLOCK_BYTES else None for block in kept))


def _upright(xmp: bytes) -> bytes | None:
    if any(namespace in xmp for namespace in _APPENDED):
        return None
    return _ORIENTATION.sub(rb"\g<1>1", _THUMBNAILS.sub(b"", xmp))


def _texts(resources: bytes) -> bytes | None:
    # Of Photoshop's resources the one with texts; others hold thumbnails, paths and serial numbers.
    text = iptc.datasets(resources)
    if text is None:
        return None
    return iptc.PHOTOSHOP + b"8BIM" + struct.pack(">HHI", iptc.RESOURCE, 0, len(text)) + text + b"\0" * (len(text) % 2)


NOTHING = Metadata()

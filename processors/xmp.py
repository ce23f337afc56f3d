"""What programs write into files as XMP (ISO 16684-1): the properties of the file itself, out of RDF. Pure.

Read by expat as it comes, within bounds. A document type ends it, and with that there are no entities: nothing is expanded, and
nothing else is opened. What is nested in a property tells of other files that this one was made of, and is passed over; the names
of faces are the exception.
"""

from __future__ import annotations

from contextlib import suppress
from xml.parsers import expat

MAX_BYTES = 512 << 10
"""of a packet; what lies behind is not read: editors put the history of a picture there, which has no end"""
MAX_ELEMENTS = 20_000
MAX_DEPTH = 60
MAX_PROPERTIES = 500
MAX_VALUES = 100
MAX_VALUE_CHARS = 8000
NAMESPACES = {
    "http://www.w3.org/1999/02/22-rdf-syntax-ns#": "rdf",
    "http://www.w3.org/XML/1998/namespace": "xml",
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://creativecommons.org/ns#": "cc",
    "http://ns.adobe.com/xap/1.0/": "xmp",
    "http://ns.adobe.com/xap/1.0/rights/": "xmpRights",
    "http://ns.adobe.com/photoshop/1.0/": "photoshop",
    "http://ns.adobe.com/tiff/1.0/": "tiff",
    "http://ns.adobe.com/exif/1.0/": "exif",
    "http://ns.adobe.com/exif/1.0/aux/": "aux",
    "http://cipa.jp/exif/1.0/": "exifEX",
    "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/": "Iptc4xmpCore",
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/": "Iptc4xmpExt",
    "http://www.metadataworkinggroup.com/schemas/regions/": "mwg-rs",
    "http://ns.microsoft.com/photo/1.2/": "MP",
    "http://ns.microsoft.com/photo/1.2/t/Region#": "MPReg",
    "http://ns.google.com/photos/1.0/camera/": "GCamera",
}
"""with the prefixes by which their documents call them"""
FACES = "faces"
"""The names of persons in regions of the picture, gathered from two vocabularies."""
_REGIONS = frozenset(("mwg-rs:Regions", "MP:RegionInfo"))
_FACE_NAMES = frozenset(("mwg-rs:Name", "MPReg:PersonDisplayName"))
_TOP = ["rdf:RDF", "rdf:Description"]


def read(packet: bytes) -> dict[str, list[str]]:
    """The values of each property, by its prefix and name (``dc:title``), in order, that in no language first.

    As far as *packet* can be read: of one that is broken or too large what stands before.
    """
    reader = _Reader()
    with suppress(expat.ExpatError, _Enough, ValueError, LookupError):  # the last two: an encoding that is not known
        reader.parser.Parse(packet[:MAX_BYTES].rstrip(b"\0 \n"), True)
    return reader.found


class _Enough(Exception):
    """More than is read, or something that is not read at all."""


class _Reader:
    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}
        self._path: list[str] = []
        self._property: str | None = None
        self._property_depth = 0
        self._is_empty = True
        self._is_default = False
        self._elements = 0
        self._text: list[str] = []
        self._chars = 0
        self.parser = parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._said

    def _doctype(self, name: str, system: str | None, public: str | None, has_subset: int) -> None:
        raise _Enough

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if self._elements > MAX_ELEMENTS or len(self._path) >= MAX_DEPTH:
            raise _Enough
        name = _named(tag)
        told = {_named(attribute): value for attribute, value in attributes.items()}
        self._text, self._chars = [], 0
        self._path.append(name)
        if self._path[-2:] == _TOP and self._property is None:
            for attribute, value in told.items():
                self._add(attribute, value)
        elif self._path[-3:-1] == _TOP and self._property is None:
            self._property, self._property_depth, self._is_empty = name, len(self._path), True
            self._refer(told)
        elif self._property in _REGIONS:
            for attribute in _FACE_NAMES & told.keys():
                self._add(FACES, told[attribute])
        elif self._property is not None and name == "rdf:li":
            self._is_default = told.get("xml:lang") == "x-default"
            self._refer(told)

    def _end(self, tag: str) -> None:
        name, depth, text = self._path.pop(), len(self._path) + 1, "".join(self._text)
        self._text, self._chars = [], 0
        if self._property is None:
            return
        if self._property in _REGIONS:
            if name in _FACE_NAMES:
                self._add(FACES, text)
        elif (name == "rdf:li" and depth == self._property_depth + 2) or (depth == self._property_depth and self._is_empty):
            self._add(self._property, text, is_first=self._is_default)
        self._is_default = False
        if depth == self._property_depth:
            self._property = None

    def _said(self, text: str) -> None:
        if self._property is not None and self._chars < MAX_VALUE_CHARS:
            self._text.append(text[:MAX_VALUE_CHARS])
            self._chars += len(text)

    def _refer(self, told: dict[str, str]) -> None:
        if self._property is not None and "rdf:resource" in told:
            self._add(self._property, told["rdf:resource"])

    def _add(self, name: str, value: str, *, is_first: bool = False) -> None:
        value = value.strip()[:MAX_VALUE_CHARS]
        if not value or not name or (name not in self.found and len(self.found) >= MAX_PROPERTIES):
            return
        self._is_empty = False
        values = self.found.setdefault(name, [])
        if len(values) < MAX_VALUES:
            values.insert(0 if is_first else len(values), value)


def _named(name: str) -> str:
    # By its usual prefix; empty for what is of no namespace above.
    space, _, own = name.rpartition(" ")
    prefix = NAMESPACES.get(space)
    return "" if prefix is None else f"{prefix}:{own}"

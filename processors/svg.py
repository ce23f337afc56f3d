"""SVG without what makes it a program: the drawing that is left when scripts, references outwards and entities are gone. Pure.

A list says what stays; all else is left out, with what is in it. The document is read by expat and written anew, so what goes out
is what was looked at. Sizes, nesting and references are bounded while it is read: a bomb costs what it takes to see that it is one.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from xml.parsers import expat

from processors import styles
from processors.errors import Corrupt, TooCostly, Unsupported

NAMESPACE = "http://www.w3.org/2000/svg"
MAX_DEPTH = 200
MAX_ELEMENTS = 100_000
MAX_MARKS = 3 * MAX_ELEMENTS
MAX_PATH_BYTES = 256 << 10
MAX_DRAWN = 200_000
"""elements after every reference to another is followed"""
MAX_REFERENCES = 20_000
MAX_ENTITY_BYTES = 1 << 20
"""what all entities together may become"""
XLINK, XML = "http://www.w3.org/1999/xlink", "http://www.w3.org/XML/1998/namespace"
FEED_BYTES = 1 << 16

_ELEMENTS_TEXT = """
    svg g defs symbol use title desc switch a style image path rect circle ellipse line polyline polygon text tspan textPath
    linearGradient radialGradient stop pattern clipPath mask marker filter feBlend feColorMatrix feComponentTransfer feComposite
    feConvolveMatrix feDiffuseLighting feDisplacementMap feDistantLight feDropShadow feFlood feFuncA feFuncB feFuncG feFuncR
    feGaussianBlur feImage feMerge feMergeNode feMorphology feOffset fePointLight feSpecularLighting feSpotLight feTile
    feTurbulence animate animateTransform animateMotion mpath set
"""
_ELEMENTS = frozenset(_ELEMENTS_TEXT.split())
_ANIMATIONS = frozenset(("animate", "animateTransform", "animateMotion", "set"))
_REFERRING = _ELEMENTS - {"style", "title", "desc"}
_HOLDS_PICTURE = frozenset(("image", "feImage"))
_ATTRIBUTES_TEXT = """
    id class style lang role tabindex x y width height viewBox preserveAspectRatio version baseProfile zoomAndPan overflow display
    d points pathLength cx cy r rx ry fx fy fr x1 y1 x2 y2 dx dy rotate textLength lengthAdjust transform transform-origin
    transform-box systemLanguage media type fill fill-opacity fill-rule stroke stroke-dasharray stroke-dashoffset stroke-linecap
    stroke-linejoin stroke-miterlimit stroke-opacity stroke-width opacity color color-interpolation color-interpolation-filters
    color-rendering paint-order vector-effect visibility shape-rendering image-rendering text-rendering mix-blend-mode isolation
    enable-background clip clip-path clip-rule mask mask-type filter flood-color flood-opacity lighting-color stop-color
    stop-opacity offset marker marker-start marker-mid marker-end markerHeight markerUnits markerWidth orient refX refY font
    font-family font-size font-size-adjust font-stretch font-style font-variant font-weight letter-spacing word-spacing
    text-anchor text-decoration text-overflow white-space dominant-baseline alignment-baseline baseline-shift direction
    unicode-bidi writing-mode glyph-orientation-horizontal glyph-orientation-vertical kerning line-height startOffset side spacing
    method gradientTransform gradientUnits spreadMethod patternContentUnits patternTransform patternUnits clipPathUnits
    maskContentUnits maskUnits filterUnits primitiveUnits filterRes in in2 result mode values operator k1 k2 k3 k4 order
    kernelMatrix kernelUnitLength divisor bias targetX targetY edgeMode preserveAlpha surfaceScale diffuseConstant
    specularConstant specularExponent limitingConeAngle pointsAtX pointsAtY pointsAtZ azimuth elevation z scale xChannelSelector
    yChannelSelector stdDeviation radius baseFrequency numOctaves seed stitchTiles tableValues slope intercept amplitude exponent
    attributeName attributeType begin dur end min max restart repeatCount repeatDur calcMode keyTimes keySplines keyPoints from to
    by additive accumulate path pointer-events
"""
_ATTRIBUTES = frozenset(_ATTRIBUTES_TEXT.split())
_GEOMETRY = frozenset(("d", "points"))
_NUMBERS = re.compile(r"[\w\s.,+-]*")
_SPOKEN = re.compile(r"aria-[a-z]+")
_UNANIMATED = frozenset(("href", "style", "class", "id"))
_PICTURE = re.compile(r"data:image/(?:png|jpeg|jpg|gif|webp)\s*;\s*base64\s*,", re.IGNORECASE)
_REFERENCE = re.compile(r"url\(\s*['\"]?#([^\s'\"()]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Drawing:
    """A document that is safe to show. *root* has the attributes of its outermost element, *inside* all that is in it.

    *pictures* are those that it holds; *is_changed* tells whether something had to go.
    """

    root: dict[str, str]
    inside: str
    pictures: tuple[bytes, ...]
    is_changed: bool

    def text(self, **attributes: str) -> bytes:
        """The document in UTF-8, with *attributes* instead of those of its outermost element."""
        told = "".join(f' {name}="{_quoted(value)}"' for name, value in (self.root | attributes).items())
        return f'<svg xmlns="{NAMESPACE}" xmlns:xlink="{XLINK}"{told}>{self.inside}</svg>\n'.encode()


def read(data: bytes) -> Drawing:
    """The drawing in an SVG document; raises Unsupported for other XML, Corrupt, and TooCostly for a bomb."""
    if data.count(b"<") > MAX_MARKS:
        raise TooCostly(f"a drawing may have {MAX_ELEMENTS} elements", limit="elements", allowed=MAX_ELEMENTS)
    reader = _Reader(data)
    try:
        for at in range(0, len(data), FEED_BYTES):
            reader.parser.Parse(data[at : at + FEED_BYTES], False)
        reader.parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise Corrupt("the drawing is no well-formed XML") from error
    except (ValueError, LookupError) as error:  # an encoding that is not known
        raise Corrupt("the drawing is in an encoding that is not known") from error
    return reader.drawing()


@dataclass(frozen=True, slots=True)
class _Part:
    """A part that has a name: how many elements it has, and which of all references are in it."""

    elements: int
    first_reference: int
    last_reference: int


@dataclass(slots=True)
class _Open:
    """An element that is being read. *elements* are in it, itself included; its references begin at *first_reference*."""

    name: str
    identifier: str | None
    first_reference: int
    elements: int = 1


class _Reader:
    """Takes what expat finds, keeps what the list allows, and raises at the first bound that is passed."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._out: list[str] = []
        self._open: list[_Open] = []
        self._skipped = 0
        self._elements = 0
        self._entity_bytes = 0
        self._root: dict[str, str] | None = None
        self._references: list[str] = []
        self._named: dict[str, _Part] = {}
        self._pictures: list[bytes] = []
        self._style: list[str] | None = None
        self._is_changed = False
        self.parser = parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.EntityDeclHandler = self._entity
        parser.StartDoctypeDeclHandler = self._doctype
        parser.ProcessingInstructionHandler = lambda target, text: self._change()
        parser.XmlDeclHandler = self._declared
        parser.SkippedEntityHandler = lambda name, is_parameter: self._change()

    def drawing(self) -> Drawing:
        """What was read, once all of it was."""
        if self._root is None:
            raise Unsupported("the content is not of a type that is taken here")
        self._check_references()
        try:
            self._data.decode()
        except UnicodeDecodeError:
            self._is_changed = True
        return Drawing(self._root, "".join(self._out), tuple(self._pictures), self._is_changed)

    def _change(self) -> None:
        self._is_changed = True

    def _declared(self, version: str, encoding: str | None, standalone: int) -> None:
        if (encoding or "utf-8").lower() not in {"utf-8", "utf8", "us-ascii"}:
            self._is_changed = True

    def _doctype(self, name: str, system: str | None, public: str | None, has_subset: int) -> None:
        self._is_changed = True

    def _entity(
        self,
        name: str,
        is_parameter: int,
        value: str | None,
        base: str | None,
        system: str | None,
        public: str | None,
        kind: str | None,
    ) -> None:
        # Editors abbreviate namespaces by entities; nested ones are for bombs, and external ones for thieves: they stay empty.
        if value is None:
            return
        if is_parameter or "&" in value or "%" in value:
            raise Corrupt("entities within entities are not expanded")
        self._entity_bytes += len(value.encode()) * self._data.count(b"&")
        if self._entity_bytes > MAX_ENTITY_BYTES:
            raise TooCostly("the entities expand to too much", limit="entity-bytes", allowed=MAX_ENTITY_BYTES)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise TooCostly(f"a drawing may have {MAX_ELEMENTS} elements", limit="elements", allowed=MAX_ELEMENTS)
        if len(self._open) + self._skipped >= MAX_DEPTH:
            raise TooCostly(f"elements may be nested {MAX_DEPTH} deep", limit="depth", allowed=MAX_DEPTH)
        space, _, name = tag.rpartition(" ")
        if self._root is None and (space, name) != (NAMESPACE, "svg"):
            raise Unsupported("the content is not of a type that is taken here")
        is_known = space == NAMESPACE and name in _ELEMENTS and not self._skipped and self._style is None
        kept = self._kept(name, attributes) if is_known else None
        if kept is None:
            self._skipped += 1
            self._is_changed = True
            return
        self._open.append(_Open(name, kept.get("id"), len(self._references)))
        if name in _REFERRING:
            self._refer(_referred(kept))
        if name == "style":
            self._style = []
        if self._root is None:
            self._root = kept
            return
        told = "".join(f' {name}="{_quoted(value)}"' for name, value in kept.items())
        self._out.append(f"<{name}{told}>")

    def _end(self, tag: str) -> None:
        if self._skipped:
            self._skipped -= 1
            return
        element = self._open.pop()
        if self._style is not None:
            given = "".join(self._style)
            sheet = styles.sheet(given)
            if _squeezed(sheet) != _squeezed(given):
                self._is_changed = True
            self._refer(_REFERENCE.findall(sheet))
            self._out.append(_escaped(sheet))
            self._style = None
        if element.identifier is not None:
            part = _Part(element.elements, element.first_reference, len(self._references))
            self._named.setdefault(element.identifier, part)
        if self._open:
            self._open[-1].elements += element.elements
            self._out.append(f"</{element.name}>")

    def _text(self, text: str) -> None:
        if self._skipped or not self._open:
            return
        if self._style is not None:
            self._style.append(text)
        else:
            self._out.append(_escaped(text))

    def _kept(self, element: str, attributes: dict[str, str]) -> dict[str, str] | None:
        # What stays of an element's attributes; None: the element goes.
        kept: dict[str, str] = {}
        for full, value in attributes.items():
            space, _, name = full.rpartition(" ")
            written = self._written(element, space, name, value)
            if written is None:
                self._is_changed = True
                continue
            kept[written[0]] = written[1]
        if element in _ANIMATIONS and not _may_be_animated(element, kept.get("attributeName")):
            self._is_changed = True
            return None
        return kept

    def _written(self, element: str, space: str, name: str, value: str) -> tuple[str, str] | None:
        # The attribute as it goes out; None: it does not.
        if name == "href" and space in ("", XLINK):
            address = value.strip()
            if re.fullmatch(r"#[^\s\"'<>\\]+", address):
                return ("href" if not space else "xlink:href"), address
            return self._picture("href" if not space else "xlink:href", address) if element in _HOLDS_PICTURE else None
        if space == XML and name in ("space", "lang"):
            return f"xml:{name}", value
        if space:
            return None
        if _SPOKEN.fullmatch(name):
            return name, value
        if name not in _ATTRIBUTES:
            return None
        if name == "style":
            harmless = styles.declarations(value)
            if _squeezed(harmless) != _squeezed(value):
                self._is_changed = True
            return name, harmless
        if name in _GEOMETRY:
            if len(value) > MAX_PATH_BYTES:  # 3.6 MB of one path keep librsvg busy for 12 s
                raise TooCostly(f"a path may have {MAX_PATH_BYTES} bytes", limit="path-bytes", allowed=MAX_PATH_BYTES)
            return (name, value) if _NUMBERS.fullmatch(value) else None
        is_list = name in ("values", "keySplines", "keyTimes", "keyPoints", "begin", "end")
        return (name, value) if all(map(styles.is_harmless, value.split(";") if is_list else (value,))) else None

    def _picture(self, name: str, address: str) -> tuple[str, str] | None:
        # A picture within the drawing: told by its type here, and looked into by whoever draws it.
        match = _PICTURE.match(address)
        if match is None:
            return None
        text = re.sub(r"\s+", "", address[match.end() :])
        try:
            self._pictures.append(base64.b64decode(text, validate=True))
        except binascii.Error:
            return None
        return name, address

    def _refer(self, names: Iterable[str]) -> None:
        self._references += names
        if len(self._references) > MAX_REFERENCES:
            raise TooCostly(f"a drawing may have {MAX_REFERENCES} references", limit="references", allowed=MAX_REFERENCES)

    def _check_references(self) -> None:
        # A drawing that draws a part ten times, which draws another ten times, and so on.
        weights: dict[str, int] = {}

        def weight(name: str, trail: frozenset[str]) -> int:
            if name not in weights:
                if name in trail or name not in self._named:
                    return 0
                if len(trail) >= MAX_DEPTH:
                    raise TooCostly(f"references may lead {MAX_DEPTH} deep", limit="depth", allowed=MAX_DEPTH)
                part = self._named[name]
                weights[name] = summed(part.elements, part.first_reference, part.last_reference, trail | {name})
            return weights[name]

        def summed(elements: int, first: int, last: int, trail: frozenset[str]) -> int:
            total = elements
            for name in self._references[first:last]:
                total += weight(name, trail)
                if total > MAX_DRAWN:
                    raise TooCostly(f"a drawing may draw {MAX_DRAWN} elements", limit="drawn-elements", allowed=MAX_DRAWN)
            return total

        summed(self._elements, 0, len(self._references), frozenset())


def _referred(attributes: dict[str, str]) -> Iterator[str]:
    for name, value in attributes.items():
        if name.endswith("href") and value.startswith("#"):
            yield value[1:]
        elif "url(" in value.lower():
            yield from _REFERENCE.findall(value)


def _may_be_animated(element: str, attribute: str | None) -> bool:
    if attribute is None:
        return element == "animateMotion"
    return attribute in _ATTRIBUTES - _UNANIMATED


def _squeezed(style: str) -> str:
    return re.sub(r"[\s;]+", "", style)


_IN_TEXT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})
_IN_QUOTES = _IN_TEXT | str.maketrans({'"': "&quot;", "\n": "&#10;", "\t": "&#9;"})


def _escaped(text: str) -> str:
    return text.translate(_IN_TEXT)


def _quoted(value: str) -> str:
    return value.translate(_IN_QUOTES)

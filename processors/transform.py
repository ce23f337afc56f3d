"""What a picture shall become: the part of a query that concerns the picture, in device pixels, with one canonical text."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache

from processors import grammar
from processors.errors import BadParameter
from processors.formats import Kind, by_mime
from processors.grammar import ASIDE, CACHED, CACHED_CHARS, Query
from processors.negotiation import accepted_types, negotiated, own_format
from processors.quantities import MAX_SIDE_PX, refuse

PIPELINE_REVISION = 7
"""Raised whenever the same transform of the same source gives other pixels: every kept rendition then gets a new name."""

DEFAULT_QUALITY = 80
DATA_FORMATS = frozenset(("json", "thumbhash", "blurhash"))
"""what is said of a picture, not made of it"""
CUES = "vtt"
"""the format that tells which part of a storyboard shows which time"""
MOVING = ("mp4",)
TILE_PX, PREVIEW_PX = 160, 480
"""the width of a tile of a storyboard and of a preview where no side is asked for"""
KEEP = "keep"
"""of ``meta``: all that a file says beside its pixels, also where a picture was taken"""
FOCAL = "focal-"
"""before a point of the whole picture, in a settled transform that cuts, turns or mirrors before it looks for a place"""
SAVING = "saving"
"""``q=auto`` for a client that asks for less (Save-Data)"""


class Fit(StrEnum):
    """How a picture meets the box of w and h."""

    INSIDE = "inside"
    COVER = "cover"
    PAD = "pad"
    STRETCH = "stretch"
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class Transform:
    """One rendition. None is what the query did not say; texts are in the canonical spelling of `grammar`.

    *width*, *height* and *pad* (top, right, bottom, left) are device pixels: dpr is folded in. *ratio* is the shape of the box
    where one side or both are missing. Of a film, *sprite* is the columns and rows of a storyboard, *seconds* the length of a
    preview; sizes are then those of one picture of it. *waveform* is the colour (or ``1``) in which a sound is drawn.
    *quality* is on the JPEG scale, *automatic* instead of it ``auto`` or ``saving``.
    *download* and *version* concern the answer, not the picture, and are not in the canonical text.
    """

    crop: str | None = None
    trim: int | None = None
    rot: int | None = None
    flip: str | None = None
    width: int | None = None
    height: int | None = None
    ratio: tuple[int, int] | None = None
    fit: Fit | None = None
    gravity: str | None = None
    up: bool | None = None
    blur: float | None = None
    sharp: float | None = None
    gray: bool | None = None
    pad: tuple[int, int, int, int] | None = None
    bg: str | None = None
    watermark: str | None = None
    quality: int | None = None
    automatic: str | None = None
    max_bytes: int | None = None
    format: str | None = None
    animated: bool | None = None
    page: int | None = None
    time: str | None = None
    sprite: tuple[int, int] | None = None
    seconds: float | None = None
    waveform: str | None = None
    meta: str | None = None
    download: str | None = None
    version: str | None = None
    canonical: str = field(init=False, compare=False, default="")
    """the one text of everything that asks for the same: names sorted by byte, nothing percent-encoded"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "canonical", Query.of(_said(self)).text)

    @classmethod
    def of(cls, query: Query) -> Transform:
        """The transform that *query* asks for, presets expanded and client hints resolved; raises BadParameter.

        Where several parameters do not go together, or a side is too large in device pixels.
        """
        return _transform(query)

    @classmethod
    def parse(cls, query: str) -> Transform:
        """The transform of a raw query string without presets; raises BadParameter."""
        return _transform(grammar.read(query))

    @classmethod
    def restore(cls, canonical: str) -> Transform:
        """The transform of a canonical text that we made, `settled` formats and watermarks included."""
        return _transform(Query(tuple(_pair(text) for text in canonical.split("&") if text)))

    @property
    def is_identity(self) -> bool:
        """Whether nothing was asked of the picture: the stored bytes are the answer."""
        return not self.canonical

    @property
    def is_data(self) -> bool:
        """Whether what is asked for is something said of the picture, and no picture."""
        return self.format in DATA_FORMATS and self.waveform is None

    @property
    def is_of_films(self) -> bool:
        """Whether only a film has it: several pictures of one."""
        return self.sprite is not None or self.seconds is not None

    @property
    def moves(self) -> bool:
        """Whether what is made is a film, which players read in parts."""
        return self.format in MOVING

    @property
    def varies(self) -> bool:
        """Whether the answer depends on Accept."""
        return self.format == "auto"

    @property
    def crops(self) -> bool:
        """Whether the stored focal point of a picture makes a difference."""
        has_box = self.ratio is not None or (self.width is not None and self.height is not None)
        return has_box and self.gravity in (None, "focal") and self._fit is Fit.COVER

    @property
    def _fit(self) -> Fit | None:
        # A shape that is asked for is cut out, unless the query says how else it is met.
        return Fit.COVER if self.fit is None and self.ratio is not None else self.fit

    def settled(self, source_mime: str, accept: str = "", focal: str | None = None) -> Transform:
        """The same rendition with its format decided, and without what makes no difference, so that it has one name.

        *focal* is the stored point of the picture, as ``XxY``. What only a look into the file tells is left to the renderer:
        ``small`` is AVIF, or WebP where AVIF would take too long, ``plain`` is JPEG, PNG for a picture with alpha, GIF for an
        animation.
        """
        bare = self if self.download is None and self.version is None else replace(self, download=None, version=None)
        accepted = accepted_types(accept[:CACHED_CHARS]) if self.format == "auto" else ()
        return _settled(bare, source_mime, accepted, focal if self.crops else None)


# -- from a query and back ------------------------------------------------------------------------------------------------


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def _decimal(text: str | None) -> float | None:
    return None if text is None else float(text)


def _switch(text: str | None) -> bool | None:
    return None if text is None else text == "1"


@lru_cache(CACHED)
def _transform(query: Query) -> Transform:
    said = dict(query.pairs)
    unhinted = {name: None if said.get(name) == "auto" else said.get(name) for name in ("w", "dpr")}
    hundredths = round(float(unhinted["dpr"] or 1) * 100)
    transform = Transform(
        crop=None if said.get("crop") == "0.0,0,1,1" else said.get("crop"),
        trim=_number(said.get("trim")),
        rot=_number(said.get("rot")),
        flip=said.get("flip"),
        width=_device_px("w", unhinted["w"], hundredths),
        height=_device_px("h", said.get("h"), hundredths),
        ratio=_ratio(said.get("ar")),
        fit=Fit(said["fit"]) if "fit" in said else None,
        gravity=said.get("g"),
        up=_switch(said.get("up")),
        blur=_decimal(said.get("blur")),
        sharp=_decimal(said.get("sharp")),
        gray=_switch(said.get("gray")),
        pad=_border(said.get("pad"), hundredths),
        bg=said.get("bg"),
        watermark=said.get("wm"),
        quality=None if said.get("q") in ("auto", SAVING) else _number(said.get("q")),
        automatic=said.get("q") if said.get("q") in ("auto", SAVING) else None,
        max_bytes=_number(said.get("max")),
        format=said.get("format"),
        animated=_switch(said.get("anim")),
        page=_number(said.get("page")),
        time=said.get("time"),
        sprite=_tiles(said.get("sprite")),
        seconds=_decimal(said.get("dur")),
        waveform=said.get("waveform"),
        meta=said.get("meta"),
        download=said.get("dl"),
        version=said.get("v"),
    )
    beside = {"format", "meta"} if transform.format == "json" and transform.meta == KEEP else {"format"}
    if transform.is_data and (more := query.names - ASIDE - beside):
        raise BadParameter(
            f"format={transform.format} tells of the picture as it is stored: nothing else goes with it",
            param=min(more),
            allowed="format alone, and meta=keep with json",
        )
    if transform.ratio is not None and transform.width is not None and transform.height is not None:
        refuse("ar", "said with w or with h, not with both")
    _check_scenes(transform)
    return transform


def _check_scenes(transform: Transform) -> None:
    if transform.waveform is not None:
        if transform.is_of_films:
            refuse("waveform", "said without sprite and dur")
        if transform.format in (CUES, *MOVING, "thumbhash", "blurhash"):
            refuse("format", "one of pictures, auto, or json of a waveform")
        return
    if transform.sprite is not None and transform.seconds is not None:
        refuse("dur", "said without sprite: a storyboard is of the whole film")
    if transform.sprite is not None and transform.format in MOVING:
        refuse("format", "jpg, png, webp, avif, gif, auto or vtt of a storyboard")
    if transform.seconds is not None and transform.format not in (None, "source", "auto", "webp", "gif", *MOVING):
        refuse("format", "webp, gif, mp4 or auto of a preview")
    if transform.format == CUES and transform.sprite is None:
        refuse("format", "vtt with sprite, of which it tells the times")
    if transform.format in MOVING and transform.seconds is None:
        refuse("format", "mp4 with dur: of the whole film an MP4 is made by a job")


def _device_px(name: str, side: str | None, hundredths: int) -> int | None:
    if side is None:
        return None
    pixels = (int(side) * hundredths + 50) // 100
    if pixels > MAX_SIDE_PX:
        refuse(name, f"1 to {MAX_SIDE_PX} after dpr is multiplied in")
    return pixels


def _tiles(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    columns, _, rows = text.partition("x")
    return int(columns), int(rows)


def _ratio(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, _, height = text.partition(":")
    return int(width), int(height)


def _border(text: str | None, hundredths: int) -> tuple[int, int, int, int] | None:
    if text is None:
        return None
    sides = [(int(side) * hundredths + 50) // 100 for side in text.split(",")]
    top, right, bottom, left = sides * 4 if len(sides) == 1 else sides
    return top, right, bottom, left


def _said(transform: Transform) -> dict[str, str]:
    pad = transform.pad
    values: dict[str, object] = {
        "anim": None if transform.animated is None else int(transform.animated),
        "ar": None if transform.ratio is None else "{}:{}".format(*transform.ratio),
        "bg": transform.bg,
        "blur": None if transform.blur is None else f"{transform.blur:g}",
        "crop": transform.crop,
        "dur": None if transform.seconds is None else f"{transform.seconds:g}",
        "fit": transform.fit,
        "flip": transform.flip,
        "format": transform.format,
        "g": transform.gravity,
        "gray": None if transform.gray is None else int(transform.gray),
        "h": transform.height,
        "max": transform.max_bytes,
        "meta": transform.meta,
        "pad": None if pad is None else pad[0] if len(set(pad)) == 1 else ",".join(map(str, pad)),
        "page": transform.page,
        "q": transform.automatic or transform.quality,
        "rot": transform.rot,
        "sharp": None if transform.sharp is None else f"{transform.sharp:g}",
        "sprite": None if transform.sprite is None else "{}x{}".format(*transform.sprite),
        "time": transform.time,
        "trim": transform.trim,
        "up": None if transform.up is None else int(transform.up),
        "w": transform.width,
        "waveform": transform.waveform,
        "wm": transform.watermark,
    }
    return {name: str(value) for name, value in values.items() if value is not None}


# -- settling -------------------------------------------------------------------------------------------------------------

_LOSSLESS = frozenset(("png", "gif"))
_ANIMATING = frozenset(("gif", "webp", "plain", "avif"))
_PLACES = frozenset(("attention", "entropy"))  # gravities that look for a place in the picture: only a crop has a choice


@lru_cache(CACHED)
def _settled(transform: Transform, source_mime: str, accepted: tuple[tuple[str, float], ...], focal: str | None) -> Transform:
    if transform.is_data:
        return Transform(format=transform.format)
    source = by_mime(source_mime) if transform.waveform is None else None
    is_film = source is not None and source.kind is Kind.VIDEO
    has_box = transform.ratio is not None or (transform.width is not None and transform.height is not None)
    sized = transform.width is not None or transform.height is not None
    fit = transform._fit if has_box and transform._fit is not Fit.INSIDE else None
    name = own_format(source) if transform.format in (None, "source") else transform.format
    if transform.seconds is not None and transform.format in (None, "source", "auto"):
        is_taken = transform.format != "auto" or dict(accepted).get("image/webp", 0.0) > 0
        name = "webp" if is_taken else "gif"
    if name == "auto":
        name = negotiated(source, dict(accepted))
    quality = None if transform.quality == DEFAULT_QUALITY or name in _LOSSLESS else transform.quality
    usual = TILE_PX if transform.sprite is not None else PREVIEW_PX if transform.seconds is not None else None
    return replace(
        transform,
        width=transform.width if sized else usual,
        fit=fit,
        gravity=_placed(transform, fit, focal),
        format=name,
        quality=quality,
        automatic=None if name in _LOSSLESS else transform.automatic,
        up=True if sized and transform.up else None,
        rot=transform.rot or None,
        gray=transform.gray or None,
        pad=transform.pad if any(transform.pad or ()) else None,
        animated=False if transform.animated is False and name in _ANIMATING else None,
        page=None if is_film or transform.page == 1 else transform.page,
        time=None if not is_film or transform.time == "auto" or transform.sprite is not None else transform.time,
        meta=None if transform.meta == "copyright" else transform.meta,
    )


def _placed(transform: Transform, fit: Fit | None, focal: str | None) -> str | None:
    gravity = transform.gravity
    if fit not in (Fit.COVER, Fit.PAD) or (fit is Fit.PAD and gravity in _PLACES):
        return None
    if gravity in (None, "focal"):
        changes = transform.crop or transform.rot or transform.flip or transform.trim is not None
        gravity = FOCAL + focal if focal is not None and changes else focal
    return None if gravity == "center" else gravity

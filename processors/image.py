"""The picture pipeline: a fixed row of steps, each from Image to Image, over libvips. Workers only.

The order is resize, colour, orientation, place in the box, background, metadata, encode. Resizing comes first, on the file's
own strips, so that whatever follows works on few pixels; turning swaps the box instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pyvips

from processors import decoders, encoders
from processors.decoders import Source, translated
from processors.encoders import Output
from processors.errors import TooCostly
from processors.formats import Format, Kind
from processors.transform import Fit, Transform
from processors.values import Inspected, Limits, Rendered

Made = TypeVar("Made")
Step = Callable[[pyvips.Image], pyvips.Image]
ANIMATION_DROPPED = "animation-dropped"
WHITE, CLEAR = (255, 255, 255), (0, 0, 0, 0)
# Degrees clockwise after an optional mirroring from left to right, by EXIF orientation.
_TURNS = {2: (0, True), 3: (180, False), 4: (180, True), 5: (270, True), 6: (90, False), 7: (90, True), 8: (270, False)}
_SIDES = {"left": 0.0, "right": 1.0, "top": 0.0, "bottom": 1.0}


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes in pixels as seen: the picture is resized to *scaled*, then *box* is cut out of it or laid around it."""

    scaled: tuple[int, int]
    box: tuple[int, int]


def planned(size: tuple[int, int], transform: Transform, max_side_px: int) -> Plan:
    """What *transform* does to a picture of *size*. Nothing is enlarged without ``up``, and no side is less than a pixel.

    A cover box larger than the picture keeps its shape and shrinks until it fits; a pad box keeps its size, and the picture
    in it keeps its own.
    """
    width, height = size
    fit = transform.fit or Fit.INSIDE
    horizontal = transform.width / width if transform.width else None
    vertical = transform.height / height if transform.height else None
    if horizontal is None or vertical is None:
        scale = horizontal or vertical or 1.0
        return _whole(size, scale, transform.up, max_side_px)
    wanted = (transform.width or 0, transform.height or 0)
    if fit is Fit.STRETCH:
        scaled = wanted if transform.up else (min(wanted[0], width), min(wanted[1], height))
        return Plan(scaled, scaled)
    if fit is Fit.COVER:
        shrink = 1.0 if transform.up else min(1.0, 1 / max(horizontal, vertical))
        box = _sides(wanted, shrink)
        scale = max(box[0] / width, box[1] / height)
        scaled = _sides(size, scale)
        return Plan((max(scaled[0], box[0]), max(scaled[1], box[1])), box)
    scale = max(horizontal, vertical) if fit is Fit.OUTSIDE else min(horizontal, vertical)
    plan = _whole(size, scale, transform.up, max_side_px)
    return Plan(plan.scaled, wanted) if fit is Fit.PAD else plan


def _whole(size: tuple[int, int], scale: float, up: bool | None, max_side_px: int) -> Plan:
    scale = min(scale, max_side_px / max(size)) if up else min(scale, 1.0, max_side_px / max(size))
    scaled = _sides(size, scale)
    return Plan(scaled, scaled)


def _sides(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


@dataclass(frozen=True, slots=True)
class Work(Generic[Made]):
    """One job, decided by the file's header. *run* does it, and *estimate_bytes* is the memory that it then takes at its peak."""

    estimate_bytes: int
    run: Callable[[], Made]


def prepare() -> None:
    """Make this process ready for files from anybody."""
    decoders.prepare()


def capabilities(limits: Limits) -> dict[str, Any]:
    """What this build can do: libvips' version, formats in and out, the largest picture per format in megapixels."""
    return {
        "libvips": ".".join(str(pyvips.version(part)) for part in range(3)),
        "reads": decoders.readable(),
        "writes": encoders.writable(),
        "largestMegapixels": decoders.largest(limits),
    }


def inspect(path: str, limits: Limits, whole: bool) -> Inspected:
    """What the file is, by its header; *whole* decodes all of it once, so that what passes can be rendered later.

    Raises Unsupported, Corrupt, TooCostly.
    """
    return inspecting(path, limits, whole=whole).run()


def render(path: str, transform_text: str, limits: Limits) -> Rendered:
    """What a settled transform makes of the file; raises Unsupported, Corrupt, TooCostly."""
    return rendering(path, transform_text, limits).run()


def inspecting(path: str, limits: Limits, *, whole: bool) -> Work[Inspected]:
    """The look into a file; raises Unsupported, Corrupt, TooCostly."""
    format = decoders.sniffed(path)
    if format.kind in (Kind.VIDEO, Kind.AUDIO):
        return _inspecting_film(path, format, limits)
    source = decoders.look(path, limits)
    width, height = source.shown_size
    frames, _ = _frames(source, limits)
    estimate = decoding_bytes(source)
    admit(estimate, limits)

    def run() -> Inspected:
        if whole:
            with translated():
                source.load(source.shrink(min(source.width, source.height)), frames).avg()
        return Inspected(source.format.name, width, height, source.frames, source.alpha, None, estimate)

    return Work(estimate if whole else 0, run)


def _inspecting_film(path: str, format: Format, limits: Limits) -> Work[Inspected]:
    # A film or a sound is not decoded from end to end: its index, and that its beginning decodes.
    from processors import video  # noqa: PLC0415 - FFmpeg is 30 MiB that only workers with films pay

    with translated():
        film = video.probe(path, format)
    estimate = 0
    if film.width is not None and film.height is not None:
        decoders.check(limits, film.width * film.height)
        estimate = round(film.width * film.height * decoders.BYTES_PER_PIXEL["film"])
        admit(estimate, limits)

    def run() -> Inspected:
        with translated():
            turned = video.turn(path, format) >= 5
        width, height = (film.height, film.width) if turned else (film.width, film.height)
        return Inspected(format.name, width, height, duration_s=film.duration_s, estimate_bytes=estimate)

    return Work(estimate, run)


def admit(estimate: int, limits: Limits) -> None:
    """Raise TooCostly if the picture alone would take more memory than all may that are decoded at one time."""
    if estimate > limits.budget_bytes:
        allowed = limits.budget_bytes
        raise TooCostly("decoding it takes more memory than is allowed", limit="memory", allowed=allowed, actual=estimate)


def decoding_bytes(source: Source) -> int:
    """The estimated memory of decoding one frame."""
    return round(source.width * source.height * source.bytes_per_pixel)


def _frames(source: Source, limits: Limits) -> tuple[int, bool]:
    # How many frames to load, and whether an animation is cut down to its first.
    if source.frames > limits.max_frames:
        return 1, True
    return source.frames, False


@dataclass(frozen=True, slots=True)
class Job:
    """One rendition, decided but for its pixels."""

    source: Source
    transform: Transform
    plan: Plan
    output: Output
    frames: int
    degraded: tuple[str, ...]

    @property
    def estimate_bytes(self) -> int:
        """The memory that it takes at its peak, by estimate."""
        return decoding_bytes(self.source)

    @property
    def ground(self) -> tuple[int, ...] | None:
        """The colour behind the picture, three or four values; None where its own transparency stays."""
        if self.transform.bg is None:
            return None if self.output.format.alpha else WHITE
        colour = tuple(bytes.fromhex(self.transform.bg))
        return colour if self.output.format.alpha else _over_white(colour)


def rendering(path: str, transform_text: str, limits: Limits) -> Work[Rendered]:
    """The rendition of a file; raises Unsupported (also for sound and documents), Corrupt, TooCostly."""
    transform = Transform.restore(transform_text)
    source = decoders.look(path, limits)
    job = _decided(source, transform, limits)
    admit(job.estimate_bytes, limits)

    def run() -> Rendered:
        with translated():
            opened = source.opened()
        return _rendered(job if opened is source else _decided(opened, transform, limits))

    return Work(job.estimate_bytes, run)


def _decided(source: Source, transform: Transform, limits: Limits) -> Job:
    frames, is_cut = _frames(source, limits)
    plan = planned(source.shown_size, transform, limits.max_side_px)
    output = encoders.output(
        transform.format or "plain",
        transform.quality,
        animated=source.frames > 1,
        alpha=_stays_clear(source, transform),
        pixels=plan.box[0] * plan.box[1],
    )
    if not output.format.animates:
        frames, is_cut = 1, False
    return Job(source, transform, plan, output, frames, (ANIMATION_DROPPED,) if is_cut else ())


def _rendered(job: Job) -> Rendered:
    with translated():
        strip = job.source.load(_shrink(job), job.frames)
        image = _one(strip, job) if job.frames == 1 else _all(strip, job)
        data = job.output.encode(encoders.stripped(image, job.source.rights))
    return Rendered(data, job.output.format.mime, *job.plan.box, job.degraded)


def _stays_clear(source: Source, transform: Transform) -> bool:
    # Whether transparency may be left in the rendition, for a format that is yet to be chosen.
    if transform.bg is None:
        return source.alpha
    return len(transform.bg) == 8 and (source.alpha or transform.fit is Fit.PAD)


def _over_white(colour: tuple[int, ...]) -> tuple[int, ...]:
    alpha = colour[3] if len(colour) == 4 else 255
    return tuple(round((value * alpha + 255 * (255 - alpha)) / 255) for value in colour[:3])


def _shrink(job: Job) -> int:
    # Shrink-on-load is a plain average: at least a factor of two is left for the good filter (as vips_thumbnail does).
    width, height = _unturned(job.plan.scaled, job.source.turn)
    room = min(job.source.width / width, job.source.height / height)
    return job.source.shrink(room / 2)


def _unturned(size: tuple[int, int], turn: int) -> tuple[int, int]:
    return (size[1], size[0]) if turn >= 5 else size


def _one(image: pyvips.Image, job: Job) -> pyvips.Image:
    for step in _steps(job, _place(job)):
        image = step(image)
    return image


def _all(strip: pyvips.Image, job: Job) -> pyvips.Image:
    # Each frame by itself and in order: filters do not reach into the next frame, and the strip is read from top to bottom.
    height = strip.height // job.frames
    place = _place(job)
    pages = []
    for number in range(job.frames):
        page = strip.crop(0, number * height, strip.width, height)
        for step in _steps(job, place):
            page = step(page)
        pages.append(page.copy_memory())
    joined = pyvips.Image.arrayjoin(pages, across=1)
    joined = joined.copy()
    joined.set_type(pyvips.GValue.gint_type, "page-height", job.plan.box[1])
    for name, kind in (("delay", pyvips.GValue.array_int_type), ("loop", pyvips.GValue.gint_type)):
        if strip.get_typeof(name):
            joined.set_type(kind, name, strip.get(name))
    return joined


def _steps(job: Job, place: Step) -> tuple[Step, ...]:
    turn = job.source.turn
    return (_resized(_unturned(job.plan.scaled, turn)), _in_srgb, _upright(turn), _over(job.ground), place)


def _resized(size: tuple[int, int]) -> Step:
    def step(image: pyvips.Image) -> pyvips.Image:
        if (image.width, image.height) == size:
            return image
        horizontal, vertical = size[0] / image.width, size[1] / image.height
        if not image.hasalpha():
            return image.resize(horizontal, vscale=vertical)
        # Colour under alpha is weighed by it, or the edges of what is seen take on the colour of what is not.
        kind = image.format
        return image.premultiply().resize(horizontal, vscale=vertical).unpremultiply().cast(kind)

    return step


def _in_srgb(image: pyvips.Image) -> pyvips.Image:
    if image.get_typeof("icc-profile-data"):
        try:
            image = image.icc_transform("srgb", embedded=True, depth=8, intent="relative", black_point_compensation=True)
        except pyvips.Error:  # a profile that is broken or of another kind of picture: read as if there were none
            image = image.copy()
            image.remove("icc-profile-data")
    grey = image.interpretation in ("b-w", "grey16")
    return image.colourspace("b-w" if grey else "srgb").cast("uchar")


def _upright(turn: int) -> Step:
    def step(image: pyvips.Image) -> pyvips.Image:
        if turn == 1:
            return image
        degrees, mirrored = _TURNS[turn]
        image = image.copy_memory()
        if mirrored:
            image = image.fliphor()
        return image.rot(f"d{degrees}") if degrees else image

    return step


def _over(ground: tuple[int, ...] | None) -> Step:
    def step(image: pyvips.Image) -> pyvips.Image:
        if ground is None:
            return image
        if len(set(ground[:3])) > 1 and image.interpretation == "b-w":
            image = image.colourspace("srgb")
        if not image.hasalpha():
            return image
        colour = _for_bands(ground, image)
        if len(ground) == 3:
            return image.flatten(background=colour[:-1])
        behind = (pyvips.Image.black(image.width, image.height, bands=image.bands) + colour).cast("uchar")
        return behind.copy(interpretation=image.interpretation).composite2(image, "over").cast("uchar")

    return step


def _for_bands(ground: tuple[int, ...], image: pyvips.Image) -> list[int]:
    # The colour as a value per band of an image with alpha: grey pictures have one and their alpha.
    colours = list(ground[:3]) if image.bands >= 3 else [ground[0]]
    return [*colours, ground[3] if len(ground) == 4 else 255]


def _place(job: Job) -> Step:
    width, height = job.plan.box
    if job.plan.box == job.plan.scaled:
        return lambda image: image
    if job.transform.fit is Fit.PAD:
        return _padded(width, height, _point(job.transform.gravity), job.ground or CLEAR)
    return _Crop(width, height, job.transform.gravity)


def _point(gravity: str | None) -> tuple[float, float]:
    # Where in the room that is left: 0 is left and top, 1 right and bottom.
    if gravity is None or gravity in ("center", "attention", "entropy"):
        return 0.5, 0.5
    if gravity[0].isdigit():
        x, _, y = gravity.partition("x")
        return float(x), float(y)
    words = gravity.split("-")
    across = next((_SIDES[word] for word in words if word in ("left", "right")), 0.5)
    down = next((_SIDES[word] for word in words if word in ("top", "bottom")), 0.5)
    return across, down


def _padded(width: int, height: int, point: tuple[float, float], ground: tuple[int, ...]) -> Step:
    def step(image: pyvips.Image) -> pyvips.Image:
        if len(set(ground[:3])) > 1 and image.interpretation == "b-w":
            image = image.colourspace("srgb")
        if len(ground) == 4 and not image.hasalpha():
            image = image.addalpha()
        colour = _for_bands(ground, image) if image.hasalpha() else list(ground[: image.bands])
        left, top = round((width - image.width) * point[0]), round((height - image.height) * point[1])
        return image.embed(left, top, width, height, extend="background", background=colour)

    return step


class _Crop:
    """Cuts the box out of every frame at one place, which a look at the first one decides where *gravity* is in the picture."""

    def __init__(self, width: int, height: int, gravity: str | None) -> None:
        self._width, self._height, self._gravity = width, height, gravity
        self._corner: tuple[int, int] | None = None

    def __call__(self, image: pyvips.Image) -> pyvips.Image:
        if self._corner is None:
            if self._gravity in ("attention", "entropy"):
                image = image.copy_memory()
            self._corner = self._chosen(image)
        return image.crop(*self._corner, self._width, self._height)

    def _chosen(self, image: pyvips.Image) -> tuple[int, int]:
        if self._gravity in ("attention", "entropy"):
            found = image.smartcrop(self._width, self._height, interesting=self._gravity)
            return -found.xoffset, -found.yoffset
        across, down = _point(self._gravity)
        room = image.width - self._width, image.height - self._height
        if self._gravity is not None and self._gravity[0].isdigit():  # the point comes as near to the middle as it can
            left, top = round(across * image.width - self._width / 2), round(down * image.height - self._height / 2)
            return min(max(0, left), room[0]), min(max(0, top), room[1])
        return round(room[0] * across), round(room[1] * down)

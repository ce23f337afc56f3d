"""Pictures made of files: the rendition that a transform asks for. Workers only.

A rendition is a fixed row of steps: resize, colour, orientation, background, place in the box. Resizing comes first, on the
file's own strips, so that whatever follows works on few pixels; turning swaps the box instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pyvips

from processors import costs, decoders, encoders, steps
from processors.decoders import translated
from processors.encoders import Output
from processors.errors import BadParameter, Busy, Unsupported
from processors.geometry import Area, Plan, Size, as_seen, planned, unturned
from processors.source import Source
from processors.steps import CLEAR, WHITE, Colour, Step
from processors.transform import SAVING, Fit, Transform
from processors.values import Limits, Rendered, Watermark
from processors.work import Work, admit, decoding_bytes, frames_of

ANIMATION_DROPPED, FORMAT_PENDING, SIZE_NEAREST = "animation-dropped", "format-pending", "size-nearest"
TRUNCATED = "truncated"
FILTER_BYTES = 16
TRIMMED_PX = 600
"""the shorter side, about, at which the border of a picture is looked for"""
WAVE_PX = 800, 160
"""of a picture of sound, where no size is said"""
WAVE_COLOUR = "4a6fa5"
NO_SOUND = "waveforms are made of films and sound"
GAIN_MAP_PX = 600
"""the longer side up to which a rendition goes without its gain map: of a small file it would be a large part"""
GAIN_MAP_BYTES = 3
"""of a pixel of the picture, for a map that is scaled as it is: 1.1 were measured for a grey one"""
AVIF_EFFORT = 15


def prepare() -> None:
    """Make this process ready for files from anybody."""
    decoders.prepare()


def capabilities(limits: Limits) -> dict[str, Any]:
    """What this build can do: libvips' version, formats in and out, the largest picture per format in megapixels."""
    return {
        "libvips": ".".join(str(pyvips.version(part)) for part in range(3)),
        "reads": decoders.readable(),
        "writes": encoders.writable(),
        "largestMegapixels": costs.largest_megapixels(limits.max_pixels, limits.budget_bytes),
    }


def render(path: str, transform_text: str, limits: Limits) -> Rendered:
    """What a settled transform makes of the file; raises Unsupported, Corrupt, TooCostly."""
    return rendering(path, transform_text, limits).run()


@dataclass(frozen=True, slots=True)
class Job:
    """One rendition, decided but for its pixels."""

    source: Source
    transform: Transform
    plan: Plan
    output: Output
    frames: int
    degraded: tuple[str, ...]
    mark: Watermark | None = None

    @property
    def estimate_bytes(self) -> int:
        """The memory that it takes at its peak, by estimate."""
        scaled, frame = self.plan.scaled[0] * self.plan.scaled[1], self.plan.frame[0] * self.plan.frame[1]
        is_resized = unturned(self.plan.scaled, self.plan.turn) != self.source.size
        turned = scaled * 3 if self.plan.turn != 1 else 0
        is_held = self.frames > 1 or self.transform.max_bytes or self.transform.automatic
        pages = frame * 4 * self.frames if is_held else 0
        gains = scaled * GAIN_MAP_BYTES if self.source.gain_map is not None and self.keeps_gain_map else 0
        then_bytes = turned + pages + gains + self.output.memory_bytes + scaled * self._filter_bytes
        return decoding_bytes(self.source, _shrink(self), is_resized=is_resized, then_bytes=then_bytes)

    @property
    def keeps_gain_map(self) -> bool:
        """Whether a gain map of the source still fits the rendition, which is large and only cut, scaled and turned."""
        transform = self.transform
        is_changed = transform.gray or transform.blur or transform.pad or self.mark or transform.fit is Fit.PAD
        return self.output.name == "jpg" and max(self.plan.frame) > GAIN_MAP_PX and not is_changed

    @property
    def has_new_colours(self) -> bool:
        """Whether there may be colours in the rendition, or transparency, that are not between those of the source."""
        transform = self.transform
        return bool(transform.gray or transform.bg or transform.pad or self.mark) or transform.fit is Fit.PAD

    @property
    def _filter_bytes(self) -> int:
        # Of a pixel, where filters look at its neighbours in colours of their own.
        return FILTER_BYTES if self.transform.blur or self.transform.sharp or self.mark else 0

    @property
    def ground(self) -> Colour | None:
        """The colour behind the picture; None where its own transparency stays."""
        if self.transform.bg is None:
            return None if self.output.format.alpha else WHITE
        colour = tuple(bytes.fromhex(self.transform.bg))
        return colour if self.output.format.alpha else _over_white(colour)


@dataclass(frozen=True, slots=True)
class Rendering(Work[Rendered]):
    """The work of one rendition."""

    shared: Job | None = None
    """where its pixels may come from those of a larger one of the same source"""
    effort: float = 0.0
    """how long it takes, beside others: in pixels that are encoded as JPEG"""


def rendering(path: str, transform_text: str, limits: Limits) -> Rendering:
    """The rendition of a file; raises Unsupported (also for sound and documents), BadParameter, Corrupt, TooCostly."""
    transform = Transform.restore(transform_text)
    return rendition(decoders.look(path, limits, transform.page), transform, limits)


def rendition(source: Source, transform: Transform, limits: Limits) -> Rendering:
    """What *transform* makes of *source*; raises as `rendering` does."""
    if transform.waveform is not None and transform.format == "json":
        return _peaks(source, transform)
    source = _moving(_grown(source, transform, limits), transform)
    job = _decided(source, transform, limits)
    estimate = job.estimate_bytes
    if transform.trim is not None:
        estimate = max(estimate, decoding_bytes(source, 1, is_resized=False))
    admit(estimate, limits)

    def run() -> Rendered:
        with translated():
            opened = source.opened(transform.time)
            trimmed = None if transform.trim is None else _without_border(opened, transform.trim)
        return _rendered(job if opened is source and trimmed is None else _decided(opened, transform, limits, trimmed))

    is_plain = job.frames == 1 and source.opening is None and transform.trim is None
    effort = job.output.pixels * job.frames * (AVIF_EFFORT if job.output.name == "avif" else 1) * (4 if transform.max_bytes else 1)
    return Rendering(estimate, run, job if is_plain else None, effort)


def _grown(source: Source, transform: Transform, limits: Limits) -> Source:
    # A drawing is sharp at any size; one of which a part is taken keeps the pixels that the part is counted in.
    if source.grow is None or transform.crop is not None:
        return source
    plan = planned(source.size, source.turn, replace(transform, up=True), limits.max_side_px)
    grown = source.grow(*unturned(plan.scaled, plan.turn))
    decoders.check(limits, grown.width * grown.height)
    return grown


def _peaks(source: Source, transform: Transform) -> Rendering:
    peaks = source.peaks
    if peaks is None:
        raise Unsupported(NO_SOUND)

    def run() -> Rendered:
        with translated():
            return Rendered(peaks(transform.width or WAVE_PX[0]), "application/json", 0, 0)

    return Rendering(costs.BASE_BYTES, run)


def _moving(source: Source, transform: Transform) -> Source:
    if transform.waveform is not None:
        if source.wave is None:
            raise Unsupported(NO_SOUND)
        colour = WAVE_COLOUR if transform.waveform == "1" else transform.waveform
        return source.wave(transform.width or WAVE_PX[0], transform.height or WAVE_PX[1], colour)
    if not transform.is_of_films:
        return source
    if source.tiles is None or source.passage is None:
        raise Unsupported("storyboards and previews are made of films")
    if transform.sprite is not None:
        return source.tiles(transform.sprite[0] * transform.sprite[1])
    return source.passage(transform.seconds or 0.0)


def _without_border(source: Source, tolerance: int) -> Area | None:
    # What is left of the first frame, as seen, without a border that is like its top left corner; None where nothing would be.
    # A large picture is looked at in blocks of pixels: the filter against specks takes 2 s for 12 megapixels.
    block = max(1, min(source.size) // TRIMMED_PX)
    shrink = source.shrink(block)
    colours = source.load(shrink, 1).crop(0, 0, 1, 1)(0, 0)
    image = source.load(shrink, 1)  # anew: it is read once, from top to bottom
    if source.alpha and not colours[-1]:
        image, colours = image[-1], colours[-1:]
    elif source.alpha:
        image, colours = image[:-1], colours[:-1]
    if block > shrink:
        image = image.shrink(block // shrink, block // shrink)
    scale = 257 if image.format == "ushort" else 1
    left, top, width, height = image.find_trim(threshold=tolerance * scale, background=colours)
    if not width or not height:
        return None
    across, down = source.width / image.width, source.height / image.height
    x, y = round(left * across), round(top * down)
    area = x, y, min(source.width - x, round(width * across)), min(source.height - y, round(height * down))
    return as_seen(area, source.size, source.turn)


def _decided(source: Source, transform: Transform, limits: Limits, trimmed: Area | None = None) -> Job:
    frames, is_cut = frames_of(source, limits)
    plan = planned(source.size, source.turn, transform, limits.max_side_px, trimmed)
    output = encoders.output(
        transform.format or "plain",
        transform.quality,
        animated=source.frames > 1 and transform.animated is not False and transform.sprite is None,
        alpha=_stays_clear(source, transform),
        pixels=plan.frame[0] * plan.frame[1] * (1 if transform.sprite is None else frames),
    )
    if transform.sprite is None and (not output.format.animates or transform.animated is False):
        frames, is_cut = 1, False
    elif transform.sprite is not None and max(_whole(plan.frame, transform)) > limits.max_side_px:
        raise BadParameter(
            "the storyboard is larger than is made here", param="sprite", allowed=f"sides up to {limits.max_side_px}"
        )
    mark = next((mark for mark in limits.watermarks if mark.name == transform.watermark), None)
    if transform.watermark is not None and mark is None:  # a processor that was not given those of its proxies
        raise Busy("the watermark is not known where pictures are made")
    degraded: tuple[str, ...] = ((ANIMATION_DROPPED,) if is_cut else ()) + ((TRUNCATED,) if source.is_cut else ())
    if encoders.comes_later(transform.format or "", output.pixels):
        degraded = (*degraded, FORMAT_PENDING)
    return Job(source, transform, plan, output, frames, degraded, mark)


def _rendered(job: Job) -> Rendered:
    with translated():
        if job.frames == 1:
            return finished(scaled(job), job)
        return _encoded(_all(job), job)


def scaled(job: Job) -> pyvips.Image:
    """The first half of a job of one frame: its part of the picture at its size, in sRGB, lying as it does in the file."""
    image = job.source.load(_shrink(job), 1)
    for step in _scaling(job):
        image = step(image)
    return image


def finished(image: pyvips.Image, job: Job) -> Rendered:
    """The other half: what `scaled` gave is turned, cut, filtered, laid over its ground and encoded."""
    placing = _placing(job)
    for step in placing + _filtering(job):
        image = step(image)
    gain_map = job.source.gain_map() if job.source.gain_map is not None and job.keeps_gain_map else None
    if gain_map is not None:
        image = gain_map.laid_on(image, _scaling(job)[:2] + placing)
    return _encoded(image, job)


def _encoded(image: pyvips.Image, job: Job) -> Rendered:
    transform, output, degraded = job.transform, job.output, job.degraded
    if job.has_new_colours and image.get_typeof(encoders.PALETTE):
        image = image.copy()
        image.remove(encoders.PALETTE)
    image = encoders.stripped(image, job.source.metadata, transform.meta)
    if transform.automatic is not None:
        image = image.copy_memory()  # which is looked at before it is encoded
        quality = encoders.automatic_quality(image, saving=transform.automatic == SAVING)
        output = replace(output, quality=quality)
    if transform.max_bytes is None:
        data = output.encode(image)
    else:
        data, fits = output.encode_within(image, transform.max_bytes)
        degraded += () if fits else (SIZE_NEAREST,)
    return Rendered(data, output.format.mime, *_whole(job.plan.frame, transform), degraded)


def _whole(frame: Size, transform: Transform) -> Size:
    # A storyboard is all of its tiles.
    columns, rows = transform.sprite or (1, 1)
    return frame[0] * columns, frame[1] * rows


def _stays_clear(source: Source, transform: Transform) -> bool:
    # Whether transparency may be left in the rendition, for a format that is yet to be chosen.
    if transform.bg is None:
        return source.alpha
    return len(transform.bg) == 8 and (source.alpha or transform.fit is Fit.PAD or transform.pad is not None)


def _over_white(colour: Colour) -> Colour:
    alpha = colour[3] if len(colour) == 4 else 255
    return tuple(round((value * alpha + 255 * (255 - alpha)) / 255) for value in colour[:3])


def _shrink(job: Job) -> int:
    # Shrink-on-load is a plain average: at least a factor of two is left for the good filter (as vips_thumbnail does).
    width, height = unturned(job.plan.scaled, job.plan.turn)
    return job.source.shrink(min(job.plan.area[2] / width, job.plan.area[3] / height) / 2)


def _scaling(job: Job) -> tuple[Step, ...]:
    plan = job.plan
    return steps.part(plan.area, job.source.size), steps.resized(unturned(plan.scaled, plan.turn)), steps.in_srgb


def _placing(job: Job) -> tuple[Step, ...]:
    plan = job.plan
    is_cut = plan.box != plan.scaled and job.transform.fit is not Fit.PAD
    return (steps.upright(plan.turn), *((steps.cropped(plan.box, plan.gravity),) if is_cut else ()))


def _filtering(job: Job) -> tuple[Step, ...]:
    plan, transform = job.plan, job.transform
    row: list[Step] = []
    if transform.gray:
        row.append(steps.grey)
    if transform.blur is not None:
        row.append(steps.blurred(transform.blur))
    if transform.sharp is not None:
        row.append(steps.sharpened(transform.sharp))
    row.append(steps.over(job.ground))
    if transform.fit is Fit.PAD:
        row.append(steps.padded(plan.box, plan.gravity, job.ground or CLEAR))
    if transform.pad is not None:
        row.append(steps.framed(transform.pad, job.ground or CLEAR))
    if job.mark is not None:
        row.append(steps.watermarked(job.mark))
    return tuple(row)


def _all(job: Job) -> pyvips.Image:
    # Each frame by itself and in order: filters do not reach into the next frame, and the file is read from top to bottom.
    row = (steps.held, *_scaling(job), *_placing(job), *_filtering(job))
    pages, delays = [], []
    for page, delay_ms in job.source.pages(_shrink(job), job.frames):
        for step in row:
            page = step(page)  # noqa: PLW2901
        pages.append(page.copy_memory())
        delays.append(delay_ms)
    if any(page.hasalpha() for page in pages):
        pages = [page if page.hasalpha() else page.addalpha() for page in pages]
    if job.transform.sprite is not None:
        return pyvips.Image.arrayjoin(pages, across=job.transform.sprite[0])
    joined = pyvips.Image.arrayjoin(pages, across=1).copy()
    joined.set_type(pyvips.GValue.gint_type, "page-height", job.plan.frame[1])
    joined.set_type(pyvips.GValue.array_int_type, "delay", delays)
    joined.set_type(pyvips.GValue.gint_type, "loop", job.source.loop)
    return joined

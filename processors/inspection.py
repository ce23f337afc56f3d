"""What a file is, and whether it decodes: the look that an upload must pass. Workers only."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from processors import costs, decoders, description, embedded, lossless
from processors.decoders import translated
from processors.errors import Corrupt, TooCostly, Unsupported
from processors.formats import Format, Kind
from processors.source import Source
from processors.values import Cleaned, Inspected, Limits
from processors.work import Work, admit, decoding_bytes, frames_of


def inspect(path: str, limits: Limits, whole: bool) -> Inspected:
    """What the file is, by its header; *whole* decodes all of it once, so that what passes can be rendered later.

    Raises Unsupported, Corrupt, TooCostly.
    """
    return inspecting(path, limits, whole=whole).run()


def inspecting(path: str, limits: Limits, *, whole: bool) -> Work[Inspected]:
    """The look into a file; raises Unsupported, Corrupt, TooCostly."""
    format = decoders.sniffed(path)
    if format.kind in (Kind.VIDEO, Kind.AUDIO):
        return _inspecting_film(path, format, limits)
    source = decoders.look(path, limits)
    width, height = source.shown_size
    frames, _ = frames_of(source, limits)
    shrink = source.shrink(min(source.width, source.height))
    estimate = decoding_bytes(source, shrink, is_resized=False)
    admit(estimate, limits)

    def run() -> Inspected:
        details: dict[str, Any] = {}
        said: dict[str, Any] = {}
        if whole:
            with translated():
                details = description.described(source.load(shrink, 1), source.turn)
                about, said = _said(source)
                details |= about
                if source.each is not None:
                    for page, _ in source.pages(shrink, frames):
                        page.avg()
                elif frames > 1:
                    source.load(shrink, frames).avg()
        return Inspected(source.format.name, width, height, source.frames, source.alpha, None, estimate, details, said)

    return Work(estimate if whole else 0, run)


def _said(source: Source) -> tuple[dict[str, Any], dict[str, Any]]:
    # What its makers say of the picture: in Exif's own words (the public part, and the rest), and under our names.
    tags: dict[str, Any] = {}
    place: dict[str, Any] = {}
    details: dict[str, Any] = {}
    if source.metadata.exif is not None:
        from processors import camera  # noqa: PLC0415 - Pillow is 9 MiB that only pictures of cameras pay

        tags, place = camera.tags(source.metadata.exif)
        details["exif"], details["private"] = camera.told(tags, place)
    has_gain_map = source.gain_map is not None and source.gain_map() is not None
    return details, embedded.of_picture(source.metadata, tags, place, has_gain_map=has_gain_map)


def cleaning(path: str, limits: Limits) -> Work[Cleaned]:
    """The drawing in a file without what could act or reach outwards, or the picture in fewer bytes.

    Raises Unsupported, Corrupt, TooCostly.
    """
    format = decoders.sniffed(path)
    if format.name in lossless.LIBRARIES:
        source = decoders.look(path, limits)
        estimate = costs.BASE_BYTES + source.width * source.height * lossless.HELD_BYTES + 2 * Path(path).stat().st_size
        admit(estimate, limits)
        return Work(estimate, lambda: Cleaned(lossless.smaller(path, format.name)))
    from processors import drawing  # noqa: PLC0415 - expat and its kin, for workers with drawings

    return Work(drawing.cleaning_bytes(path), lambda: Cleaned(drawing.cleaned(path)))


def _inspecting_film(path: str, format: Format, limits: Limits) -> Work[Inspected]:
    # A film or a sound is not decoded from end to end: its index, and that its beginning decodes.
    from processors import video  # noqa: PLC0415 - FFmpeg is 30 MiB that only workers with films pay

    with translated():
        film = video.probe(path, format)
        cover = None if film.width is not None else _cover(path, limits)
    estimate = 0 if cover is None else decoding_bytes(cover, cover.shrink(min(cover.size)), is_resized=False)
    if film.width is not None and film.height is not None:
        decoders.check(limits, film.width * film.height)
        estimate = costs.decoding(costs.COSTS["film"], film.width, film.height, 1, 0, is_resized=False)
        admit(estimate, limits)

    def run() -> Inspected:
        with translated():
            told = video.told(path, format)
            details: dict[str, Any] = {"tracks": told.tracks}
            if film.width is not None:
                with suppress(Unsupported, Corrupt):  # in a codec that is not decoded here, or damaged behind its beginning
                    still = video.still(path, format, searches=False)
                    details |= description.described(still.image, still.turn)
            elif cover is not None:
                with suppress(Unsupported, Corrupt, TooCostly):  # without one that can be shown
                    details |= description.described(cover.load(cover.shrink(min(cover.size)), 1), cover.turn)
        width, height = (film.height, film.width) if told.turn >= 5 else (film.width, film.height)
        return Inspected(format.name, width, height, 1, False, film.duration_s, estimate, details, told.tags)

    return Work(estimate, run)


def _cover(path: str, limits: Limits) -> Source | None:
    # A sound is what it is without a cover that can be shown.
    try:
        source = decoders.look(path, limits)
    except (Unsupported, Corrupt, TooCostly):
        return None
    return source if decoding_bytes(source, 1, is_resized=False) <= limits.budget_bytes else None

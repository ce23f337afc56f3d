"""What a file is, and whether it decodes: the look that an upload must pass. Workers only."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from processors import costs, decoders, description
from processors.decoders import translated
from processors.errors import Corrupt, Unsupported
from processors.formats import Format, Kind
from processors.metadata import NOTHING
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
        if whole:
            with translated():
                details = description.described(source.load(shrink, 1), source.turn, source.metadata)
                if source.each is not None:
                    for page, _ in source.pages(shrink, frames):
                        page.avg()
                elif frames > 1:
                    source.load(shrink, frames).avg()
        return Inspected(source.format.name, width, height, source.frames, source.alpha, None, estimate, details)

    return Work(estimate if whole else 0, run)


def cleaning(path: str) -> Work[Cleaned]:
    """The drawing in a file without what could act or reach outwards; raises Unsupported, Corrupt, TooCostly."""
    from processors import drawing  # noqa: PLC0415 - expat and its kin, for workers with drawings

    return Work(drawing.cleaning_bytes(path), lambda: Cleaned(drawing.cleaned(path)))


def _inspecting_film(path: str, format: Format, limits: Limits) -> Work[Inspected]:
    # A film or a sound is not decoded from end to end: its index, and that its beginning decodes.
    from processors import video  # noqa: PLC0415 - FFmpeg is 30 MiB that only workers with films pay

    with translated():
        film = video.probe(path, format)
    estimate = 0
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
                    details |= description.described(still.image, still.turn, NOTHING)
        width, height = (film.height, film.width) if told.turn >= 5 else (film.width, film.height)
        return Inspected(format.name, width, height, 1, False, film.duration_s, estimate, details)

    return Work(estimate, run)

"""The renditions of one source that are made in one job: decoded once, the smaller ones made of larger ones. Workers only.

A rendition that lies `RATIO` times within a larger one, of the same part of the picture, takes that one's pixels instead of
decoding the source again: pixels that were resized and never encoded, so nothing is lost that SSIMULACRA2 could see (the
figures stand in docs/decisions.md, "Many widths, one decode").
"""

from __future__ import annotations

import time
from dataclasses import replace

import pyvips

from processors import decoders, image, steps
from processors.decoders import translated
from processors.errors import Corrupt, MediaError
from processors.geometry import unturned
from processors.image import Job, Rendering
from processors.transform import Transform
from processors.values import Limits, Rendered

RATIO = 1.3
"""how many times larger, at least, a picture is that another one is made of: at 1.2 the loss begins to show in figures"""
HELD_BYTES = 96 << 20
PIXEL_BYTES = 4


class Series:
    """What several transforms make of one file; raises Unsupported, Corrupt, TooCostly, FileNotFoundError.

    After `plan`, *refused* are those that are not to be made, *order* the numbers of the others, those that take long last, and
    *estimate_bytes* is the memory at the peak of all of it.
    """

    def __init__(self, path: str, limits: Limits) -> None:
        self._path = path
        self._limits = limits
        self._source = decoders.look(path, limits)
        self._works: dict[int, Rendering] = {}
        self._larger: dict[int, int] = {}
        self._held: dict[int, pyvips.Image] = {}
        self._broken: Corrupt | None = None
        self.refused: dict[int, MediaError] = {}

    def plan(self, texts: list[str]) -> None:
        """Decide what is made of what; *texts* are settled transforms."""
        for number, text in enumerate(texts):
            try:
                self._works[number] = self._work(Transform.restore(text))
            except MediaError as error:
                self.refused[number] = error
        self._larger = larger({number: work.shared for number, work in self._works.items() if work.shared is not None})
        if self.estimate_bytes > self._limits.budget_bytes:
            self._larger = {}

    def _work(self, transform: Transform) -> Rendering:
        source = self._source if transform.page is None else decoders.look(self._path, self._limits, transform.page)
        return image.rendition(source, transform, self._limits)

    @property
    def estimate_bytes(self) -> int:
        """The memory that the whole takes at its peak, by estimate."""
        held = sum(_held_bytes(self._works[number].shared) for number in set(self._larger.values()))
        return held + max((work.estimate_bytes for work in self._works.values()), default=0)

    @property
    def order(self) -> list[int]:
        """The numbers of what is made, what takes long last: nobody waits for another one's AVIF."""
        return sorted(self._works, key=lambda number: self._works[number].effort)

    def make(self, number: int) -> Rendered:
        """One rendition; raises Unsupported, Corrupt, TooCostly."""
        began = time.perf_counter()
        work = self._works[number]
        if self._broken is not None:
            raise self._broken
        if work.shared is None or not (number in self._larger or number in self._larger.values()):
            made = work.run()
            return replace(made, seconds={"render": time.perf_counter() - began})
        with translated():
            pixels = self._scaled(number)
            scaled = time.perf_counter()
            made = image.finished(pixels, work.shared)
        return replace(made, seconds={"decode": scaled - began, "encode": time.perf_counter() - scaled})

    def _scaled(self, number: int) -> pyvips.Image:
        if number in self._held:
            return self._held[number]
        job = self._works[number].shared
        assert job is not None
        if number in self._larger:
            pixels = steps.resized(_size(job))(self._scaled(self._larger[number])).copy_memory()
        else:
            try:
                with translated():
                    pixels = image.scaled(job).copy_memory()
            except Corrupt as error:
                self._broken = error
                raise
        if number in self._larger.values():
            self._held[number] = pixels
        return pixels


def larger(jobs: dict[int, Job]) -> dict[int, int]:
    """Of which other job's pixels each one's are made, where there is one; those that are held have room together."""
    made_of: dict[int, int] = {}
    for number, job in jobs.items():
        fitting = [other for other, theirs in jobs.items() if _lies_within(job, theirs)]
        if fitting:
            made_of[number] = min(fitting, key=lambda other: jobs[other].plan.scaled)
    room = HELD_BYTES
    for other in sorted(set(made_of.values()), key=lambda other: jobs[other].plan.scaled):
        room -= _held_bytes(jobs[other])
        if room < 0:
            made_of = {number: source for number, source in made_of.items() if source != other}
    return made_of


def _lies_within(job: Job, other: Job) -> bool:
    (width, height), (their_width, their_height) = _size(job), _size(other)
    return (
        job.source is other.source
        and job.plan.area == other.plan.area
        and their_width >= RATIO * width
        and their_height >= RATIO * height
    )


def _size(job: Job) -> tuple[int, int]:
    return unturned(job.plan.scaled, job.plan.turn)


def _held_bytes(job: Job | None) -> int:
    return 0 if job is None else job.plan.scaled[0] * job.plan.scaled[1] * PIXEL_BYTES

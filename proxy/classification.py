"""What is in pictures and films, as a model names it: found out by a job for each upload. Off unless it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from processors import grammar
from processors.formats import Kind
from processors.models import Model
from processors.transform import Transform
from proxy.conditions import ANYTHING
from proxy.delivery import Delivery
from proxy.jobs import CLASSIFY, Job, JobBook

SHOWN = frozenset({Kind.IMAGE, Kind.VIDEO, Kind.DRAWING})


class Classifier(Protocol):
    """Names what is in pictures, given as PNGs of the size that it wants: width and height in pixels."""

    @property
    def size_px(self) -> tuple[int, int]: ...

    async def classify(self, picture: bytes) -> Mapping[str, float]:
        """Labels and how sure it is of each, 0 to 1; raises TooCostly, and Crashed when it breaks down over the picture."""
        ...


@dataclass(frozen=True, slots=True)
class Classification:
    """That *model* is to look at each upload that it suits. Ordered as profiles are (`orders.Recipe`)."""

    model: Model
    name: str = CLASSIFY
    automatic: bool = True

    @property
    def revision(self) -> str:
        """Names the model: what another one has said is found out anew."""
        return self.model.revision

    def suits(self, kind: Kind) -> bool:
        """Whether there is something to see: pictures, and of films the still that shows most."""
        return kind in SHOWN


class Classifying:
    """The work of the jobs that classify: *classifier* is shown a small rendition, and its labels are put into the record."""

    def __init__(self, book: JobBook, delivery: Delivery, classifier: Classifier, classification: Classification) -> None:
        self._book = book
        self._delivery = delivery
        self._classifier = classifier
        self._classification = classification

    async def make(self, job: Job, progress: Callable[[float], None]) -> Mapping[str, float]:
        """The labels of the object."""
        width, height = self._classifier.size_px
        query = grammar.read(f"w={width}&h={height}&fit=stretch&format=png")
        opened = await self._delivery.rendition(job.key, Transform.of(query), "", ANYTHING)
        async with opened.reader as reader:
            picture = b"".join([chunk async for chunk in reader])  # of a megapixel at most, and our own making
        return await self._classifier.classify(picture)

    async def finish(self, job: Job, holder: str, made: Mapping[str, float], now: datetime) -> bool:
        """Put them into the record, and withhold the object where the operator's rule says so."""
        model = self._classification.model
        return await self._book.conclude(job.id, holder, made, model.revision, now, withheld=model.withholds(made))

    async def drop(self, made: Mapping[str, float]) -> None:
        """Nothing is kept elsewhere."""

    async def clear(self, job: Job) -> None:
        """Nothing is left by earlier attempts."""

    async def sweep(self) -> None:
        """Nothing lies on the disk."""

"""Where a job is done: its source on the disk, a program at work on it, and what that makes in the store and on record."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import structlog

from processors import formats
from processors.cell import RESULTS, SOURCE
from processors.errors import MediaError
from processors.formats import Kind
from processors.profiles import Profile
from processors.transcode import FILE, Made, Transcoder
from proxy import keys
from proxy.errors import Conflict, NotFound, StorageFull, TooLarge
from proxy.house import lives
from proxy.jobs import Job, JobBook
from proxy.keys import Key
from proxy.ports import Asset, Backend, Body, Catalogue, ObjectReader, State

CHUNK_BYTES = 1 << 20
ROOM = 2
"""times the size of the source, which the disk must have before the work begins"""

log = structlog.get_logger(__name__)


class Bench:
    """Makes the *profiles* that jobs name, in folders below *floor*; what it makes is recorded as PENDING."""

    def __init__(
        self,
        book: JobBook,
        backend: Backend,
        catalogue: Catalogue,
        transcoder: Transcoder,
        profiles: Mapping[str, Profile],
        limits: Mapping[Kind, int],
        floor: Path,
    ) -> None:
        self._book = book
        self._backend = backend
        self._catalogue = catalogue
        self._transcoder = transcoder
        self._profiles = profiles
        self._limits = limits
        self._floor = floor

    async def make(self, job: Job, progress: Callable[[float], None]) -> list[Key]:
        """The results of *job*, stored whole, and shown to nobody until their records say so.

        Raises what says why not, and leaves nothing then, but where a store is away.
        """
        profile = self._profiles.get(job.profile)
        if profile is None:
            raise NotFound("no profile has this name any more")
        with _folder(self._floor) as folder:
            await self._fetch(job, folder)
            results: list[Key] = []
            try:
                for made in await self._transcoder.make(folder, profile, progress):
                    results.append(_name(job, profile, made))
                    await self._keep(job, made, results[-1])
            except BaseException:
                await asyncio.shield(asyncio.create_task(self.drop(results)))
                raise
            return results

    async def finish(self, job: Job, holder: str, made: list[Key], now: datetime) -> bool:
        """Show the results, and end the job."""
        return await self._book.finish(job.id, holder, made, now)

    async def clear(self, job: Job) -> None:
        """Drop what earlier attempts at *job* have left, whose workers died."""
        mark = f"{job.key}/{job.profile}-{_tag(job)}-"
        left = [asset.key for asset in await self._catalogue.derived(job.key) if asset.state is State.PENDING]
        await self.drop([key for key in left if key.startswith(mark)])

    async def drop(self, results: list[Key]) -> None:
        """Take away what nobody has seen."""
        for key in results:
            try:
                await self._backend.delete(key)
                await self._catalogue.remove(key)
            except MediaError as error:  # the service undoes it
                log.warning("job.not_undone", key=key, reason=error.slug)

    async def sweep(self) -> None:
        """Clear away the folders of processes that are no more."""
        await asyncio.to_thread(_swept, self._floor.parent)

    async def _fetch(self, job: Job, folder: Path) -> None:
        async with await self._backend.open(job.key) as source:
            if source.meta.etag != job.etag:
                raise Conflict("the object was overwritten since this was asked for")
            format = formats.by_mime(source.meta.content_type)
            limit = max(self._limits.values()) if format is None else self._limits[format.kind]
            if source.meta.size > limit:
                raise TooLarge(f"films are made of sources with up to {limit} bytes", max_bytes=limit)
            with _translated():
                if shutil.disk_usage(folder).free < ROOM * source.meta.size:
                    raise StorageFull("there is no room on the disk for the work")
                await _copied(source, folder / SOURCE / FILE)

    async def _keep(self, job: Job, made: Made, key: Key) -> None:
        async def admit(staged: ObjectReader) -> None:
            meta = staged.meta
            assert meta.sha256 is not None
            asset = Asset(
                key, job.owner, made.path.name, made.format.mime, meta.size, meta.sha256, meta.etag, datetime.now(UTC), meta.store,
                made.seen.width, made.seen.height, made.seen.duration_s, source=job.key,
            )  # fmt: skip
            await self._catalogue.add(asset)

        size = made.path.stat().st_size
        async with _chunks(made.path) as body:
            await self._backend.put(key, body, made.format.mime, admit, size=size)


def floor(data: Path) -> Path:
    """Where the jobs of this process have their folders, below those of all processes of the machine."""
    own = data / "jobs" / str(os.getpid())
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(mode=0o700, parents=True)
    return own


def _swept(above: Path) -> None:
    for folder in above.iterdir():
        if not (folder.name.isdigit() and lives(int(folder.name))):
            shutil.rmtree(folder, ignore_errors=True)


def _name(job: Job, profile: Profile, made: Made) -> Key:
    # Below its source's, so that it says what it was made of; of each attempt another, so that a late one harms nobody.
    # What has many files has them side by side, as they name each other.
    stem = f"{job.key}/{job.profile}-{_tag(job)}-{job.attempts}"
    return keys.parse(f"{stem}/{made.path.name}" if profile.heights else f"{stem}.{made.format.extension}")


def _tag(job: Job) -> str:
    return job.id[-8:]


@contextmanager
def _folder(above: Path) -> Iterator[Path]:
    with _translated():
        folder = Path(tempfile.mkdtemp(dir=above))
        for part in (SOURCE, RESULTS):
            (folder / part).mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFull("the disk on which films are worked on is full, or fails") from error


async def _copied(source: ObjectReader, path: Path) -> None:
    with path.open("wb") as file:
        async for chunk in source:
            await asyncio.to_thread(file.write, chunk)


@asynccontextmanager
async def _chunks(path: Path) -> AsyncIterator[Body]:
    with path.open("rb") as file:
        yield _read(file)


async def _read(file: BinaryIO) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
        yield chunk

"""Checks of the data folder: that files can be made and made durable there, on one file system, with room to spare.

They look from outside, so that a service which runs on the folder, and has locked it, is not disturbed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from proxy.doctor import Trouble

SYNCED_BYTES = 1 << 16
TIGHT_BYTES = 5 << 30
"""The largest film; with less than that some upload may find no room."""
FULL_BYTES = 256 << 20


async def writable(folder: Path) -> str:
    """Whether a file can be written, synced and renamed where the objects lie, and the names in it synced."""
    return await asyncio.to_thread(_written, folder)


async def one_file_system(folders: Sequence[Path]) -> str:
    """Whether *folders*, as far as they are there, are on one file system, since objects are renamed into their place."""
    devices = {folder: _existing(folder).stat().st_dev for folder in folders}
    if len(set(devices.values())) > 1:
        raise Trouble(f"{', '.join(map(str, folders))} are on different file systems: mount one at MEDIA_DATA_DIR, none below it")
    return ""


async def room(folder: Path) -> str:
    """Whether there is space left for what is to come."""
    free = shutil.disk_usage(_existing(folder)).free
    if free < TIGHT_BYTES:
        sentence = f"only {free >> 20} MiB are free where MEDIA_DATA_DIR is: make room, or set it to a larger disk"
        raise Trouble(sentence, works=free >= FULL_BYTES)
    return ""


def _written(folder: Path) -> str:
    place = _existing(folder)
    try:
        if not place.is_dir():
            raise Trouble(f"{place} is no folder: set MEDIA_DATA_DIR to another")
        with tempfile.TemporaryDirectory(prefix=".media-proxy-doctor-", dir=place) as made:
            first, second = Path(made, "first"), Path(made, "second")
            with first.open("wb") as file:
                file.write(os.urandom(SYNCED_BYTES))
                file.flush()
                os.fsync(file.fileno())
            first.rename(second)
            names = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(names)
            finally:
                os.close(names)
    except OSError as error:
        raise Trouble(
            f"files cannot be made and synced in {place} ({error.strerror}): give the service's user the folder,"
            " or set MEDIA_DATA_DIR to another"
        ) from error
    return str(folder) if place == folder else f"{folder}, which the start will make"


def _existing(folder: Path) -> Path:
    # The folder, or the first one above it that is there.
    return next((place for place in (folder, *folder.absolute().parents) if place.exists()), Path("/"))

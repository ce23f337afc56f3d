"""Taking possession of a store's folder: nobody else uses it, it is ours, and it is of a version that we know."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
from pathlib import Path

from proxy.adapters.disk import Steps
from proxy.errors import StartError

FORMAT = 1
MARKER = "store.json"
UNFINISHED_MARKER = "store.json.new"
LOCK = "lock"


def claim(root: Path, steps: Steps) -> int:
    """Make *root* a store if it is new, and lock it; the lock lasts until the descriptor that this gives is closed.

    Raises StartError if it is locked, holds something else, or was written by another version.
    """
    try:
        _refuse_foreign(root)
        _make(root, steps)
        lock = os.open(root / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (root / MARKER).exists():
                _check_version(root)
            else:
                _refuse_foreign(root)
                _mark(root, steps)
            for name in ("objects", "tmp"):
                steps.make_folder(root / name)
                if not stat.S_ISDIR(os.lstat(root / name).st_mode):
                    raise StartError(f"{name} in {root} is a link, and links are not followed: put the folder itself there")
            steps.sync_folder(root)
        except BaseException:
            os.close(lock)
            raise
    except BlockingIOError:
        raise StartError(f"another media-proxy uses the folder {root}: stop it or set MEDIA_DATA_DIR") from None
    except OSError as error:
        raise StartError(f"the folder {root} cannot be used: {error.strerror}; set MEDIA_DATA_DIR to another") from error
    return lock


def _refuse_foreign(root: Path) -> None:
    names = {path.name for path in root.iterdir()} if root.exists() else set()
    if names - {LOCK, UNFINISHED_MARKER} and MARKER not in names:
        raise StartError(f"the folder {root} holds something else: set MEDIA_DATA_DIR to an empty or a new one")


def _make(root: Path, steps: Steps) -> None:
    missing = [folder for folder in (root, *root.parents) if not folder.exists()]
    for folder in reversed(missing):
        steps.make_folder(folder)


def _mark(root: Path, steps: Steps) -> None:
    unfinished = root / UNFINISHED_MARKER
    steps.unlink(unfinished)
    with steps.create(unfinished) as file:
        steps.write(file, json.dumps({"format": FORMAT}).encode())
        steps.sync(file)
    steps.rename(unfinished, root / MARKER)
    steps.sync_folder(root)
    for folder in root.absolute().parents:  # who made them may not have synced their names, and all of the store hangs on those
        with contextlib.suppress(OSError):
            steps.sync_folder(folder)


def _check_version(root: Path) -> None:
    try:
        version = json.loads((root / MARKER).read_bytes())["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise StartError(f"{MARKER} in {root} is damaged: restore the folder from a backup") from error
    if version != FORMAT:
        raise StartError(f"the folder {root} was written by another version (format {version!r}): use that version")

"""Which part a process has among those that are one service on one machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Role(StrEnum):
    """ALONE: one process does everything. Else several are SERVERs, which answer requests, and one is their KEEPER.

    It has what must be there once: the picture workers, what is owed between stores, the bound on the disk; it answers no request.
    """

    ALONE = "alone"
    KEEPER = "keeper"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class House:
    """*sockets* is a private folder by which the processes reach the keeper.

    *begins*: what the last service left in the middle is to be finished.
    """

    role: Role = Role.ALONE
    sockets: Path = Path()
    begins: bool = True

    @property
    def is_shared(self) -> bool:
        """Whether others work on the same folders."""
        return self.role is not Role.ALONE

    @property
    def keeps(self) -> bool:
        """Whether what must be done once is ours."""
        return self.role is not Role.SERVER


def lives(process: int) -> bool:
    """Whether there is a process of this id."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True

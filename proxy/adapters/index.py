"""Names and digests by the million, in a file that is thrown away: what a backup must remember while it runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self


class Index:
    """Some named maps from text to text in the SQLite file *path*. Each question takes microseconds, so nobody waits for it.

    A *lasting* one survives that its process is killed, what was put a moment before included; a machine's death it need not.
    """

    def __init__(self, path: Path, *, lasting: bool = False) -> None:
        self._path = path
        self._lasting = lasting

    def __enter__(self) -> Self:
        self._file = sqlite3.connect(self._path, isolation_level=None)
        self._file.execute(f"PRAGMA journal_mode={'WAL' if self._lasting else 'OFF'}")
        self._file.execute(f"PRAGMA synchronous={'NORMAL' if self._lasting else 'OFF'}")
        made = "(map TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (map, name)) WITHOUT ROWID"
        self._file.execute(f"CREATE TABLE IF NOT EXISTS entries {made}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def put(self, map: str, name: str, value: str = "") -> None:
        """Remember *value* under *name*."""
        self._file.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", (map, name, value))

    def get(self, map: str, name: str) -> str | None:
        """What is remembered under *name*."""
        row = self._file.execute("SELECT value FROM entries WHERE map = ? AND name = ?", (map, name)).fetchone()
        return None if row is None else str(row[0])

    def names(self, map: str, page: int = 1_000) -> Iterator[tuple[str, str]]:
        """All that *map* remembers, by name; it may change meanwhile."""
        after = ""
        query = "SELECT name, value FROM entries WHERE map = ? AND name > ? ORDER BY name LIMIT ?"
        while rows := self._file.execute(query, (map, after, page)).fetchall():
            yield from rows
            after = rows[-1][0]

    def count(self, map: str) -> int:
        """How many names *map* has."""
        return int(self._file.execute("SELECT count(*) FROM entries WHERE map = ?", (map,)).fetchone()[0])

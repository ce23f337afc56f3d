"""What the doctor asks a PostgreSQL: whether it lets us in, what of ours it has, how many connections it gives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from proxy.errors import StartError

CONNECT_S = 5.0


@dataclass(frozen=True, slots=True)
class Seen:
    """*revision* of the tables, None where there are none yet; *room* for connections of users; whether we *may_create* tables."""

    version: int
    revision: str | None
    room: int
    may_create: bool


async def seen(url: str) -> Seen:
    """What the database at *url* shows; raises StartError if it does not let us in."""
    async with _connected(url) as line:
        has_tables = await line.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL")
        return Seen(
            line.get_server_version().major,
            await line.fetchval("SELECT version_num FROM alembic_version") if has_tables else None,
            await line.fetchval(
                "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
            ),
            await line.fetchval("SELECT has_schema_privilege(current_schema(), 'CREATE')"),
        )


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Any]:
    try:
        line = await asyncpg.connect(url, timeout=CONNECT_S, command_timeout=CONNECT_S)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StartError(f"DATABASE_URL: the database cannot be reached: {error or 'it does not answer in time'}") from error
    try:
        yield line
    finally:
        line.terminate()

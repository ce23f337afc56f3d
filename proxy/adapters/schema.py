"""The tables of a database, brought to those of today: at once in a new one, by Alembic's migrations in an older one."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sql

from proxy.adapters.tables import HEAD, metadata
from proxy.errors import StartError

VERSION = sql.table("alembic_version", sql.column("version_num"))


def revision(connection: sql.Connection) -> str | None:
    """The revision that the database has; None if it has no tables yet."""
    if not sql.inspect(connection).has_table("alembic_version"):
        return None
    row = connection.execute(sql.select(VERSION.c.version_num)).first()
    return None if row is None else str(row[0])


def bring_up(connection: sql.Connection, to: str = HEAD) -> None:
    """Bring the database up to the revision *to*, within the transaction of *connection*; raises StartError if it is beyond it.

    A new database gets the tables as they are now, which a test holds equal to what the migrations make.
    """
    found = revision(connection)
    if found == to:
        return
    if found is None and to == HEAD:
        metadata.create_all(connection)
        connection.execute(sql.text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
        connection.execute(VERSION.insert().values(version_num=HEAD))
        return
    _migrate(connection, to)


def _migrate(connection: sql.Connection, to: str) -> None:
    from alembic import command  # noqa: PLC0415 - 11 MiB that only an old database needs
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent.parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, to)
    except CommandError as error:
        raise StartError(
            "the catalogue has tables of a version that is newer than this one: start that version, or restore a backup"
        ) from error

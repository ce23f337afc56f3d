"""Runs the migrations that a database lacks, on the one connection that the catalogue's address gives."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import context

from proxy.adapters.catalogue import metadata

engine = sql.create_engine(context.config.get_main_option("sqlalchemy.url") or "")
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()

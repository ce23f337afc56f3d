"""Runs the migrations that a database lacks, in the transaction of the connection that the catalogue has opened."""

from __future__ import annotations

from alembic import context

from proxy.adapters.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()

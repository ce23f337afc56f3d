"""The table of long work, and what an asset was made of."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0008"
down_revision = "0007"
BYTEWISE = sql.Text().with_variant(sql.Text(collation="C"), "postgresql")
OPEN = sql.text("stage IN ('waiting', 'running')")
DERIVED = sql.text("source IS NOT NULL")


def upgrade() -> None:
    """Make it, and the column; nothing was made of assets of before."""
    op.create_table(
        "jobs",
        sql.Column("id", BYTEWISE, primary_key=True),
        sql.Column("owner", BYTEWISE, nullable=False),
        sql.Column("key", BYTEWISE, nullable=False),
        sql.Column("etag", sql.Text, nullable=False),
        sql.Column("profile", sql.Text, nullable=False),
        sql.Column("work", BYTEWISE),
        sql.Column("created", sql.BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
        sql.Column("stage", sql.Text, nullable=False),
        sql.Column("priority", sql.Integer, nullable=False),
        sql.Column("idempotency_key", sql.Text),
        sql.Column("attempts", sql.Integer, nullable=False),
        sql.Column("percent", sql.Float, nullable=False),
        sql.Column("results", sql.Text, comment="JSON"),
        sql.Column("problem", sql.Text, comment="JSON"),
        sql.Column("started", sql.BigInteger, comment="microseconds since 1970, UTC"),
        sql.Column("ended", sql.BigInteger, comment="microseconds since 1970, UTC"),
        sql.Column("holder", sql.Text),
        sql.Column("due", sql.BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
        sql.UniqueConstraint("work", name="uq_jobs_work"),
        sql.UniqueConstraint("owner", "idempotency_key", name="uq_jobs_owner_idempotency_key"),
    )
    op.create_index("ix_jobs_owner", "jobs", ["owner", "id"])
    op.create_index("ix_jobs_key", "jobs", ["key", "id"])
    op.create_index("ix_jobs_ended", "jobs", ["ended"])
    op.create_index("ix_jobs_open", "jobs", ["priority", "id"], sqlite_where=OPEN, postgresql_where=OPEN)
    op.add_column("assets", sql.Column("source", BYTEWISE))
    op.create_index("ix_assets_source", "assets", ["source"], sqlite_where=DERIVED, postgresql_where=DERIVED)


def downgrade() -> None:
    """Drop both."""
    op.drop_index("ix_assets_source", "assets")
    with op.batch_alter_table("assets") as table:
        table.drop_column("source")
    op.drop_table("jobs")

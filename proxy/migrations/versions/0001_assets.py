"""The table of assets."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0001"
down_revision = None
BYTEWISE = sql.Text().with_variant(sql.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make it."""
    op.create_table(
        "assets",
        sql.Column("key", BYTEWISE, primary_key=True),
        sql.Column("owner", BYTEWISE, nullable=False),
        sql.Column("filename", sql.Text),
        sql.Column("content_type", sql.Text, nullable=False),
        sql.Column("size", sql.BigInteger, nullable=False),
        sql.Column("sha256", sql.Text, nullable=False),
        sql.Column("etag", sql.Text, nullable=False),
        sql.Column("created", sql.BigInteger, nullable=False),
        sql.Column("store", sql.Text, nullable=False),
        sql.Column("width", sql.Integer),
        sql.Column("height", sql.Integer),
        sql.Column("duration_s", sql.Float),
        sql.Column("state", sql.Text, nullable=False),
        sql.Column("idempotency_key", sql.Text),
        sql.UniqueConstraint("owner", "idempotency_key", name="uq_assets_owner_idempotency_key"),
    )
    op.create_index("ix_assets_owner_created", "assets", ["owner", "created", "key"])
    unfinished = sql.text("state != 'ready'")
    op.create_index("ix_assets_unfinished", "assets", ["state"], sqlite_where=unfinished, postgresql_where=unfinished)


def downgrade() -> None:
    """Drop it."""
    op.drop_table("assets")

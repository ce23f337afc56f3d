"""The table of debts: what each store must still get or lose."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0002"
down_revision = "0001"
BYTEWISE = sql.Text().with_variant(sql.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make it."""
    op.create_table(
        "debts",
        sql.Column("key", BYTEWISE, primary_key=True),
        sql.Column("store", BYTEWISE, primary_key=True),
        sql.Column("kind", sql.Text, nullable=False),
        sql.Column("etag", BYTEWISE, nullable=False),
        sql.Column("holder", sql.Text),
        sql.Column("sha256", sql.Text),
        sql.Column("settled", sql.Boolean, nullable=False),
    )
    op.create_index(
        "ix_debts_unsettled",
        "debts",
        ["key", "store"],
        sqlite_where=sql.text("settled = 0"),
        postgresql_where=sql.text("NOT settled"),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("debts")

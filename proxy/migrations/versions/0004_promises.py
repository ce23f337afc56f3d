"""The table of promised uploads."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0004"
down_revision = "0003"
BYTEWISE = sql.Text().with_variant(sql.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make it."""
    op.create_table(
        "promises",
        sql.Column("key", BYTEWISE, primary_key=True),
        sql.Column("owner", BYTEWISE, nullable=False),
        sql.Column("content_type", sql.Text, nullable=False),
        sql.Column("size", sql.BigInteger),
        sql.Column("max_bytes", sql.BigInteger, nullable=False),
        sql.Column("way", sql.Text, nullable=False),
        sql.Column("expires", sql.BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
        sql.Column("since", sql.BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
        sql.Column("filename", sql.Text),
        sql.Column("stage", sql.Text, nullable=False),
        sql.Column("refusal", sql.Text, comment="JSON"),
        sql.Column("holder", sql.Text),
        sql.Column("held_until", sql.BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
        sql.Column("reserved", sql.BigInteger, nullable=False),
    )
    op.create_index("ix_promises_owner", "promises", ["owner", "expires"])
    op.create_index("ix_promises_since", "promises", ["since"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("promises")

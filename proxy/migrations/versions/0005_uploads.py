"""The tables of resumable uploads."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0005"
down_revision = "0004"
BYTEWISE = sql.Text().with_variant(sql.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "uploads",
        sql.Column("id", BYTEWISE, primary_key=True),
        sql.Column("owner", BYTEWISE, nullable=False),
        sql.Column("form", sql.Text, nullable=False),
        sql.Column("length", sql.BigInteger),
        sql.Column("expires", sql.BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
        sql.Column("home", sql.Text, nullable=False),
        sql.Column("filename", sql.Text),
        sql.Column("claimed_type", sql.Text),
        sql.Column("metadata", sql.Text),
        sql.Column("chunk_bytes", sql.BigInteger),
        sql.Column("parts", sql.Text, comment="JSON"),
        sql.Column("promised", sql.Text),
        sql.Column("offset", sql.BigInteger, nullable=False),
        sql.Column("fence", sql.BigInteger, nullable=False),
        sql.Column("phase", sql.Text, nullable=False),
        sql.Column("key", sql.Text),
        sql.Column("refusal", sql.Text, comment="JSON"),
    )
    op.create_index("ix_uploads_owner", "uploads", ["owner", "phase"])
    op.create_index("ix_uploads_expires", "uploads", ["expires"])
    op.create_index("ix_uploads_phase", "uploads", ["phase"])
    op.create_table(
        "chunks",
        sql.Column("upload", BYTEWISE, primary_key=True),
        sql.Column("number", sql.Integer, primary_key=True),
        sql.Column("sha256", sql.Text, nullable=False),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("chunks")
    op.drop_table("uploads")

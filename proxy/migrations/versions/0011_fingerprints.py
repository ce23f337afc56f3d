"""By what pictures that look alike are found."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0011"
down_revision = "0010"
BYTEWISE = sql.Text().with_variant(sql.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table; assets of before come into it when somebody asks about them."""
    op.create_table(
        "fingerprints",
        sql.Column("key", BYTEWISE, primary_key=True),
        sql.Column("owner", BYTEWISE, nullable=False),
        sql.Column("etag", sql.Text, nullable=False),
        sql.Column("fingerprint", sql.Text, nullable=False, comment="16 hexadecimal digits"),
        *(sql.Column(f"band_{number}", sql.Integer, nullable=False) for number in range(4)),
    )
    for number in range(4):
        op.create_index(f"ix_fingerprints_band_{number}", "fingerprints", ["owner", f"band_{number}"])


def downgrade() -> None:
    """Take it away."""
    op.drop_table("fingerprints")

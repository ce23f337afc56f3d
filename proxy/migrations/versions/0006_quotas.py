"""What each owner has, and what is set aside for uploads on their way."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0006"
down_revision = "0005"
BYTEWISE = sql.Text().with_variant(sql.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the tables, and count what there is."""
    op.create_table(
        "usage",
        sql.Column("owner", BYTEWISE, primary_key=True),
        sql.Column("bytes", sql.BigInteger, nullable=False),
        sql.Column("objects", sql.BigInteger, nullable=False),
    )
    op.create_table(
        "reservations",
        sql.Column("name", BYTEWISE, primary_key=True),
        sql.Column("owner", BYTEWISE, nullable=False),
        sql.Column("bytes", sql.BigInteger, nullable=False),
        sql.Column("objects", sql.BigInteger, nullable=False),
        sql.Column("expires", sql.BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
    )
    op.create_index("ix_reservations_owner", "reservations", ["owner"])
    op.execute(
        "INSERT INTO usage (owner, bytes, objects) "
        "SELECT owner, sum(size), count(*) FROM assets WHERE state != 'deleted' GROUP BY owner"
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("reservations")
    op.drop_table("usage")

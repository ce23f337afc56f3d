"""The table of what happened to assets."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0007"
down_revision = "0006"
BYTEWISE = sql.Text().with_variant(sql.Text(collation="C"), "postgresql")
NUMBER = sql.BigInteger().with_variant(sql.Integer, "sqlite")
WAITING = sql.text("delivery = 'pending'")


def upgrade() -> None:
    """Make it."""
    op.create_table(
        "events",
        sql.Column("seq", NUMBER, primary_key=True, autoincrement=True),
        sql.Column("id", BYTEWISE, nullable=False),
        sql.Column("kind", sql.Text, nullable=False),
        sql.Column("key", BYTEWISE, nullable=False),
        sql.Column("owner", BYTEWISE, nullable=False),
        sql.Column("body", sql.Text, nullable=False, comment="JSON"),
        sql.Column("created", sql.BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
        sql.Column("delivery", sql.Text, nullable=False),
        sql.Column("attempts", sql.Integer, nullable=False),
        sql.Column("due", sql.BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
        sql.Column("reason", sql.Text),
        sql.UniqueConstraint("id", name="uq_events_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_owner", "events", ["owner", "seq"])
    op.create_index("ix_events_created", "events", ["created"])
    op.create_index("ix_events_due", "events", ["due"], sqlite_where=WAITING, postgresql_where=WAITING)
    op.create_index("ix_events_key", "events", ["key", "seq"], sqlite_where=WAITING, postgresql_where=WAITING)


def downgrade() -> None:
    """Drop it."""
    op.drop_table("events")

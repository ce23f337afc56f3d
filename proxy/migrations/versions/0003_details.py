"""What is said of an asset, and its focal point."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns; assets of before are described when somebody asks."""
    op.add_column("assets", sql.Column("details", sql.Text, comment="JSON"))
    op.add_column("assets", sql.Column("focal", sql.Text, comment="XxY, from 0x0 to 1x1"))


def downgrade() -> None:
    """Drop them."""
    with op.batch_alter_table("assets") as table:
        table.drop_column("focal")
        table.drop_column("details")

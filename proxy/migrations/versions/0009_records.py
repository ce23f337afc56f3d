"""What owners say of their assets, how often a record has changed, and indexes for lists by type and by size."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add them."""
    op.add_column("assets", sql.Column("metadata", sql.Text, comment="JSON"))
    op.add_column("assets", sql.Column("revision", sql.Integer, nullable=False, server_default="0"))
    op.create_index("ix_assets_owner_type", "assets", ["owner", "content_type", "created", "key"])
    op.create_index("ix_assets_owner_size", "assets", ["owner", "size", "key"])


def downgrade() -> None:
    """Take them away."""
    op.drop_index("ix_assets_owner_size", "assets")
    op.drop_index("ix_assets_owner_type", "assets")
    op.drop_column("assets", "revision")
    op.drop_column("assets", "metadata")

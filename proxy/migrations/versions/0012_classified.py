"""What classifiers name in an asset."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the columns; no asset has any of it yet."""
    op.add_column("assets", sql.Column("labels", sql.Text, comment="JSON"))
    op.add_column("assets", sql.Column("classified", sql.Text))


def downgrade() -> None:
    """Take them away."""
    for name in ("classified", "labels"):
        op.drop_column("assets", name)

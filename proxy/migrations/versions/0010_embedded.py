"""What the makers of an asset wrote into it."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the column; assets of before are looked at again when somebody asks what is said of them."""
    op.add_column("assets", sql.Column("embedded", sql.Text, comment="JSON"))


def downgrade() -> None:
    """Take it away."""
    op.drop_column("assets", "embedded")

"""Which assets a scanner has still to look at."""

from __future__ import annotations

import sqlalchemy as sql
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add the column; what is there waits for nobody."""
    op.add_column("assets", sql.Column("unscanned", sql.Boolean, nullable=False, server_default=sql.false()))


def downgrade() -> None:
    """Take it away."""
    op.drop_column("assets", "unscanned")

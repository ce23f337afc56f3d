"""The tables of the catalogue, as the newest revision in proxy/migrations makes them."""

from __future__ import annotations

import sqlalchemy as sql

HEAD = "0013"
"""The newest revision: a database that has it is opened without importing Alembic (11 MiB)."""
UNFINISHED = sql.text("state != 'ready'")
DERIVED = sql.text("source IS NOT NULL")
BYTEWISE = sql.Text().with_variant(sql.Text(collation="C"), "postgresql")
"""Text that sorts by its bytes, as SQLite's does: another collation may change with the system, and indexes are broken then."""

metadata = sql.MetaData()
assets = sql.Table(
    "assets",
    metadata,
    sql.Column("key", BYTEWISE, primary_key=True),
    sql.Column("owner", BYTEWISE, nullable=False),
    sql.Column("filename", sql.Text),
    sql.Column("content_type", sql.Text, nullable=False),
    sql.Column("size", sql.BigInteger, nullable=False),
    sql.Column("sha256", sql.Text, nullable=False),
    sql.Column("etag", sql.Text, nullable=False),
    sql.Column("created", sql.BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
    sql.Column("store", sql.Text, nullable=False),
    sql.Column("width", sql.Integer),
    sql.Column("height", sql.Integer),
    sql.Column("duration_s", sql.Float),
    sql.Column("state", sql.Text, nullable=False),
    sql.Column("idempotency_key", sql.Text),
    sql.Column("details", sql.Text, comment="JSON"),
    sql.Column("focal", sql.Text, comment="XxY, from 0x0 to 1x1"),
    sql.Column("source", BYTEWISE),
    sql.Column("metadata", sql.Text, comment="JSON"),
    sql.Column("revision", sql.Integer, nullable=False, server_default="0"),
    sql.Column("embedded", sql.Text, comment="JSON"),
    sql.Column("labels", sql.Text, comment="JSON"),
    sql.Column("classified", sql.Text),
    sql.Column("unscanned", sql.Boolean, nullable=False, server_default=sql.false()),
    sql.UniqueConstraint("owner", "idempotency_key", name="uq_assets_owner_idempotency_key"),
    sql.Index("ix_assets_owner_created", "owner", "created", "key"),
    sql.Index("ix_assets_owner_type", "owner", "content_type", "created", "key"),
    sql.Index("ix_assets_owner_size", "owner", "size", "key"),
    sql.Index("ix_assets_unfinished", "state", sqlite_where=UNFINISHED),
    sql.Index("ix_assets_source", "source", sqlite_where=DERIVED),
)
LISTED = tuple(column for column in assets.columns if column.name != "embedded")
"""Of a record what lists have: the other columns may hold 16 KiB."""
debts = sql.Table(
    "debts",
    metadata,
    sql.Column("key", BYTEWISE, primary_key=True),
    sql.Column("store", BYTEWISE, primary_key=True),
    sql.Column("kind", sql.Text, nullable=False),
    sql.Column("etag", BYTEWISE, nullable=False),
    sql.Column("holder", sql.Text),
    sql.Column("sha256", sql.Text),
    sql.Column("settled", sql.Boolean, nullable=False),
    # As SQLAlchemy writes ``~settled`` for each of them: SQLite uses an index only where its condition is the query's.
    sql.Index("ix_debts_unsettled", "key", "store", sqlite_where=sql.text("settled = 0")),
)
promises = sql.Table(
    "promises",
    metadata,
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
    sql.Index("ix_promises_owner", "owner", "expires"),
    sql.Index("ix_promises_since", "since"),
)
uploads = sql.Table(
    "uploads",
    metadata,
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
    sql.Index("ix_uploads_owner", "owner", "phase"),
    sql.Index("ix_uploads_expires", "expires"),
    sql.Index("ix_uploads_phase", "phase"),
)
chunks = sql.Table(
    "chunks",
    metadata,
    sql.Column("upload", BYTEWISE, primary_key=True),
    sql.Column("number", sql.Integer, primary_key=True),
    sql.Column("sha256", sql.Text, nullable=False),
)
usage = sql.Table(
    "usage",
    metadata,
    sql.Column("owner", BYTEWISE, primary_key=True),
    sql.Column("bytes", sql.BigInteger, nullable=False),
    sql.Column("objects", sql.BigInteger, nullable=False),
)
reservations = sql.Table(
    "reservations",
    metadata,
    sql.Column("name", BYTEWISE, primary_key=True),
    sql.Column("owner", BYTEWISE, nullable=False),
    sql.Column("bytes", sql.BigInteger, nullable=False),
    sql.Column("objects", sql.BigInteger, nullable=False),
    sql.Column("expires", sql.BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
    sql.Index("ix_reservations_owner", "owner"),
)
NUMBER = sql.BigInteger().with_variant(sql.Integer, "sqlite")
"""SQLite counts by itself in a column of this type alone."""
WAITING = sql.text("delivery = 'pending'")
events = sql.Table(
    "events",
    metadata,
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
    sql.Index("ix_events_owner", "owner", "seq"),
    sql.Index("ix_events_created", "created"),
    sql.Index("ix_events_due", "due", sqlite_where=WAITING),
    sql.Index("ix_events_key", "key", "seq", sqlite_where=WAITING),
    sqlite_autoincrement=True,
)
OPEN = sql.text("stage IN ('waiting', 'running')")
jobs = sql.Table(
    "jobs",
    metadata,
    sql.Column("id", BYTEWISE, primary_key=True),
    sql.Column("owner", BYTEWISE, nullable=False),
    sql.Column("key", BYTEWISE, nullable=False),
    sql.Column("etag", sql.Text, nullable=False),
    sql.Column("profile", sql.Text, nullable=False),
    sql.Column("work", BYTEWISE),
    sql.Column("created", sql.BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
    sql.Column("stage", sql.Text, nullable=False),
    sql.Column("priority", sql.Integer, nullable=False),
    sql.Column("idempotency_key", sql.Text),
    sql.Column("attempts", sql.Integer, nullable=False),
    sql.Column("percent", sql.Float, nullable=False),
    sql.Column("results", sql.Text, comment="JSON"),
    sql.Column("problem", sql.Text, comment="JSON"),
    sql.Column("started", sql.BigInteger, comment="microseconds since 1970, UTC"),
    sql.Column("ended", sql.BigInteger, comment="microseconds since 1970, UTC"),
    sql.Column("holder", sql.Text),
    sql.Column("due", sql.BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
    sql.UniqueConstraint("work", name="uq_jobs_work"),
    sql.UniqueConstraint("owner", "idempotency_key", name="uq_jobs_owner_idempotency_key"),
    sql.Index("ix_jobs_owner", "owner", "id"),
    sql.Index("ix_jobs_key", "key", "id"),
    sql.Index("ix_jobs_ended", "ended"),
    sql.Index("ix_jobs_open", "priority", "id", sqlite_where=OPEN),
)
fingerprints = sql.Table(
    "fingerprints",
    metadata,
    sql.Column("key", BYTEWISE, primary_key=True),
    sql.Column("owner", BYTEWISE, nullable=False),
    sql.Column("etag", sql.Text, nullable=False),
    sql.Column("fingerprint", sql.Text, nullable=False, comment="16 hexadecimal digits"),
    *(sql.Column(f"band_{number}", sql.Integer, nullable=False) for number in range(4)),
    *(sql.Index(f"ix_fingerprints_band_{number}", "owner", f"band_{number}") for number in range(4)),
)
PARTIAL = {
    "ix_assets_source": DERIVED,
    "ix_jobs_open": OPEN,
    "ix_assets_unfinished": UNFINISHED,
    "ix_debts_unsettled": sql.text("NOT settled"),
    "ix_events_due": WAITING,
    "ix_events_key": WAITING,
}
"""The conditions of indexes as PostgreSQL has them. Said with the indexes they would load its dialect, 2.3 MiB, for SQLite too."""

"""Accounts may roll, reached thresholds are written down, and calls know their offload."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("calls", sa.Column("offload", sa.UnicodeText))
    op.add_column("accounts", sa.Column("window_ms", sa.BigInteger))
    op.add_column("accounts", sa.Column("warn_at", sa.Text))
    op.add_column("accounts", sa.Column("told", sa.Float, nullable=False, server_default="0"))
    op.add_column("accounts", sa.Column("told_ms", sa.BigInteger))
    op.create_table(
        "leavings",
        sa.Column("scope", sa.UnicodeText, primary_key=True),
        sa.Column("leaves_ms", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("usd_micros", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "thresholds",
        sa.Column("threshold_id", sa.Text, primary_key=True),
        sa.Column("name", sa.UnicodeText, nullable=False),
        sa.Column("scope", sa.UnicodeText, nullable=False),
        sa.Column("share", sa.Float, nullable=False),
        sa.Column("spent_usd_micros", sa.BigInteger, nullable=False),
        sa.Column("cap_usd_micros", sa.BigInteger, nullable=False),
        sa.Column("reached_ms", sa.BigInteger, nullable=False),
        sa.Column("ends_ms", sa.BigInteger),
        sa.Column("due_ms", sa.BigInteger),
        sa.Column("tries", sa.Integer, nullable=False),
    )
    untold = sa.text("due_ms IS NOT NULL")
    op.create_index("ix_thresholds_due", "thresholds", ["due_ms"], sqlite_where=untold, postgresql_where=untold)

"""Answers of the model are kept for the same question, and a call knows what it saved."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("calls", sa.Column("saved_usd_micros", sa.BigInteger, nullable=False, server_default="0"))
    op.create_table(
        "paid_answers",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("until_ms", sa.BigInteger, nullable=False),
        sa.Column("cost_usd_micros", sa.BigInteger, nullable=False),
        sa.Column("text", sa.UnicodeText),
        sa.Column("model", sa.UnicodeText),
        sa.Column("lead_id", sa.UnicodeText),
    )
    op.create_index("ix_paid_answers_until", "paid_answers", ["until_ms"])

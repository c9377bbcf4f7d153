"""Questions may be asked in batches, and a job knows that its own are."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_IS_OPEN = sa.text("ended_ms IS NULL")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("batch", sa.Integer, nullable=False, server_default="0"))
    op.create_table(
        "batch_calls",
        sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.job_id"), primary_key=True),
        sa.Column("step", sa.Text, primary_key=True),
        sa.Column("call_id", sa.Text, nullable=False),
        sa.Column("batch_id", sa.Text),
        sa.Column("asked_ms", sa.BigInteger, nullable=False),
        sa.Column("given", sa.Text, nullable=False),
        sa.Column("answer", sa.Text),
        sa.Column("ended_ms", sa.BigInteger),
        sa.Index("ux_batch_calls_call", "call_id", unique=True),
        sa.Index("ix_batch_calls_open", "asked_ms", sqlite_where=_IS_OPEN, postgresql_where=_IS_OPEN),
    )

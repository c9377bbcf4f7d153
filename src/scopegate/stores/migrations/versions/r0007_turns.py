"""Jobs that may run now have a turn; offloads can be paused; what is done by hand is written down."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_IS_WAITING = sa.text("turn IS NULL AND finished_ms IS NULL")
_HAS_TURN = sa.text("turn IS NOT NULL")
_IS_RUNNING = sa.text("state = 'running'")
_HAS_ERROR = sa.text("error_code IS NOT NULL")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("turn", sa.BigInteger))
    op.add_column("jobs", sa.Column("losses", sa.Integer, nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("reason", sa.UnicodeText))
    for name, columns, where in (
        ("ix_jobs_late", ["due_ms"], _IS_WAITING),
        ("ix_jobs_turn", ["turn"], _HAS_TURN),
        ("ix_jobs_queue", ["offload", "turn", "created_ms"], _HAS_TURN),
        ("ix_jobs_flow", ["offload", "contractor", "turn"], _HAS_TURN),
        ("ix_jobs_running", ["offload", "contractor"], _IS_RUNNING),
        ("ix_jobs_error", ["error_code", "created_ms"], _HAS_ERROR),
    ):
        op.create_index(name, "jobs", columns, sqlite_where=where, postgresql_where=where)
    op.create_index("ix_jobs_request", "jobs", ["request_id"])
    op.create_index("ix_jobs_contractor", "jobs", ["contractor", "created_ms"])
    op.create_table(
        "paused",
        sa.Column("offload", sa.UnicodeText, primary_key=True),
        sa.Column("since_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "actions",
        sa.Column("action_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.UnicodeText, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("subject", sa.UnicodeText, nullable=False),
        sa.Column("detail", sa.UnicodeText, nullable=False),
    )
    op.create_index("ix_actions_subject", "actions", ["subject"])

"""The tables of version 0.1.0."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_FIRST_OF_LEAD = sa.text("replay_of IS NULL")
_IS_OPEN = sa.text("finished_ms IS NULL")


def upgrade() -> None:
    _version()
    _orders()
    _jobs()
    _calls()
    _money()


def _version() -> None:
    table = op.create_table(
        "schema_version",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.bulk_insert(table, [{"id": 1, "version": 1}])


def _orders() -> None:
    op.create_table(
        "orders",
        sa.Column("order_id", sa.Text, primary_key=True),
        sa.Column("offload", sa.UnicodeText, nullable=False),
        sa.Column("route", sa.UnicodeText, nullable=False),
        sa.Column("request_id", sa.UnicodeText, nullable=False),
        sa.Column("received_ms", sa.BigInteger, nullable=False),
        sa.Column("request", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("lead_id", sa.UnicodeText),
        sa.Column("job_id", sa.Text),
    )
    op.create_index("ix_orders_state", "orders", ["state", "received_ms"])
    op.create_index("ix_orders_request", "orders", ["request_id"])


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("offload", sa.UnicodeText, nullable=False),
        sa.Column("lead_id", sa.UnicodeText, nullable=False),
        sa.Column("contractor", sa.UnicodeText),
        sa.Column("lead_text", sa.Text, nullable=False),
        sa.Column("photos", sa.Text, nullable=False),
        sa.Column("request_id", sa.UnicodeText, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("due_ms", sa.BigInteger, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("finished_ms", sa.BigInteger),
        sa.Column("error_code", sa.Text),
        sa.Column("score", sa.Integer),
        sa.Column("replay_of", sa.Text, sa.ForeignKey("jobs.job_id")),
        sa.Column("lease_owner", sa.Text),
        sa.Column("lease_token", sa.BigInteger, nullable=False),
    )
    for name, columns, unique, where in (
        ("ux_jobs_lead", ["offload", "lead_id"], True, _FIRST_OF_LEAD),
        ("ux_jobs_open_replay", ["replay_of"], True, _IS_OPEN),
        ("ix_jobs_due", ["due_ms"], False, _IS_OPEN),
    ):
        op.create_index(name, "jobs", columns, unique=unique, sqlite_where=where, postgresql_where=where)
    op.create_index("ix_jobs_state", "jobs", ["state", "created_ms"])
    op.create_index("ix_jobs_created", "jobs", ["created_ms"])
    op.create_index("ix_jobs_lead", "jobs", ["lead_id"])
    op.create_table(
        "steps",
        sa.Column("job_id", sa.Text, sa.ForeignKey("jobs.job_id"), primary_key=True),
        sa.Column("step", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("result", sa.Text),
    )
    op.create_table(
        "attempts",
        sa.Column("job_id", sa.Text, primary_key=True),
        sa.Column("step", sa.Text, primary_key=True),
        sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("started_ms", sa.BigInteger, nullable=False),
        sa.Column("finished_ms", sa.BigInteger),
        sa.Column("error_code", sa.Text),
        sa.Column("error_detail", sa.UnicodeText),
        sa.Column("cost_usd_micros", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(["job_id", "step"], ["steps.job_id", "steps.step"]),
    )


def _calls() -> None:
    op.create_table(
        "calls",
        sa.Column("call_id", sa.Text, primary_key=True),
        sa.Column("job_id", sa.Text),
        sa.Column("lead_id", sa.UnicodeText),
        sa.Column("contractor", sa.UnicodeText),
        sa.Column("step", sa.Text, nullable=False),
        sa.Column("step_attempt", sa.Integer, nullable=False),
        sa.Column("call_n", sa.Integer, nullable=False),
        sa.Column("model", sa.UnicodeText, nullable=False),
        sa.Column("started_ms", sa.BigInteger, nullable=False),
        sa.Column("duration_ms", sa.BigInteger, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("api_request_id", sa.UnicodeText),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger, nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_usd_micros", sa.BigInteger, nullable=False),
        sa.Column("price_version", sa.Text, nullable=False),
        sa.Column("day", sa.Text, nullable=False),
    )
    for name, column in (("job", "job_id"), ("lead", "lead_id"), ("day", "day"), ("started", "started_ms")):
        op.create_index(f"ix_calls_{name}", "calls", [column])


def _money() -> None:
    op.create_table(
        "accounts",
        sa.Column("scope", sa.UnicodeText, primary_key=True),
        sa.Column("name", sa.UnicodeText, nullable=False),
        sa.Column("cap_usd_micros", sa.BigInteger, nullable=False),
        sa.Column("ends_ms", sa.BigInteger, nullable=False),
        sa.Column("spent_usd_micros", sa.BigInteger, nullable=False),
        sa.Column("reserved_usd_micros", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "reservations",
        sa.Column("reservation_id", sa.Text, primary_key=True),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("amount_usd_micros", sa.BigInteger, nullable=False),
        sa.Column("expires_ms", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
    )
    op.create_index("ix_reservations_expires", "reservations", ["state", "expires_ms"])

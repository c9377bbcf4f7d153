"""The tables, and how our values are written into their columns on either engine.

No query lives here: `jobs`, `outbox` and `ledger` write them. What creates and changes the tables are the revisions in
`migrations/`; a test holds the two together. Times are Unix
milliseconds, money is integer micro-dollars. Text of visitors and apps may hold anything JSON can say, also NUL and
lone surrogates that neither engine stores as text: `Words` and `JsonText` carry them through unchanged.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UnicodeText,
    text,
)
from sqlalchemy.types import TypeDecorator

from scopegate import jsontext
from scopegate.leads.job import Unreadable
from scopegate.types import Json

_ESCAPED = "\ufffe"
_MAX_DEPTH = 72
"""Deeper than any request that gives an order, and what is stored around one."""
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class Words(TypeDecorator[str]):
    """Text from outside. Values an engine refuses are stored as JSON behind a noncharacter; equality still holds."""

    impl = UnicodeText
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or not (_UNSTORABLE.search(value) or value.startswith(_ESCAPED)):
            return value
        return _ESCAPED + json.dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or not value.startswith(_ESCAPED):
            return value
        loaded = jsontext.parse_as_written(value[len(_ESCAPED) :].encode(), max_depth=0)
        assert isinstance(loaded, str)
        return loaded


class JsonText(TypeDecorator[Any]):
    """A JSON value as ASCII text; SQL NULL is None and so is JSON null."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Json, dialect: Dialect) -> str | None:
        return None if value is None else json.dumps(value, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else jsontext.parse_as_written(value.encode(), max_depth=_MAX_DEPTH)


class RequestText(JsonText):
    """A request body as it was read: a JSON value, or behind `!` why it is none, and its bytes in base64."""

    cache_ok = True

    def process_bind_param(self, value: Json | Unreadable, dialect: Dialect) -> str | None:
        if isinstance(value, Unreadable):
            return f"!{value.reason}\n{b64encode(value.body).decode()}"
        return super().process_bind_param(value, dialect)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        if value is None or not value.startswith("!"):
            return super().process_result_value(value, dialect)
        reason, _, body = value[1:].partition("\n")
        return Unreadable(reason, b64decode(body))


metadata = MetaData()

# Read by programs of version 0.1.0 alone, which refuse what they find: ours is kept by `revisions`.
schema_version = Table(
    "schema_version",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
)

_HAS_CLAIM = text("claim IS NOT NULL")

orders = Table(
    "orders",
    metadata,
    Column("order_id", Text, primary_key=True),
    Column("offload", Words, nullable=False),
    Column("route", Words, nullable=False),
    Column("request_id", Words, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("request", RequestText),  # NULL once the app has answered and nothing of it is needed any more
    Column("state", Text, nullable=False),
    Column("status", Integer),  # the app's HTTP status
    Column("lead_id", Words),
    Column("job_id", Text),
    Column("claim", Text),  # NULL once a repeat is an order of its own
    Column("claim_body", Text),
    Column("claim_until_ms", BigInteger),
    Column("asked", Integer, nullable=False, server_default="0"),  # how often the app was asked about it
    Column("ask_ms", BigInteger, nullable=False, server_default="0"),  # not before
    Index("ux_orders_claim", "claim", unique=True, sqlite_where=_HAS_CLAIM, postgresql_where=_HAS_CLAIM),
    Index("ix_orders_state", "state", "received_ms"),
    Index("ix_orders_request", "request_id"),
    Index("ix_orders_lead", "lead_id"),
    Index("ix_orders_job", "job_id"),
)

answers = Table(
    "answers",
    metadata,
    Column("order_id", ForeignKey("orders.order_id"), primary_key=True),
    Column("status", Integer, nullable=False),
    Column("fields", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("until_ms", BigInteger, nullable=False),
    Index("ix_answers_until", "until_ms"),
)

_IS_OPEN = text("finished_ms IS NULL")
"""Of a job that is not final. Not `state IN (...)`: SQLite would rather search the index on `state` and sort."""
_ENDED = text("finished_ms IS NOT NULL")
_HAS_PHOTOS = text("photos <> '[]'")

_HAS_TURN = text("turn IS NOT NULL")
_IS_WAITING = text("turn IS NULL AND finished_ms IS NULL")
_IS_RUNNING = text("state = 'running'")
_HAS_ERROR = text("error_code IS NOT NULL")

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("offload", Words, nullable=False),
    Column("lead_id", Words, nullable=False),
    Column("contractor", Words),
    Column("lead_text", JsonText, nullable=False),
    Column("photos", JsonText, nullable=False),
    Column("request_id", Words, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("due_ms", BigInteger, nullable=False),  # of a running job: when its lease ends
    Column("turn", BigInteger),  # its place among jobs that may run now; NULL for one that may not
    Column("tries", Integer, nullable=False, default=0),
    Column("losses", Integer, nullable=False, server_default="0"),
    Column("finished_ms", BigInteger),
    Column("error_code", Text),
    Column("reason", Words),
    Column("score", Integer),
    Column("replay_of", ForeignKey("jobs.job_id")),
    Column("batch", Integer, nullable=False, server_default="0"),  # 1: asks in batches, whatever its offload does
    Column("lease_owner", Text),
    Column("lease_token", BigInteger, nullable=False, default=0),
    Index(
        "ux_jobs_lead",
        "offload",
        "lead_id",
        unique=True,
        sqlite_where=text("replay_of IS NULL"),
        postgresql_where=text("replay_of IS NULL"),
    ),
    Index(
        "ux_jobs_open_replay",
        "replay_of",
        unique=True,
        sqlite_where=_IS_OPEN,
        postgresql_where=_IS_OPEN,
    ),
    Index("ix_jobs_due", "due_ms", sqlite_where=_IS_OPEN, postgresql_where=_IS_OPEN),
    Index("ix_jobs_late", "due_ms", sqlite_where=_IS_WAITING, postgresql_where=_IS_WAITING),
    Index("ix_jobs_turn", "turn", sqlite_where=_HAS_TURN, postgresql_where=_HAS_TURN),
    Index("ix_jobs_queue", "offload", "turn", "created_ms", sqlite_where=_HAS_TURN, postgresql_where=_HAS_TURN),
    Index("ix_jobs_flow", "offload", "contractor", "turn", sqlite_where=_HAS_TURN, postgresql_where=_HAS_TURN),
    Index("ix_jobs_running", "offload", "contractor", sqlite_where=_IS_RUNNING, postgresql_where=_IS_RUNNING),
    Index("ix_jobs_state", "state", "created_ms"),
    Index("ix_jobs_created", "created_ms"),
    Index("ix_jobs_lead", "lead_id"),
    Index("ix_jobs_replay_of", "replay_of"),
    Index("ix_jobs_finished", "finished_ms", sqlite_where=_ENDED, postgresql_where=_ENDED),
    Index("ix_jobs_photos", "state", "finished_ms", sqlite_where=_HAS_PHOTOS, postgresql_where=_HAS_PHOTOS),
    Index("ix_jobs_request", "request_id"),
    Index("ix_jobs_contractor", "contractor", "created_ms"),
    Index("ix_jobs_error", "error_code", "created_ms", sqlite_where=_HAS_ERROR, postgresql_where=_HAS_ERROR),
)

paused = Table(
    "paused",
    metadata,
    Column("offload", Words, primary_key=True),
    Column("since_ms", BigInteger, nullable=False),
)

actions = Table(
    "actions",
    metadata,
    Column("action_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", Words, nullable=False),
    Column("name", Text, nullable=False),
    Column("subject", Words, nullable=False),
    Column("detail", Words, nullable=False),
    Index("ix_actions_subject", "subject"),
)

steps = Table(
    "steps",
    metadata,
    Column("job_id", ForeignKey("jobs.job_id"), primary_key=True),
    Column("step", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("result", JsonText),
)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("finished_ms", BigInteger),
    Column("error_code", Text),
    Column("error_detail", Words),
    Column("cost_usd_micros", BigInteger, nullable=False, default=0),
    ForeignKeyConstraint(["job_id", "step"], ["steps.job_id", "steps.step"]),
)

calls = Table(
    "calls",
    metadata,
    Column("call_id", Text, primary_key=True),
    Column("job_id", Text),
    Column("lead_id", Words),
    Column("contractor", Words),
    Column("offload", Words),
    Column("step", Text, nullable=False),
    Column("step_attempt", Integer, nullable=False),
    Column("call_n", Integer, nullable=False),
    Column("model", Words, nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("duration_ms", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("status", Integer),
    Column("api_request_id", Words),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("cost_usd_micros", BigInteger, nullable=False),
    Column("price_version", Text, nullable=False),
    Column("day", Text, nullable=False),
    Column("saved_usd_micros", BigInteger, nullable=False, server_default="0"),
    Index("ix_calls_job", "job_id"),
    Index("ix_calls_lead", "lead_id"),
    Index("ix_calls_day", "day"),
    Index("ix_calls_started", "started_ms"),
)

_IN_A_BATCH = text("ended_ms IS NULL")

batch_calls = Table(
    "batch_calls",
    metadata,
    Column("job_id", ForeignKey("jobs.job_id"), primary_key=True),
    Column("step", Text, primary_key=True),
    Column("call_id", Text, nullable=False),  # of the ledger, and its custom id in the batch
    Column("batch_id", Text),  # NULL until it is known that there is one
    Column("asked_ms", BigInteger, nullable=False),
    Column("given", JsonText, nullable=False),  # of the step's result, what was known before its answer
    Column("answer", JsonText),
    Column("ended_ms", BigInteger),
    Index("ux_batch_calls_call", "call_id", unique=True),
    Index("ix_batch_calls_open", "asked_ms", sqlite_where=_IN_A_BATCH, postgresql_where=_IN_A_BATCH),
)

accounts = Table(
    "accounts",
    metadata,
    Column("scope", Words, primary_key=True),
    Column("name", Words, nullable=False),
    Column("cap_usd_micros", BigInteger, nullable=False),  # as of the last reservation; the policy's cap decides
    Column("ends_ms", BigInteger, nullable=False),
    Column("window_ms", BigInteger),  # of a rolling one: how long money stays in it
    Column("warn_at", JsonText),  # shares of the cap, as of the last reservation
    Column("told", Float, nullable=False, server_default="0"),  # the highest of them that was reached in this period
    Column("told_ms", BigInteger),
    Column("spent_usd_micros", BigInteger, nullable=False, default=0),
    Column("reserved_usd_micros", BigInteger, nullable=False, default=0),
)

leavings = Table(
    "leavings",  # what is spent of a rolling account, by when it leaves it
    metadata,
    Column("scope", Words, primary_key=True),
    Column("leaves_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("usd_micros", BigInteger, nullable=False),
)

paid_answers = Table(
    "paid_answers",
    metadata,
    Column("key", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("until_ms", BigInteger, nullable=False),  # of the claim while it is asked, of the answer afterwards
    Column("cost_usd_micros", BigInteger, nullable=False),
    Column("text", Words),  # NULL while it is asked
    Column("model", Words),
    Column("lead_id", Words),  # whose question it was first
    Index("ix_paid_answers_until", "until_ms"),
)

thresholds = Table(
    "thresholds",  # those that were reached, each to be told once
    metadata,
    Column("threshold_id", Text, primary_key=True),
    Column("name", Words, nullable=False),
    Column("scope", Words, nullable=False),
    Column("share", Float, nullable=False),
    Column("spent_usd_micros", BigInteger, nullable=False),
    Column("cap_usd_micros", BigInteger, nullable=False),
    Column("reached_ms", BigInteger, nullable=False),
    Column("ends_ms", BigInteger),
    Column("due_ms", BigInteger),  # when to tell it, or to try again; NULL once it is told
    Column("tries", Integer, nullable=False, default=0),
    Index(
        "ix_thresholds_due",
        "due_ms",
        sqlite_where=text("due_ms IS NOT NULL"),
        postgresql_where=text("due_ms IS NOT NULL"),
    ),
)

reservations = Table(
    "reservations",
    metadata,
    Column("reservation_id", Text, primary_key=True),
    Column("scopes", JsonText, nullable=False),
    Column("amount_usd_micros", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),  # of an expired one: when it was booked as spent
    Column("state", Text, nullable=False),  # open, or expired: booked as spent until the real cost is known
    Index("ix_reservations_expires", "state", "expires_ms"),
)

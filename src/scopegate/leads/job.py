"""A lead's job: its states, its steps, what an attempt leaves behind.

Pure values and the legal moves between them. The database stores them (`stores/jobs`), the worker walks them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from scopegate.limits.steps import StepName
from scopegate.types import Json


class OrderState(StrEnum):
    """`pending` before the app has answered; `unknown` when the gateway died in between; `unreadable` when the app has
    accepted what our reader cannot read: no job is made of it until a person has seen it."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    UNREADABLE = "unreadable"


class JobState(StrEnum):
    """`held` waits for a budget's next period; `failed` is final until a replay; `dead` took its workers down too
    often: it is final, too, and no replay of failed jobs takes it along."""

    QUEUED = "queued"
    RUNNING = "running"
    HELD = "held"
    DONE = "done"
    FAILED = "failed"
    DEAD = "dead"


FINAL_STATES: Final = (JobState.DONE, JobState.FAILED, JobState.DEAD)


class StepState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class AttemptState(StrEnum):
    """`lost` is an attempt whose worker died before it could say how it ended."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Lead:
    """What the job needs of a lead, taken out of the exchange by the offload's expressions. `text` is the visitor's
    own words: data, never instructions. `photos` are URLs, not yet checked."""

    lead_id: str
    contractor: str | None
    text: str
    photos: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What is there and cannot be read. `reason` is one clause from a closed set and never holds the client's own text;
    `body` is what a person may make of it."""

    reason: str
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Claim:
    """What makes another request a repeat of this one. `key` is a digest of who asks and of the Idempotency-Key, or of
    the body where there is none; `body` is one of the whole request. It holds until `until_ms`."""

    key: str
    body: str
    until_ms: int


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """The app's answer to an order, as far as it is given again. `fields` are whole lines, CRLF included."""

    status: int
    fields: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class LeadOrder:
    """Written to the outbox before the request is forwarded. `request` is the parsed request body, None where there is
    none. `claim`: None where a repeat of it is an order of its own."""

    order_id: str
    offload: str
    route: str
    request_id: str
    received_ms: int
    request: Json | Unreadable
    claim: Claim | None = None


@dataclass(frozen=True, slots=True)
class Earlier:
    """The order that holds a claim which another one asks for. `answer`: None where none came, or none was kept."""

    order_id: str
    state: OrderState
    claim: Claim
    answer: KeptAnswer | None


@dataclass(frozen=True, slots=True)
class Settlement:
    """What came of an order. `status` is the app's, None without an answer; `lead` is what a job is made of; `answer`
    is kept for repeats of an order with a claim."""

    order: LeadOrder
    state: OrderState
    status: int | None = None
    lead: Lead | None = None
    answer: KeptAnswer | None = None


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """An order that gave no job and was not refused. `pending` waits for the app, `unknown` never heard of it, and of
    one that is `unreadable` no lead could be read. `status` is the app's, None without an answer."""

    order_id: str
    offload: str
    route: str
    request_id: str
    received_ms: int
    state: OrderState
    status: int | None


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """An order as the outbox holds it. Its `request` is None once a job holds the lead or the app refused it. `asked`
    counts how often the app was asked what became of it."""

    order: LeadOrder
    state: OrderState
    status: int | None
    job_id: str | None
    asked: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one step. Times are Unix milliseconds; `cost_usd_micros` sums the calls made in it."""

    n: int
    state: AttemptState
    started_ms: int
    finished_ms: int | None = None
    error_code: str | None = None
    error_detail: str | None = None
    cost_usd_micros: int = 0


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step with its attempts, oldest first. `result` is set exactly when `state` is done."""

    name: StepName
    state: StepState
    attempts: tuple[Attempt, ...] = ()
    result: Json = None


@dataclass(frozen=True, slots=True)
class LeadJob:
    """One lead's work as the database holds it. `due_ms`: not before; `tries` counts leases, crashes included; `losses`
    those in a row whose holder never spoke again; `reason` is the last word on `error_code`, for people; `replay_of`
    names the job this one repeats; `in_batches`: it asks in batches, whatever its offload does."""

    job_id: str
    offload: str
    lead: Lead
    request_id: str
    state: JobState
    created_ms: int
    due_ms: int
    tries: int = 0
    finished_ms: int | None = None
    error_code: str | None = None
    reason: str | None = None
    losses: int = 0
    score: int | None = None
    replay_of: str | None = None
    in_batches: bool = False
    steps: tuple[StepRecord, ...] = ()

    def results(self) -> Mapping[StepName, Json]:
        """The stored results of the finished steps."""
        return {step.name: step.result for step in self.steps if step.state is StepState.DONE}


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a job until `until_ms`. `token` grows with each lease: a write with an older one fails."""

    job_id: str
    owner: str
    token: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Precedence:
    """In which order due jobs are taken. `lanes` are offloads, those of the first lane before all others, and offloads
    of no lane last; `at_once` says of an offload how many jobs of one contractor may run."""

    lanes: tuple[tuple[str, ...], ...] = ()
    at_once: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Action:
    """What somebody did to a job, an order or an offload by hand. `actor` names the person as far as that is known;
    `subject` is the id of what it was done to; `number` grows with each, 0 before it is recorded."""

    at_ms: int
    actor: str
    name: str
    subject: str
    detail: str = ""
    number: int = field(default=0, compare=False)


SENT: Final = "sent"
"""The outcome of a call attempt whose end is not booked yet, at its worst case."""
UNKNOWN: Final = "unknown"
"""Of one whose caller died: it stays at its worst case until somebody knows better."""
OPEN_OUTCOMES: Final = (SENT, UNKNOWN)
REUSED: Final = "reused"
"""Of a call that was not made: the answer to the same question was kept."""
RECONCILED: Final = "reconciled"
"""Of one that was unknown, and whose cost is now the provider's word."""


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One model call attempt as the ledger books it, from before it is sent: also the failed, cancelled and unanswered
    ones.

    `call_id` is ours (one per attempt, unique); `call_n` counts the tries within one logical call from 1;
    `outcome` is `ok`, the AIError code, `cancelled`, REUSED, RECONCILED, or one of OPEN_OUTCOMES; `day` is the UTC
    day of `started_ms` as `YYYY-MM-DD`; `saved_usd_micros` is what a reused answer had cost."""

    call_id: str
    job_id: str | None
    lead_id: str | None
    contractor: str | None
    offload: str | None
    step: str
    step_attempt: int
    call_n: int
    model: str
    started_ms: int
    duration_ms: int
    outcome: str
    status: int | None
    api_request_id: str | None
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_usd_micros: int
    price_version: str
    day: str
    saved_usd_micros: int = 0


def is_estimate(call: CallRecord) -> bool:
    """Nobody learnt what it cost: it is booked at its worst case, without a token."""
    tokens = call.input_tokens + call.output_tokens + call.cache_read_tokens + call.cache_write_tokens
    return call.cost_usd_micros > 0 and not tokens


@dataclass(frozen=True, slots=True)
class JobFilter:
    """What `jobs list` asks for; None means any. `is_open`: only jobs that have not ended; `not_replayed`: only jobs
    that no other one replays. Made from `since_ms` on and before `until_ms`. Newest first; `after` is where a page of
    them ended, as (created_ms, job_id). `text` stands somewhere in the ids and in what is said of an error, or with
    `in_words` in what the lead says: of the newest MOST_SEARCHED that fit the rest, see `JobStore.searched_to`."""

    state: JobState | None = None
    offload: str | None = None
    lead_id: str | None = None
    request_id: str | None = None
    error_code: str | None = None
    not_replayed: bool = False
    limit: int = 50
    ids: tuple[str, ...] = field(default=())
    contractor: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    is_open: bool = False
    replay_of: str | None = None
    after: tuple[int, str] | None = None
    text: str | None = None
    in_words: bool = False


MOST_SEARCHED: Final = 5000
"""Jobs that one search for a text looks through."""

"""The narrow doors to the outside. Callers know these protocols; `wiring` alone knows who stands behind them.

Every method may raise `StoreUnavailable`; anything else it may raise is said beside it. One contract suite per port
(`tests/contracts/`, `tests/stores/`) runs on every implementation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from scopegate.caching.purges import Purge
from scopegate.caching.said import Said
from scopegate.caching.stored import Stored
from scopegate.errors import StoreUnavailable
from scopegate.leads.job import (
    Action,
    Attempt,
    CallRecord,
    Earlier,
    JobFilter,
    KeptAnswer,
    Lead,
    LeadJob,
    LeadOrder,
    Lease,
    OpenOrder,
    OrderRecord,
    OrderState,
    Precedence,
    Settlement,
)
from scopegate.limits.barriers import Barrier, Seats
from scopegate.limits.breaker import BreakerRule, CallOutcome, Denied, Permit
from scopegate.limits.budget import Account, NoRoom, Reservation
from scopegate.limits.steps import StepName
from scopegate.limits.window import Amendment, Spent, Window
from scopegate.policy.policy import Kept
from scopegate.types import Json


class LimitStore(Protocol):
    """Exact sliding windows."""

    def spend(self, windows: Sequence[Window], barriers: Sequence[Barrier] = ()) -> Spent | asyncio.Future[Spent]:
        """Admit in all windows and past all barriers, or count in none, atomically, on the store's own clock. Answers
        at once when it can; a future otherwise, which may raise StoreUnavailable. Must be called on the running loop.
        Whoever asked for seats has to `leave` them, whatever came of it."""
        ...

    def amend(self, changes: Sequence[Amendment]) -> None:
        """Change what earlier admissions count, as far as they still do. Returns at once and tells nothing: a change
        that a failing store does not hear of is lost."""
        ...

    async def open(self) -> None:
        """Get ready, so that the first request need not wait; returns also when the store is away."""
        ...

    def listen(self, told: Callable[[StoreUnavailable | None], None]) -> None:
        """Have `told` called when the store goes away, with the reason, and with None when it is back. To be called
        before the first `spend`; single answers may fail besides."""
        ...

    def leave(self, seats: Sequence[Seats]) -> None:
        """The request is over. Returns at once and tells nothing."""
        ...

    async def close(self) -> None: ...


class Holding(NamedTuple):
    """What counts in a window now, and milliseconds until nothing does."""

    counted: int
    left_ms: int


class LimitDesk(Protocol):
    """Windows as operators see them; no two of a call are the same, and there is one at least."""

    async def look(self, windows: Sequence[Window]) -> Sequence[Holding]:
        """How they stand. Counts nothing."""
        ...

    async def forget(self, windows: Sequence[Window]) -> int:
        """They begin anew; how many had counted anything."""
        ...

    async def sentence(self, windows: Sequence[Window]) -> None:
        """These are the sentences of bans: they begin now, for their span."""
        ...

    async def close(self) -> None: ...


class PurgeDesk(Protocol):
    """Takes answers back before their time, for all gateways. Raises StoreUnavailable."""

    async def purge(self, purge: Purge) -> int:
        """Its number: purges are counted, and every gateway hears of each."""
        ...

    async def close(self) -> None: ...


class AnswerStore(PurgeDesk, Protocol):
    """Answers that all gateways share. Each raises StoreUnavailable, and what is found is whole."""

    most_bytes: int
    """What answers may take; 0 where purges alone are shared."""

    async def find(self, key: bytes, request: Said) -> Stored | None:
        """The newest answer that a request may get by its Vary."""
        ...

    async def put(self, key: bytes, stored: Stored) -> bool:
        """False where it has no room, or its URL has just been changed."""
        ...

    async def drop_url(self, url: bytes) -> None:
        """Whatever is kept of it."""
        ...

    async def lease(self, key: bytes) -> bool:
        """Whether the caller is to fetch it; everybody else waits."""
        ...

    async def release(self, key: bytes) -> None: ...

    async def purges_after(self, number: int) -> tuple[int, Sequence[tuple[int, Purge]]]:
        """The newest number, and the purges after `number` that are still told, in order."""
        ...


class LocalLimits(Protocol):
    """What this process counts by while the store is away."""

    def saw(self, spent: Spent, barriers: Sequence[Barrier] = ()) -> None:
        """The store's answer, at the moment it came."""
        ...

    def spend_alone(self, windows: Sequence[Window], barriers: Sequence[Barrier] = ()) -> Spent:
        """As `LimitStore.spend`, judged by what is known here."""
        ...

    def amend_alone(self, changes: Sequence[Amendment]) -> None:
        """As `LimitStore.amend`, of what was admitted here."""
        ...

    def leave(self, seats: Sequence[Seats]) -> None:
        """As `LimitStore.leave`, whoever gave them."""
        ...


@dataclass(frozen=True, slots=True)
class Erased:
    """Rows by table; of the ledger's calls those that lost their lead."""

    rows: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Busy:
    """Nothing was erased: work on the lead is under way, and would write of it again."""

    reason: str


class BreakerStore(Protocol):
    """Circuit breakers by name."""

    async def admit(self, name: str, rule: BreakerRule) -> Permit | Denied: ...

    async def record(self, name: str, rule: BreakerRule, permit: Permit, outcome: CallOutcome) -> None: ...

    async def state(self, name: str, rule: BreakerRule) -> str:
        """`closed`, `open` or `half_open`, now."""
        ...

    async def close(self) -> None: ...


class Outbox(Protocol):
    """Lead orders: written before the request is forwarded, settled with the app's answer."""

    async def put(self, order: LeadOrder) -> Earlier | None:
        """Durable when it returns None. The same order again is no change. The order that holds the claim of this one,
        where there is one: this one is then not written."""
        ...

    async def settle(
        self,
        order: LeadOrder,
        state: OrderState,
        status: int | None,
        lead: Lead | None,
        answer: KeptAnswer | None = None,
    ) -> LeadJob | None:
        """Close the order with the app's answer. With `state` accepted and a `lead`, creates the job in the same
        transaction (one per offload and lead id, however often the lead is sent) and returns it, new or existing.
        Works also for an order whose `put` never arrived. A settlement gives way only to a stronger one, and one
        that is accepted without a lead to one with it. A refused order lets go of its claim; of any other with one
        the `answer` is kept as long as that holds."""
        ...

    async def overdue(self, before_ms: int) -> int:
        """Move orders still pending since before that moment to unknown; how many moved."""
        ...

    async def ask(self, offloads: Sequence[str], now_ms: int, limit: int) -> Sequence[OrderRecord]:
        """Orders of these offloads that nobody settled, oldest first, about which the app is to be asked now: counted
        as asked, and given to nobody else until the next time (`leads/lookup`)."""
        ...

    async def forget(self, now_ms: int, most: int) -> int:
        """Let go of kept answers whose claims have ended, and of the oldest of more than `most`; how many went."""
        ...

    async def count(self, state: OrderState) -> int: ...

    async def get(self, order_id: str) -> OrderRecord | None:
        """With the request, where it is still kept."""
        ...

    async def open(self, limit: int) -> Sequence[OpenOrder]:
        """Orders that gave no job and were not refused, newest first."""
        ...


class OutboxDesk(Outbox, Protocol):
    """The outbox as operators see it."""

    async def of_request(self, request_id: str) -> Sequence[OrderRecord]:
        """The orders that this request gave, oldest first: one, or none."""
        ...


class OrderSpool(Protocol):
    """Lead orders on this machine, while the outbox does not take them."""

    async def keep(self, settled: Settlement) -> None:
        """Durable when it returns; an order without its outcome is `pending`."""
        ...

    async def empty(self, take: Callable[[Settlement], Awaitable[None]]) -> None:
        """Hand over what is kept, oldest first, and let go of what was taken, until `take` raises
        StoreUnavailable."""
        ...


class JobStore(Protocol):
    """Jobs, steps and attempts. Every write that takes a lease raises LeaseLost when its token is not the latest."""

    async def get(self, job_id: str) -> LeadJob | None:
        """With steps and attempts."""
        ...

    async def list(self, wanted: JobFilter) -> Sequence[LeadJob]:
        """Newest first, without steps."""
        ...

    async def searched_to(self, wanted: JobFilter) -> tuple[int, str] | None:
        """Of a search for a text: the last job that was looked through, to go on after it; None when that was all."""
        ...

    async def counts(self) -> Mapping[str, int]:
        """Jobs by state, every state present."""
        ...

    async def ended(self, since_ms: int) -> Mapping[str, int]:
        """Jobs that have ended since then by state, every final state present."""
        ...

    async def due(self, now_ms: int, limit: int) -> Sequence[str]:
        """Ids of jobs that may run now: queued or held and due, or running with an expired lease; of no paused offload.
        Oldest due first."""
        ...

    async def take(
        self, owner: str, now_ms: int, until_ms: int, limit: int, precedence: Precedence = ...
    ) -> Sequence[tuple[Lease, LeadJob]]:
        """A lease on each of the next jobs, at most `limit`: lane by lane, and within a lane in turn, where contractors
        take turns. None of a paused offload, and no more of one contractor than may run. As `lease` for the rest."""
        ...

    async def lease(
        self, job_id: str, owner: str, now_ms: int, until_ms: int, precedence: Precedence = ...
    ) -> tuple[Lease, LeadJob] | None:
        """Take the job if it is due and nobody holds it; None otherwise. A running attempt left by a dead holder
        becomes lost."""
        ...

    async def renew(self, lease: Lease, until_ms: int) -> Lease: ...

    async def start_attempt(self, lease: Lease, step: StepName, now_ms: int) -> Attempt: ...

    async def finish_attempt(
        self, lease: Lease, step: StepName, attempt: Attempt, result: Json = None, then: StepName | None = None
    ) -> tuple[Attempt, Attempt | None]:
        """Store how it ended, and give it with its cost: the sum that the ledger booked for it. With `attempt.state`
        done the step is done with `result`, in one transaction; the first or next attempt of the step `then` begins in
        the same. A done step is never overwritten."""
        ...

    async def release(
        self, lease: Lease, due_ms: int, *, held: bool = False, error_code: str | None = None, reason: str | None = None
    ) -> None:
        """Give the job back, to run again not before `due_ms`."""
        ...

    async def complete(
        self, lease: Lease, step: StepName, attempt: Attempt, result: Json, score: int, now_ms: int
    ) -> Attempt:
        """The last step is done, and with it the job, in one transaction. Final. The attempt with its cost."""
        ...

    async def finish(
        self,
        lease: Lease,
        now_ms: int,
        *,
        error_code: str | None = None,
        reason: str | None = None,
        dead: bool = False,
        score: int | None = None,
    ) -> None:
        """Done, or failed when `error_code` is given, or `dead`. Final."""
        ...

    async def cancel(self, job_id: str, now_ms: int, actor: str = "") -> LeadJob | None:
        """Failed by the name `cancelled`, at once: its holder can write nothing more. None when the job is unknown or
        final already. It can be replayed."""
        ...

    async def replay(
        self,
        job_id: str,
        new_id: str,
        now_ms: int,
        from_step: StepName | None = None,
        *,
        edited: Lead | None = None,
        in_batches: bool = False,
        actor: str = "",
    ) -> LeadJob | None:
        """A new job for the same lead that keeps the finished steps' results: those before `from_step` where it is
        given; else all, but of a done job those of the model's steps alone, so that `save` and `score` send it again;
        and none where the lead was `edited`. None when the job is unknown or is not final. The old job stays as
        history. While a replay of it is still open, that one is returned."""
        ...

    async def pause(self, offload: str, now_ms: int, actor: str) -> bool:
        """No job of it is taken any more; those under way go on. False when it is so already."""
        ...

    async def resume(self, offload: str, now_ms: int, actor: str) -> bool: ...

    async def paused(self) -> Mapping[str, int]:
        """Since when, by offload; the one that waits longest first."""
        ...

    async def record(self, action: Action) -> None:
        """What was done elsewhere by hand."""
        ...

    async def actions(
        self, subject: str | None = None, limit: int = 100, before: int | None = None
    ) -> Sequence[Action]:
        """What was done by hand. Newest first; only those with a smaller number than `before`."""
        ...


@dataclass(frozen=True, slots=True)
class AccountState:
    """How an account stands: of budget `name`, under `scope`. `ends_ms`: None for one that has no end."""

    scope: str
    name: str
    cap_usd_micros: int
    spent_usd_micros: int
    reserved_usd_micros: int
    ends_ms: int | None


class Ledger(Protocol):
    """Model calls and money."""

    async def reserve(self, accounts: Sequence[Account], intent: CallRecord, expires_ms: int) -> Reservation | NoRoom:
        """Before a call is sent: book it as `sent` at its worst case, and set that aside in every account; or nothing
        at all, for spent + reserved never passes a cap. What is overdue is first expired, see `expire`."""
        ...

    async def settle(self, reservation: Reservation, call: CallRecord) -> None:
        """Book how the call ended and give the rest of the reservation back, in one transaction; a call that has ended
        is not changed. Without accounts they are those that the reservation was written down with. Thresholds that this
        reaches are written down, each once in its account's period."""
        ...

    async def withdraw(self, reservation: Reservation) -> None:
        """The call was not sent after all: nothing of it stays."""
        ...

    async def expire(self, now_ms: int) -> int:
        """Calls whose callers died are of an `unknown` outcome, and what was set aside for them counts as spent, until
        they are settled after all. How many there were."""
        ...

    async def calls(
        self, *, job_id: str | None = None, lead_id: str | None = None, limit: int = 1000
    ) -> Sequence[CallRecord]:
        """Oldest first."""
        ...

    async def call(self, call_id: str) -> CallRecord | None: ...

    async def calls_between(self, from_ms: int, until_ms: int) -> Sequence[CallRecord]:
        """Those that began from the one moment and before the other, oldest first."""
        ...

    async def correct(self, corrections: Sequence[tuple[CallRecord, CallRecord]], now_ms: int) -> int:
        """Put calls right whose cost nobody had learnt, each as (it was, it is), and the accounts that they were taken
        from. One that has changed meanwhile is left alone. How many were put right; all in one transaction."""
        ...

    async def cost_of(self, job_ids: Sequence[str]) -> Mapping[str, int]:
        """What the calls of these jobs have cost, in micro-dollars; those in flight left out."""
        ...

    async def standings(self, now_ms: int, limit: int = 200) -> Sequence[AccountState]:
        """Accounts in their present period, the fullest first."""
        ...

    async def spend_by(self, by: str, since_day: str, most: int | None = None) -> Sequence[Mapping[str, Json]]:
        """Sums by `day`, `model`, `step`, `lead`, `contractor` or `offload`: {key, calls, failed, unknown,
        input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd_micros, unknown_usd_micros,
        saved_usd_micros}, by key; with `most` only those that cost most. What is in flight counts in none of them; what
        is unknown counts at its worst case, and is told apart."""
        ...

    async def longest_answer(self, step: str) -> tuple[int, int]:
        """Of the step's latest good answers: how many are known (at most 200), and the most output tokens of one."""
        ...

    async def spent_since(self, moments_ms: Sequence[int]) -> tuple[Sequence[int], int | None]:
        """What the calls begun since each of these moments cost together, those in flight left out; and when the very
        first one began, None where there is none."""
        ...

    async def accounts(self, scopes: Sequence[str], now_ms: int) -> Mapping[str, tuple[int, int]]:
        """(spent, reserved) by scope; absent scopes are (0, 0)."""
        ...

    async def told(self, now_ms: int) -> Mapping[tuple[str, float], int]:
        """How many accounts have reached a threshold in their present period, by (budget, share)."""
        ...


@dataclass(frozen=True, slots=True)
class PaidAnswer:
    """What a model answered to a question, what all tries of it cost, and for which lead it was asked."""

    text: str
    model: str | None
    cost_usd_micros: int
    lead_id: str | None


@dataclass(frozen=True, slots=True)
class BatchCall:
    """A step's question that is asked in a batch. `call_id` is that of the ledger, and its custom id; `given` is what
    the step's result holds besides the answer; `batch_id` None: nobody noted yet that there is one; `answer` None: it
    is under way. `is_wanted`: its job still waits for it."""

    call_id: str
    job_id: str
    step: StepName
    asked_ms: int
    given: Mapping[str, Json]
    batch_id: str | None = None
    answer: Mapping[str, Json] | None = None
    is_wanted: bool = True


class Batches(Protocol):
    """Questions that are asked in batches: one for each step of a job, once."""

    async def ask(self, call: BatchCall) -> None:
        """Before it is sent. Nothing where the step has one already."""
        ...

    async def forget(self, call_id: str) -> None:
        """It was not sent after all."""
        ...

    async def name(self, call_ids: Sequence[str], batch_id: str) -> None:
        """These are in this batch."""
        ...

    async def find(self, job_id: str, step: StepName) -> BatchCall | None: ...

    async def open(self) -> Sequence[BatchCall]:
        """Those without an answer, the oldest first."""
        ...

    async def end(self, call_id: str, answer: Mapping[str, Json], now_ms: int) -> bool:
        """What came of it, and what its attempt cost. Only the first one counts; whether this is it."""
        ...

    async def wake(self, now_ms: int) -> int:
        """Make the jobs due that wait for a batch and have nothing under way in one. How many there were."""
        ...


class PaidAnswers(Protocol):
    """Answers by the key of their question; while it is asked, whoever asks it owns the key."""

    async def take(self, key: str, owner: str, now_ms: int, until_ms: int) -> PaidAnswer | bool:
        """The answer; or True where `owner` is to ask, and has until then to say so again; or False where somebody
        else is asking."""
        ...

    async def hold(self, key: str, owner: str, until_ms: int) -> None:
        """`owner` is still asking."""
        ...

    async def keep(self, key: str, owner: str, answer: PaidAnswer, until_ms: int) -> None:
        """Unless somebody else is asking by now."""
        ...

    async def drop(self, key: str, owner: str | None = None) -> None:
        """Forget what `owner` is asking, or without one the answer."""
        ...


@dataclass(frozen=True, slots=True)
class Threshold:
    """That so large a `share` (0..1) of a budget was spent, as the settlement found that reached it. `threshold_id` is
    the same whoever tells it, and however often; `tries` counts those who began to."""

    threshold_id: str
    name: str
    scope: str
    share: float
    spent_usd_micros: int
    cap_usd_micros: int
    reached_ms: int
    ends_ms: int | None
    tries: int


class Thresholds(Protocol):
    """Reached thresholds, each to be told once."""

    async def claim(self, now_ms: int, until_ms: int, limit: int) -> Sequence[Threshold]:
        """Those that are to be told now; nobody else gets them before `until_ms`."""
        ...

    async def close(self, threshold_id: str) -> bool:
        """It is told. False when it was closed before."""
        ...

    async def postpone(self, threshold_id: str, due_ms: int) -> None: ...


class RetentionStore(Protocol):
    """What leaves the database: whatever was kept long enough, and one person's data."""

    async def count(self, what: Kept, before_ms: int) -> int:
        """How much of it is older than that."""
        ...

    async def oldest_ms(self, what: Kept, before_ms: int) -> int | None:
        """Since when the oldest of it is, None when nothing is older than `before_ms`."""
        ...

    async def prune(self, what: Kept, before_ms: int, limit: int) -> int:
        """Delete the oldest of it, in one transaction: how many, at most `limit`."""
        ...

    async def scrub(self) -> bool:
        """What was deleted is on the disk no more, see `Database.scrub`."""
        ...

    async def export(self, lead_id: str) -> Mapping[str, Sequence[Mapping[str, Json]]]:
        """Everything that is stored of this lead, by table; tables without any are left out."""
        ...

    async def erase(self, lead_id: str) -> Erased | Busy:
        """Delete it, in one transaction; calls stay booked, as nobody's."""
        ...


class Messenger(Protocol):
    """Tells workers that a job is due. Losing a message loses nothing: the sweep finds the job in the database."""

    async def wake(self, job_id: str) -> None: ...

    async def ping(self) -> None:
        """Returns when a wake-up could be sent now."""
        ...

    async def close(self) -> None: ...

"""What has to be true of a run once it is at rest, whatever happened: each broken one by its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from scopegate.bills.matching import match
from scopegate.bills.statement import Statement
from scopegate.leads.job import OPEN_OUTCOMES, UNKNOWN, CallRecord, JobState
from scopegate.limits.budget import Per, Rolling, accounts
from scopegate.limits.pricing import price
from scopegate.limits.steps import SENT_STEPS
from scopegate.stores.ledger import _calls, _correct
from tests.simulation.roles import ai
from tests.simulation.world import World


def judge(world: World) -> list[str]:
    """Everything that is broken."""
    return [
        *world.broken,
        *world.engine.broken(),
        *_nothing_lost(world),
        *_one_effect(world),
        *_jobs_end(world),
        *_money(world),
    ]


# ── leads ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _nothing_lost(world: World) -> Iterator[str]:
    orders = {row[0]: row[1:] for row in world.engine.rows("SELECT order_id, state, lead_id, job_id FROM orders")}
    jobs = Counter(row[0] for row in world.engine.rows("SELECT lead_id FROM jobs WHERE replay_of IS NULL"))
    may_wait = set() if world.plan.asks_app else {"unknown"}
    for lead_id, order_id in world.app.leads.items():
        state = orders[order_id][0] if order_id in orders else "missing"
        if state != "accepted" and state not in may_wait:
            yield f"a lead lost: {lead_id}, its order {order_id} is {state}"
        if state == "accepted" and jobs[lead_id] != 1:
            yield f"a lead with {jobs[lead_id]} jobs: {lead_id}"
    for order_id in world.app.unreadable:
        state = orders[order_id][0] if order_id in orders else "missing"
        if state not in {"unreadable", *may_wait}:
            yield f"an unreadable lead lost: its order {order_id} is {state}"
    for lead_id in jobs.keys() - world.app.leads.keys():
        yield f"a job for no lead: {lead_id}"


def _one_effect(world: World) -> Iterator[str]:
    heard = Counter(world.orders[order_id] for order_id in (*world.app.leads.values(), *world.app.unreadable))
    for number, count in sorted(heard.items()):
        if count > 1 and not (world.plan.spools and world.spooled):
            yield f"one lead, {count} in the app: client {number}"
    for number, answers in world.answers.items():
        said = [body["id"] for status, body in answers if status == 201 and isinstance(body, dict)]
        if any(lead_id is not None and lead_id not in world.app.leads for lead_id in said):
            yield f"a client was told of a lead that is none: {number}"
    for message_id in world.app.changed:
        yield f"a message changed: {message_id}"
    for (job_id,) in world.engine.rows("SELECT job_id FROM jobs WHERE state = 'done'"):
        for step in SENT_STEPS:
            if f"msg_{job_id}_{step}" not in world.app.messages:
                yield f"done, and the app never heard: {job_id} {step}"
    known = {
        f"msg_{job_id}_{step}" for (job_id,) in world.engine.rows("SELECT job_id FROM jobs") for step in SENT_STEPS
    }
    for message_id in world.app.messages.keys() - known:
        if not message_id.startswith("msg_budget_"):
            yield f"a message with an id of its own: {message_id}"
    told = world.engine.rows("SELECT threshold_id FROM thresholds WHERE due_ms IS NULL")
    for (threshold_id,) in told:
        if f"msg_budget_{threshold_id}" not in world.app.messages and "app_refuses" not in world.plan.faults:
            yield f"a threshold told to nobody: {threshold_id}"


_NEEDS = {
    "rejected": ("app_refuses",),
    "no_budget": (),
    "refused": ("model_refuses",),
    "truncated": ("model_short",),
    "invalid_output": ("model_wrong",),
}
"""Without which faults no job can fail by this name."""


def _jobs_end(world: World) -> Iterator[str]:
    for job_id, state, code, losses in world.engine.rows("SELECT job_id, state, error_code, losses FROM jobs"):
        if code in ("internal", "offload_gone", "offload_unknown"):
            yield f"a bug of ours: {job_id} {code}"
        if state == JobState.FAILED and code in _NEEDS and not _has(world, _NEEDS[code]):
            yield f"failed without a cause: {job_id} {code}"
        if state == JobState.FAILED and code == "no_budget" and not world.plan.fails_when_spent:
            yield f"failed for money, and should wait: {job_id}"
        if state == JobState.DEAD and losses < 5:
            yield f"dead after {losses} losses: {job_id}"
    for job_id, step in world.engine.rows(
        "SELECT a.job_id, a.step FROM attempts a JOIN jobs j USING (job_id)"
        " WHERE a.state = 'running' AND j.finished_ms IS NOT NULL"
    ):
        yield f"an attempt left running: {job_id} {step}"
    for job_id, step, count in world.engine.rows(
        "SELECT c.job_id, c.step, count(*) FROM calls c WHERE c.outcome = 'ok'"
        " GROUP BY c.job_id, c.step, c.step_attempt HAVING count(*) > 1"
    ):
        yield f"{count} good answers in one attempt: {job_id} {step}"


def _has(world: World, faults: Sequence[str]) -> bool:
    return not faults or any(fault in world.plan.faults for fault in faults)


# ── money ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _money(world: World) -> Iterator[str]:
    rows = _rows(world)
    for call in rows:
        if call.outcome == UNKNOWN and not _was_hurt(world, call):
            yield f"unknown, though nobody died: {call.call_id}"
    for (reservation_id,) in world.engine.rows("SELECT reservation_id FROM reservations WHERE state = 'open'"):
        yield f"a reservation left: {reservation_id}"
    yield from _accounts(world, rows)
    yield from _provider(world, rows)
    corrected = _rows(world)
    yield from _accounts(world, corrected)
    billed = sum(price(call.usage, call.model, world.prices) or 0 for call in world.provider.billed)
    booked = sum(call.cost_usd_micros for call in corrected)
    if billed != booked:
        yield f"billed {billed}, booked {booked}"
    for rule in ai(world.plan).budgets:
        if rule.name == "total" and billed > rule.limit_usd_micros:
            yield f"billed {billed} of a cap of {rule.limit_usd_micros}"


def _rows(world: World) -> list[CallRecord]:
    return world.engine.run(lambda conn: _calls(conn, None, None, 10_000))


def _was_hurt(world: World, call: CallRecord) -> bool:
    caller = world.callers[call.call_id]
    return caller in world.killed or caller in world.stilled or caller in world.engine.lost


def _accounts(world: World, rows: Sequence[CallRecord]) -> Iterator[str]:
    """What each account has spent is what the calls that were taken from it cost."""
    spent: Counter[str] = Counter()
    rules = ai(world.plan).budgets
    for call in rows:
        payer = {
            Per.CONTRACTOR: call.contractor,
            Per.OFFLOAD: call.offload,
            Per.LEAD: call.lead_id,
            Per.STEP: call.step,
        }
        for account in accounts(rules, call.started_ms, payer):
            spent[account.scope] += call.cost_usd_micros
    rolling = {rule.name for rule in rules if isinstance(rule.period, Rolling)}
    query = "SELECT a.scope, a.name, a.spent_usd_micros, a.reserved_usd_micros, (SELECT coalesce(sum(l.usd_micros), 0)"
    for scope, name, booked, reserved, leaving in world.engine.rows(
        f"{query} FROM leavings l WHERE l.scope = a.scope) FROM accounts a"
    ):
        if reserved:
            yield f"still set aside: {scope} {reserved}"
        if booked != (leaving if name in rolling else spent[scope]):
            yield f"an account is wrong: {scope} says {booked}, its calls {spent[scope]}, leaving {leaving}"


def _provider(world: World, rows: Sequence[CallRecord]) -> Iterator[str]:
    """The project's own reconciliation against the provider's word, and its corrections."""
    statement = Statement(
        "simulation", tuple(world.provider.billed), since_ms=world.plan.begins_ms, until_ms=world.now_ms() + 60_000
    )
    corrections = []
    for reckoning in match(statement, rows, world.prices):
        for reason in reckoning.reasons:
            yield f"unexplained: {reason}"
        corrections += [(one.before, one.after) for one in reckoning.corrections]
    for call in rows:
        if call.outcome in OPEN_OUTCOMES and call.cost_usd_micros <= 0:
            yield f"unknown at no cost: {asdict(call)}"
    world.engine.run(lambda conn: _correct(conn, corrections, world.now_ms()))

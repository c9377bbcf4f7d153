"""`scopegate jobs list | show ID | orders | body ORDER | confirm ORDER | discard ORDER`: the leads' jobs,
their history, another go for one that failed, and the lead orders that gave no job: seeing and closing them by hand."""

from __future__ import annotations

import argparse
import json
import sys
from argparse import _SubParsersAction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from scopegate.cli import reruns
from scopegate.cli.tables import show, shown, usd
from scopegate.leads.job import JobState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scopegate.cli.books import Books
    from scopegate.leads.job import Attempt, CallRecord, Lead, LeadJob, LeadOrder, Unreadable
    from scopegate.types import Json

MAX_LISTED = 1000


def register(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "jobs",
        help="the leads' jobs",
        description="The leads' jobs in the database that the environment names.",
        epilog="exit codes: 0 fine, 1 no such job or order, or no database; 78 bad environment or policy",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="jobs, newest first")
    listing.add_argument("--state", choices=[state.value for state in JobState], help="only jobs in this state")
    listing.add_argument("--lead", metavar="ID", help="only this lead's jobs")
    listing.add_argument("--limit", metavar="N", type=_limit, default=50, help="at most N jobs (%(default)s)")
    orders = actions.add_parser("orders", help="lead orders that gave no job: fate unknown, or no readable lead")
    orders.add_argument("--limit", metavar="N", type=_limit, default=50, help="at most N orders (%(default)s)")
    showing = actions.add_parser("show", help="one job with its steps, attempts and model calls")
    confirming = actions.add_parser("confirm", help="the app has this order's lead: make its job from the kept request")
    confirming.add_argument("--lead", metavar="ID", required=True, help="the lead's id in the app")
    confirming.add_argument(
        "-c", "--config", metavar="FILE", type=Path, default=Path("gateway.yaml"), help="the policy (%(default)s)"
    )
    for side in ("request", "answer"):
        confirming.add_argument(
            f"--{side}", metavar="FILE", type=Path, help=f"its {side} as JSON, where the kept one cannot be read"
        )
    discarding = actions.add_parser(
        "discard", help="no job is wanted of this unknown or unreadable order: close it, forget its words"
    )
    kept = actions.add_parser("body", help="the request of an order as it came, where it could not be read")
    for action, run_action in ((confirming, _confirm), (discarding, _discard), (kept, _body)):
        action.add_argument("id", metavar="ORDER_ID", help="the order's id, as `orders` shows it")
        action.set_defaults(run=run, action=run_action)
    showing.add_argument("id", metavar="ID", help="the job's id, as `list` shows it")
    for action, run_action in ((listing, _list), (orders, _orders), (showing, _show)):
        action.add_argument("--json", action="store_true", help="JSON instead of a table")
        action.set_defaults(run=run, action=run_action)
    reruns.register(actions, run)


def run(args: argparse.Namespace) -> int:
    from scopegate.cli.books import with_books

    return with_books(partial(args.action, args))


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= MAX_LISTED):
        raise argparse.ArgumentTypeError(f"a number from 1 to {MAX_LISTED}")
    return int(text)


# ── list ────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def _list(args: argparse.Namespace, books: Books) -> int:
    from scopegate.admin.records import job_summary, moment
    from scopegate.leads.job import JobFilter

    state = None if args.state is None else JobState(args.state)
    found = await books.jobs.list(JobFilter(state=state, lead_id=args.lead, limit=args.limit))
    if args.json:
        print(json.dumps({"jobs": [job_summary(job) for job in found]}, indent=2))
        return 0
    if not found:
        print("no jobs")
        return 0
    rows = [
        (job.job_id, job.state, job.lead.lead_id, job.offload, moment(job.created_ms), job.score, job.error_code)
        for job in found
    ]
    show(("JOB", "STATE", "LEAD", "OFFLOAD", "CREATED", "SCORE", "ERROR"), rows, right=frozenset({"SCORE"}))
    return 0


# ── orders ──────────────────────────────────────────────────────────────────────────────────────────────────────────
async def _orders(args: argparse.Namespace, books: Books) -> int:
    from scopegate.admin.records import moment, order_summary

    found = await books.outbox.open(args.limit)
    if args.json:
        print(json.dumps({"orders": [order_summary(order) for order in found]}, indent=2))
        return 0
    if not found:
        print("no open orders")
        return 0
    rows = [(o.order_id, o.state, o.offload, o.route, moment(o.received_ms), o.status, o.request_id) for o in found]
    show(("ORDER", "STATE", "OFFLOAD", "ROUTE", "RECEIVED", "STATUS", "REQUEST"), rows, right=frozenset({"STATUS"}))
    return 0


# ── confirm, discard ────────────────────────────────────────────────────────────────────────────────────────────────
async def _confirm(args: argparse.Namespace, books: Books) -> int:
    from scopegate.cli.books import complain
    from scopegate.leads.job import Lead, OrderState

    held = await books.outbox.get(args.id)
    if held is None:
        return _unknown(args.id, "order")
    if held.job_id is not None:
        return complain(f"order {held.order.order_id} has a job already: {held.job_id}")
    if held.state not in (OrderState.UNKNOWN, OrderState.UNREADABLE, OrderState.ACCEPTED):
        return complain(
            f"order {held.order.order_id} is {held.state}: only one that is unknown or unreadable is confirmed"
        )
    lead = _lead_of(held.order, args)
    if not isinstance(lead, Lead):
        return complain(f"order {held.order.order_id} gives no lead: {lead}")
    job = await books.outbox.settle(held.order, OrderState.ACCEPTED, held.status, lead)
    assert job is not None, "an accepted lead has a job"
    await reruns.wake(books, job.job_id)
    print(job.job_id)
    return 0


def _lead_of(order: LeadOrder, args: argparse.Namespace) -> Lead | str:
    """The lead of the kept request under this id, or why there is none. Raises ConfigError for a bad policy."""
    import os
    from dataclasses import replace

    from scopegate.errors import ConfigError
    from scopegate.following.source import on_disk
    from scopegate.leads.intake import read_lead
    from scopegate.leads.job import Unreadable

    review = on_disk(args.config).examine(os.environ, lenient=True)
    if review.policy is None:
        raise ConfigError(review.problems)
    offload = review.policy.offloads.get(order.offload)
    if offload is None:
        return f"the policy has no offload {shown(order.offload)}"
    request = order.request if args.request is None else _given(args.request)
    answer = Unreadable("it was not kept (--answer FILE)") if args.answer is None else _given(args.answer)
    literal = json.dumps(args.lead).replace("`", "\\u0060")  # a JMESPath literal ends at the next backtick
    found = read_lead(replace(offload, lead_id=f"`{literal}`"), request, answer)
    return found.reason if isinstance(found, Unreadable) else found


def _given(path: Path) -> Json | Unreadable:
    from scopegate.leads.job import Unreadable
    from scopegate.leads.reading import read_body

    try:
        return read_body(path.read_bytes())
    except OSError as error:
        return Unreadable(f"{path}: {error.strerror}")


async def _discard(args: argparse.Namespace, books: Books) -> int:
    from scopegate.cli.books import complain
    from scopegate.leads.job import OrderState

    held = await books.outbox.get(args.id)
    if held is None:
        return _unknown(args.id, "order")
    if held.state not in (OrderState.UNKNOWN, OrderState.UNREADABLE):
        return complain(
            f"order {held.order.order_id} is {held.state}: only one that is unknown or unreadable is discarded"
        )
    await books.outbox.settle(held.order, OrderState.REFUSED, None, None)
    print(f"{held.order.order_id} is discarded")
    return 0


# ── body ────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def _body(args: argparse.Namespace, books: Books) -> int:
    from scopegate.cli.books import complain
    from scopegate.leads.job import Unreadable

    held = await books.outbox.get(args.id)
    if held is None:
        return _unknown(args.id, "order")
    match held.order.request:
        case None:
            return complain(f"order {held.order.order_id} keeps no request")
        case Unreadable(reason, body):
            complain(f"it could not be read: {reason}")
            sys.stdout.flush()
            sys.stdout.buffer.write(body)
        case request:
            print(json.dumps(request, indent=2))
    return 0


# ── show ────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def _show(args: argparse.Namespace, books: Books) -> int:
    from scopegate.admin.records import job_detail

    job = await books.jobs.get(args.id)
    if job is None:
        return _unknown(args.id)
    calls = await books.ledger.calls(job_id=job.job_id)
    if args.json:
        print(json.dumps(job_detail(job, calls), indent=2))
        return 0
    _print_job(job)
    _print_steps(job)
    _print_calls(calls)
    return 0


def _print_job(job: LeadJob) -> None:
    from scopegate.admin.records import moment

    facts = {
        "job": job.job_id,
        "state": job.state,
        "error": job.error_code,
        "lead": job.lead.lead_id,
        "contractor": job.lead.contractor,
        "photos": len(job.lead.photos),
        "request": job.request_id,
        "created": moment(job.created_ms),
        "finished": moment(job.finished_ms),
        "due": moment(job.due_ms) if job.finished_ms is None else None,
        "score": job.score,
        "replay of": job.replay_of,
    }
    for name, value in facts.items():
        if value is not None:
            print(f"{name:<10}  {shown(value)}")


def _print_steps(job: LeadJob) -> None:
    rows: list[Sequence[object]] = []
    for step in job.steps:
        rows += [_attempt_row(step.name, step.state, attempt) for attempt in step.attempts] or [
            (step.name, step.state, None, None, None, None, None)
        ]
    print()
    show(
        ("STEP", "STATE", "TRY", "OUTCOME", "STARTED", "SECONDS", "COST"),
        rows,
        right=frozenset({"TRY", "SECONDS", "COST"}),
    )


def _attempt_row(name: str, state: str, attempt: Attempt) -> Sequence[object]:
    from scopegate.admin.records import moment

    seconds = None if attempt.finished_ms is None else f"{(attempt.finished_ms - attempt.started_ms) / 1000:.3f}"
    outcome = attempt.error_code or attempt.state
    return name, state, attempt.n, outcome, moment(attempt.started_ms), seconds, usd(attempt.cost_usd_micros)


def _print_calls(calls: Sequence[CallRecord]) -> None:
    if not calls:
        return
    rows = [
        (
            call.step,
            call.step_attempt,
            call.call_n,
            call.outcome,
            call.model,
            call.input_tokens + call.cache_read_tokens + call.cache_write_tokens,
            call.output_tokens,
            f"{call.duration_ms / 1000:.3f}",
            usd(call.cost_usd_micros),
        )
        for call in calls
    ]
    heads = ("MODEL CALL", "TRY", "CALL", "OUTCOME", "MODEL", "IN", "OUT", "SECONDS", "COST")
    print()
    show(heads, rows, right=frozenset({"TRY", "CALL", "IN", "OUT", "SECONDS", "COST"}))
    print(f"\n{len(calls)} model calls, {usd(sum(call.cost_usd_micros for call in calls))} in all")


def _unknown(name: str, what: str = "job") -> int:
    from scopegate.cli.books import complain

    return complain(f"there is no {what} {shown(name[:80])}")

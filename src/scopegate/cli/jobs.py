"""`scopegate jobs list | show ID`: the leads' jobs and their history. Further actions are registered by `orders`,
`reruns` and `pauses`."""

from __future__ import annotations

import argparse
import json
from argparse import _SubParsersAction
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from scopegate.cli import orders, pauses, persons, reruns
from scopegate.cli.filters import add_filters, filter_of, limit, unknown
from scopegate.cli.pauses import described
from scopegate.cli.tables import show, shown, usd
from scopegate.leads.job import JobState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scopegate.cli.books import Books
    from scopegate.leads.job import Attempt, CallRecord, LeadJob


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
    add_filters(listing)
    listing.add_argument("--limit", metavar="N", type=limit, default=50, help="at most N jobs (%(default)s)")
    showing = actions.add_parser("show", help="one job with its steps, attempts and model calls")
    showing.add_argument("id", metavar="ID", help="the job's id, as `list` shows it")
    for action, run_action in ((listing, _list), (showing, _show)):
        action.add_argument("--json", action="store_true", help="JSON instead of a table")
        action.set_defaults(run=run, action=run_action)
    orders.register(actions, run)
    reruns.register(actions, run)
    pauses.register(actions, run)
    persons.register(actions, run)


def run(args: argparse.Namespace) -> int:
    from scopegate.cli.books import with_books

    return with_books(partial(args.action, args))


# ── list ────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def _list(args: argparse.Namespace, books: Books) -> int:
    from scopegate.admin.records import job_summary, moment

    state = None if args.state is None else JobState(args.state)
    found = await books.jobs.list(replace(filter_of(args), state=state, limit=args.limit))
    paused = await books.jobs.paused()
    if args.json:
        print(json.dumps({"jobs": [job_summary(job) for job in found], "paused": [*paused]}, indent=2))
        return 0
    for offload, since_ms in paused.items():
        print(f"{shown(offload)} is paused since {moment(since_ms)}")
    if not found:
        print("no jobs")
        return 0
    rows = [
        (job.job_id, job.state, job.lead.lead_id, job.offload, moment(job.created_ms), job.score, job.error_code)
        for job in found
    ]
    show(("JOB", "STATE", "LEAD", "OFFLOAD", "CREATED", "SCORE", "ERROR"), rows, right=frozenset({"SCORE"}))
    return 0


# ── show ────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def _show(args: argparse.Namespace, books: Books) -> int:
    from scopegate.admin.records import job_detail

    job = await books.jobs.get(args.id)
    if job is None:
        return unknown(args.id)
    calls = await books.ledger.calls(job_id=job.job_id)
    if args.json:
        print(json.dumps(job_detail(job, calls), indent=2))
        return 0
    _print_job(job)
    for action in await books.jobs.actions(job.job_id):
        print(f"{'by hand':<10}  {shown(described(action))}")
    _print_steps(job)
    _print_calls(calls)
    return 0


def _print_job(job: LeadJob) -> None:
    from scopegate.admin.records import moment

    facts = {
        "job": job.job_id,
        "state": job.state,
        "error": job.error_code,
        "reason": job.reason,
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

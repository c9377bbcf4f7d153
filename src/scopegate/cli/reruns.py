"""`scopegate jobs cancel | replay`, of one job or of all that fit: ending jobs, and giving them another go."""

from __future__ import annotations

import argparse
import json
from argparse import _SubParsersAction
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from scopegate.cli.filters import add_filters, filter_of, unknown
from scopegate.cli.tables import usd
from scopegate.leads.job import FINAL_STATES, JobState
from scopegate.limits.steps import StepName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scopegate.cli.books import Books
    from scopegate.leads.job import Lead, LeadJob

_OPEN_STATES = [state for state in JobState if state not in FINAL_STATES]


def register(actions: _SubParsersAction[argparse.ArgumentParser], run: Callable[[argparse.Namespace], int]) -> None:
    cancelling = actions.add_parser("cancel", help="end a job that has not ended; it can be replayed")
    replaying = actions.add_parser(
        "replay", help="a new job for the same lead: finished steps are not paid again, a done job is sent again"
    )
    for action, meant, states in (
        (cancelling, "every job that has not ended, that fits what follows", _OPEN_STATES),
        (replaying, "every ended job that fits what follows and was not replayed", FINAL_STATES),
    ):
        which = action.add_mutually_exclusive_group(required=True)
        which.add_argument("id", metavar="ID", nargs="?", help="the job's id, as `list` shows it")
        which.add_argument("--all", action="store_true", help=meant)
        action.add_argument("--state", choices=[state.value for state in states], help="with --all: only in this state")
        add_filters(action, "with --all: ")
        action.add_argument("--yes", action="store_true", help="with --all: do it, instead of saying its cost")
        action.add_argument("--json", action="store_true", help="JSON instead of words")
    replaying.add_argument(
        "--from", dest="step", choices=[step.value for step in StepName], help="do this step and all after it again"
    )
    replaying.add_argument(
        "--input",
        metavar="FILE",
        type=Path,
        help="of one job: JSON with another `text`, `photos` or `contractor`; every step is done again, and paid",
    )
    replaying.add_argument(
        "--batch", action="store_true", help="ask the model in batches: half the price, and hours instead of seconds"
    )
    cancelling.set_defaults(run=run, action=cancel)
    replaying.set_defaults(run=run, action=replay)


async def cancel(args: argparse.Namespace, books: Books) -> int:
    if args.all:
        return await _cancel_all(args, books)
    from scopegate.admin.records import job_summary

    job = await books.jobs.cancel(args.id, books.clock.now_ms(), books.actor)
    if job is None:
        return await _not_so(args.id, "cancelled", "has not ended", books)
    print(json.dumps(job_summary(job), indent=2) if args.json else f"{job.job_id} is cancelled")
    return 0


async def replay(args: argparse.Namespace, books: Books) -> int:
    if args.all:
        return await _replay_all(args, books)
    return await (_replay_one(args, books) if args.input is None else _replay_edited(args, books))


# ── one ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _replay_one(args: argparse.Namespace, books: Books, edited: Lead | None = None) -> int:
    from scopegate.admin.records import job_summary

    new = await _again(args.id, args, books, edited)
    if new is None:
        return await _not_so(args.id, "replayed", "has ended", books)
    woken = await wake(books, new.job_id)
    if args.json:
        print(json.dumps(job_summary(new), indent=2))
        return 0
    kept = ", ".join(new.results()) or "none"
    print(f"{new.job_id} replays {args.id}; steps kept: {kept}")
    print("a worker was told" if woken else "a worker finds it within seconds")
    return 0


async def _replay_edited(args: argparse.Namespace, books: Books) -> int:
    from scopegate.cli.books import complain
    from scopegate.leads.intake import edit_lead
    from scopegate.leads.job import Unreadable
    from scopegate.leads.reading import read_body

    job = await books.jobs.get(args.id)
    if job is None:
        return unknown(args.id)
    try:
        changes = read_body(args.input.read_bytes())
    except OSError as error:
        return complain(f"{args.input}: {error.strerror}")
    edited = edit_lead(job.lead, changes)
    if isinstance(edited, Unreadable):
        return complain(f"{args.input}: {edited.reason}")
    return await _replay_one(args, books, edited)


async def _again(job_id: str, args: argparse.Namespace, books: Books, edited: Lead | None = None) -> LeadJob | None:
    from_step = None if args.step is None else StepName(args.step)
    new_id, now_ms = f"job_{uuid4().hex}", books.clock.now_ms()
    return await books.jobs.replay(
        job_id, new_id, now_ms, from_step, edited=edited, in_batches=args.batch, actor=books.actor
    )


async def wake(books: Books, job_id: str) -> bool:
    """False when there is nobody to tell: the sweep finds the job."""
    from scopegate.errors import StoreUnavailable
    from scopegate.stores.queue import NoMessenger

    try:
        await books.messenger.wake(job_id)
    except StoreUnavailable:
        return False
    return not isinstance(books.messenger, NoMessenger)


async def _not_so(job_id: str, done: str, condition: str, books: Books) -> int:
    from scopegate.cli.books import complain

    job = await books.jobs.get(job_id)
    if job is None:
        return unknown(job_id)
    return complain(f"job {job_id} is {job.state}: only one that {condition} can be {done}")


# ── many ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _replay_all(args: argparse.Namespace, books: Books) -> int:
    """Without --yes the count and the expected cost; with it, a replay of each. At most MAX_AT_ONCE jobs."""
    from scopegate.admin.reruns import MAX_AT_ONCE

    wanted = replace(filter_of(args), state=JobState(args.state or JobState.FAILED), not_replayed=True)
    found = await books.jobs.list(replace(wanted, limit=MAX_AT_ONCE))
    expected = await _expected_usd_micros(found, args.step, books) // (2 if args.batch else 1)
    for job in found if args.yes else ():
        new = await _again(job.job_id, args, books)
        assert new is not None, "a job that has ended stays so"
        await wake(books, new.job_id)
    return _tell(args, "replayed", len(found), expected, "expected")


async def _cancel_all(args: argparse.Namespace, books: Books) -> int:
    """Without --yes the count and what is saved by it; with it, the end of each. At most MAX_AT_ONCE jobs."""
    from scopegate.admin.reruns import MAX_AT_ONCE

    state = None if args.state is None else JobState(args.state)
    found = await books.jobs.list(replace(filter_of(args), state=state, is_open=True, limit=MAX_AT_ONCE))
    expected = await _expected_usd_micros(found, None, books)
    for job in found if args.yes else ():
        await books.jobs.cancel(job.job_id, books.clock.now_ms(), books.actor)
    return _tell(args, "cancelled", len(found), expected, "saved")


def _tell(args: argparse.Namespace, done: str, count: int, usd_micros: int, what: str) -> int:
    if args.json:
        print(json.dumps({"jobs": count, f"{what}_usd": usd(usd_micros), done: args.yes}, indent=2))
        return 0
    from scopegate.admin.reruns import EXPECTED_FROM_DAYS

    cost = f"{usd(usd_micros)} {what}, by what their steps cost in the last {EXPECTED_FROM_DAYS} days"
    print(f"{count} jobs {'are' if args.yes else 'would be'} {done}: {cost}")
    if not args.yes:
        print("add --yes to do it")
    return 0


async def _expected_usd_micros(found: Sequence[LeadJob], step: str | None, books: Books) -> int:
    from scopegate.admin.reruns import expected_usd_micros

    from_step = None if step is None else StepName(step)
    return await expected_usd_micros(found, from_step, books.jobs, books.ledger, books.clock.now_ms())

"""`scopegate jobs cancel ID | replay ID | replay --all`: ending a job, and giving one or many another go."""

from __future__ import annotations

import argparse
import json
from argparse import _SubParsersAction
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import uuid4

from scopegate.cli.tables import shown, usd
from scopegate.leads.job import FINAL_STATES, JobFilter, JobState
from scopegate.limits.steps import MODEL_STEPS, StepName

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scopegate.cli.books import Books
    from scopegate.leads.job import LeadJob

MAX_AT_ONCE = 1000
_EXPECTED_FROM_DAYS = 30


def register(actions: _SubParsersAction[argparse.ArgumentParser], run: Callable[[argparse.Namespace], int]) -> None:
    cancelling = actions.add_parser("cancel", help="end a job that has not ended; it can be replayed")
    cancelling.add_argument("id", metavar="ID", help="the job's id, as `list` shows it")
    replaying = actions.add_parser(
        "replay", help="a new job for the same lead: finished steps are not paid again, a done job is sent again"
    )
    which = replaying.add_mutually_exclusive_group(required=True)
    which.add_argument("id", metavar="ID", nargs="?", help="the job's id, as `list` shows it")
    which.add_argument("--all", action="store_true", help="every ended job that fits what follows and was not replayed")
    replaying.add_argument(
        "--from", dest="step", choices=[step.value for step in StepName], help="do this step and all after it again"
    )
    replaying.add_argument(
        "--state", choices=[state.value for state in FINAL_STATES], default="failed", help="with --all (%(default)s)"
    )
    replaying.add_argument("--offload", metavar="NAME", help="with --all: only jobs of this offload")
    replaying.add_argument("--error", metavar="CODE", help="with --all: only jobs that ended by this code")
    replaying.add_argument("--yes", action="store_true", help="with --all: do it, instead of saying what it would cost")
    for action, run_action in ((cancelling, cancel), (replaying, replay)):
        action.add_argument("--json", action="store_true", help="JSON instead of words")
        action.set_defaults(run=run, action=run_action)


async def cancel(args: argparse.Namespace, books: Books) -> int:
    from scopegate.admin.records import job_summary

    job = await books.jobs.cancel(args.id, books.clock.now_ms())
    if job is None:
        return await _not_so(args.id, "cancelled", "has not ended", books)
    print(json.dumps(job_summary(job), indent=2) if args.json else f"{job.job_id} is cancelled")
    return 0


async def replay(args: argparse.Namespace, books: Books) -> int:
    return await (_replay_all(args, books) if args.all else _replay_one(args, books))


# ── one ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _replay_one(args: argparse.Namespace, books: Books) -> int:
    from scopegate.admin.records import job_summary

    new = await _again(args.id, args.step, books)
    if new is None:
        return await _not_so(args.id, "replayed", "is done or failed", books)
    woken = await wake(books, new.job_id)
    if args.json:
        print(json.dumps(job_summary(new), indent=2))
        return 0
    kept = ", ".join(new.results()) or "none"
    print(f"{new.job_id} replays {args.id}; steps kept: {kept}")
    print("a worker was told" if woken else "a worker finds it within seconds")
    return 0


async def _again(job_id: str, step: str | None, books: Books) -> LeadJob | None:
    from_step = None if step is None else StepName(step)
    return await books.jobs.replay(job_id, f"job_{uuid4().hex}", books.clock.now_ms(), from_step)


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
        return complain(f"there is no job {shown(job_id[:80])}")
    return complain(f"job {job_id} is {job.state}: only one that {condition} can be {done}")


# ── many ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _replay_all(args: argparse.Namespace, books: Books) -> int:
    """Without --yes the count and the expected cost; with it, a replay of each. At most MAX_AT_ONCE jobs."""
    wanted = JobFilter(JobState(args.state), args.offload, error_code=args.error, not_replayed=True, limit=MAX_AT_ONCE)
    found = await books.jobs.list(wanted)
    expected = await _expected_usd_micros(found, args.step, books)
    if args.yes:
        for job in found:
            new = await _again(job.job_id, args.step, books)
            assert new is not None, "a job that has ended stays so"
            await wake(books, new.job_id)
    if args.json:
        print(json.dumps({"jobs": len(found), "expected_usd": usd(expected), "replayed": args.yes}, indent=2))
        return 0
    cost = f"{usd(expected)} expected, by what their steps cost in the last {_EXPECTED_FROM_DAYS} days"
    print(f"{len(found)} jobs {'are replayed' if args.yes else 'would be replayed'}: {cost}")
    if not args.yes:
        print("add --yes to do it")
    return 0


async def _expected_usd_micros(found: Sequence[LeadJob], step: str | None, books: Books) -> int:
    """What the steps that would ask the model again have cost for each good answer."""
    from scopegate.cli.usage import first_day

    rows = await books.ledger.spend_by("step", first_day(_EXPECTED_FROM_DAYS, books.clock.now_ms()))
    costs = {str(row["key"]): _per_answer(row) for row in rows}
    whole = [await books.jobs.get(job.job_id) for job in found]
    return sum(costs.get(name, 0) for job in whole if job is not None for name in _asked_again(job, step))


def _asked_again(job: LeadJob, step: str | None) -> Sequence[StepName]:
    names = list(StepName)
    first = len(names) if step is None else names.index(StepName(step))
    return [name for name in MODEL_STEPS if names.index(name) >= first or name not in job.results()]


def _per_answer(row: Mapping[str, object]) -> int:
    cost, calls, failed, unknown = (row[name] for name in ("cost_usd_micros", "calls", "failed", "unknown"))
    assert isinstance(cost, int)
    assert isinstance(calls, int)
    assert isinstance(failed, int)
    assert isinstance(unknown, int)
    return cost // max(1, calls - failed - unknown)

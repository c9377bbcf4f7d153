"""`scopegate explain-lead LEAD | REQUEST_ID`: the one story of a lead, from the request to the last delivery.

What is told is decided in `leads/story`; the sum of its dollars is the ledger's.
"""

from __future__ import annotations

import argparse
import json
from argparse import _SubParsersAction
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scopegate.cli.books import Books
    from scopegate.leads.story import OnRecord

MAX_JOBS = 1000


def register(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "explain-lead",
        help="what became of a lead",
        description="Everything on record about a lead, or about the request that brought it, in order of time.",
        epilog="exit codes: 0 fine, 1 nothing on record, or no database; 78 bad environment",
    )
    parser.add_argument("id", metavar="LEAD | REQUEST_ID", help="the lead's id in the app, or X-Request-ID's value")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from scopegate.cli.books import with_books

    return with_books(partial(_explain, args))


async def _explain(args: argparse.Namespace, books: Books) -> int:
    from scopegate.cli.books import complain
    from scopegate.cli.tables import shown, usd
    from scopegate.leads.story import cost_usd_micros, tell

    records = await _records(books, args.id)
    events = tell(records)
    if not events:
        return complain(f"nothing is on record about {shown(args.id)}, neither as a lead nor as a request")
    cost = cost_usd_micros(events)
    if args.json:
        print(json.dumps({"id": args.id, "events": [e.to_json() for e in events], "cost_usd_micros": cost}, indent=2))
        return 0
    _show(records)
    print(f"{usd(cost)} in {len(records.calls)} calls, as the ledger has it")
    return 0


def _show(records: OnRecord) -> None:
    from scopegate.admin.records import moment
    from scopegate.cli.tables import show, usd
    from scopegate.leads.story import tell

    rows = [
        (
            moment(event.at_ms),
            event.kind,
            event.subject,
            event.detail,
            None if event.took_ms is None else f"{event.took_ms} ms",
            usd(event.cost_usd_micros) if event.kind == "call" else None,
        )
        for event in tell(records)
    ]
    show(("WHEN", "WHAT", "OF", "HOW", "TOOK", "COST"), rows, right=frozenset({"TOOK", "COST"}))


async def _records(books: Books, name: str) -> OnRecord:
    """Of the lead with this id, or else of the request with it: of at most 1,000 jobs."""
    from scopegate.leads.job import JobFilter
    from scopegate.leads.story import OnRecord

    found = await books.jobs.list(JobFilter(lead_id=name, limit=MAX_JOBS)) or await books.jobs.list(
        JobFilter(request_id=name, limit=MAX_JOBS)
    )
    jobs = [job for each in found if (job := await books.jobs.get(each.job_id)) is not None]
    requests = dict.fromkeys([name, *(job.request_id for job in jobs)])
    orders = [order for request in requests for order in await books.outbox.of_request(request)]
    calls = [call for job in jobs for call in await books.ledger.calls(job_id=job.job_id)]
    return OnRecord(tuple(orders), tuple(jobs), tuple(calls))

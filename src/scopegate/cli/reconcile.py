"""`scopegate reconcile`: hold the ledger against the provider's own export, and put right what nobody had learnt."""

from __future__ import annotations

import argparse
import json
import sys
from argparse import _SubParsersAction
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scopegate.bills.statement import Reckoning, Statement
    from scopegate.cli.books import Books
    from scopegate.limits.pricing import PriceTable
    from scopegate.types import Json

EXIT_UNEXPLAINED = 1
EXIT_BAD_FILE = 2
_MOST_BYTES = 64 * 1024 * 1024


def register(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "reconcile",
        help="hold the ledger against the provider's bill",
        description="Compare the ledger with a provider's export, token by token. Calls whose cost nobody learnt "
        "(their worker died, or no usage came back) are put right. Read are the usage and cost reports of the Claude "
        "Admin API (JSON), the Console's CSV of both, and the list of calls of a simulated Claude. Days that are not "
        "over are left out. A file that is not whole changes nothing.",
        epilog="exit codes: 0 every micro-dollar is explained, 1 one is not or no database, 2 a bad file, 78 bad "
        "environment or policy",
    )
    parser.add_argument(
        "--usage",
        metavar="FILE",
        type=Path,
        required=True,
        nargs="+",
        help="the export; several are its pages in order",
    )
    parser.add_argument("--policy", "-c", metavar="FILE", type=Path, help="gateway.yaml, for prices of its own")
    parser.add_argument("--dry-run", action="store_true", help="say what would be put right, and change nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from scopegate.bills.export import read
    from scopegate.bills.statement import BadExport
    from scopegate.cli.books import with_books

    try:
        statement = read([(str(path), _content(path)) for path in args.usage])
    except BadExport as fault:
        print(f"scopegate: {fault}", file=sys.stderr)
        return EXIT_BAD_FILE
    return with_books(partial(_reconcile, args, statement, _prices(args.policy)))


def _content(path: Path) -> bytes:
    from scopegate.bills.statement import BadExport

    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as fault:
        raise BadExport(str(path), fault.strerror or type(fault).__name__) from None
    if len(content) > _MOST_BYTES:
        raise BadExport(str(path), "is larger than 64 MiB: export a shorter time")
    return content


def _prices(policy: Path | None) -> PriceTable:
    from scopegate.cli.replayed import policy_at
    from scopegate.worker import prices

    ai = None if policy is None else policy_at(policy).ai
    return prices.load().with_models({} if ai is None else ai.prices)


async def _reconcile(args: argparse.Namespace, statement: Statement, table: PriceTable, books: Books) -> int:
    from scopegate.bills.matching import match
    from scopegate.bills.statement import whole_days

    now_ms = books.clock.now_ms()
    await books.ledger.expire(now_ms)
    whole = whole_days(statement, now_ms)
    left_out = sorted(statement.days - whole.days)
    found: tuple[Reckoning, ...] = ()
    if whole.days or not statement.days:
        found = match(whole, await books.ledger.calls_between(*_time_of(whole)), table)
    corrections = [(one.before, one.after) for reckoning in found for one in reckoning.corrections]
    made = 0 if args.dry_run or not corrections else await books.ledger.correct(corrections, now_ms)
    tell = _print_json if args.json else _print
    tell(found, left_out, made)
    if not args.dry_run and made != len(corrections):
        print("scopegate: some calls have changed meanwhile: run it again", file=sys.stderr)
        return EXIT_UNEXPLAINED
    return EXIT_UNEXPLAINED if any(one.reasons for one in found) else 0


def _time_of(statement: Statement) -> tuple[int, int]:
    """From when to when the ledger's calls may be meant, in Unix milliseconds."""
    if not statement.days:
        return statement.since_ms - 60_000, statement.until_ms + 1
    return _midnight_ms(min(statement.days)), _midnight_ms(max(statement.days), days_later=1)


def _midnight_ms(day: str, days_later: int = 0) -> int:
    wanted = date.fromisoformat(day) + timedelta(days=days_later)
    return int(datetime(wanted.year, wanted.month, wanted.day, tzinfo=UTC).timestamp()) * 1000


def _print(found: Sequence[Reckoning], left_out: Sequence[str], made: int) -> None:
    from scopegate.cli.tables import show, shown, usd

    heads = ("DAY", "MODEL", "CALLS", "LEDGER", "PROVIDER", "CORRECTED", "BY", "UNEXPLAINED")
    rows = [
        (
            one.days,
            one.model,
            one.calls,
            usd(one.ledger_usd_micros),
            usd(one.provider_usd_micros),
            len(one.corrections),
            usd(sum(correction.usd_micros for correction in one.corrections)),
            usd(one.unexplained_usd_micros),
        )
        for one in found
    ]
    if rows:
        show(heads, rows, right=frozenset(heads[2:]))
    for one in found:
        for reason in one.reasons:
            print(f"{shown(one.days or one.model)}: {shown(reason)}")
    if left_out:
        print(f"left out, not over yet: {', '.join(left_out)}")
    unexplained = sum(one.unexplained_usd_micros for one in found)
    print(f"{made} calls put right; {usd(unexplained)} unexplained")


def _print_json(found: Sequence[Reckoning], left_out: Sequence[str], made: int) -> None:
    rows: list[Json] = [_row(one) for one in found]
    unexplained = sum(one.unexplained_usd_micros for one in found)
    told = {"corrected": made, "unexplained_usd_micros": unexplained, "left_out": [*left_out], "rows": rows}
    print(json.dumps(told, indent=2))


def _row(one: Reckoning) -> dict[str, Json]:
    corrections: list[Json] = [
        {
            "call_id": each.after.call_id,
            "lead_id": each.after.lead_id,
            "was_usd_micros": each.before.cost_usd_micros,
            "cost_usd_micros": each.after.cost_usd_micros,
        }
        for each in one.corrections
    ]
    return {
        "days": one.days,
        "model": one.model,
        "calls": one.calls,
        "ledger_usd_micros": one.ledger_usd_micros,
        "provider_usd_micros": one.provider_usd_micros,
        "corrections": corrections,
        "unexplained_usd_micros": one.unexplained_usd_micros,
        "reasons": [*one.reasons],
    }

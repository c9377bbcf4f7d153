"""`scopegate usage`: what the model calls cost, by day, model, step, lead, contractor or offload, as the ledger has it,
and what the present day and month are likely to cost."""

from __future__ import annotations

import argparse
import json
import re
from argparse import _SubParsersAction
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from scopegate.cli.tables import show, usd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scopegate.cli.books import Books
    from scopegate.types import Json

KEYS = ("day", "model", "step", "lead", "contractor", "offload")
_DOLLARS = ("cost_usd_micros", "saved_usd_micros")
_NUMBERS = ("calls", "failed", "unknown", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


def register(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "usage",
        help="what the model calls cost",
        description="What the model calls cost, failed ones included, as the ledger has it. Unknown are those whose "
        "caller died: they count at their worst case. Days of the table are UTC. Expected is what the present day "
        "will have cost at the rate of the last 24 hours, and the month at that of the last week.",
        epilog="exit codes: 0 fine, 1 no database, 78 bad environment or policy",
    )
    parser.add_argument("--by", choices=KEYS, default="day", help="one row for each (%(default)s)")
    parser.add_argument(
        "--since",
        metavar="DAYS|DATE",
        type=_since,
        default="30d",
        help="7d is today and six days before; or YYYY-MM-DD",
    )
    parser.add_argument(
        "--policy",
        "-c",
        metavar="FILE",
        type=Path,
        help="gateway.yaml: the forecast is of days and months in its `ai.time_zone`; UTC when left out",
    )
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from scopegate.cli.books import with_books

    zone: tzinfo = UTC
    if args.policy is not None:
        from scopegate.cli.replayed import policy_at

        ai = policy_at(args.policy).ai
        zone = zone if ai is None else ai.zone
    return with_books(partial(_usage, args, zone))


def _since(text: str) -> date | int:
    """A day, or how many days back to look (today included)."""
    if re.fullmatch(r"[1-9][0-9]{0,3}d", text, re.ASCII):
        return int(text[:-1])
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("write it like 7d or 2026-11-01") from None


def first_day(since: date | int, now_ms: int) -> str:
    """The first UTC day to count, as YYYY-MM-DD."""
    if isinstance(since, date):
        return since.isoformat()
    return (datetime.fromtimestamp(now_ms / 1000, UTC).date() - timedelta(days=since - 1)).isoformat()


async def _usage(args: argparse.Namespace, zone: tzinfo, books: Books) -> int:
    from scopegate.admin.forecasts import forecast_row, read_forecasts
    from scopegate.admin.records import usage_row

    now_ms = books.clock.now_ms()
    since = first_day(args.since, now_ms)
    rows = await books.ledger.spend_by(args.by, since)
    expected = await read_forecasts(books.ledger, now_ms, zone)
    if args.json:
        forecast = {name: forecast_row(one) for name, one in expected.items()} | {"time_zone": str(zone)}
        told = {"by": args.by, "since": since, "rows": [usage_row(row) for row in rows], "forecast": forecast}
        print(json.dumps(told, indent=2))
        return 0
    if rows:
        _print(args.by, rows)
    else:
        print(f"no model calls since {since}")
    for one in expected.values():
        so_far, at_the_end = usd(one.spent_usd_micros), usd(one.expected_usd_micros)
        print(f"{one.period} ({zone}): {so_far} so far, {at_the_end} expected")
    return 0


def _print(by: str, rows: Sequence[Mapping[str, Json]]) -> None:
    heads = (by.upper(), "CALLS", "FAILED", "UNKNOWN", "INPUT", "OUTPUT", "CACHE READ", "CACHE WRITE", "COST", "SAVED")
    cells = [
        [row["key"], *(row[name] for name in _NUMBERS), *(usd(_whole(row[name])) for name in _DOLLARS)] for row in rows
    ]
    if len(rows) > 1:
        counts = [sum(_whole(row[name]) for row in rows) for name in _NUMBERS]
        cells.append(["total", *counts, *(usd(sum(_whole(row[name]) for row in rows)) for name in _DOLLARS)])
    show(heads, cells, right=frozenset(heads[1:]))


def _whole(value: Json) -> int:
    assert isinstance(value, int)
    return value

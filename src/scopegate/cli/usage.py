"""`scopegate usage`: what the model calls cost, by day, model, step, lead or contractor, as the ledger has it."""

from __future__ import annotations

import argparse
import json
import re
from argparse import _SubParsersAction
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from scopegate.cli.tables import show, usd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scopegate.cli.books import Books
    from scopegate.types import Json

KEYS = ("day", "model", "step", "lead", "contractor")
_NUMBERS = ("calls", "failed", "unknown", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


def register(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "usage",
        help="what the model calls cost",
        description="What the model calls cost, failed ones included, as the ledger has it. Unknown are those whose "
        "caller died: they count at their worst case. Days are UTC.",
        epilog="exit codes: 0 fine, 1 no database, 78 bad environment",
    )
    parser.add_argument("--by", choices=KEYS, default="day", help="one row for each (%(default)s)")
    parser.add_argument(
        "--since",
        metavar="DAYS|DATE",
        type=_since,
        default="30d",
        help="7d is today and six days before; or YYYY-MM-DD",
    )
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from scopegate.cli.books import with_books

    return with_books(partial(_usage, args))


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


async def _usage(args: argparse.Namespace, books: Books) -> int:
    from scopegate.admin.records import usage_row

    since = first_day(args.since, books.clock.now_ms())
    rows = await books.ledger.spend_by(args.by, since)
    if args.json:
        print(json.dumps({"by": args.by, "since": since, "rows": [usage_row(row) for row in rows]}, indent=2))
    elif rows:
        _print(args.by, rows)
    else:
        print(f"no model calls since {since}")
    return 0


def _print(by: str, rows: Sequence[Mapping[str, Json]]) -> None:
    heads = (by.upper(), "CALLS", "FAILED", "UNKNOWN", "INPUT", "OUTPUT", "CACHE READ", "CACHE WRITE", "COST")
    cells = [[row["key"], *(row[name] for name in _NUMBERS), usd(_whole(row["cost_usd_micros"]))] for row in rows]
    if len(rows) > 1:
        sums = [sum(_whole(row[name]) for row in rows) for name in (*_NUMBERS, "cost_usd_micros")]
        cells.append(["total", *sums[:-1], usd(sums[-1])])
    show(heads, cells, right=frozenset(heads[1:]))


def _whole(value: Json) -> int:
    assert isinstance(value, int)
    return value

"""Which jobs a command means: the arguments that say so, and the filter that they make."""

from __future__ import annotations

import argparse
from datetime import UTC, date, datetime, timedelta

from scopegate.cli.tables import shown
from scopegate.leads.job import JobFilter

MAX_LISTED = 1000


def add_filters(parser: argparse.ArgumentParser, beside: str = "") -> None:
    """`beside`: what has to stand with them."""
    for name, metavar, what in (
        ("--lead", "ID", "this lead's jobs"),
        ("--offload", "NAME", "jobs of this offload"),
        ("--contractor", "NAME", "this contractor's jobs"),
        ("--error", "CODE", "jobs that failed, or wait, by this code"),
        ("--request", "ID", "the jobs of this request"),
    ):
        parser.add_argument(name, metavar=metavar, help=f"{beside}only {what}")
    parser.add_argument("--since", metavar="DAY", type=_day, help=f"{beside}only jobs made on that UTC day or later")
    parser.add_argument("--until", metavar="DAY", type=_day, help=f"{beside}only jobs made on that UTC day or earlier")


def filter_of(args: argparse.Namespace) -> JobFilter:
    return JobFilter(
        offload=args.offload,
        lead_id=args.lead,
        error_code=args.error,
        contractor=args.contractor,
        request_id=args.request,
        since_ms=None if args.since is None else _starts_ms(args.since),
        until_ms=None if args.until is None else _starts_ms(args.until + timedelta(days=1)),
    )


def limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= MAX_LISTED):
        raise argparse.ArgumentTypeError(f"a number from 1 to {MAX_LISTED}")
    return int(text)


def unknown(name: str, what: str = "job") -> int:
    """Says that there is none; the exit code."""
    from scopegate.cli.books import complain

    return complain(f"there is no {what} {shown(name[:80])}")


def _day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("a day as YYYY-MM-DD") from None
    if day.year > 9998:
        raise argparse.ArgumentTypeError("a day of this age")
    return day


def _starts_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)

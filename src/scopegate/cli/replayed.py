"""What the commands share that read an access log: its lines, its policy, and what is said of lines that are none."""

from __future__ import annotations

import argparse
import gzip
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from scopegate.errors import ConfigError, Problem, ScopegateError

if TYPE_CHECKING:
    from scopegate.policy.policy import Policy
    from scopegate.replay.entries import LogReading


class LogUnreadable(ScopegateError):
    """The log cannot be opened or read."""


def add_log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--log",
        metavar="FILE",
        required=True,
        help="an access log: JSON of ours, Caddy, nginx, or combined; .gz; -",
    )


def policy_at(file: Path) -> Policy:
    """Raises ConfigError for a file with problems. Secrets that the environment lacks do not matter."""
    from scopegate.cli.check import review_of

    review = review_of(file, os.environ)
    if review.policy is None:
        raise ConfigError(review.problems or [Problem(str(file), "", "is no policy")])
    return review.policy


@contextmanager
def lines_of(name: str) -> Iterator[BinaryIO]:
    """Raises LogUnreadable."""
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        with gzip.open(name, "rb") if name.endswith(".gz") else Path(name).open("rb") as file:
            yield cast("BinaryIO", file)
    except (OSError, EOFError) as fault:
        why = fault.strerror if isinstance(fault, OSError) and fault.strerror else str(fault)
        raise LogUnreadable(f"{name}: {why}") from None


def bad_lines(reading: LogReading) -> list[str]:
    """A sentence each, for standard error."""
    if not reading.bad:
        return []
    named = [f"line {number}: {why}" for number, why in reading.named]
    more = [] if reading.bad == len(named) else [f"and {reading.bad - len(named)} more"]
    return [f"{reading.bad} of {reading.lines} lines were not read:", *[f"  {each}" for each in (*named, *more)]]


def at(at_us: int) -> str:
    """A moment for people, in UTC."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%SZ")

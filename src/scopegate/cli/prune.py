"""`scopegate prune`: delete what was kept as long as the policy says. Workers do it by themselves every few minutes."""

from __future__ import annotations

import argparse
from argparse import _SubParsersAction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from scopegate.cli.tables import show

if TYPE_CHECKING:
    from scopegate.cli.books import Books
    from scopegate.policy.policy import Retention

_NOUNS = {"photos": "jobs whose photos", "leads": "leads", "orders": "closed orders", "calls": "model calls"}


def register(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "prune",
        help="delete what was kept long enough",
        description="Delete what the database has kept for as long as `retention` of the policy says.",
        epilog="exit codes: 0 fine, 1 no database, 78 bad environment or policy",
    )
    parser.add_argument(
        "-c", "--config", metavar="FILE", type=Path, default=Path("gateway.yaml"), help="the policy (%(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be deleted, and delete nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from scopegate.cli.books import with_books

    retention = _retention(args.config)
    if not retention.ends(0):
        print("nothing to do: the policy keeps everything for ever (`retention`)")
        return 0
    return with_books(partial(_prune, retention, dry_run=args.dry_run))


def _retention(config: Path) -> Retention:
    """Raises ConfigError for a file with problems. Secrets that the environment lacks do not matter."""
    from scopegate.cli.replayed import policy_at

    return policy_at(config).retention


async def _prune(retention: Retention, books: Books, *, dry_run: bool) -> int:
    from scopegate.admin.records import moment
    from scopegate.worker.pruner import Pruner

    ends = retention.ends(books.clock.now_ms())
    if dry_run:
        found = {what: await books.retention.count(what, before_ms) for what, before_ms in ends.items()}
    else:
        found = dict(await Pruner(lambda: books.retention, lambda: retention, books.clock).prune())
    rows = [(_NOUNS[what], moment(before_ms), found[what]) for what, before_ms in ends.items()]
    show(("WHAT", "OLDER THAN", "WOULD BE DELETED" if dry_run else "DELETED"), rows, right=frozenset({"DELETED"}))
    return 0

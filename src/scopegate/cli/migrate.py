"""`scopegate migrate`: bring the database to the schema that this program needs."""

from __future__ import annotations

import argparse
import os
import sys
import time
from argparse import _SubParsersAction
from typing import TYPE_CHECKING, assert_never

from scopegate.errors import EXIT_CONFIG, StoreError, StoreUnavailable, StoreUnusable

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopegate.settings import Settings
    from scopegate.stores.upgrade import Begun, Copied, Done, Plan

EXIT_FINE, EXIT_FAILED = 0, 1
UP, ROLE = "up", "role"
"""Who asks before a start, see `role.demand_database`."""
_TICK_S = 5.0
_EPILOG = """\
A SQLite file is copied first (FILE.revision-NNNN beside it); of PostgreSQL make a backup yourself. Each revision is one
transaction: killed in the middle, the next run goes on where this one was. Several at once take turns.

exit codes: 0 done, or nothing to do; 1 the database cannot be used now, or with --dry-run there is something to do;
78 what only you can mend: address, rights, or a database of a newer program
"""


def register(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "migrate",
        help="bring the database to this version's schema",
        description="Bring the database that the environment names to the schema that this program needs.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    what.add_argument("--sql", action="store_true", help="print the statements instead, for who runs them by hand")
    what.add_argument("--at-start", choices=(UP, ROLE), help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from scopegate import settings as environment

    settings = environment.load(os.environ)
    try:
        return _work(args)(settings)
    except StoreUnusable as fault:
        return _complain(str(fault), EXIT_CONFIG)
    except StoreUnavailable as fault:
        return _complain(f"the database cannot be used now: {fault}", EXIT_FAILED)
    except StoreError as fault:
        return _complain(str(fault), EXIT_FAILED)


def _work(args: argparse.Namespace) -> Callable[[Settings], int]:
    if args.at_start == UP:
        return _before_up
    if args.at_start == ROLE:
        return _before_role
    return _look if args.dry_run else _sql if args.sql else _migrate


def _complain(line: str, code: int) -> int:
    print(f"scopegate: {line}", file=sys.stderr)
    return code


def _plan(settings: Settings) -> Plan:
    import asyncio

    from scopegate.stores.upgrade import look

    return asyncio.run(look(settings.database))


def _look(settings: Settings) -> int:
    plan = _plan(settings)
    print("\n".join(_told(plan)))
    return EXIT_FAILED if plan.left else EXIT_FINE


def _sql(settings: Settings) -> int:
    from scopegate.stores import revisions

    plan = _plan(settings)
    dialect = settings.database.partition(":")[0].partition("+")[0]
    if plan.left:
        print(revisions.sql(dialect, plan.number), end="")
    return EXIT_FINE


def _migrate(settings: Settings) -> int:
    import asyncio

    from scopegate.stores.upgrade import migrate
    from scopegate.tasks import first_of

    progress = Progress()
    migrating, _ = asyncio.run(first_of(migrate(settings.database, progress.told), progress.tick()))
    migrating.result()
    return EXIT_FINE


def _before_up(settings: Settings) -> int:
    """The embedded database is migrated; of any other its owner decides when."""
    if settings.database_url is not None:
        return _before_role(settings)
    plan = _plan(settings)
    return _migrate(settings) if plan.left and plan.number is not None else EXIT_FINE


def _before_role(settings: Settings) -> int:
    from scopegate.cli.role import look_at_database

    look_at_database(settings)
    return EXIT_FINE


class Progress:
    """Lines for a person: what is done, and every few seconds that it still runs."""

    def __init__(self) -> None:
        self._begun_s = 0.0
        self._running = ""

    def told(self, event: Plan | Copied | Begun | Done) -> None:
        from scopegate.stores.upgrade import Begun, Copied, Done, Plan

        match event:
            case Plan():
                lines = _told(event)
            case Copied(path, size_bytes):
                lines = [f"copied to {path} ({size_bytes / 1e6:.1f} MB)"]
            case Begun(revision):
                self._begun_s, self._running = time.monotonic(), revision.number
                return
            case Done(revision, by_us):
                self._running = ""
                how = f"done in {time.monotonic() - self._begun_s:.1f} s" if by_us else "done by another process"
                lines = [f"{revision.number} {how}"]
            case _:
                assert_never(event)
        print("\n".join(lines), flush=True)

    async def tick(self) -> None:
        import asyncio

        while True:
            await asyncio.sleep(_TICK_S)
            if self._running:
                print(f"{self._running} runs, {time.monotonic() - self._begun_s:.0f} s", flush=True)


def _told(plan: Plan) -> list[str]:
    found = "empty" if plan.number is None else f"at revision {plan.number}, {plan.jobs:,} jobs, {plan.calls:,} calls"
    if not plan.left:
        return [f"the database is {found}: nothing to do"]
    return [f"the database is {found}; to do:", *(f"  {one.number}  {one.what}" for one in plan.left)]

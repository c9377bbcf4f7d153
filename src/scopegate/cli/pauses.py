"""`scopegate jobs pause OFFLOAD | resume OFFLOAD | actions`: an offload's jobs wait until somebody lets them go on, and
what was done by hand."""

from __future__ import annotations

import argparse
import json
from argparse import _SubParsersAction
from collections.abc import Callable
from typing import TYPE_CHECKING

from scopegate.cli.filters import limit
from scopegate.cli.tables import show, shown

if TYPE_CHECKING:
    from scopegate.cli.books import Books
    from scopegate.leads.job import Action


def register(actions: _SubParsersAction[argparse.ArgumentParser], run: Callable[[argparse.Namespace], int]) -> None:
    pausing = actions.add_parser("pause", help="begin no job of an offload any more; those under way come to their end")
    resuming = actions.add_parser("resume", help="begin the jobs of a paused offload again")
    for action, run_action in ((pausing, _pause), (resuming, _resume)):
        action.add_argument("offload", metavar="OFFLOAD", help="its name in the policy")
        action.set_defaults(run=run, action=run_action)
    telling = actions.add_parser("actions", help="what was done by hand, newest first")
    telling.add_argument("--limit", metavar="N", type=limit, default=50, help="at most N of them (%(default)s)")
    telling.add_argument("--json", action="store_true", help="JSON instead of a table")
    telling.set_defaults(run=run, action=_actions)


async def _pause(args: argparse.Namespace, books: Books) -> int:
    from scopegate.cli.books import complain

    if not await books.jobs.pause(args.offload, books.clock.now_ms(), books.actor):
        return complain(f"{shown(args.offload[:80])} is paused already")
    print(f"{shown(args.offload)} is paused: its leads are taken, its jobs wait")
    return 0


async def _resume(args: argparse.Namespace, books: Books) -> int:
    from scopegate.cli.books import complain

    if not await books.jobs.resume(args.offload, books.clock.now_ms(), books.actor):
        return complain(f"{shown(args.offload[:80])} is not paused")
    print(f"{shown(args.offload)} goes on within seconds")
    return 0


async def _actions(args: argparse.Namespace, books: Books) -> int:
    from scopegate.admin.records import moment

    found = await books.jobs.actions(limit=args.limit)
    if args.json:
        names = ("at", "actor", "action", "subject", "detail")
        rows = [
            dict(zip(names, (moment(one.at_ms), one.actor, one.name, one.subject, one.detail), strict=True))
            for one in found
        ]
        print(json.dumps({"actions": rows}, indent=2))
        return 0
    if not found:
        print("nothing was done by hand")
        return 0
    show(
        ("AT", "ACTOR", "ACTION", "SUBJECT", "DETAIL"),
        [(moment(one.at_ms), one.actor, one.name, one.subject, one.detail) for one in found],
    )
    return 0


def described(action: Action) -> str:
    from scopegate.admin.records import moment

    return f"{action.name} at {moment(action.at_ms)} by {action.actor} {action.detail}".rstrip()

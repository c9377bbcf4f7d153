"""`scopegate jobs export LEAD | erase LEAD`: what is stored of one person, by the lead's id in the app."""

from __future__ import annotations

import argparse
import json
from argparse import _SubParsersAction
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from scopegate.cli.tables import shown

if TYPE_CHECKING:
    from scopegate.cli.books import Books


def register(actions: _SubParsersAction[argparse.ArgumentParser], run: Callable[[argparse.Namespace], int]) -> None:
    exporting = actions.add_parser("export", help="everything that is stored of a lead, as JSON")
    erasing = actions.add_parser("erase", help="delete everything that is stored of a lead; what it cost stays booked")
    erasing.add_argument("--yes", action="store_true", help="do it, instead of saying what would be deleted")
    for action, run_action in ((exporting, export), (erasing, erase)):
        action.add_argument("lead", metavar="LEAD", help="the lead's id in the app, as `list` shows it")
        action.set_defaults(run=run, action=run_action)


async def export(args: argparse.Namespace, books: Books) -> int:
    found = await books.retention.export(args.lead)
    if not found:
        return _nothing(args.lead)
    print(json.dumps({"lead_id": args.lead, **found}, indent=2))
    return 0


async def erase(args: argparse.Namespace, books: Books) -> int:
    from scopegate.cli.books import complain
    from scopegate.stores.ports import Busy

    found = await books.retention.export(args.lead)
    if not found:
        return _nothing(args.lead)
    if not args.yes:
        print(f"{_counted({name: len(rows) for name, rows in found.items()})}: say --yes to delete them")
        return 0
    erased = await books.retention.erase(args.lead)
    if isinstance(erased, Busy):
        return complain(f"nothing was deleted: {erased.reason}")
    print(f"deleted: {_counted(erased.rows)}")
    if not await books.retention.scrub():
        return complain("the database is busy: its log still holds what was deleted; `scopegate prune` empties it")
    return 0


def _counted(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in rows.items())


def _nothing(lead_id: str) -> int:
    from scopegate.cli.books import complain

    return complain(f"nothing is stored of a lead {shown(lead_id[:80])}")

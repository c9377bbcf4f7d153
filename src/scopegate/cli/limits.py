"""`scopegate limits`: how a client stands in Redis, and to let it begin anew, ban it or free it; and who is refused and
admitted most."""

from __future__ import annotations

import argparse
import json
import os
from argparse import _SubParsersAction
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scopegate.admin.limits import Stand
    from scopegate.settings import Settings
    from scopegate.stores.ports import LimitDesk
    from scopegate.types import Json

_ACTIONS = {
    "show": "what counts of a client in every tier",
    "reset": "let its windows and bans begin anew",
    "ban": "ban it, in every tier that has a ban",
    "unban": "end its bans",
}
_TOP = "who is refused and admitted most, by all gateways of this state directory"
_KEY = "an address, or a key as tiers count it: user:AUTH:NAME, header:NAME:VALUE, cookie:NAME:VALUE, route:NAME, all"


def register(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "limits",
        help="look up or clear a client's limits",
        description="Look at what counts of a client in Redis, and act on it.",
        epilog="exit codes: 0 done, 1 no Redis to ask or no such key",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    for name, what in _ACTIONS.items():
        action = actions.add_parser(name, help=what, description=f"{what.capitalize()}.")
        action.add_argument("key", metavar="KEY", help=_KEY)
        action.add_argument(
            "-c", "--config", metavar="FILE", type=Path, default=Path("gateway.yaml"), help="the policy"
        )
        action.add_argument("--json", action="store_true", help="JSON instead of lines")
        action.set_defaults(run=run)
    what = f"{_TOP.capitalize()}, over the last five to ten minutes."
    action = actions.add_parser("top", help=_TOP, description=what)
    action.add_argument("-n", "--most", metavar="N", type=int, default=10, help="how many of each (default: 10)")
    action.add_argument("--json", action="store_true", help="JSON instead of lines")
    action.set_defaults(run=run_top)


def run(args: argparse.Namespace) -> int:
    import asyncio

    from scopegate import settings as environment
    from scopegate.admin.limits import BadKey, stands
    from scopegate.cli.books import complain
    from scopegate.cli.replayed import policy_at
    from scopegate.errors import StoreUnavailable
    from scopegate.stores.redis_desk import RedisDesk

    settings = environment.load(os.environ)
    policy, url = policy_at(args.config), _redis_url(settings)
    if url is None:
        return complain("REDIS_URL is not set and no embedded Valkey runs: each gateway counts in its own memory")
    secret = b"" if settings.limit_secret is None else settings.limit_secret.get_secret_value().encode()
    try:
        return asyncio.run(_act(args, RedisDesk(url), stands(policy, args.key, secret)))
    except BadKey as fault:
        return complain(str(fault))
    except StoreUnavailable as fault:
        return complain(f"Redis cannot be asked now: {fault}")


def run_top(args: argparse.Namespace) -> int:
    from scopegate import settings as environment
    from scopegate.admin.top import top
    from scopegate.cli import tables
    from scopegate.process import board
    from scopegate.wiring import TOP_FOLDER

    folder = environment.load(os.environ).state_dir / TOP_FOLDER
    found = top(board.living(folder), max(0, args.most))
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    rows = [
        (kind, row["tier"], row["key"], row["times"], f"{row['over']}" if row["over"] else "")
        for kind, rows in found.items()
        for row in rows
    ]
    tables.show(("", "tier", "key", "times", "at most too many"), rows, right=frozenset({"times", "at most too many"}))
    return 0


def _redis_url(settings: Settings) -> str | None:
    from scopegate.stores.embedded import running_url

    return settings.redis_url or running_url(settings.state_dir)


async def _act(args: argparse.Namespace, desk: LimitDesk, found: list[Stand]) -> int:
    from scopegate.admin import limits

    try:
        if args.action == "show":
            _show(await limits.show(desk, found), as_json=args.json)
        elif args.action == "reset":
            _told({"reset": await limits.reset(desk, found)}, "windows and bans begin anew", as_json=args.json)
        elif args.action == "ban":
            _told({"banned": ", ".join(await limits.ban(desk, found))}, "banned in these tiers", as_json=args.json)
        else:
            _told({"unbanned": await limits.unban(desk, found)}, "records of bans are gone", as_json=args.json)
    finally:
        await desk.close()
    return 0


def _told(told: dict[str, object], what: str, *, as_json: bool) -> None:
    print(json.dumps(told) if as_json else f"{what}: {next(iter(told.values()))}")


def _show(rows: Sequence[Mapping[str, Json]], *, as_json: bool) -> None:
    from scopegate.cli import tables

    if as_json:
        print(json.dumps({"limits": rows}, indent=2))
        return
    right = frozenset({"counted", "limit"})
    tables.show(("tier", "window", "counted", "limit", "over in"), [_cells(row) for row in rows], right=right)


def _cells(row: Mapping[str, Json]) -> tuple[object, ...]:
    if "window" in row:
        return row["tier"], row["window"], row["counted"], row["limit"], _seconds(row["reset_ms"])
    return row["tier"], "banned" if row["banned_ms"] else "not banned", "", "", _seconds(row["banned_ms"])


def _seconds(duration_ms: Json) -> str:
    return f"{duration_ms / 1000:g} s" if isinstance(duration_ms, int) and duration_ms else ""

"""`scopegate cache`: take back what the gateways keep, through Redis."""

from __future__ import annotations

import argparse
import os
from argparse import _SubParsersAction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scopegate.caching.purges import Purge


def register(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "cache",
        help="take back kept answers",
        description="Have kept answers fetched anew, at all gateways.",
        epilog="exit codes: 0 done, 1 no Redis to ask or no such URL",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    action = actions.add_parser("purge", help="by URL, prefix or tag", description="Take back what is kept.")
    what = action.add_mutually_exclusive_group(required=True)
    what.add_argument("url", metavar="URL", nargs="?", help="all variants of one URL; from its path on: of any host")
    what.add_argument("--prefix", metavar="URL", help="every URL that begins so")
    what.add_argument("--tag", metavar="TAG", help="what the app gave this Cache-Tag or Surrogate-Key")
    what.add_argument("--all", action="store_true", help="everything")
    action.add_argument("--soft", action="store_true", help="stale from now on, and not gone")
    action.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import asyncio

    from scopegate import settings as environment
    from scopegate.admin.purges import BadPurge, purge_of
    from scopegate.cli.books import complain
    from scopegate.errors import StoreUnavailable
    from scopegate.stores.embedded import running_url

    settings = environment.load(os.environ)
    url = settings.redis_url or running_url(settings.state_dir)
    if url is None:
        return complain("REDIS_URL is not set and no embedded Valkey runs: nobody could tell the gateways")
    words = {name: getattr(args, name) for name in ("url", "prefix", "tag", "all") if getattr(args, name)}
    try:
        number = asyncio.run(_purge(url, purge_of(words | {"soft": args.soft})))
    except BadPurge as fault:
        return complain(str(fault))
    except StoreUnavailable as fault:
        return complain(f"Redis cannot be asked now: {fault}")
    print(f"purge {number}: gateways hear of it within a second")
    return 0


async def _purge(url: str, purge: Purge) -> int:
    from scopegate.clock import SystemClock
    from scopegate.stores.redis_answers import RedisAnswers

    desk = RedisAnswers(url, SystemClock())
    try:
        return await desk.purge(purge)
    finally:
        await desk.close()

"""`scopegate status`: what runs on this state directory, which policy since when, the queue, budgets and stores.

Reads what processes leave in the state directory, and the database; asks no process anything.
"""

from __future__ import annotations

import argparse
import json
import os
from argparse import _SubParsersAction
from pathlib import Path
from typing import TYPE_CHECKING

from scopegate.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from scopegate.admin.scrape import BudgetState
    from scopegate.policy.policy import Policy
    from scopegate.settings import Settings
    from scopegate.stores.database import Database
    from scopegate.types import Json

EXIT_RUNS, EXIT_NOTHING = 0, 1
_STORES = {"scopegate_limit_store_up": "limits"}


def register(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "status",
        help="what runs here, and what it has to do",
        description="Tell which processes of this state directory run, the policy they serve and since when, jobs by "
        "state, budgets, and whether the stores answer.",
        epilog="exit codes: 0 something runs, 1 nothing does; 78 bad environment",
    )
    parser.add_argument(
        "-c", "--config", metavar="FILE", type=Path, default=Path("gateway.yaml"), help="the policy, for its budgets"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    import asyncio

    from scopegate import settings as environment

    settings = environment.load(os.environ)
    told: dict[str, Any] = {**_running(settings), "policies": _policies(settings)}
    told |= asyncio.run(_booked(settings, _policy(args.config)))
    print(json.dumps(told, indent=2) if args.json else "\n".join(_lines(told)))
    return EXIT_RUNS if told["processes"] else EXIT_NOTHING


def _running(settings: Settings) -> dict[str, Json]:
    """Living processes by role, and what gateways say of the store that they count in."""
    from scopegate.metrics import totals

    directory = settings.state_dir / "metrics"
    if not directory.is_dir():
        return {"processes": {}, "stores": {}}
    processes = dict(totals.living(directory))
    if not processes:
        return {"processes": {}, "stores": {}}
    samples = [sample for family in totals.read(directory).families for sample in family.samples]
    stores: dict[str, Json] = {}
    for metric, name in _STORES.items():
        values = [sample.value for sample in samples if sample.name == metric]
        if values:
            stores[name] = "answers" if min(values) >= 1 else "away"
    return {"processes": dict(processes), "stores": stores}


def _policies(settings: Settings) -> list[Json]:
    """What each process that follows a policy serves."""
    from scopegate.admin.records import moment
    from scopegate.following import standing

    if not settings.state_dir.is_dir():
        return []
    return [
        {
            "pid": one.pid,
            "digest": one.digest,
            "file": one.config,
            "since": moment(one.at_ms),
            "last_reload": one.outcome or None,
            "problems": list(one.problems),
            "needs_restart": list(one.needs_restart),
        }
        for one in standing.living(settings.state_dir)
    ]


def _policy(config: Path) -> Policy | None:
    """None for a file that cannot be read: what runs is told all the same."""
    from scopegate.cli.replayed import policy_at

    try:
        return policy_at(config)
    except ConfigError:
        return None


async def _booked(settings: Settings, policy: Policy | None) -> dict[str, Json]:
    """What the database knows; `database` says why, where it tells nothing."""
    from scopegate.cli.books import must_exist
    from scopegate.stores.database import open_database
    from scopegate.stores.jobs import SqlJobs

    try:
        must_exist(settings.database)
        database = await open_database(settings.database)
    except StoreError as fault:
        return {"database": str(fault), "jobs": {}, "orders": {}, "paused": [], "budgets": []}
    try:
        jobs = SqlJobs(database)
        return {
            "database": "answers",
            "jobs": dict(await jobs.counts()),
            "paused": sorted(await jobs.paused()),
            **await _orders_and_budgets(database, policy),
        }
    except StoreError as fault:
        return {"database": str(fault), "jobs": {}, "orders": {}, "paused": [], "budgets": []}
    finally:
        await database.close()


async def _orders_and_budgets(database: Database, policy: Policy | None) -> dict[str, Json]:
    from scopegate.admin.scrape import read_budget_states
    from scopegate.clock import SystemClock
    from scopegate.leads.job import OrderState
    from scopegate.stores.ledger import SqlLedger
    from scopegate.stores.outbox import SqlOutbox

    outbox = SqlOutbox(database)
    orders: dict[str, Json] = {state.value: await outbox.count(state) for state in OrderState}
    rules = () if policy is None or policy.ai is None else policy.ai.budgets
    states = await read_budget_states(rules, SqlLedger(database), SystemClock().now_ms())
    return {"orders": orders, "budgets": [_budget(one) for one in states]}


def _budget(state: BudgetState) -> Json:
    return {
        "name": state.rule.name,
        "limit_usd_micros": state.rule.limit_usd_micros,
        "spent_usd_micros": state.spent_usd_micros,
        "reserved_usd_micros": state.reserved_usd_micros,
    }


def _lines(told: Mapping[str, Any]) -> Iterator[str]:
    from scopegate.cli.tables import shown

    yield f"processes  {_counts(told['processes']) or 'none'}"
    for one in told["policies"]:
        reload = f", last reload {one['last_reload']}" if one["last_reload"] else ""
        yield f"policy     {one['digest']} by process {one['pid']} since {one['since']}{reload}, {shown(one['file'])}"
        yield from (f"           {shown(problem)}" for problem in one["problems"])
        if one["needs_restart"]:
            yield f"           needs a restart to apply: {', '.join(one['needs_restart'])}"
    for name, state in told["stores"].items():
        yield f"{name:<9}  the store {state}"
    yield f"database   {shown(told['database'])}"
    yield f"jobs       {_counts(told['jobs']) or 'none'}"
    yield f"orders     {_counts(told['orders']) or 'none'}"
    if told["paused"]:
        yield f"paused     {shown(', '.join(told['paused']))}"
    yield from map(_budget_line, told["budgets"])


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items() if number)


def _budget_line(one: Mapping[str, Any]) -> str:
    from scopegate.cli.tables import usd

    spent, reserved, limit = (usd(one[f"{part}_usd_micros"]) for part in ("spent", "reserved", "limit"))
    return f"budget     {one['name']}: {spent} spent and {reserved} set aside of {limit}"

"""`scopegate check`: everything that is wrong with a policy file, and whether its promises hold. Starts nothing.

Secrets need not be there: one that the environment lacks is a warning here and a problem at start, so that a file can
be checked on a laptop or in CI. Everything else a file takes from the environment has to be set, or have a default.
What else is set there, such as REDIS_URL, has to be what it should be: a start would refuse it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from argparse import _SubParsersAction
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from scopegate.errors import ConfigError, Problem

if TYPE_CHECKING:
    from scopegate.policy import Review
    from scopegate.policy.policy import Policy, Tier

EXIT_FINE = 0
EXIT_PROBLEMS = 1
_MOST_NAMED = 10


_ALONE = Problem(
    "REDIS_URL",
    "cache.redis",
    "not set: answers are shared under `scopegate up` alone, which brings its own; any other gateway keeps its own",
)


def register(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "check",
        help="check a policy file",
        description="Name every problem of a policy file with its line, and hold the file to its promises.",
        epilog="exit codes: 0 fine (warnings allowed), 1 problems, broken promises or no file to read",
    )
    parser.add_argument("file", metavar="FILE", type=Path, nargs="?", help="the policy file (gateway.yaml)")
    parser.add_argument("-c", "--config", metavar="FILE", type=Path, help="the same, as the other commands take it")
    parser.add_argument(
        "--format", choices=("text", "json", "github"), default="text", help="github: annotations of a pull request"
    )
    parser.add_argument("--json", action="store_const", const="json", dest="format", help="as --format json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.file is not None and args.config is not None and args.file != args.config:
        print("scopegate check: one file, please: FILE and -c name two", file=sys.stderr)
        return 2
    try:
        file = args.file or args.config or Path("gateway.yaml")
        review = _with_environment(review_of(file, os.environ, advise=True), os.environ)
    except ConfigError as exc:
        return _refuse(exc, args.format)
    print(_shown(review, args.format))
    return EXIT_PROBLEMS if review.problems else EXIT_FINE


def _shown(review: Review, form: str) -> str:
    if form == "json":
        return json.dumps(as_json(review), ensure_ascii=False, indent=2)
    if form == "github":
        from scopegate.cli.annotations import commands

        return "\n".join([*commands(review.problems, review.warnings), summary(review)])
    return "\n".join(as_lines(review))


def _refuse(error: ConfigError, form: str) -> int:
    """No file to read: a problem like any other to whoever asked for a check. The exit code."""
    from scopegate.policy import Review

    if form == "text":
        print(error, file=sys.stderr)
    else:
        print(_shown(Review(None, error.problems, ()), form))
    return EXIT_PROBLEMS


def _with_environment(review: Review, environ: Mapping[str, str]) -> Review:
    from scopegate import settings
    from scopegate.policy import Review

    try:
        found = settings.load(environ)
    except ConfigError as wrong:
        return Review(None, (*review.problems, *wrong.problems), review.warnings)
    if review.policy is None or found.redis_url is not None or not review.policy.cache.redis_bytes:
        return review
    return Review(review.policy, review.problems, (*review.warnings, _ALONE))


def review_of(file: Path, environ: Mapping[str, str], *, advise: bool = False) -> Review:
    """Problems, broken promises and warnings, with `advise` those of `policy/advice` too. ConfigError when there is no
    file to read."""
    from scopegate.edge.foresee import decider
    from scopegate.following.source import on_disk
    from scopegate.policy import Review
    from scopegate.policy.promises import broken
    from scopegate.worker import prices

    review = on_disk(file).examine(environ, prices.load, lenient=True, advise=advise)
    if review.policy is None:
        return review
    problems = broken(review.policy.promises, decider(review.policy), str(file))
    return Review(None if problems else review.policy, tuple(problems), review.warnings)


def as_lines(review: Review) -> list[str]:
    lines = [str(problem) for problem in review.problems]
    lines += [f"{warning} (warning)" for warning in review.warnings]
    if review.policy is not None:
        lines += [_cost_of(tier) for tier in review.policy.tiers.values()]
        lines += _uncovered(review.policy)
    return [*lines, summary(review)]


def _cost_of(tier: Tier) -> str:
    """`tier strict: a busy key costs 476 bytes in memory, 390 in Redis`"""
    memory, redis = _bytes_of(tier)
    return f"tier {tier.name}: a busy key costs {memory:,} bytes in memory, at most {redis:,} in Redis"


def _uncovered(policy: Policy) -> list[str]:
    """`promises cover 1 of 3 routes, not: submit, jobs`; nothing of a file without promises."""
    met = coverage(policy)
    bare = [name for name, promises in met.items() if not promises]
    if not policy.promises or not bare:
        return []
    more = f" and {len(bare) - _MOST_NAMED} more" if len(bare) > _MOST_NAMED else ""
    return [f"promises cover {len(met) - len(bare)} of {len(met)} routes, not: {', '.join(bare[:_MOST_NAMED])}{more}"]


def coverage(policy: Policy) -> dict[str, int]:
    """How many promises speak of each route, by its name."""
    from scopegate.edge.foresee import decider

    decide, met = decider(policy), dict.fromkeys((route.name for route in policy.routes), 0)
    for promise in policy.promises:
        found = decide(promise.method, promise.path, promise.without, promise.host).route
        if found is not None:
            met[found] += 1
    return met


def _bytes_of(tier: Tier) -> tuple[int, int]:
    from scopegate.limits.footprint import in_memory, in_redis, seats_in_memory, seats_in_redis

    quotas = [*tier.quotas, *(tier.ban.quotas if tier.ban is not None else ())]
    memory, redis = sum(map(in_memory, quotas)), sum(map(in_redis, quotas))
    if tier.in_flight is None:
        return memory, redis
    return memory + seats_in_memory(tier.in_flight), redis + seats_in_redis(tier.in_flight)


def summary(review: Review) -> str:
    """One line. `fine: 6 routes, 3 tiers, 1 offload, 2 flags, 2 promises kept`, or how much is wrong."""
    warnings = f", {_count(len(review.warnings), 'warning')}" if review.warnings else ""
    policy = review.policy
    if policy is None:
        return f"{_count(len(review.problems), 'problem')}{warnings}"
    parts = [
        _count(len(policy.routes), "route"),
        _count(len(policy.tiers), "tier"),
        _count(len(policy.offloads), "offload"),
        *_unless_none(len(policy.flags), "flag"),
        *_unless_none(
            sum(route.cache is not None for route in policy.routes), "route with a cache", "routes with a cache"
        ),
        f"{_count(len(policy.promises), 'promise')} kept",
    ]
    return f"fine: {', '.join(parts)}{warnings}"


def _unless_none(number: int, noun: str, several: str = "") -> list[str]:
    return [f"{number} {several}" if several and number > 1 else _count(number, noun)] if number else []


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def as_json(review: Review) -> dict[str, object]:
    return {
        "ok": not review.problems,
        "digest": review.policy.digest if review.policy else None,
        "busy_key_bytes": {
            tier.name: dict(zip(("memory", "redis"), _bytes_of(tier), strict=True))
            for tier in (review.policy.tiers.values() if review.policy else ())
        },
        "promises_by_route": coverage(review.policy) if review.policy else {},
        "problems": _listed(review.problems),
        "warnings": _listed(review.warnings),
    }


def _listed(problems: Iterable[Problem]) -> list[dict[str, str | None]]:
    return [{"where": one.where, "path": one.path, "what": one.what, "hint": one.hint} for one in problems]

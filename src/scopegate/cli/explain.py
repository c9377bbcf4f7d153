"""`scopegate explain`: what a request would meet, by the policy file alone. Nothing is sent and nothing is counted.

It is the judgement of `edge/foresee`, which is the gateway's own; a token that is given is taken for a good one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from argparse import _SubParsersAction
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from scopegate.policy.addresses import Origin
    from scopegate.policy.policy import CacheRule, Policy, Route, Tier
    from scopegate.policy.promises import Forecast
    from scopegate.policy.sections.keys import KeyPart

EXIT_PASSES = 0
EXIT_ANSWERED = 1
_CREDENTIALS = ("authorization", "cookie")


def register(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "explain",
        help="what a request would meet",
        description="Say which route, limits, sign-in, body rule, offload and app a request would meet, and where the "
        "file says so. Nothing is sent.",
        epilog="exit codes: 0 it reaches the app, 1 the gateway answers, or the file has problems, 2 wrong usage",
    )
    parser.add_argument("method", metavar="METHOD", help="GET, POST, ...")
    parser.add_argument("url", metavar="URL", type=url_of, help="/path, or https://host/path")
    parser.add_argument("-c", "--config", metavar="FILE", type=Path, default=Path("gateway.yaml"))
    parser.add_argument(
        "-H", "--header", metavar="'NAME: VALUE'", type=_field, action="append", default=[], help="repeatable"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.set_defaults(run=run)


def url_of(text: str) -> SplitResult:
    """A path is taken as it stands, also where it begins with two slashes."""
    if text.startswith("/"):
        path, _, query = text.partition("?")
        return SplitResult("", "", path, query, "")
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise argparse.ArgumentTypeError("write it like /path or https://host/path")
    return parts


def _field(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError("write it like 'Name: value'")
    return name.strip().lower(), value.strip()


def run(args: argparse.Namespace) -> int:
    from scopegate.cli.check import review_of

    review = review_of(args.config, os.environ)
    if review.policy is None:
        print("\n".join(map(str, review.problems)), file=sys.stderr)
        return EXIT_ANSWERED
    met = forecast(review.policy, args.method, args.url, dict(args.header))
    found = list(_explained(review.policy, met, str(args.config)))
    if args.json:
        print(json.dumps(dict(found), indent=2))
    else:
        print("\n".join(f"{what:<9} {said}" for what, said in found))
    return EXIT_PASSES if met.answers is None else EXIT_ANSWERED


def forecast(policy: Policy, method: str, url: SplitResult, fields: Mapping[str, str]) -> Forecast:
    """`fields` by their lower-case names."""
    from scopegate.edge.foresee import decider

    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    without = () if any(name in fields for name in _CREDENTIALS) else _CREDENTIALS
    return decider(policy)(method, target, without, fields.get("host") or url.netloc or None)


def _explained(policy: Policy, met: Forecast, file: str) -> Iterator[tuple[str, str]]:
    """What there is to say, and what is said of it."""
    route = next((route for route in policy.routes if route.name == met.route), None)
    if route is not None:
        yield from _of_route(route, file)
    yield "answer", "the app's" if met.answers is None else f"{met.answers}, by the gateway"


def _of_route(route: Route, file: str) -> Iterator[tuple[str, str]]:
    methods = " ".join(sorted(route.methods)) if route.methods else "ANY"
    yield "route", f"{route.name} ({methods} {route.pattern}), {file}:{route.line}"
    yield "limits", "; ".join(map(_of_tier, route.tiers)) or "none"
    yield "sign-in", "none" if route.auth is None else route.auth.name
    types = f", {' or '.join(sorted(route.body.types))}" if route.body.types else ""
    yield "body", f"at most {route.body.max_bytes:,} bytes{types}"
    yield "offload", "none" if route.offload is None else route.offload.name
    yield "upstream", f"{route.upstream.name}: {', '.join(map(_of_server, route.upstream.servers))}"
    yield "cache", "none" if route.cache is None else _of_cache(route.cache)
    yield "flags", "; ".join(_of_flags(route)) or "none"
    yield "mode", route.mode.value


def _of_cache(rule: CacheRule) -> str:
    """How long, what tells answers apart, and what is never kept."""
    where_unsaid = f"{rule.ttl_s:g}s" if rule.ttl_s else f"{rule.heuristic:.0%} of its age" if rule.heuristic else "not"
    query = ["query"] if rule.key.query is None else [f"query {name}" for name in sorted(rule.key.query)]
    key = ["path", *query, *(f"cookie {name}" for name in rule.key.cookies)]
    stale = [
        f"stale for {seconds:g}s {when}"
        for seconds, when in (
            (rule.stale_while_revalidate_s, "while it is fetched anew"),
            (rule.stale_if_error_s, "while the app fails"),
        )
        if seconds
    ]
    size = f"at most {rule.max_object_bytes:,} bytes"
    return "; ".join([f"as the app says, else {where_unsaid}", f"by {_listed(key)}", *stale, size])


def _of_flags(route: Route) -> Iterator[str]:
    """Whom the route is there for, what a variant changes, what the app is told."""
    for flag, variant in route.only_if:
        yield f"only where {flag.name} is {variant}"
    for variant, other in route.variations.items():
        assert route.by_flag is not None
        tiers = _listed([tier.name for tier in other.tiers]) or "no tier"
        yield f"where {route.by_flag.name} is {variant}: {other.upstream.name}, {tiers}"
    if route.told:
        yield f"tells the app {_listed([flag.name for flag in route.told])}"


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words)


def _of_server(origin: Origin) -> str:
    return f"{origin.scheme}:{'' if origin.scheme == 'unix' else '//'}{origin.authority}"


def _of_tier(tier: Tier) -> str:
    quotas = ", ".join(f"{quota.limit} per {quota.span_ms / 1000:g}s" for quota in tier.quotas)
    flight = f"{tier.in_flight} in flight" if tier.in_flight else ""
    return f"{tier.name}: {', '.join(filter(None, (quotas, flight)))} by {_of_key(tier.key)}"


def _of_key(parts: Sequence[KeyPart]) -> str:
    return " and ".join(part.kind.value + (f":{part.name}" if part.name else "") for part in parts)

from __future__ import annotations

import pytest
import yaml

from scopegate.limits.barriers import BanRule
from scopegate.limits.window import Quota
from scopegate.policy.policy import Cost, KeyKind, KeyPart, OnStoreError, WhenMissing
from tests.policies import MINIMAL, compiled, document, review


def test_the_three_tiers_need_no_definition_and_can_be_given_another() -> None:
    for name, limit in (("strict", 10), ("moderate", 30), ("lenient", 100)):
        (tier,) = compiled(MINIMAL.replace("lenient", name)).routes[0].tiers
        assert tier.quotas == (Quota(limit, 10_000),)
    tier = compiled(MINIMAL + "tiers: {lenient: {limit: [5 per 1s, 50 per 1m]}}\n").routes[0].tiers[0]
    assert tier.quotas == (Quota(5, 1000), Quota(50, 60_000))
    assert tier.on_store_error is OnStoreError.LOCAL


def tier(text: str) -> str:
    return MINIMAL + f"tiers: {{lenient: {{limit: 5 per 1s, {text}}}}}\n"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("key: client_ip", [KeyPart(KeyKind.CLIENT_IP)]),
        ("key: [route, user]", [KeyPart(KeyKind.ROUTE), KeyPart(KeyKind.USER)]),
        ("key: header:X-Tenant", [KeyPart(KeyKind.HEADER, "x-tenant")]),
        ("key: cookie:SID", [KeyPart(KeyKind.COOKIE, "SID")]),
        ("key: api_key", [KeyPart(KeyKind.HEADER, "x-api-key")]),
        ("key: [api_key], api_key: cookie:K", [KeyPart(KeyKind.COOKIE, "K")]),
    ],
)
def test_whom_a_tier_counts(text: str, key: list[KeyPart]) -> None:
    assert compiled(tier(text)).routes[0].tiers[0].key == tuple(key)


def test_what_one_client_is_and_what_is_done_without_a_key() -> None:
    found = compiled(tier("ipv6_prefix: 56, when_missing: exempt")).routes[0].tiers[0]
    assert (found.ipv6_prefix, found.when_missing) == (56, WhenMissing.EXEMPT)
    other = compiled(tier("key: user")).routes[0].tiers[0]
    assert (other.ipv6_prefix, other.when_missing) == (64, WhenMissing.CLIENT_IP)


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        ("key: address", "key", "is nothing to count by, write one of client_ip, user, route, global, header:NAME"),
        ("key: header", "key", "lacks a name, write it like header:NAME"),
        ("key: 'header:a b'", "key", "names no header"),
        ("key: user:me", "key", "has a name after user, which takes none"),
        ("key: [global, user]", "key", "`global` stands alone"),
        ("key: [user, route, user]", "key", "names a part twice"),
        ("key: []", "key", "may not be empty"),
        ("key: api_key, api_key: user", "api_key", "is no place of an API key"),
        ("ipv6_prefix: 32", "ipv6_prefix", "48"),
        ("ipv6_prefix: 128", "ipv6_prefix", "64"),
        ("algorithm: gcra", "algorithm", "needs `burst`"),
        ("burst: 2", "burst", "is for `algorithm: gcra`"),
        ("algorithm: gcra, burst: 6", "burst", "is more than '5 per 1s' admits at all"),
        ("algorithm: leaky", "algorithm", "must be exact or gcra"),
        ("cost: 6", "cost", "is more than the 5 that '5 per 1s' admits at once: no request would ever pass"),
        ("algorithm: gcra, burst: 2, cost: 3", "cost", "is more than the 2 that '5 per 1s' admits at once"),
        ("cost: -1", "cost", "is no cost"),
        ("cost: 999999999999", "cost", "is no cost"),
        ("cost: 'answer:'", "cost", "names no field of the answer"),
        ("refund_on: 5xx, count_only: 401", "refund_on", "cannot stand with `count_only`"),
        ("refund_on: [600]", "refund_on[0]", "is no status"),
        ("ban: 15m", "ban", "is not a ban, write it like `15m after 5 refusals in 1m`"),
        ("ban: 15m after 0 refusals in 1m", "ban", "has a number of refusals outside 1 to 10000"),
        ("ban: 15 after 5 refusals in 1m", "ban", "has a span that has no unit"),
        ("ban: 2d after 5 refusals in 1m", "ban", "has a span that is more than 1d"),
        ("ban: 1m after 5 refusals in 1m, key: global", "ban", "would ban all visitors at once"),
        ("in_flight: 0", "in_flight", "1"),
        ("when_missing: allow", "when_missing", "client_ip, refuse"),
    ],
)
def test_what_no_tier_counts_by(text: str, path: str, said: str) -> None:
    problems = [str(problem) for problem in review(tier(text)).problems]
    assert len(problems) == 1, problems
    assert f"tiers.lenient.{path}" in problems[0]
    assert said in problems[0]


AUTH = {"who": {"jwt": {"jwks": "https://a.example/k", "audience": "a"}, "require": {"role": "x"}, "claims": ["org"]}}


@pytest.mark.parametrize(
    ("claim", "auth", "said"),
    [
        ("org", "who", None),
        ("role", "who", None),
        ("ogr", "who", "auth who does not know: add it to `claims`, did you mean org?"),
        ("org", None, "the route has no `auth` to prove it"),
    ],
)
def test_a_claim_that_nobody_shows_is_named_where_the_route_counts_by_it(
    claim: str, auth: str | None, said: str | None
) -> None:
    route = {"name": "all", "match": "ANY /**", "tier": ["strict", "by"], **({"auth": auth} if auth else {})}
    by = {"by": {"limit": "1 per 1s", "key": ["route", f"claim:{claim}"]}}
    problems = [
        str(problem) for problem in review(yaml.safe_dump(document(tiers=by, routes=[route], auth=AUTH))).problems
    ]
    problems = [problem for problem in problems if "tier" in problem]
    assert bool(problems) == (said is not None), problems
    if said is not None:
        assert said in problems[0]
        assert "routes[0].tier: tier by counts by claim:" in problems[0]


def test_how_a_tier_counts_and_what_a_request_costs() -> None:
    found = compiled(tier("algorithm: gcra, burst: 3, cost: 1 per 1KiB, count_only: [401, 5xx]")).routes[0].tiers[0]
    assert found.quotas == (Quota(5, 1000, 3),)
    assert found.cost == Cost(per_bytes=1024)
    assert {200, 403} <= found.given_back
    assert found.given_back.isdisjoint({401, 500})
    assert compiled(tier("key: user")).routes[0].tiers[0].given_back == frozenset()


def test_a_very_large_limit_is_paced() -> None:
    large = "limit: 1000000 per 10s"
    text = MINIMAL + f"tiers: {{lenient: {{{large}, algorithm: gcra, burst: 1000, cost: answer:X-Cost}}}}\n"
    assert compiled(text).routes[0].tiers[0].quotas == (Quota(1_000_000, 10_000, 1000),)
    (problem,) = review(MINIMAL + f"tiers: {{lenient: {{{large}}}}}\n").problems
    assert "remembers more than 100000 admissions: write algorithm: gcra" in problem.what
    (problem,) = review(MINIMAL + "tiers: {lenient: {limit: [10001 per 10s], cost: answer:X-Cost}}\n").problems
    assert "cannot stand with '10001 per 10s', which remembers each: write algorithm: gcra" in problem.what


def test_bans_and_requests_in_flight() -> None:
    found = compiled(tier("ban: 15m after 5 refusals in 1m, in_flight: 5")).routes[0].tiers[0]
    assert (found.ban, found.in_flight) == (BanRule(5, 60_000, 900_000), 5)
    alone = compiled(MINIMAL + "tiers: {lenient: {in_flight: 1}}\n").routes[0].tiers[0]
    assert (alone.quotas, alone.in_flight) == ((), 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{key: user}", "tiers.lenient: needs `limit` or `in_flight`"),
        ("{in_flight: 1, ban: 1m after 1 refusal in 1m}", "tiers.lenient.ban: needs `limit`"),
    ],
)
def test_a_tier_counts_something(text: str, said: str) -> None:
    (problem,) = review(MINIMAL + f"tiers: {{lenient: {text}}}\n").problems
    assert said in str(problem)

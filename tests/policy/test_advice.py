"""What may be said and is hardly meant: told by `check`, and by nothing else."""

from __future__ import annotations

import pytest
import yaml

from scopegate.policy import compile_policy, draft_of
from tests.policies import document, review, route

QUIET = {"server": {"hosts": ["app.example.com"]}}
AUTH = {"staff": {"jwt": {"jwks": "https://id.example/keys", "issuer": "i", "audience": "a"}, "sign_with": "${KEY}"}}
ENVIRON = {"KEY": "a key of thirty-two bytes, at least"}
READS = route(match="GET /**")


def advised(**sections: object) -> list[str]:
    text = yaml.safe_dump(document(**(QUIET | sections))).encode()
    found = compile_policy(draft_of(text, "F", ENVIRON), advise=True)
    assert found.policy is not None, found.problems
    assert review(text, ENVIRON).warnings == (), "a start does not repeat them"
    return [f"{one.path}: {one.what}" for one in found.warnings]


def test_a_route_that_reads_is_left_alone() -> None:
    assert advised(routes=[READS]) == []


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", "[::]:8080"])
def test_every_address_and_any_host(listen: str) -> None:
    (said,) = advised(routes=[READS], server={"listen": listen})
    assert said.startswith("server.listen: answers on every address and to any Host: name what is served in")


@pytest.mark.parametrize("server", [{"listen": "127.0.0.1:80"}, {"listen": "0.0.0.0:80", "hosts": ["app.example.com"]}])
def test_one_address_or_named_hosts(server: dict[str, object]) -> None:
    assert advised(routes=[READS], server=server) == []


@pytest.mark.parametrize(("match", "said"), [("POST /a", "(POST)"), ("ANY /**", "(ANY)"), ("GET|PUT /a", "(PUT)")])
def test_writes_that_nobody_limits_or_signs_in_for(match: str, said: str) -> None:
    assert advised(routes=[route(match=match)]) == [
        f"routes[0].match: anybody may write {said}: the route has no `auth`",
        f"routes[0].tier: writes {said} are not limited: name a tier, or match writes on a route of their own",
    ]
    assert len(advised(routes=[route(match=match, tier="strict")])) == 1
    assert advised(routes=[route(match=match, tier="strict", auth="staff")], auth=AUTH) == []


@pytest.mark.parametrize(
    ("tier", "said"),
    [
        ({"key": "user"}, "counts by user"),
        ({"deny": ["user=alice"]}, "lists users in `deny`"),
        ({"allow": ["claim:org=acme"]}, "lists users in `allow`"),
    ],
)
def test_users_whom_nobody_proves(tier: dict[str, object], said: str) -> None:
    tiers = {"ours": {"limit": "1 per 1s", **tier}}
    (found,) = advised(tiers=tiers, routes=[route(match="GET /**", tier="ours")])
    assert found.startswith(f"routes[0].tier: tier ours {said}")


def test_users_of_a_route_with_sign_in_are_known() -> None:
    tiers = {"ours": {"limit": "1 per 1s", "key": "user", "deny": ["user=alice"]}}
    assert advised(tiers=tiers, auth=AUTH, routes=[route(match="GET /**", tier="ours", auth="staff")]) == []

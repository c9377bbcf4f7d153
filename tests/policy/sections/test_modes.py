"""`mode` of the server, of a route and of a tier: who refuses."""

from __future__ import annotations

import pytest

from scopegate.policy.sections.modes import Mode
from tests.gateway.rig import policy_of


def test_a_mode_refuses_or_does_not() -> None:
    assert [mode.refuses for mode in Mode] == [True, False]


@pytest.mark.parametrize(
    ("server", "route", "found"),
    [
        ("enforce", "enforce", Mode.ENFORCE),
        ("enforce", "watch", Mode.WATCH),
        ("watch", "enforce", Mode.WATCH),
        ("watch", "watch", Mode.WATCH),
    ],
)
def test_a_server_that_watches_has_no_route_that_refuses(server: str, route: str, found: Mode) -> None:
    policy = policy_of(
        ["http://127.0.0.1:1"],
        server={"mode": server},
        routes=[{"name": "all", "match": "ANY /**", "tier": "none", "mode": route}],
    )
    assert [each.mode for each in policy.routes] == [found]


def test_a_tier_has_a_mode_of_its_own() -> None:
    policy = policy_of(
        ["http://127.0.0.1:1"],
        tiers={"a": {"limit": "1 per 1s"}, "b": {"limit": "1 per 1s", "mode": "watch"}},
        routes=[{"name": "all", "match": "ANY /**", "tier": ["a", "b"]}],
    )
    assert {name: tier.mode for name, tier in policy.tiers.items()} == {"a": Mode.ENFORCE, "b": Mode.WATCH}

from __future__ import annotations

from scopegate.limits.breaker import BreakerRule
from scopegate.policy.policy import Ejection, Health, Origin, Policy, Tls, Upstream, UpstreamTimeouts
from tests.policies import HERE, compiled_with


def test_an_upstream(edge: Policy) -> None:
    assert edge.upstreams["web"] == Upstream(
        name="web",
        servers=(
            Origin("http", "127.0.0.1", 3000),
            Origin("https", "app.internal", 443),
            Origin("unix", "/run/app.sock", 0),
        ),
        timeouts=UpstreamTimeouts(2, 30, 60, 3),
        health=Health("/api/health", 6, 1.5, 4, 5),
        connections=100,
        waiting=0,
        ejection=Ejection(6, 11, 12),
        breaker=BreakerRule(7, 8),
        tls=Tls(str(HERE / "gallery/beside/ca.pem"), "app.internal"),
    )


def test_a_breaker_may_take_its_defaults() -> None:
    found = compiled_with(upstreams={"web": {"servers": ["http://127.0.0.1:3000"], "breaker": {}}})
    assert found.upstreams["web"].breaker == BreakerRule(10, 5)

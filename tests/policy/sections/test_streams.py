from __future__ import annotations

from scopegate.policy.policy import Policy, StreamRule
from tests.policies import compiled_with, route


def test_streams(edge: Policy) -> None:
    first, second, third = edge.routes
    assert first.websocket == StreamRule(10, 64 * 1024, 300)
    assert first.events == StreamRule(3, 16 * 1024**2, 86_400)
    assert second.websocket is None
    assert second.events == StreamRule(10, 64 * 1024, 300)
    assert (third.websocket, third.events) == (None, None)


def test_streams_may_take_their_defaults() -> None:
    found = compiled_with(routes=[route(websocket={}, events={})])
    assert found.routes[0].websocket == found.routes[0].events == StreamRule(10, 65_536, 300)

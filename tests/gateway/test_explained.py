"""What `scopegate explain` says of a request is what the gateway does with it."""

from __future__ import annotations

import random
from typing import Any

from scopegate.cli.explain import forecast, url_of
from tests.gateway.rig import ON_ONE_LOOP, Rigs

pytestmark = ON_ONE_LOOP

ROUTES: list[dict[str, Any]] = [
    {"name": "post", "match": "POST /a/*", "tier": "none"},
    {"name": "deep", "match": "GET /a/**", "tier": "none"},
    {"name": "here", "match": "ANY /b", "tier": "none", "hosts": ["one.example.com"]},
    {"name": "below", "match": "GET /b/*/c", "tier": "none", "hosts": ["*.example.com"]},
    {"name": "watched", "match": "GET /w/**", "tier": "none", "mode": "watch"},
]
SEGMENTS = ["a", "b", "c", "w", "%61", "A", "..", ".", "", "a%2Fb", "b;x=1", "%2561", "\\\\", "x"]
WEIGHTS = [9, 4, *[1] * (len(SEGMENTS) - 2)]


async def test_five_hundred_requests_meet_what_was_said(gates: Rigs) -> None:
    rig = await gates.start(routes=[{"upstream": "web", **route} for route in ROUTES])
    policy = rig.gateway.shared.rules.policy
    rng = random.Random(20261128)
    met = set()
    for n in range(500):
        method = rng.choice(["GET", "POST", "PUT", "DELETE", "HEAD"])
        host = rng.choice(["one.example.com", "two.example.com", "a.one.example.com", "other"])
        target = "/" + "/".join(rng.choices(SEGMENTS, WEIGHTS, k=rng.randint(1, 4)))
        said = forecast(policy, method, url_of(target), {"host": host})
        client = await rig.connect()
        head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nX-Request-Id: r-{n}\r\n\r\n"
        reply = await client.ask(head.encode())
        await client.close()
        assert reply.status == (said.answers or 200), (head, said)
        met.add((said.route, said.answers))
    assert {None, "post", "deep", "here", "watched"} <= {route for route, _ in met}
    assert {None, 400, 404, 405} <= {answers for _, answers in met}

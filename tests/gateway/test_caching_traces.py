"""Random requests and answers through the walk of the cache: what is one visitor's reaches nobody else.

The app is played by a function of the request; every answer carries who asked for it. 150 traces,
or 10,000 with --full.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from scopegate.edge.framing import LAST_CHUNK, as_chunk
from tests.gateway.app import Answer, Received, body_of
from tests.gateway.rig import ON_ONE_LOOP, Rigs
from tests.gateway.test_caching import Gate, gate, request

pytestmark = ON_ONE_LOOP

PATHS = ("/a", "/b?x=1", "/c")
CONTROLS = (
    *("", "max-age=60", "public, max-age=60", "s-maxage=60", "no-cache", "max-age=0, stale-while-revalidate=60"),
    *(
        "private",
        "private, max-age=60",
        "no-store",
        "no-store, max-age=60",
        "max-age=60, PRIVATE",
        'private="x", max-age=9',
    ),
    *("max-age=60; private", "max-age=60, no-store;x", 'a="b, no-store, max-age=60', "max-age=60,, private ,"),
)
FORBIDDING = ("private", "no-store")
ASKING = (
    *("", "", "Accept-Language: de", "Accept-Language: en", "Cookie: id={me}", "Authorization: Bearer {me}"),
    *("Cache-Control: no-cache", "Cache-Control: no-store", "Cache-Control: max-stale", 'If-None-Match: "e"'),
    *("Authorization: Bearer {me}", "Authorization: Basic {me}"),
    *("Range: bytes=0-3", "X-Forwarded-Host: {me}.evil", "RSC: 1", "If-Modified-Since: Tue, 24 Nov 2026 08:00:00 GMT"),
)
ANSWERED = (
    "",
    "vary: accept-language",
    "vary: *",
    "vary: cookie",
    "vary: authorization",
    "set-cookie: id={me}",
    'etag: "e"',
)


@dataclass
class Trace:
    """An app whose answers say for whom they were made, and what may be known of each afterwards."""

    dice: random.Random
    private: set[bytes] = field(default_factory=set)
    """Of visitors whose answers are theirs alone."""
    languages: dict[bytes, bytes] = field(default_factory=dict)

    def answer(self, got: Received) -> Answer | bytes:
        me = got.get(b"x-me")[0]
        control = self.dice.choice(CONTROLS)
        more = self.dice.choice(ANSWERED).format(me=me.decode())
        status = self.dice.choice(
            ["200 OK", "200 OK", "200 OK", "404 Not Found", "302 Found", "503 Service Unavailable"]
        )
        lines = "".join(f"{line}\r\n" for line in (f"cache-control: {control}" if control else "", more) if line)
        is_for_all = "public" in control or "s-maxage" in control
        if got.get(b"if-none-match") and self.dice.random() < 0.3:
            return b"HTTP/1.1 304 Not Modified\r\n\r\n"
        if (
            any(word in control.lower() for word in FORBIDDING if 'private="' not in control)
            or (got.get(b"authorization") and not is_for_all)
            or more.startswith(("set-cookie", "vary: *"))
            or (got.get(b"cookie") and not control)
            or b"no-store" in b"".join(got.get(b"cache-control"))
        ):
            self.private.add(me)
        if more == "vary: accept-language":
            self.languages[me] = b",".join(got.get(b"accept-language"))
        head = f"HTTP/1.1 {status}\r\n{lines}".encode()
        if self.dice.random() < 0.5:
            return Answer([head + b"transfer-encoding: chunked\r\n\r\n" + as_chunk(me) + LAST_CHUNK])
        return body_of(me, status, lines.encode())


async def test_what_is_one_visitors_reaches_nobody_else(gates: Rigs, full: bool) -> None:
    rules: list[dict[str, Any]] = [{"stale_if_error": "1m", "stale_while_revalidate": "1m"}, {"ttl": "30s"}]
    for index, rule in enumerate(rules):
        one = await gate(gates, rule)
        for seed in range((10_000 if full else 150) // len(rules)):
            await one_trace(one, random.Random(seed * 2 + index), seed)


async def one_trace(one: Gate, dice: random.Random, seed: int) -> None:
    """A handful of visitors to a few pages of this trace's own."""
    trace = Trace(dice)
    one.app.default = trace.answer
    one.app.requests.clear()
    client = await one.client()
    for number in range(8):
        me = f"{seed:06d}-{number}"
        asking = dice.choice(ASKING).format(me=me)
        method = dice.choice(["GET", "GET", "GET", "GET", "HEAD", "POST"])
        fields = f"X-Me: {me}\nX-Forwarded-For: {me}" + (f"\n{asking}" if asking else "")
        path = dice.choice(PATHS)
        reply = await client.ask(request(f"/{seed}{path}", fields, method))
        if reply.status == 200 and reply.body and reply.body != me.encode():
            assert reply.body not in trace.private, (seed, number, reply)
            if reply.body in trace.languages:
                mine = asking.removeprefix("Accept-Language: ") if asking.startswith("Accept-Language") else ""
                assert trace.languages[reply.body] == mine.encode(), (seed, number, reply)
            assert b"id=" not in b"".join(reply.get(b"set-cookie")), (seed, number, reply)
        one.clock.advance(dice.choice([0, 1, 20, 61]))
    await client.close()

"""Where each microsecond of a request goes, in one process and without sockets: `python -m bench.steps`.

Every part of a proxied request is run alone over 4,096 requests like those of `scripts/real.lua`, again and again; its
best round counts, since what else a machine does can only add. PYTHONPATH names the build that is asked about.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO, TypeVar

from scopegate import build
from scopegate.clock import SystemClock
from scopegate.edge import headers
from scopegate.edge.verdict import RequestHead
from scopegate.following.source import Source, reader_beside
from scopegate.gateway import answering, responses
from scopegate.gateway.access import AccessLog
from scopegate.gateway.app import Gateway, state_of
from scopegate.gateway.exchange import Exchange
from scopegate.gateway.head import HeadReader
from scopegate.gateway.limiter import Limiter
from scopegate.gateway.protocol import ClientConnection
from scopegate.policy.policy import Policy
from scopegate.stores.memory import MemoryLimits
from scopegate.stores.mirror import Mirror

REQUESTS, CLIENTS, ROUNDS = 4096, 20_000, 15
STEPS = (
    *("admit", "read_fields", "find_caller", "admit_caller", "find_target", "find_route", "sign_in"),
    *("decide_flags", "spend"),
    *("turn_away", "open_stream", "check_body", "gather_body", "take_order", "forward"),
)
_ANSWER = [
    *((b"Server", b"nginx"), (b"Date", b"Tue, 24 Nov 2026 08:00:00 GMT"), (b"Content-Type", b"text/plain")),
    *((b"Content-Length", b"200"), (b"Connection", b"keep-alive")),
]
T = TypeVar("T")


def requests(seed: int) -> list[bytes]:
    draw = random.Random(seed)

    def digits(count: int) -> str:
        return f"{draw.getrandbits(count * 4):0{count}x}"

    clients = [f"{draw.randint(11, 99)}.{digits_of(draw)}" for _ in range(CLIENTS)]
    return [
        (
            f"GET /real/leads/{draw.getrandbits(31)}?v={digits(8)}&page={draw.randint(1, 500)} HTTP/1.1\r\n"
            "Host: 127.0.0.1:8080\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
            f" Chrome/{draw.randint(120, 150)}.0.{draw.randint(1000, 9999)}.1 Safari/537.36\r\n"
            f"Accept: application/json, text/plain, */*\r\nAccept-Language: en;q=0.{draw.randint(1, 9)}\r\n"
            f"Accept-Encoding: gzip, deflate, br\r\nReferer: https://app.example/jobs/{digits(6)}\r\n"
            f"Cookie: session={digits(40)}; theme=dark\r\nX-Forwarded-For: {draw.choice(clients)}\r\n"
            f"traceparent: 00-{digits(32)}-{digits(16)}-01\r\n"
            f"Sec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-origin\r\n\r\n"
        ).encode()
        for _ in range(REQUESTS)
    ]


def digits_of(draw: random.Random) -> str:
    return ".".join(str(draw.randint(1, 254)) for _ in range(3))


def policy() -> Policy:
    text = """version: 1
upstreams: {web: {servers: ["http://127.0.0.1:9"]}}
tiers: {wide: {limit: 100000 per 1s, key: client_ip}}
server: {trusted_proxies: [127.0.0.1/32]}
routes: [{name: all, match: "ANY /**", tier: wide}]
"""
    file = Path("gateway.yaml")
    review = Source(file, text.encode(), reader_beside(file)).examine({}, lenient=False)
    assert review.policy is not None, review.problems
    return review.policy


class Nowhere(asyncio.Transport):
    """The client's end of a connection; what is written is gone."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def is_closing(self) -> bool:
        return False


class Table:
    """Each part with what it costs, in microseconds."""

    def __init__(self, clock: SystemClock, log: TextIO) -> None:
        limiter = Limiter(MemoryLimits(clock), Mirror(clock))
        self.gateway = Gateway(policy(), limiter, None, None, clock)
        self.gateway.shared.access = AccessLog(self.gateway.shared.now_ms, log)
        state: Any = SimpleNamespace(connections=set())
        nothing: Any = None
        self.client = ClientConnection(nothing, state, state_of(self.gateway))
        self.client.connection_made(Nowhere())
        self.steps = dict(zip(STEPS, self.gateway.steps, strict=True))
        reader, rules = HeadReader(), self.gateway.shared.rules
        self.raw = requests(1)
        self.heads = [head for each in self.raw if isinstance(head := reader.read(each, rules), RequestHead)]

    def rows(self, rounds: int = ROUNDS) -> Iterator[tuple[str, float]]:
        least = partial(best, rounds=rounds)
        shared, reader = self.gateway.shared, HeadReader()
        yield (
            "head cut into fields (httptools)",
            least(lambda each: reader.read(each, shared.rules), lambda: self.raw),
        )
        yield "exchange made", least(self._exchange, lambda: self.heads)
        for name in STEPS[:-1]:
            yield name, least(partial(self._step, name), partial(self._before, name))
        yield "request's lines", least(self._lines, lambda: self._before("forward"))
        done = self._before("forward")
        notes = headers.read_response(list(_ANSWER), 200, "GET")
        yield "request's head", least(self._request_head, lambda: done)
        yield (
            "answer's head",
            least(lambda x: answering.app_head(x, x.plan, 200, notes, 200, shared), lambda: done),
        )
        yield (
            "of it limit fields",
            least(lambda x: responses.limit_fields(_spent(x), shared.now_s()), lambda: done),
        )
        yield "finish", least(Exchange.finish, lambda: self._before("forward"))
        yield "of it access line", least(self._access_line, lambda: done)

    def _exchange(self, head: RequestHead) -> Exchange:
        x = Exchange(self.gateway.shared, self.client)
        self.gateway.shared.in_flight -= 1
        x.head = head
        return x

    def _before(self, last: str) -> list[Exchange]:
        """A new exchange for each request, with all steps done before this one, and nothing kept of another."""
        made = []
        for head in self.heads:
            x = self._exchange(head)
            self.client.heads.section = None
            for name in STEPS[: STEPS.index(last)]:
                self.steps[name](x)
                if name == "admit_caller":
                    self.gateway.shared.askers.leave(x.counted_for)
                    x.counted_for = ""
            made.append(x)
        self.client.heads.section = None
        return made

    def _step(self, name: str, x: Exchange) -> None:
        if name == "read_fields":
            self.client.heads.section = None
        self.steps[name](x)

    def _lines(self, x: Exchange) -> bytes:
        section = x.section
        return headers.forwarded_lines(
            x.notes, host=x.target.host, address=x.caller.address.encode(), chain=section.chain, scheme=x.scheme
        )

    def _request_head(self, x: Exchange) -> bytes:
        return headers.request_head(x.target, x.section.lines, 0, request_id=x.request_id, trace=x.trace)

    def _access_line(self, x: Exchange) -> None:
        self.gateway.shared.access.write(
            x.request_id, x.caller.address, x.method, x.path, "all", 200, 0, 200, 0.001, ""
        )


def _spent(x: Exchange) -> Any:
    return x.spent


def best(part: Callable[[T], object], ready: Callable[[], Sequence[T]], rounds: int) -> float:
    """Microseconds for one of the things that are ready, in the round in which it took least."""
    least = float("inf")
    for _ in range(rounds):
        things = ready()
        began = time.perf_counter()
        for thing in things:
            part(thing)
        least = min(least, (time.perf_counter() - began) / len(things) * 1e6)
    return least


async def main() -> None:
    with open(os.devnull, "w", encoding="utf-8") as log:  # noqa: ASYNC230 - nothing else runs here
        _print(Table(SystemClock(), log))


def _print(table: Table) -> None:
    print(f"| part ({build.kind()}) | µs |\n|---|---|")
    for name, micros in table.rows():
        print(f"| {name} | {micros:.2f} |", flush=True)


if __name__ == "__main__":
    asyncio.run(main())

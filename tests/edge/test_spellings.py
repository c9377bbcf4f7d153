"""No spelling that a real Next.js serves as a protected route meets a laxer policy. What it serves was recorded."""

from __future__ import annotations

import pytest

from scopegate.edge.routes import RouteTable, compile_routes
from scopegate.edge.target import judge_target
from scopegate.edge.verdict import Target
from scopegate.policy.policy import BodyRule, Mode, Route, Upstream, UpstreamTimeouts
from tests.edge.spellings.table import TABLE, Served, line_of, raw_of, rows, spelt

HOST = b"leads.example.com"
UPSTREAM = Upstream("web", (), UpstreamTimeouts(1, 1, 1), None)

PROTECTED = ["/api/leads", "/pricing", "/contractor/**", "/account", "/api/old"]
"""One route line for each handler of the recorded app."""
BESIDE = ["/_next/image", "/_next/data/**", "/*/_next/data/**", "/*/account", "/*/pricing"]
"""The lines that docs/security.md asks for besides, in front of an app with an image optimiser, the pages router and
locales: there Next.js serves one handler under several paths, and that is no matter of spelling."""

ROWS = list(rows(TABLE.read_text("utf-8")))
REACHED = [row for row in ROWS if row.reached is not None]


def table_of(patterns: list[str]) -> RouteTable:
    """The routes of a policy in which everything else is free."""
    return compile_routes(
        [
            Route(pattern, None, pattern, None, None, BodyRule(1, frozenset()), None, Mode.ENFORCE, UPSTREAM, 1)
            for pattern in [*PROTECTED, *patterns, "/**"]
        ]
    )


def judged(row: Served) -> Target | None:
    """None for a spelling that is refused."""
    target = judge_target(b"GET", row.raw, [HOST], None)
    return target if isinstance(target, Target) else None


def met(routes: RouteTable, target: Target) -> str:
    found = routes.match(target.method, target.path)
    assert isinstance(found, Route)
    return found.name


def test_the_table_is_as_large_as_promised() -> None:
    assert len({row.raw for row in ROWS}) == len(ROWS) >= 150
    assert {row.reached for row in REACHED} == {"leads", "pricing", "contractor", "account", "old"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: spelt(row.raw))
def test_a_spelling_is_written_and_read_back(row: Served) -> None:
    assert raw_of(spelt(row.raw)) == row.raw
    assert list(rows(line_of(row))) == [row]


def test_no_spelling_that_is_served_as_a_protected_route_meets_a_laxer_policy() -> None:
    routes = table_of(BESIDE)
    laxer = [row for row in REACHED if (target := judged(row)) is not None and met(routes, target) == "/**"]
    assert laxer == []


def test_what_is_forwarded_was_recorded_too() -> None:
    """The app sees what the gateway forwards, so that is what must not be served under a laxer policy."""
    known = {row.raw: row for row in ROWS}
    routes = table_of(BESIDE)
    for row in ROWS:
        target = judged(row)
        if target is not None:
            assert known[target.raw].reached is None or met(routes, target) != "/**", row


def test_each_line_besides_is_needed() -> None:
    """Without one of them a handler is reached past its policy; this fails when a Next.js makes one superfluous."""
    for left_out in BESIDE:
        routes = table_of([line for line in BESIDE if line != left_out])
        past = [row for row in REACHED if (target := judged(row)) is not None and met(routes, target) == "/**"]
        assert past, left_out


def test_spelling_alone_needs_no_line() -> None:
    """Dots, slashes, escapes, case: what reaches a handler under its own path needs nothing but its own line."""
    routes = table_of([])
    beside = ("/_next/image?", "/_next/data/", "/de/", "/en/", "/DE/", "/De/")
    past = [row for row in REACHED if (target := judged(row)) is not None and met(routes, target) == "/**"]
    assert [row for row in past if not judged_raw(row).startswith(beside)] == []


def judged_raw(row: Served) -> str:
    target = judged(row)
    assert target is not None
    return target.raw.decode()

"""No spelling that a real Next.js serves as a protected route meets a laxer policy: what it serves was recorded. And
none meets a policy of another strictness at any server that is known well enough to be written down."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.edge.routes import Ambiguous, RouteTable, compile_routes
from scopegate.edge.target import judge_target
from scopegate.edge.verdict import Target
from scopegate.policy.policy import (
    BodyRule,
    KeyKind,
    KeyPart,
    Mode,
    OnStoreError,
    Route,
    Tier,
    Upstream,
    UpstreamTimeouts,
)
from tests.edge.spellings.servers import SERVERS
from tests.edge.spellings.table import TABLE, Served, line_of, raw_of, rows, spelt

HOST = b"leads.example.com"
UPSTREAM = Upstream("web", (), UpstreamTimeouts(1, 1, 1), None)
BODY = BodyRule(1, frozenset())
STRICT = Tier("strict", (), (KeyPart(KeyKind.CLIENT_IP),), OnStoreError.DENY)

PROTECTED = ["/api/leads", "/pricing", "/contractor/**", "/account", "/api/old"]
"""One route line for each handler of the recorded app."""
BESIDE = ["/_next/image", "/_next/data/**", "/*/_next/data/**", "/*/account", "/*/pricing"]
"""The lines that docs/security.md asks for besides, in front of an app with an image optimiser, the pages router and
locales: there Next.js serves one handler under several paths, and that is no matter of spelling."""

ODD = re.compile(rb"[%;#\\A-Z]|//|/\.")
ROWS = list(rows(TABLE.read_text("utf-8")))
REACHED = [row for row in ROWS if row.reached is not None]


def table_of(patterns: list[str]) -> RouteTable:
    """The routes of a policy in which everything else is free."""
    return compile_routes(
        [
            Route(pattern, None, pattern, tiers, None, BODY, None, Mode.ENFORCE, UPSTREAM, 1)
            for pattern, tiers in [*((each, (STRICT,)) for each in [*PROTECTED, *patterns]), ("/**", ())]
        ]
    )


def met(routes: RouteTable, row: Served) -> str | None:
    """The pattern met; None for a spelling that is refused."""
    target = judge_target(b"GET", row.raw, [HOST], None)
    found = routes.match(target.method, target.path) if isinstance(target, Target) else None
    assert found is None or isinstance(found, Route | Ambiguous)
    return found.pattern if isinstance(found, Route) else None


def reached_past(routes: RouteTable) -> list[Served]:
    """Spellings that a protected handler is served under, and that are nobody's concern here."""
    return [row for row in REACHED if met(routes, row) == "/**"]


def test_the_table_is_as_large_as_promised() -> None:
    assert len({row.raw for row in ROWS}) == len(ROWS) >= 150
    assert {row.reached for row in REACHED} == {"leads", "pricing", "contractor", "account", "old"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: spelt(row.raw))
def test_a_spelling_is_written_and_read_back(row: Served) -> None:
    assert raw_of(spelt(row.raw)) == row.raw
    assert list(rows(line_of(row))) == [row]


def test_no_spelling_that_is_served_as_a_protected_route_meets_a_laxer_policy() -> None:
    assert reached_past(table_of(BESIDE)) == []


def test_what_is_forwarded_was_recorded_too() -> None:
    """The app sees what the gateway forwards, so that is what must not be served under a laxer policy."""
    known = {row.raw: row for row in ROWS}
    routes = table_of(BESIDE)
    for row in ROWS:
        target = judge_target(b"GET", row.raw, [HOST], None)
        if met(routes, row) == "/**":
            assert isinstance(target, Target)
            assert known[target.raw].reached is None, row


def test_each_line_besides_is_needed() -> None:
    """Without one of them a handler is reached past its policy; this fails when a Next.js makes one superfluous."""
    for left_out in BESIDE:
        assert reached_past(table_of([line for line in BESIDE if line != left_out])), left_out


def test_spelling_alone_needs_no_line() -> None:
    """Dots, slashes, escapes, case: what reaches a handler under its own path needs nothing but its own line."""
    beside = (b"/_next/image?", b"/_next/data/", b"/de/", b"/en/", b"/DE/", b"/De/")
    assert [row for row in reached_past(table_of([])) if not row.raw.startswith(beside)] == []


def test_what_the_app_serves_under_its_own_path_is_not_refused() -> None:
    """As far as it is one path to everybody: no detour, no capital, no odd character."""
    routes = table_of(BESIDE)
    plain = [row for row in REACHED if row.raw.startswith(b"/") and not ODD.search(row.raw)]
    assert len(plain) > 10
    assert [row for row in plain if met(routes, row) is None] == []


# ── other servers, by what is known of them ─────────────────────────────────────────────────────────────────────────

STRICTLY = {"/api/leads", "/account/**"}
POLICY = ["/api/leads", "/account/**", "/public/**", "/**"]
OPEN_TO_ALL = compile_routes(
    [
        Route(each, None, each, (STRICT,) if each in STRICTLY else (), None, BODY, None, Mode.ENFORCE, UPSTREAM, 1)
        for each in POLICY
    ]
)

DETOURS = [
    "/",
    "//",
    "/./",
    "/../",
    "/x/../",
    "/%2e%2e/",
    "/.%2E/",
    "/..;/",
    ";a=b/",
    "%2f",
    "%2F..%2F",
    "%5c",
    "\\",
    "/\\",
]
WORDS = [
    "api",
    "leads",
    "account",
    "public",
    "x",
    "%61pi",
    "lead%73",
    "API",
    "%2561pi",
    "l%65ads",
    "ACCOUNT",
    "publi%63",
]
ENDS = ["", "", "", "/", "?a=/../b", "%00", "%3Fx", "%23", "%20x", ";a", "%3Ba", ".", "/.", "/..", "%252F", "%0d%0a"]


def handler(path: str, *, folded: bool) -> str:
    """What a router with handlers by the names of the policy's patterns takes a path for."""
    segments = path.split("/")[1:]
    if segments and not segments[-1]:
        segments.pop()
    for pattern in POLICY:
        wanted = pattern.removesuffix("/**").split("/")[1:] if pattern != "/**" else []
        given = [each.lower() for each in segments] if folded else segments
        if given[: len(wanted)] == wanted and (pattern.endswith("**") or len(given) == len(wanted)):
            return pattern
    raise AssertionError(path)


def held_to_servers(raw: str) -> str | None:
    """The pattern met, if the target is forwarded: then no server takes it for a handler of another strictness."""
    target = judge_target(b"GET", raw.encode(), [HOST], None)
    found = OPEN_TO_ALL.match("GET", target.path) if isinstance(target, Target) else None
    if not isinstance(found, Route):
        return None
    for server in SERVERS:
        for folded in (False, True):
            taken_for = handler(server(raw.partition("?")[0]), folded=folded)
            assert (taken_for in STRICTLY) is (found.pattern in STRICTLY), (
                raw,
                server.__name__,
                taken_for,
                found.pattern,
            )
    return found.pattern


@given(st.lists(st.tuples(st.sampled_from(DETOURS), st.sampled_from(WORDS)), max_size=5), st.sampled_from(ENDS))
def test_what_is_forwarded_meets_no_other_policy_at_any_server(pieces: list[tuple[str, str]], end: str) -> None:
    held_to_servers("/" + "".join(detour + word for detour, word in pieces) + end)


def test_many_thousand_spellings_and_no_dodge(full: bool) -> None:
    count = 50_000 if full else 10_000
    picks = random.Random(20260101)
    seen: Counter[str | None] = Counter()
    for _ in range(count):
        words = picks.choice((["api", "leads"], ["account", "x"], ["public"], picks.choices(WORDS, k=2)))
        detours = picks.choices([*DETOURS, *["/"] * 40], k=len(words))
        raw = "".join(detour + word for detour, word in zip(detours, words, strict=True))
        seen[held_to_servers(raw + picks.choice([*ENDS, *[""] * 20]))] += 1
    assert set(seen) == {*POLICY, None}
    assert min(seen.values()) > count // 100, seen

"""Which routes hide which, held against the route table that serves."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scopegate.edge.routes import compile_routes
from scopegate.policy.policy import Route
from scopegate.policy.reach import Covers
from scopegate.policy.spelling import parse_match
from tests.policies import compiled


@pytest.mark.parametrize(
    ("earlier", "later", "hidden"),
    [
        ("ANY /**", "POST /api", True),
        ("GET /**", "POST /api", False),
        ("GET /**", "HEAD /api", True),
        ("HEAD /**", "GET /api", False),
        ("GET|POST /a", "POST /a", True),
        ("POST /a", "GET|POST /a", False),
        ("POST /a", "ANY /a", False),
        ("ANY /api/**", "ANY /api", True),
        ("ANY /api/*", "ANY /api/x", True),
        ("ANY /api/*", "ANY /api/**", False),
        ("ANY /api/*", "ANY /api", False),
        ("ANY /api/x", "ANY /api/*", False),
        ("ANY /*/b/**", "ANY /a/b/c", True),
        ("ANY /a/", "ANY /A", True),
        ("ANY /@me", "ANY /%40me", True),
        ("ANY /a/**", "ANY /**", False),
    ],
)
def test_hidden(earlier: str, later: str, hidden: bool) -> None:
    covers = Covers()
    covers.add(parse_match(earlier), (), 7)
    assert covers.line_of(parse_match(later)) == (7 if hidden else None)


def test_the_earliest_of_several_is_named() -> None:
    covers = Covers()
    for line, match in ((9, "ANY /a/**"), (3, "ANY /**"), (5, "GET /a/b")):
        covers.add(parse_match(match), (), line)
    assert covers.line_of(parse_match("GET /a/b")) == 3


SEGMENT = st.sampled_from(["a", "b", "*"])
PATTERN = st.tuples(st.lists(SEGMENT, max_size=3), st.booleans()).map(
    lambda parts: "/" + "/".join([*parts[0], *(["**"] if parts[1] else [])])
)
MATCH = st.tuples(st.sampled_from(["ANY", "GET", "POST", "HEAD", "GET|POST"]), PATTERN).map(" ".join)


def routes_of(matches: list[str]) -> tuple[Route, ...]:
    lines = "".join(f"  - {{name: r{n}, match: {match}, tier: none}}\n" for n, match in enumerate(matches))
    text = f"version: 1\nupstreams: {{web: {{servers: ['http://127.0.0.1:3000']}}}}\nroutes:\n{lines}"
    return compiled(text).routes


@settings(deadline=None)
@given(earlier=MATCH, later=MATCH)
def test_hidden_means_that_the_table_never_finds_it(earlier: str, later: str) -> None:
    covers = Covers()
    covers.add(parse_match(earlier), (), 1)
    table = compile_routes(routes_of([earlier, later]))
    paths = [
        "/",
        *(f"/{a}" for a in "abc"),
        *(f"/{a}/{b}" for a in "abc" for b in "abc"),
        "/a/b/c",
        "/a/b/c/d",
        "/b/b/b",
    ]
    found = {
        getattr(table.match(method, path), "name", None) for method in ("GET", "POST", "HEAD", "PUT") for path in paths
    }
    if covers.line_of(parse_match(later)) is not None:
        assert "r1" not in found


@pytest.mark.parametrize(
    ("earlier", "later", "covered"),
    [
        ((), (), True),
        ((), ("a.example.com",), True),
        (("a.example.com",), (), False),
        (("a.example.com", "b.example.com"), ("b.example.com",), True),
        (("a.example.com",), ("a.example.com", "b.example.com"), False),
        (("*.example.com",), ("a.example.com", "x.b.example.com"), True),
        (("*.example.com",), ("*.b.example.com",), True),
        (("*.b.example.com",), ("*.example.com",), False),
        (("*.example.com",), ("example.com",), False),
        (("*.example.com",), ("badexample.com",), False),
    ],
)
def test_a_route_of_other_hosts_hides_none(earlier: tuple[str, ...], later: tuple[str, ...], covered: bool) -> None:
    seen = Covers()
    seen.add(parse_match("ANY /**"), earlier, 7)
    assert seen.line_of(parse_match("GET /a"), later) == (7 if covered else None)

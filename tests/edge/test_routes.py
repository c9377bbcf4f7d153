"""Routes: the first match in file order, by rules that lean to the stricter reading, at a flat cost."""

from __future__ import annotations

import fnmatch
import random
import timeit

import pytest

from scopegate.edge.routes import NoRoute, RouteTable, compile_routes
from scopegate.policy.policy import BodyRule, Mode, Route, Upstream, UpstreamTimeouts

UPSTREAM = Upstream("web", (), UpstreamTimeouts(1, 1, 1), None)


def route(name: str, match: str) -> Route:
    words, _, pattern = match.partition(" ")
    methods = None if words == "ANY" else frozenset(words.split("|"))
    return Route(name, methods, pattern, None, None, BodyRule(1, frozenset()), None, Mode.ENFORCE, UPSTREAM, 1)


def table(*matches: str) -> RouteTable:
    """Routes named by their own match."""
    return compile_routes([route(match, match) for match in matches])


def name(found: Route | NoRoute) -> str | None:
    return found.name if isinstance(found, Route) else None


EXAMPLE = table(
    "POST /api/leads",
    "POST /api/uploads/presign",
    "ANY /api/contractor/**",
    "GET /api/*/photos",
    "GET /api/**",
    "GET /_next/static/**",
    "GET|POST /",
    "ANY /site/**",
)


@pytest.mark.parametrize(
    ("method", "path", "match"),
    [
        ("POST", "/api/leads", "POST /api/leads"),
        ("POST", "/api/leads/", "POST /api/leads"),
        ("POST", "/API/Leads", "POST /api/leads"),
        ("GET", "/api/leads", "GET /api/**"),
        ("HEAD", "/api/leads", "GET /api/**"),
        ("GET", "/api", "GET /api/**"),
        ("GET", "/api/", "GET /api/**"),
        ("GET", "/apix", None),
        ("POST", "/api/leads/x", None),
        ("PATCH", "/api/contractor", "ANY /api/contractor/**"),
        ("PURGE", "/api/contractor/a/b/c", "ANY /api/contractor/**"),
        ("GET", "/api/contractor/photos", "ANY /api/contractor/**"),
        ("GET", "/api/7/photos", "GET /api/*/photos"),
        ("HEAD", "/api/7/photos/", "GET /api/*/photos"),
        ("GET", "/api/photos", "GET /api/**"),
        ("GET", "/api/7/8/photos", "GET /api/**"),
        ("GET", "/", "GET|POST /"),
        ("HEAD", "/", "GET|POST /"),
        ("POST", "/", "GET|POST /"),
        ("DELETE", "/", None),
        ("GET", "/_next/static/chunks/a.js", "GET /_next/static/**"),
        ("GET", "/_next", None),
        ("OPTIONS", "/site", "ANY /site/**"),
        ("GET", "/nothing", None),
    ],
)
def test_the_first_match_wins(method: str, path: str, match: str | None) -> None:
    assert name(EXAMPLE.match(method, path)) == match


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/api/leads", ("GET", "HEAD", "POST")),
        ("PUT", "/api/uploads/presign", ("GET", "HEAD", "POST")),
        ("DELETE", "/", ("GET", "HEAD", "POST")),
        ("POST", "/_next/static/a.js", ("GET", "HEAD")),
        ("PURGE", "/api/7/photos", ("GET", "HEAD")),
        ("GET", "/nothing", ()),
        ("GET", "/x/y/z", ()),
    ],
)
def test_without_a_route_the_methods_that_would_match_are_named(
    method: str, path: str, allowed: tuple[str, ...]
) -> None:
    assert EXAMPLE.match(method, path) == NoRoute(allowed)


def test_file_order_decides_whatever_the_shape_of_the_patterns() -> None:
    assert name(table("ANY /**", "GET /a").match("GET", "/a")) == "ANY /**"
    assert name(table("GET /*", "GET /a").match("GET", "/a")) == "GET /*"
    assert name(table("GET /a", "GET /*").match("GET", "/a")) == "GET /a"
    assert name(table("GET /a/**", "GET /a/b").match("GET", "/a/b")) == "GET /a/**"
    assert name(table("GET /a/b", "GET /a/**").match("GET", "/a/b")) == "GET /a/b"
    assert name(table("GET /*/b", "GET /a/*").match("GET", "/a/b")) == "GET /*/b"
    assert name(table("GET /a/*/c", "GET /*/b/**", "GET /**").match("GET", "/a/b/d")) == "GET /*/b/**"
    assert name(table("ANY /a", "POST /a").match("POST", "/a")) == "ANY /a"
    assert name(table("POST /a", "ANY /a").match("GET", "/a")) == "ANY /a"
    assert name(table("HEAD /a", "GET /a").match("HEAD", "/a")) == "HEAD /a"
    assert name(table("GET /a", "HEAD /a").match("HEAD", "/a")) == "GET /a"


def test_two_routes_with_one_pattern_share_it_by_method() -> None:
    both = table("GET /a", "POST /a", "GET /a/")
    assert name(both.match("GET", "/a")) == "GET /a"
    assert name(both.match("POST", "/a/")) == "POST /a"


def test_head_alone_does_not_bring_get() -> None:
    assert table("HEAD /a").match("GET", "/a") == NoRoute(("HEAD",))


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/users/@me", "/users/%40me"),
        ("/users/@me", "/USERS/%40ME/"),
        ("/a+b", "/a%2Bb"),
        ("/a%2Cb", "/a,b"),
        ("/caf%C3%A9", "/caf%C3%A9"),
        ("/caf%C3%A9", "/CAF%C3%89"),
        ("/a%20b", "/a%20b"),
        ("/Mixed/Case", "/mixed/case"),
        ("/dir/", "/dir"),
        ("/dir", "/dir/"),
    ],
)
def test_escapes_case_and_a_trailing_slash_do_not_count(pattern: str, path: str) -> None:
    assert name(table(f"GET {pattern}").match("GET", path)) == f"GET {pattern}"


@pytest.mark.parametrize("path", ["/a/%2A", "/a/*", "/a/b"])
def test_a_star_is_a_pattern_only_in_the_policy(path: str) -> None:
    assert name(table("GET /a/*").match("GET", path)) == "GET /a/*"
    assert name(table("GET /a/%2A").match("GET", path)) == (None if path == "/a/b" else "GET /a/%2A")


@pytest.mark.parametrize("path", ["/a/%252e", "/a/%25%32%65", "/a%253Bb"])
def test_escapes_are_decoded_once(path: str) -> None:
    assert table("GET /a/.", "GET /a;b", "GET /a").match("GET", path) == NoRoute(())


def test_no_routes_match_nothing() -> None:
    assert compile_routes([]).match("GET", "/") == NoRoute(())


def test_a_table_agrees_with_reading_the_routes_from_the_top() -> None:
    """2,000 random tables against the plain loop a person would do by hand."""
    picks = random.Random(7)
    for _ in range(2000):
        matches = [random_match(picks) for _ in range(picks.randint(1, 12))]
        compiled = table(*matches)
        for _ in range(10):
            path = "/" + "/".join(picks.choices("abc", k=picks.randint(0, 4)))
            method = picks.choice(["GET", "HEAD", "POST", "PUT", "LOCK"])
            assert name(compiled.match(method, path)) == by_hand(matches, method, path), (matches, method, path)


def random_match(picks: random.Random) -> str:
    segments = picks.choices(["a", "b", "c", "*"], k=picks.randint(0, 4)) + picks.choice([[], [], ["**"]])
    return f"{picks.choice(['ANY', 'GET', 'POST', 'GET|PUT', 'HEAD'])} /{'/'.join(segments)}"


def by_hand(matches: list[str], method: str, path: str) -> str | None:
    segments = [segment for segment in path.split("/") if segment]
    for match in matches:
        words, _, pattern = match.partition(" ")
        wanted = [segment for segment in pattern.split("/") if segment]
        allowed = set(words.split("|")) | ({"HEAD"} if "GET" in words.split("|") else set())
        if words != "ANY" and method not in allowed:
            continue
        open_ended = wanted[-1:] == ["**"]
        fixed = wanted[:-1] if open_ended else wanted
        if len(segments) < len(fixed) or (not open_ended and len(segments) > len(fixed)):
            continue
        if all(fnmatch.fnmatchcase(segment, one) for segment, one in zip(segments, fixed, strict=False)):
            return match
    return None


def test_a_thousand_routes_cost_what_fifty_cost() -> None:
    def cost_s(count: int) -> float:
        many = [f"POST /api/v{index % 20}/thing{index}/*/edit" for index in range(count)]
        compiled = table(*many, "POST /api/leads", "GET /api/**", "ANY /**")
        wanted = [("POST", "/api/leads"), ("GET", "/api/v7/thing7/12/edit"), ("GET", "/x/y"), ("POST", "/api/v1/other")]
        return min(timeit.repeat(lambda: [compiled.match(*one) for one in wanted], number=2000, repeat=7))

    assert cost_s(1000) < 1.6 * cost_s(50)  # a scan would be 20 times; the rest is room for a busy machine


def test_a_deep_path_costs_no_deeper_than_the_longest_pattern() -> None:
    deep = "/" + "/".join("a" * 4000)
    assert name(table("GET /a/*/**", "GET /*/a/b").match("GET", deep)) == "GET /a/*/**"

"""Routes: the first match in file order, in every reading of a path, at a flat cost."""

from __future__ import annotations

import fnmatch
import random
from dataclasses import fields, replace
from typing import Any

import pytest
from pydantic import SecretStr

from scopegate.edge.routes import Ambiguous, NoRoute, RouteTable, compile_routes
from scopegate.policy.policy import (
    AnswerFields,
    Auth,
    BodyRule,
    CacheKey,
    CacheRule,
    Cors,
    Deliver,
    FeatureFlag,
    JwtRule,
    KeyKind,
    KeyPart,
    Mode,
    Offload,
    OnStoreError,
    PathStep,
    Route,
    StreamRule,
    Tier,
    Upstream,
    UpstreamTimeouts,
)
from tests.growth import TIMES, growth

UPSTREAM = Upstream("web", (), UpstreamTimeouts(1, 1, 1), None)


def route(name: str, match: str) -> Route:
    words, _, pattern = match.partition(" ")
    methods = None if words == "ANY" else frozenset(words.split("|"))
    return Route(name, methods, pattern, (), None, BodyRule(1, frozenset()), None, Mode.ENFORCE, UPSTREAM, 1)


STRICT = Tier("strict", (), (KeyPart(KeyKind.CLIENT_IP),), OnStoreError.DENY)


def table(*matches: str) -> RouteTable:
    """Routes named by their own match."""
    return compile_routes([route(match, match) for match in matches])


def name(found: Route | NoRoute | Ambiguous) -> str | None:
    return found.name if isinstance(found, Route) else None


def graded(*matches: str) -> RouteTable:
    """As `table`, each with the tier that stands behind its match; without one it is free."""
    made = []
    for words in matches:
        method, pattern, *tier = words.split()
        grade = tuple(replace(STRICT, name=name) for name in tier)
        match = f"{method} {pattern}"
        made.append(replace(route(match, match), tiers=grade))
    return compile_routes(made)


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
        ("/users/@me", "/users/@me"),
        ("/users/%40me", "/users/%40me"),
        ("/a%2Cb", "/a,b"),
        ("/caf%C3%A9", "/caf%C3%A9"),
        ("/caf%C3%A9", "/caf%c3%a9"),
        ("/a%20b", "/a%20b"),
        ("/what%3F", "/what%3F"),
        ("/Mixed/Case", "/Mixed/Case"),
        ("/dir/", "/dir"),
        ("/dir", "/dir/"),
    ],
)
def test_a_route_is_met_as_it_is_written(pattern: str, path: str) -> None:
    """A trailing slash does not count, nor the case of hex digits; everybody decodes what only escapes can say."""
    assert name(table(f"GET {pattern}").match("GET", path)) == f"GET {pattern}"
    assert name(graded(f"GET {pattern} strict", "ANY /**").match("GET", path)) == f"GET {pattern}"


@pytest.mark.parametrize("path", ["/a/%2A", "/a/*", "/a/b"])
def test_a_star_is_a_pattern_only_in_the_policy(path: str) -> None:
    assert name(table("GET /a/*").match("GET", path)) == "GET /a/*"
    assert name(table("GET /a/%2A").match("GET", path)) == (None if path == "/a/b" else "GET /a/%2A")


# ── one path, several readings ──────────────────────────────────────────────────────────────────────────────────────

LEADS = graded("POST /api/leads strict", "ANY /account/** strict", "ANY /files/* files", "ANY /shop/**", "ANY /**")


@pytest.mark.parametrize(
    ("path", "match"),
    [
        ("/a%2Fb", "ANY /**"),
        ("/files/a%20b", "ANY /files/*"),
        ("/o/images%2Fpic.jpg", "ANY /**"),
        ("/list;page=2", "ANY /**"),
        ("/shop/list;page=2/x", "ANY /shop/**"),
        ("/account/a%2fb;c=%00", "ANY /account/**"),
        ("/account/%41%2561", "ANY /account/**"),
        ("/account;jsessionid=1/x", None),
        ("/account/..%2fapi/leads", "ANY /account/**"),
        ("/account/..%2fx", None),
        ("/shop/../x", "ANY /shop/**"),  # read as either of two routes, but they are of one strictness
        ("//x", "ANY /**"),
        ("/files/" + "%2F" * 2000, None),
        ("/x/" + "%2F" * 2000, "ANY /**"),
        ('/[a]|b/"c"', "ANY /**"),
    ],
)
def test_a_path_that_means_one_thing_to_everybody_passes(path: str, match: str | None) -> None:
    found = LEADS.match("POST", path)
    assert name(found) == match
    assert isinstance(found, Route if match is not None else Ambiguous)


@pytest.mark.parametrize(
    "path",
    [
        "/%2561pi/leads",
        "/%61pi/leads",
        "/api%2Fleads",
        "/api%252fleads",
        "/api\\leads",
        "/api%5Cleads",
        "/api/leads;x",
        "/api/leads%3Bx",
        "/api;x/leads",
        "/api/leads%3Fx",
        "/api/leads%23x",
        "/api/leads%00.png",
        "/api/leads%20",
        "/api/leads%0D%0Ax",
        "/API/leads",
        "/api/Leads/",
        "//api/leads",
        "/api//leads",
        "/x/../api/leads",
        "/x/..;/api/leads",
        "/x/%2e%2e/api/leads",
        "/x/..%2fapi/leads",
        "/../api/leads",
        "/./api/leads",
        "/api/leads/.",
        "/api/%6C%65ads/../leads",
    ],
)
def test_a_path_that_may_be_read_as_the_protected_route_meets_no_other(path: str) -> None:
    found = LEADS.match("POST", path)
    assert isinstance(found, Ambiguous)
    assert "POST /api/leads" in found.names


def test_what_is_laxer_than_everything_else_is_no_way_in_either() -> None:
    """An app that tells cases apart serves /PUBLIC by another handler than /public."""
    routes = graded("ANY /public/**", "ANY /** strict")
    assert name(routes.match("GET", "/public/x")) == "ANY /public/**"
    for path in ("/PUBLIC/x", "/public/../x", "/public%2Fx", "/public/..%5cx", "//public/x", "/public;/x"):
        assert routes.match("GET", path) == Ambiguous(routes.match("GET", path).routes), path  # type: ignore[union-attr]


def test_the_routes_that_were_met_are_named() -> None:
    found = LEADS.match("POST", "/%2561pi/leads")
    assert isinstance(found, Ambiguous)
    assert found.names == "ANY /**, POST /api/leads"
    nowhere = graded("GET /a strict").match("GET", "/a;b")
    assert isinstance(nowhere, Ambiguous)
    assert nowhere.names == "none, GET /a"


def test_where_all_that_are_met_only_watch_the_first_goes_on() -> None:
    strict, rest = (replace(each, mode=Mode.WATCH) for each in (route("strict", "ANY /a"), route("rest", "ANY /**")))
    strict = replace(strict, tiers=(STRICT,))
    enforced = replace(strict, name="enforced", pattern="/b", mode=Mode.ENFORCE)
    routes = compile_routes([strict, enforced, rest])
    watched = routes.match("GET", "/a;x")
    assert isinstance(watched, Ambiguous)
    assert (watched.watched, watched.names) == (rest, "rest, strict")
    for path in ("/b;x", "/b%3F/../a", "/a%2F..%2Fb"):
        found = routes.match("GET", path)
        assert isinstance(found, Ambiguous)
        assert found.watched is None, path
    nowhere = compile_routes([strict]).match("GET", "/a;x")
    assert isinstance(nowhere, Ambiguous)
    assert nowhere.watched is None
    endless = routes.match("GET", "/x" + "%2F..;x%252e\\//%3f%23%00%20%252F" * 200)
    assert isinstance(endless, Ambiguous)
    assert endless.watched == rest


def test_too_many_readings_are_ambiguous_whatever_the_routes() -> None:
    found = LEADS.match("GET", "/x" + "%2F..;x%252e\\//%3f%23%00%20%252F" * 200)
    assert isinstance(found, Ambiguous)
    assert found.names == "ANY /**"


def test_where_nothing_is_served_in_any_reading_nothing_is() -> None:
    routes = table("GET /a", "POST /b")
    assert routes.match("GET", "/c%2Fd;e") == NoRoute(())
    assert routes.match("POST", "/a") == NoRoute(("GET", "HEAD"))


def test_a_lower_case_path_is_not_the_route_in_capitals_to_everybody() -> None:
    routes = graded("ANY /Admin/** strict", "ANY /**")
    assert name(routes.match("GET", "/Admin/x")) == "ANY /Admin/**"
    assert isinstance(routes.match("GET", "/admin/x"), Ambiguous)
    assert name(routes.match("GET", "/other/x")) == "ANY /**"


HOW_MET = {"name", "methods", "pattern", "line", "reads", "hosts", "only_if"}
FLAG = FeatureFlag("f", ("on", "off"), "off")
DIFFERENT: dict[str, Any] = {
    "tiers": (STRICT,),
    "auth": Auth("a", JwtRule(None, None, None, None, (), None, 0), {}),
    "body": BodyRule(2, frozenset()),
    "offload": Offload("o", frozenset(), "", None, "", "", (), Deliver("", (SecretStr(""),)), None),
    "mode": Mode.WATCH,
    "upstream": replace(UPSTREAM, name="other"),
    "websocket": StreamRule(1, 1, 1),
    "events": StreamRule(1, 1, 1),
    "answer_fields": AnswerFields("f", ()),
    "cors": Cors("c", frozenset(), True, frozenset(), frozenset(), (), False, 1),
    "cache": CacheRule(CacheKey(None, (), ()), 1.0, 0.0, frozenset(), 1, 0.0, 0.0, False),
    "told": (FLAG,),
    "by_flag": FLAG,
    "variations": {"on": route("varied", "ANY /**")},
}


def test_routes_are_of_one_strictness_when_they_differ_in_how_they_are_met_alone() -> None:
    assert DIFFERENT.keys() | HOW_MET == {each.name for each in fields(Route)}
    one, two = route("one", "ANY /one/**"), route("two", "GET|POST /two/**")
    assert compile_routes([one, two]).match("GET", "/one/../two/x") == one
    for field, value in DIFFERENT.items():
        found = compile_routes([one, replace(two, **{field: value})]).match("GET", "/one/../two/x")
        assert isinstance(found, Ambiguous), field


# ── a route that says how its app reads ─────────────────────────────────────────────────────────────────────────────


def reading(match: str, *steps: PathStep) -> Route:
    return replace(route(match, match), tiers=(replace(STRICT, name=match),), reads=frozenset(steps))


READING = compile_routes(
    [
        reading("ANY /files/*"),
        reading("ANY /docs/*", PathStep.ESCAPES),
        reading("ANY /java/**", PathStep.PARAMETERS, PathStep.ESCAPES, PathStep.DOTS),
        reading("ANY /pricing", PathStep.CASE, PathStep.DOUBLES),
        route("POST /api/leads", "POST /api/leads"),
        route("ANY /**", "ANY /**"),
    ]
)


@pytest.mark.parametrize(
    ("path", "match"),
    [
        ("/files/a%2Fb", "ANY /files/*"),
        ("/files/..%2fapi%2Fleads", "ANY /files/*"),
        ("/docs/a%20b%3F", "ANY /docs/*"),
        ("/java/x;jsessionid=1/../y", "ANY /java/**"),
        ("/java;a=b/x", "ANY /java/**"),
        ("/PRICING", "ANY /pricing"),
        ("//Pricing/", "ANY /pricing"),
    ],
)
def test_where_a_route_says_how_its_app_reads_no_other_reading_counts(path: str, match: str) -> None:
    assert name(READING.match("POST", path)) == match


@pytest.mark.parametrize(
    "path", ["/files/a/../b", "/files/a%2Fb/c", "/FILES/a%2Fb", "/pricing;x", "/api/leads;/../../files/x"]
)
def test_a_route_has_only_what_meets_it_in_its_own_reading(path: str) -> None:
    found = compile_routes([reading("ANY /files/*"), reading("ANY /pricing", PathStep.CASE), route("rest", "ANY /**")])
    assert name(found.match("POST", path)) in (None, "rest")


def test_two_routes_that_both_have_a_path_in_their_own_reading_must_be_alike() -> None:
    one, other = reading("ANY /a/*"), reading("ANY /b/*", PathStep.SLASHES, PathStep.DOTS)
    path = "/a/..%2F..%2Fb%2Fc"
    assert isinstance(compile_routes([one, other]).match("GET", path), Ambiguous)
    assert name(compile_routes([one, replace(other, tiers=one.tiers)]).match("GET", path)) in ("ANY /a/*", "ANY /b/*")


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


def test_a_thousand_routes_cost_what_a_hundred_cost() -> None:
    wanted = [("POST", "/api/leads"), ("GET", "/api/v7/thing7/12/edit"), ("GET", "/x/y"), ("POST", "/api/v1/other")]

    def made(count: int) -> RouteTable:
        many = [f"POST /api/v{index % 20}/thing{index}/*/edit" for index in range(count)]
        return table(*many, "POST /api/leads", "GET /api/**", "ANY /**")

    def asked(compiled: RouteTable) -> None:
        for _ in range(1000):
            for one in wanted:
                compiled.match(*one)

    assert growth(made, asked, 1000) < TIMES / 2, "a scan would cost as many times more as there are more routes"


def test_a_deep_path_costs_no_deeper_than_the_longest_pattern() -> None:
    deep = "/" + "/".join("a" * 4000)
    assert name(table("GET /a/*/**", "GET /*/a/b").match("GET", deep)) == "GET /a/*/**"


def test_served_are_the_methods_of_the_path_as_sent() -> None:
    hidden = replace(route("c", "PUT /leads"), only_if=((FLAG, "on"),))
    rows = [route("a", "GET /leads"), route("b", "POST /leads"), hidden]
    table = compile_routes(rows)
    assert table.served(["POST", "PUT", "GET", "HEAD", "PURGE"], "/leads") == ["POST", "GET", "HEAD"]
    assert table.served(["POST"], "/leads/%2e") == []

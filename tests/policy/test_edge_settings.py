"""What the settings of the edge mean: streams, answer fields, CORS, body rules, health, TLS, PROXY protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from scopegate import policy
from scopegate.policy.compile import compile_policy
from scopegate.policy.document import Document
from scopegate.policy.policy import (
    AddressSource,
    AnswerFields,
    BreakerRule,
    Cors,
    Ejection,
    Health,
    HostUse,
    JsonRule,
    MultipartRule,
    Origin,
    PathStep,
    Policy,
    Route,
    ServerLimits,
    ServerTimeouts,
    StreamRule,
    Tls,
    Upstream,
    UpstreamTimeouts,
)
from scopegate.policy.schema import compile_schema

HERE = Path(__file__).parent
EDGE = HERE / "edge.yaml"
KEY = "a key to sign identities, thirty-two bytes"
STANDARD = (
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "SAMEORIGIN"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
)


def compiled(**sections: Any) -> Policy:
    document = {
        "version": 1,
        "upstreams": {"web": {"servers": ["http://127.0.0.1:3000"]}},
        "routes": [{"name": "all", "match": "ANY /**", "tier": "none"}],
        **sections,
    }
    review = compile_policy(yaml.safe_dump(document).encode(), "F", {})
    assert review.policy is not None, review.problems
    return review.policy


def route(**settings: Any) -> dict[str, Any]:
    return {"name": "all", "match": "ANY /**", "tier": "none", **settings}


@pytest.fixture(scope="module")
def edge() -> Policy:
    return policy.load(EDGE, {"IDENTITY_SECRET": KEY})


def test_the_public_port(edge: Policy) -> None:
    assert edge.server.address_from is AddressSource.PROXY_PROTOCOL
    assert edge.server.forwarded_host == {HostUse.APP, HostUse.HOSTS}
    assert edge.server.limits.connections_per_client == 64
    assert edge.server.timeouts.body_s == 600


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


def test_a_key_that_signs_identities(edge: Policy) -> None:
    key = edge.auths["contractor"].sign_with
    assert key is not None
    assert key.get_secret_value() == KEY
    assert KEY not in repr(edge)


def test_fields_of_answers(edge: Policy) -> None:
    site, standard, bare = (one.answer_fields for one in edge.routes)
    assert site == AnswerFields(
        name="site",
        always=(
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("content-security-policy", "default-src 'self'"),
            ("cross-origin-opener-policy", "same-origin"),
        ),
        hsts="max-age=31536000; includeSubDomains; preload",
        override=True,
    )
    assert standard == AnswerFields("standard", STANDARD)
    assert bare is None


def test_cors(edge: Policy) -> None:
    assert edge.routes[0].cors == Cors(
        name="partners",
        origins=frozenset({"https://partner.example", "http://localhost:3000"}),
        any_origin=False,
        methods=frozenset({"GET", "POST"}),
        fields=frozenset({"content-type", "x-csrf"}),
        expose=("x-request-id",),
        credentials=True,
        max_age_s=1200,
    )
    assert (edge.routes[1].cors, edge.routes[2].cors) == (None, None)


def test_bodies(edge: Policy) -> None:
    body = edge.routes[0].body
    assert isinstance(body.json, JsonRule)
    assert (body.json.max_depth, body.json.schema_file) == (8, str(HERE / "gallery/beside/lead.json"))
    assert compile_schema(body.json.schema).is_valid({"email": "a@b.example"})
    assert not compile_schema(body.json.schema).is_valid({})
    assert body.multipart == MultipartRule(51, 11, 5 * 1024**2)
    assert edge.routes[1].body.json == JsonRule(32)
    assert edge.routes[1].body.multipart == MultipartRule(50, 10)
    assert (edge.routes[2].body.json, edge.routes[2].body.multipart) == (None, None)


@pytest.mark.parametrize(
    ("body", "types"),
    [
        ({"json": {}}, {"application/json"}),
        ({"multipart": {}}, {"multipart/form-data"}),
        ({"types": [], "json": {}, "multipart": {}}, {"application/json", "multipart/form-data"}),
        ({"types": ["application/ld+json", "text/plain"], "json": {}}, {"application/ld+json", "text/plain"}),
        ({"max": "1KiB"}, set()),
    ],
)
def test_rules_for_bodies_bring_their_types(body: dict[str, Any], types: set[str]) -> None:
    assert compiled(routes=[route(body=body)]).routes[0].body.types == types


def test_streams(edge: Policy) -> None:
    first, second, third = edge.routes
    assert first.websocket == StreamRule(10, 64 * 1024, 300)
    assert first.events == StreamRule(3, 16 * 1024**2, 86_400)
    assert second.websocket is None
    assert second.events == StreamRule(10, 64 * 1024, 300)
    assert (third.websocket, third.events) == (None, None)


def test_files_that_a_policy_names(edge: Policy) -> None:
    assert edge.files == (str(HERE / "gallery/beside/ca.pem"), str(HERE / "gallery/beside/lead.json"))
    assert compiled().files == ()


def test_what_is_left_out_is_what_the_policy_says_it_is() -> None:
    """The defaults of `policy.py`, which tests of other rooms lean on, are those of the file."""
    found = compiled(upstreams={"web": {"servers": ["http://127.0.0.1:3000"], "health": {"path": "/"}}})
    limits, timeouts = found.server.limits, found.server.timeouts
    assert limits == ServerLimits(32_768, 100, 8192, 1024**2, 4096, 2048)
    assert timeouts == ServerTimeouts(10, 15, 60, 30)
    assert found.server.address_from is AddressSource.X_FORWARDED_FOR
    health = Health("/", 5)
    assert found.upstreams["web"] == Upstream(
        "web", (Origin("http", "127.0.0.1", 3000),), UpstreamTimeouts(2, 30, 60), health
    )
    only = found.routes[0]
    assert isinstance(only, Route)
    assert (only.websocket, only.events, only.cors, only.body.json, only.body.multipart) == (None,) * 5
    assert only.answer_fields == AnswerFields("standard", STANDARD)


def test_a_breaker_and_streams_may_take_their_defaults() -> None:
    found = compiled(
        upstreams={"web": {"servers": ["http://127.0.0.1:3000"], "breaker": {}}},
        routes=[route(websocket={}, events={})],
    )
    assert found.upstreams["web"].breaker == BreakerRule(10, 5)
    assert found.routes[0].websocket == found.routes[0].events == StreamRule(10, 65_536, 300)


@pytest.mark.parametrize(
    ("limits", "per_client"),
    [({"connections": 64}, 64), ({"connections": 64, "connections_per_client": 64}, 64), ({}, 512)],
)
def test_the_bound_of_one_client_gives_way_to_that_of_all(limits: dict[str, int], per_client: int) -> None:
    assert compiled(server={"limits": limits}).server.limits.connections_per_client == per_client


@pytest.mark.parametrize(
    ("limits", "per_client"),
    [({"in_flight": 8}, 8), ({"in_flight": 8, "in_flight_per_client": 8}, 8), ({}, 256), ({"in_flight": 600}, 256)],
)
def test_the_requests_of_one_client_give_way_to_those_of_all(limits: dict[str, int], per_client: int) -> None:
    assert compiled(server={"limits": limits}).server.limits.in_flight_per_client == per_client


def test_what_was_left_out_is_no_mistake() -> None:
    """512 requests at once by default, on 100 connections."""
    document = {"version": 1, "upstreams": {"web": {"servers": ["http://127.0.0.1:3000"]}}, "routes": [route()]}
    document["server"] = {"limits": {"connections": 100}}
    review = compile_policy(yaml.safe_dump(document).encode(), "F", {})
    assert (review.problems, review.warnings) == ((), ())


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, None),
        ({"reads": []}, frozenset()),
        ({"reads": ["parameters", "case"]}, {PathStep.PARAMETERS, PathStep.CASE}),
        ({"reads": [str(step) for step in PathStep]}, set(PathStep)),
    ],
)
def test_how_the_app_of_a_route_reads_a_path(settings: dict[str, Any], steps: set[PathStep] | None) -> None:
    (found,) = compiled(routes=[route(**settings)]).routes
    assert found.reads == steps


def test_standard_may_be_defined_anew() -> None:
    found = compiled(
        headers={"standard": {"frame": "any", "nosniff": False, "referrer": "origin"}},
        routes=[route(match="GET /a"), route(name="b", headers="none"), route(name="c", headers="standard")],
    )
    first, second, third = (one.answer_fields for one in found.routes)
    assert first == AnswerFields("standard", (("referrer-policy", "origin"),))
    assert first is third
    assert second is None


@pytest.mark.parametrize(
    ("chosen", "is_used"), [({}, True), ({"headers": "standard"}, True), ({"headers": "none"}, False)]
)
def test_standard_is_used_by_routes_that_name_no_headers(chosen: dict[str, str], is_used: bool) -> None:
    document = {
        "version": 1,
        "upstreams": {"web": {"servers": ["http://127.0.0.1:3000"]}},
        "headers": {"standard": {"frame": "deny"}},
        "routes": [route(**chosen), route(name="b", match="GET /b", headers="none")][::-1],
    }
    warnings = compile_policy(yaml.safe_dump(document).encode(), "F", {}).warnings
    assert [warning.path for warning in warnings] == ([] if is_used else ["headers.standard"])


@pytest.mark.parametrize(
    ("hsts", "value"),
    [
        ({}, "max-age=31536000; includeSubDomains"),
        ({"max_age": "0s", "subdomains": False}, "max-age=0"),
        ({"max_age": "730d", "preload": True}, "max-age=63072000; includeSubDomains; preload"),
    ],
)
def test_hsts(hsts: dict[str, object], value: str) -> None:
    found = compiled(
        server={"trusted_proxies": ["10.0.0.0/8"]}, headers={"site": {"hsts": hsts}}, routes=[route(headers="site")]
    )
    assert found.routes[0].answer_fields is not None
    assert found.routes[0].answer_fields.hsts == value


def test_any_origin() -> None:
    found = compiled(cors={"open": {"origins": ["*"]}}, routes=[route(cors="open"), route(name="b", cors="none")])
    cors = found.routes[0].cors
    assert cors is not None
    assert (cors.any_origin, cors.origins, cors.credentials) == (True, frozenset(), False)
    assert (cors.methods, cors.fields, cors.expose, cors.max_age_s) == ({"GET", "HEAD", "POST"}, set(), (), 600)
    assert found.routes[1].cors is None


def test_flags_may_come_from_the_environment() -> None:
    text = EDGE.read_text().replace("override: true", 'override: "${OVERRIDE}"')
    beside = policy.reader_beside(EDGE)
    for value, override in (("true", True), ("false", False)):
        environ = {"OVERRIDE": value, "IDENTITY_SECRET": KEY}
        found = compile_policy(text.encode(), "F", environ, read=beside).policy
        assert found is not None
        assert found.routes[0].answer_fields is not None
        assert found.routes[0].answer_fields.override is override


@pytest.mark.parametrize(
    "file", [EDGE, HERE / "example.yaml", HERE.parent.parent / "gateway.yaml"], ids=lambda f: f.name
)
def test_the_json_schema_takes_what_the_reader_takes(file: Path) -> None:
    """Editors complete and check by it."""
    schema = compile_schema(Document.model_json_schema())
    said = [error.message for error in schema.iter_errors(yaml.safe_load(file.read_text()))]
    assert said == []


@pytest.mark.parametrize(
    "sections",
    [
        {"routes": [route(body={"json_": {}})]},
        {"routes": [route(body={"json": {"schema_": "x"}})]},
        {"routes": [route(websocket=True)]},
        {"server": {"client_address": "x"}},
        {"headers": {"site": {"frame": "allow"}}},
    ],
)
def test_the_json_schema_refuses_what_the_reader_refuses(sections: dict[str, Any]) -> None:
    document = {"version": 1, "upstreams": {"web": {"servers": ["http://127.0.0.1:3000"]}}, "routes": [route()]}
    schema = compile_schema(Document.model_json_schema())
    assert schema.is_valid(document)
    assert not schema.is_valid(document | sections)
    assert compile_policy(yaml.safe_dump(document | sections).encode(), "F", {}).policy is None

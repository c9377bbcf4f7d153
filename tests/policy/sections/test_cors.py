from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.policy.policy import Cors, Policy
from scopegate.policy.sections.cors import parse_cors_field, parse_web_origin
from tests.policies import compiled_with, route


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


def test_any_origin() -> None:
    found = compiled_with(cors={"open": {"origins": ["*"]}}, routes=[route(cors="open"), route(name="b", cors="none")])
    cors = found.routes[0].cors
    assert cors is not None
    assert (cors.any_origin, cors.origins, cors.credentials) == (True, frozenset(), False)
    assert cors.methods == frozenset({"GET", "HEAD", "POST"})
    assert (cors.fields, cors.expose, cors.max_age_s) == (frozenset(), (), 600)
    assert found.routes[1].cors is None


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://partner.example", "https://partner.example"),
        ("https://Partner.Example:443", "https://partner.example"),
        ("http://partner.example:80", "http://partner.example"),
        ("https://partner.example:80", "https://partner.example:80"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[0:0::1]:3000", "http://[::1]:3000"),
        ("*", "*"),
    ],
)
def test_an_origin_is_spelt_as_a_browser_serialises_it(text: str, origin: str) -> None:
    assert parse_web_origin(text) == origin
    assert parse_web_origin(origin) == origin


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "NULL", "**", "https://*", "https://*.example", "partner.example", "//partner.example"),
        *("https://", "https://partner.example/", "https://partner.example/a", "https://partner.example?a"),
        *(
            "https://partner.example#a",
            "https://a@partner.example",
            "https://partner.example:0",
            "https://b\u00fccher.example",
        ),
        *("https://partner.example, https://b.example", " https://partner.example", "https://partner.example\n"),
        *("HTTPS://partner.example", "ftp://partner.example", "https://partner.example:99999", "https:///partner"),
    ],
)
def test_no_origin(text: str) -> None:
    with pytest.raises(ValueError):
        parse_web_origin(text)


@given(st.text(st.characters(codec="ascii"), max_size=12), st.integers(0, 70_000))
def test_what_is_accepted_is_canonical(host: str, port: int) -> None:
    try:
        origin = parse_web_origin(f"https://{host}:{port}")
    except ValueError:
        return
    assert parse_web_origin(origin) == origin
    assert origin == origin.lower()
    assert origin.count("/") == 2


def test_fields_of_cors_are_named_in_lower_case() -> None:
    assert parse_cors_field("X-Request-Id") == "x-request-id"
    for text in ("*", "x y", "", "x:"):
        with pytest.raises(ValueError):
            parse_cors_field(text)

from __future__ import annotations

import pytest
import yaml

from scopegate.policy.policy import AnswerFields, Policy
from scopegate.policy.sections.headers import HeadersShape, parse_content_policy
from tests.policies import MINIMAL, STANDARD, compiled, compiled_with, document, review, route


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


def test_standard_may_be_defined_anew() -> None:
    found = compiled_with(
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
    routes = [route(name="b", match="GET /b", headers="none"), route(**chosen)]
    warnings = review(yaml.safe_dump(document(headers={"standard": {"frame": "deny"}}, routes=routes))).warnings
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
    found = compiled_with(
        server={"trusted_proxies": ["10.0.0.0/8"]}, headers={"site": {"hsts": hsts}}, routes=[route(headers="site")]
    )
    assert found.routes[0].answer_fields is not None
    assert found.routes[0].answer_fields.hsts == value


def test_flags_may_come_from_the_environment() -> None:
    text = (
        MINIMAL.replace("tier: lenient", "tier: none, headers: site") + 'headers: {site: {override: "${OVERRIDE}"}}\n'
    )
    for value, override in (("true", True), ("false", False)):
        found = compiled(text, {"OVERRIDE": value})
        assert found.routes[0].answer_fields is not None
        assert found.routes[0].answer_fields.override is override


@pytest.mark.parametrize("text", ["default-src 'self'; img-src *", "upgrade-insecure-requests", "x" * 4096])
def test_a_content_policy_stays_as_given(text: str) -> None:
    assert parse_content_policy(text) == text


@pytest.mark.parametrize("text", ["", " a", "a ", "a\n", "a\r\nb: c", "a\tb", "\u2018self\u2019", "a\x7f", "x" * 4097])
def test_no_content_policy(text: str) -> None:
    with pytest.raises(ValueError):
        parse_content_policy(text)


def test_fields_that_are_not_wanted_are_not_sent() -> None:
    bare = HeadersShape(nosniff=False, frame="any", referrer="origin", csp=None, opener=None)
    assert bare.build("bare") == AnswerFields("bare", (("referrer-policy", "origin"),))

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopegate.policy import browsers


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
    assert browsers.parse_web_origin(text) == origin
    assert browsers.parse_web_origin(origin) == origin


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
        browsers.parse_web_origin(text)


@given(st.text(st.characters(codec="ascii"), max_size=12), st.integers(0, 70_000))
def test_what_is_accepted_is_canonical(host: str, port: int) -> None:
    try:
        origin = browsers.parse_web_origin(f"https://{host}:{port}")
    except ValueError:
        return
    assert browsers.parse_web_origin(origin) == origin
    assert origin == origin.lower()
    assert origin.count("/") == 2


def test_fields_of_cors_are_named_in_lower_case() -> None:
    assert browsers.parse_cors_field("X-Request-Id") == "x-request-id"
    for text in ("*", "x y", "", "x:"):
        with pytest.raises(ValueError):
            browsers.parse_cors_field(text)


@pytest.mark.parametrize("text", ["default-src 'self'; img-src *", "upgrade-insecure-requests", "x" * 4096])
def test_a_content_policy_stays_as_given(text: str) -> None:
    assert browsers.parse_content_policy(text) == text


@pytest.mark.parametrize("text", ["", " a", "a ", "a\n", "a\r\nb: c", "a\tb", "\u2018self\u2019", "a\x7f", "x" * 4097])
def test_no_content_policy(text: str) -> None:
    with pytest.raises(ValueError):
        browsers.parse_content_policy(text)


def test_fields_that_are_not_wanted_are_not_sent() -> None:
    fields = browsers.security_fields(nosniff=False, frame="any", referrer="origin", csp=None, opener=None)
    assert fields == (("referrer-policy", "origin"),)
